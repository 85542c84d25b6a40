"""Weeks of a watcher in minutes: it must end with the truth, and hold no more than at first.

`python -m benchmarks.watch_soak` makes 200,000 changes below a watched folder, as people and
programs do: new pictures, rewrites, saves by way of another file, downloads, renames, moves,
copies, deletions, folders that are made, renamed, moved in and out and deleted. Meanwhile decode
processes are killed, the kernel's queue of events overflows while the watcher is stopped, and it is
told to read its configuration again. It has a model of a few hundred bytes, so that what is tested
is the watcher.

After each round it must know exactly what is there. At the end what it told and what its cache
knows are compared with a scan by a process that knows nothing; and its memory, descriptors, threads
and watches with those of its beginning. Exits with 1 when anything is not as it should be.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import measure, tiny, watched
from benchmarks.measure import median
from benchmarks.watched import Held, Pictures, Watched, differences, fresh_scan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

_SETTLE_MS = 150
_MEMORY_SLACK_MB = 6.0
_MEMORY_SLACK = 0.05
"""Allocators keep what they got once; a leak of a few hundred bytes a change would show."""
_FOLDERS = 40
_CAUGHT_UP_WITHIN_S = 150.0
_REST_S = 4.5
"""Young files are looked at once more after three seconds; then nothing is under way."""
_HEALED_WITHIN_S = 60.0
"""How soon folders that watchdog missed have to be watched."""
_BROKEN = b"\xff\xd8\xff\xe0 no picture"
_MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done."""

    events: int
    rounds: int
    deaths: int
    overflows: int
    reloads: int
    pictures: int
    seed: int
    burst: int
    """Changes that come without a pause."""
    broken: bool
    """Whether there are files among them that are no pictures."""


class Tree:
    """A watched folder, changed at random, and what must be known of it."""

    def __init__(self, root: str, outside: str, plan: Plan) -> None:
        """Prepare folders below `root`; things will be moved to `outside` and back."""
        self.root, self._outside = root, outside
        self._choose = random.Random(plan.seed)
        self._aim = plan.pictures
        self._pictures = Pictures()
        self._serial = 0
        self.changes = 0
        """What was done to the file system: one for each file or folder made, written and so on."""
        self.files: dict[str, str] = {}
        """Each picture to the hash of what it holds."""
        self.broken: set[str] = set()
        """Hashes of files that are no pictures; the watcher tells of them after 80 s."""
        self._paths: list[str] = []
        self._folders: list[str] = []
        self._open: list[tuple[str, BinaryIO, bytes]] = []
        os.makedirs(outside)
        for at in range(_FOLDERS):
            parent = root if at % 4 == 0 else self._folders[at - at % 4]
            self._folders.append(os.path.join(parent, f"album {at}"))
            os.makedirs(self._folders[-1])
            self.changes += 1
        self._deeds: tuple[tuple[int, Callable[[], None]], ...] = (
            (24, self._create),
            (5, self._copy),
            (8, self._rewrite),
            (9, self._save),
            (6, self._download),
            (9, self._rename),
            (9, self._move),
            (12, self._delete),
            (4, self._touch),
            (2, self._write_slowly),
            (2, self._link_over),
            (int(plan.broken), self._breaks),
            (1, self._folder_comes),
            (1, self._folder_goes),
            (1, self._folder_is_renamed),
            (1, self._out_and_in),
        )

    def change(self, count: int) -> None:
        """Make about `count` changes."""
        until = self.changes + count
        weights = [weight for weight, _deed in self._deeds]
        deeds = [deed for _weight, deed in self._deeds]
        while self.changes < until:
            if len(self.files) < self._aim // 2:
                self._create()
            elif len(self.files) > self._aim * 3 // 2:
                self._delete()
            else:
                self._choose.choices(deeds, weights)[0]()

    def finish(self) -> None:
        """Write to their end the files that are being written."""
        while self._open:
            _path, file, rest = self._open.pop()
            file.write(rest)
            file.close()
            self.changes += 1
        self._recount()

    # One change, or a few that belong together

    def _create(self) -> None:
        self._put(self._new_path(), self._pictures.next())

    def _copy(self) -> None:
        source = self._any()
        if source:
            target = self._new_path()
            shutil.copy2(source, target)
            self._note(target, self.files[source])
            self.changes += 1

    def _rewrite(self) -> None:
        path = self._any()
        if path:
            self._put(path, self._pictures.next())

    def _save(self) -> None:
        """Write another file and rename it over the old one, as most programs do."""
        path = self._any()
        if path:
            data, part = self._pictures.next(), f"{path}.tmp"
            _write(part, data)
            os.replace(part, path)
            self._note(path, _hash(data))
            self.changes += 2

    def _link_over(self) -> None:
        """Keep the old file under another name until the new one is there."""
        path = self._any()
        if path:
            data, backup = self._pictures.next(), f"{path}~"
            os.rename(path, backup)
            _write(path, data)
            os.unlink(backup)
            self._note(path, _hash(data))
            self.changes += 3

    def _download(self) -> None:
        """Reserve the name, write beside it, and rename."""
        path = self._new_path()
        data = self._pictures.next()
        _write(path, b"")
        _write(f"{path}.part", data[: len(data) // 2])
        with open(f"{path}.part", "ab") as file:
            file.write(data[len(data) // 2 :])
        os.replace(f"{path}.part", path)
        self._note(path, _hash(data))
        self.changes += 4

    def _write_slowly(self) -> None:
        """Begin to write a picture whose end comes some changes later."""
        if len(self._open) > 3:
            _path, file, rest = self._open.pop(0)
            file.write(rest)
            file.close()
            self.changes += 1
            return
        path, data = self._new_path(), self._pictures.next()
        file = open(path, "wb", buffering=0)  # noqa: SIM115  it stays open
        file.write(data[:100])
        self._open.append((path, file, data[100:]))
        self._note(path, _hash(data))
        self.changes += 1

    def _rename(self) -> None:
        path = self._any()
        if path:
            self._rename_to(path, self._new_path(os.path.dirname(path)))

    def _move(self) -> None:
        path = self._any()
        if path:
            self._rename_to(path, self._new_path())

    def _rename_to(self, path: str, target: str) -> None:
        os.rename(path, target)
        self._note(target, self.files[path])
        self._forget(path)
        self.changes += 1

    def _delete(self) -> None:
        path = self._any()
        if path:
            os.unlink(path)
            self._forget(path)
            self.changes += 1

    def _touch(self) -> None:
        """Change the times and the mode, and nothing of the content."""
        path = self._any()
        if path:
            os.utime(path)
            os.chmod(path, self._choose.choice((0o600, 0o644)))
            self.changes += 2

    def _breaks(self) -> None:
        data = _BROKEN + str(self._serial).encode()
        self.broken.add(_hash(data))
        self._put(self._new_path(), data)

    def _folder_comes(self) -> None:
        """Make a folder, with another inside it, and fill them at once."""
        self._serial += 1
        folder = os.path.join(self._choose.choice(self._folders), f"new {self._serial}", "deeper")
        os.makedirs(folder)
        self.changes += 2
        self._folders += [os.path.dirname(folder), folder]
        for parent in self._folders[-2:]:
            for _ in range(3):
                self._put(self._new_path(parent), self._pictures.next())

    def _folder_goes(self) -> None:
        folder = self._choose.choice(self._folders)
        if len(self._folders) > _FOLDERS // 2:
            self.changes += sum(len(names) + 1 for _, _, names in os.walk(folder))
            while os.path.lexists(folder):  # the watcher's acts may add a file to it meanwhile
                shutil.rmtree(folder, ignore_errors=True)
            self._drop_below(folder)

    def _folder_is_renamed(self) -> None:
        """Rename a folder with all that is in it, within the tree."""
        folder = self._choose.choice(self._folders)
        self._serial += 1
        self._change_folder(folder, f"{folder.rpartition(' ')[0]} {self._serial}")
        self.changes += 1

    def _out_and_in(self) -> None:
        """Move a folder out of the tree, and another, or the same one, back in."""
        folder = self._choose.choice(self._folders)
        self._serial += 1
        outside = os.path.join(self._outside, f"{self._serial}")
        os.rename(folder, outside)
        inside = os.path.join(self.root, f"back {self._serial}")
        os.rename(outside, inside)
        self._follow(folder, inside)
        self.changes += 2

    # Keeping account

    def _change_folder(self, folder: str, target: str) -> None:
        os.rename(folder, target)
        self._follow(folder, target)

    def _follow(self, folder: str, target: str) -> None:
        """Note that all that was below `folder` is below `target` now."""
        below = folder + os.sep

        def moved(path: str) -> str:
            if path == folder or path.startswith(below):
                return target + path[len(folder) :]
            return path

        self.files = {moved(path): sha256 for path, sha256 in self.files.items()}
        self._paths = [moved(path) for path in self._paths]
        self._folders = [moved(path) for path in self._folders]
        self._open = [(moved(path), file, rest) for path, file, rest in self._open]

    def _drop_below(self, folder: str) -> None:
        below = folder + os.sep
        self.files = {
            path: sha256 for path, sha256 in self.files.items() if not path.startswith(below)
        }
        self._paths = [path for path in self._paths if not path.startswith(below)]
        self._folders = [
            path for path in self._folders if path != folder and not path.startswith(below)
        ]

    def _recount(self) -> None:
        """Read what is there: account was kept of 10,000 changes, and one may be wrong."""
        self.files = {}
        for folder, _folders, names in os.walk(self.root):
            for name in names:
                if name.endswith(".jpg"):
                    path = os.path.join(folder, name)
                    with open(path, "rb") as file:
                        self.files[path] = _hash(file.read())
        self._paths = list(self.files)

    def _put(self, path: str, data: bytes) -> None:
        _write(path, data)
        self._note(path, _hash(data))
        self.changes += 1

    def _note(self, path: str, sha256: str) -> None:
        if path not in self.files:
            self._paths.append(path)
        self.files[path] = sha256

    def _forget(self, path: str) -> None:
        del self.files[path]

    def _any(self) -> str:
        """Return some picture that is not being written; empty when there is none."""
        writing = {path for path, _file, _rest in self._open}
        while len(self._paths) > len(writing):
            at = self._choose.randrange(len(self._paths))
            path = self._paths[at]
            if path in writing:
                continue
            if path in self.files:
                return path
            self._paths[at] = self._paths[-1]
            self._paths.pop()
        return ""

    def _new_path(self, folder: str = "") -> str:
        self._serial += 1
        return os.path.join(
            folder or self._choose.choice(self._folders), f"IMG_{self._serial:07d}.jpg"
        )


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Sample(NamedTuple):
    """What the watcher held when a round was over."""

    changes: int
    seconds: float
    lines: int
    pictures: int
    folders: int
    held: Held


@dataclass(slots=True)
class Soak:
    """A run, as far as it has come."""

    plan: Plan
    watch: Watched
    tree: Tree
    samples: list[Sample] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    deaths: int = 0
    overflows: int = 0
    reloads: int = 0
    noise: int = 0
    began: float = field(default_factory=time.perf_counter)

    def run(self) -> None:
        """Go through all rounds."""
        plan = self.plan
        for number in range(plan.rounds):
            measure.note(f"round {number + 1} of {plan.rounds}: {self.tree.changes:,} changes")
            until = plan.events * (number + 1) // plan.rounds
            middle = (self.tree.changes + until) // 2
            self._change_until(middle)
            while self.deaths < plan.deaths * (number + 1) // plan.rounds:
                self._kill_a_decoder()
            while self.overflows < plan.overflows * (number + 1) // plan.rounds:
                self._overflow()
            if self.reloads < plan.reloads * (number + 1) // plan.rounds:
                self._reload()
            self._change_until(until)
            self.tree.finish()
            self._catch_up(number + 1, last=number + 1 == plan.rounds)
            if self.watch.process.poll() is not None:
                self.wrong.append(f"the watcher ended: {''.join(self.watch.said[-5:])}")
                return

    def _change_until(self, until: int) -> None:
        while self.tree.changes < until:
            self.tree.change(min(self.plan.burst, until - self.tree.changes))
            # Programs do something between their changes; without that most would cancel out.
            time.sleep(0.05)

    def _kill_a_decoder(self) -> None:
        """Kill a decode process while there is work for it."""
        until = time.monotonic() + 20
        while time.monotonic() < until:
            self.tree.change(20)
            workers = watched.decoders(self.watch.pid)
            if workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(workers[0], signal.SIGKILL)
                    self.deaths += 1
                    return
            time.sleep(0.2)
        self.wrong.append("no decode process was there to be killed")
        self.deaths += 1

    def _overflow(self) -> None:
        """Stop the watcher while more happens than the kernel remembers."""
        most = _most_queued()
        self.watch.send(signal.SIGSTOP)
        self.tree.change(self.plan.burst * 4)
        # The kernel counts an event that equals the last one as the same: so there are two files.
        paths = [os.path.join(self.tree.root, name) for name in ("notes.txt", "more notes.txt")]
        for path in paths:
            _write(path, b"no picture")
        for number in range(most + most // 8):
            os.utime(paths[number % 2])
        self.noise += most + most // 8
        # What is done now is lost without a word.
        self.tree.change(self.plan.burst * 4)
        self.watch.send(signal.SIGCONT)
        self.overflows += 1

    def _reload(self) -> None:
        before = sum("Watching" in one for one in self.watch.said)
        self.watch.send(signal.SIGHUP)
        self.reloads += 1
        if not self.watch.until(
            lambda: sum("Watching" in one for one in self.watch.said) > before, within_s=60
        ):
            self.wrong.append("SIGHUP was not followed by a new beginning")

    def _catch_up(self, number: int, *, last: bool) -> None:
        """Wait until all was told, broken files only in the `last` round, and sample."""
        view, files = self.watch.view, self.tree.files

        def differ() -> list[str]:
            told = {path: fact.sha256 for path, fact in dict(view.known).items()}
            return [
                f"round {number}: {path}: {told.get(path)} told, {files.get(path)} there"
                for path in told.keys() | files.keys()
                if told.get(path) != files.get(path)
                and (last or files.get(path) not in self.tree.broken)
            ]

        began = time.perf_counter()
        if not self.watch.until(_sometimes(lambda: not differ()), within_s=_CAUGHT_UP_WITHIN_S):
            found = sorted(differ())
            print(f"{len(found)} differences, as {found[:3]}", file=sys.stderr)
            self.wrong += found
        waited = time.perf_counter() - began
        time.sleep(max(0.0, _REST_S))
        folders = sum(1 for _ in os.walk(self.tree.root))
        self.watch.until(
            _sometimes(lambda: watched.held(self.watch.pid).watches == folders),
            within_s=_HEALED_WITHIN_S,
        )
        sample = Sample(
            self.tree.changes,
            time.perf_counter() - self.began,
            view.lines,
            len(files),
            folders,
            watched.held(self.watch.pid),
        )
        self.samples.append(sample)
        if sample.held.watches != folders:
            self.wrong.append(
                f"round {number}: {sample.held.watches} watches for {folders} folders"
            )
        print(
            f"round {number}: {sample.changes:,} changes, {sample.lines:,} lines, caught up after "
            f"{waited:.1f} s, {sample.held}",
            file=sys.stderr,
        )


def _sometimes(true: Callable[[], bool]) -> Callable[[], bool]:
    """Return a question that is answered anew every half second only: it is not cheap."""
    asked, answer = 0.0, False

    def ask() -> bool:
        nonlocal asked, answer
        if time.monotonic() - asked > 0.5:
            answer = true()
            asked = time.monotonic()
        return answer

    return ask


def _most_queued() -> int:
    with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as file:
        return int(file.read())


def slope(samples: Sequence[Sample], of: Callable[[Held], float]) -> float:
    """Return by how much something grows in 100,000 changes, by least squares."""
    xs = [sample.changes / 1e5 for sample in samples]
    ys = [of(sample.held) for sample in samples]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    if not spread:
        return 0.0
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread


_COLUMNS: tuple[tuple[str, Callable[[Held], float]], ...] = (
    ("watcher, RSS in MB", lambda held: held.memory_mb),
    ("with decoders, MB", lambda held: held.all_mb),
    ("descriptors", lambda held: held.descriptors),
    ("threads", lambda held: held.threads),
    ("watches", lambda held: held.watches),
)


def growth(samples: Sequence[Sample]) -> list[str]:
    """Say what is not flat: the last quarter of the rounds against the second one.

    In the first one the allocator's arenas, the database's cache and the tree itself fill up.
    """
    quarter = max(1, len(samples) // 4)
    early, late = samples[quarter : 2 * quarter] or samples[:1], samples[-quarter:]
    found = []
    before, after = (median([one.held.memory_mb for one in part]) for part in (early, late))
    if after > before * (1 + _MEMORY_SLACK) + _MEMORY_SLACK_MB:
        found.append(f"memory grew from {before:.0f} to {after:.0f} MB")
    for name, of in _COLUMNS[2:4]:
        before, after = (median([of(one.held) for one in part]) for part in (early, late))
        if after > before + 1:
            found.append(f"{name} grew from {before:.0f} to {after:.0f}")
    return found


def report(samples: Sequence[Sample]) -> str:
    """Lay out the samples at the start, the quarters and the end, and how much they grow."""
    last = len(samples) - 1
    chosen = dict.fromkeys([0, last // 4, last // 2, 3 * last // 4, last])
    header = ("after", "seconds", "lines", "pictures", "folders", *(name for name, _ in _COLUMNS))
    rows = [
        (
            f"{one.changes:,} changes",
            f"{one.seconds:.0f}",
            f"{one.lines:,}",
            f"{one.pictures:,}",
            f"{one.folders:,}",
            *(f"{of(one.held):.0f}" for _, of in _COLUMNS),
        )
        for one in (samples[at] for at in chosen)
    ]
    settled = samples[len(samples) // 4 :]  # what fills up in the beginning is no growth
    rows.append(
        (
            "growth in 100,000 changes",
            *("" for _ in range(4)),
            *(f"{slope(settled, of):+.1f}" for _, of in _COLUMNS),
        )
    )
    return measure.table(header, rows)


def soak(plan: Plan, scratch: str) -> int:
    """Run it all below the folder `scratch`, print, and return the exit code."""
    root, home = os.path.join(scratch, "root"), os.path.join(scratch, "home")
    package = tiny.write_package(os.path.join(scratch, "model"), sees_red=True)
    tree = Tree(root, os.path.join(scratch, "outside"), plan)
    print(
        f"{measure.machine()}; {plan.events:,} changes in {plan.rounds} rounds, seed {plan.seed}\n"
    )
    options = ["--settle-ms", str(_SETTLE_MS)]
    with Watched([root], home=home, package=package, options=options) as watch:
        watch.until_watching()
        run = Soak(plan, watch, tree)
        run.run()
        code = watch.end()
        view = watch.view
    measure.note("")
    oracle, _ = fresh_scan([root], home=os.path.join(scratch, "fresh"), package=package)
    cache, closing = fresh_scan([root], home=home, package=package)
    wrong = run.wrong + view.wrong + growth(run.samples)
    wrong += [f"told: {one}" for one in differences(view.known, oracle)]
    wrong += [f"in the cache: {one}" for one in differences(cache, oracle)]
    if code != 0:
        wrong.append(f"the watcher ended with {code}: {''.join(watch.said[-5:])}")
    print(report(run.samples))
    sample = run.samples[-1]
    print(
        f"\n{sample.changes:,} changes, and {run.noise:,} of other files to overflow the queue; "
        f"{run.deaths} decode processes killed, {run.overflows} overflows, {run.reloads} SIGHUPs; "
        f"{view.lines:,} lines, {len(view.repeated)} of them told before; {sample.seconds:.0f} s\n"
        f"{len(oracle):,} pictures there at the end, {len(view.known):,} as told, "
        f"{len(cache):,} in the library ({closing.strip().splitlines()[-1]})"
    )
    for sentence in wrong[:_MOST_SHOWN]:
        print(f"wrong: {sentence}")
    if len(wrong) > _MOST_SHOWN:
        print(f"and {len(wrong) - _MOST_SHOWN} more")
    print("not as it should be" if wrong else "equal to a fresh scan, and flat")
    return 1 if wrong else 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, print, and exit with 1 when something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, help="changes of the file system")
    parser.add_argument("--rounds", type=int, default=20, help="how often it must have caught up")
    parser.add_argument("--deaths", type=int, default=20, help="decode processes killed")
    parser.add_argument("--overflows", type=int, default=20, help="overflows of the kernel's queue")
    parser.add_argument("--reloads", type=int, default=4, help="SIGHUPs")
    parser.add_argument("--pictures", type=int, default=2000, help="pictures at a time, about")
    parser.add_argument("--burst", type=int, default=100, help="changes without a pause")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--unbroken", action="store_true", help="no files that are no pictures")
    given = parser.parse_args(arguments)
    if sys.platform != "linux":
        sys.exit("stops, overflows and watches are Linux's")
    plan = Plan(
        given.events,
        given.rounds,
        given.deaths,
        given.overflows,
        given.reloads,
        given.pictures,
        given.seed,
        given.burst,
        not given.unbroken,
    )
    with tempfile.TemporaryDirectory() as scratch:
        code = soak(plan, scratch)
    sys.exit(code)


if __name__ == "__main__":
    main()
