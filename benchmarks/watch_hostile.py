"""A watcher among hostile events: at the end it must know the truth, and have acted once on each.

`python -m benchmarks.watch_hostile` changes pictures below two roots, one of them a link, for an
hour, while it does to the watcher what computers do: roots vanish, come back and are replaced, the
link is turned, the clock jumps a year ahead or back, descriptors and memory run low, the process is
stopped and continued, told to read its configuration again, terminated, and killed.

After each round it must know what is there, and have tagged each flagged picture. At the end what
it told and what its cache knows are compared with a scan by a process that knows nothing, and no
picture may have been tagged twice, except for the one in hand at each kill.
Idle, and paused on battery, it may take 0.1 % of a core. Exits with 1 when anything is wrong.

The clock is that of the process (`sitecustomize`); the times of files stay right.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import math
import os
import random
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks import measure, tiny, watched
from benchmarks.watch_evidence import Journal, NotedTree, evidence
from benchmarks.watch_soak import Plan
from benchmarks.watched import Fact, Line, Pictures, View, Watched, differences, fresh_scan
from nsfwscan.watch.places import WatchedPlaces
from nsfwscan.watch.status import read as read_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_YEAR_S = 365 * 86_400
_CAUGHT_UP_WITHIN_S = 150.0
_UNSURE_S = 2.5
"""How long before a kill what was told may not have been remembered."""
_IDLE_SHARE = 0.001
_MOST_SHOWN = 20
_CUSTOM = """
import os, time
_folder = os.path.dirname(__file__)
_time, _time_ns = time.time, time.time_ns
_ahead_s = 0
def _ahead():
    global _ahead_s
    try:
        with open(_folder + "/clock") as file:
            _ahead_s = int(file.read() or 0)
    except (OSError, ValueError, MemoryError):
        pass  # the clock stays as it is
    return _ahead_s
time.time = lambda: _time() + _ahead()
time.time_ns = lambda: _time_ns() + _ahead() * 10**9
import psutil
class _Battery:
    power_plugged = False
psutil.sensors_battery = lambda: _Battery() if os.path.exists(_folder + "/battery") else None
"""


@dataclass
class Hostile:
    """A run, as far as it has come."""

    scratch: str
    plan: Plan
    hold_s: float
    package: str = ""
    view: View = field(default_factory=View)
    unsure: set[str] = field(default_factory=set)
    """Paths of which an end may have taken away that they were told."""
    unsure_acts: dict[str, str | None] = field(default_factory=dict)
    """Paths, and the content, of which an end may have taken away whether they were acted on."""
    wrong: list[str] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    """What there was to see when something was wrong for the first time."""
    journal: Journal = field(default_factory=Journal)
    earlier: list[Line] = field(default_factory=list)
    """Lines of watchers that have ended."""
    said: list[str] = field(default_factory=list)
    """What the last one that ended said."""
    deeds: Counter[str] = field(default_factory=Counter)
    shares: dict[str, float] = field(default_factory=dict)
    """Of a core, while there was nothing to do."""
    _watch: Watched | None = None

    def __post_init__(self) -> None:
        """Prepare two roots, and the two folders between which the link is turned."""
        self.package = tiny.write_package(self._at("model"), sees_red=True)
        self._root, self._link = self._at("root"), self._at("link")
        self._tree = NotedTree(self._root, self._at("outside"), self.plan)
        self._pictures = Pictures(size=(40, 24))
        self._choose = random.Random(self.plan.seed)
        self._continued_at = -math.inf
        for side in "ab":
            os.makedirs(self._at(side))
        os.symlink(self._at("a"), self._link)
        for name, content in (("sitecustomize.py", _CUSTOM), ("clock", "0")):
            self._put(name, content)

    @property
    def roots(self) -> list[str]:
        """What is watched."""
        return [self._root, self._link]

    @property
    def home(self) -> str:
        """Where the watcher's library is."""
        return self._at("home")

    @property
    def watch(self) -> Watched:
        """The watcher that runs."""
        assert self._watch is not None
        return self._watch

    def start(self) -> None:
        """Start a watcher, which goes on where the last one ended."""
        os.environ["PYTHONPATH"] = self.scratch
        options = ["--settle-ms", "150", "--on-battery", "pause", "--action", "tag"]
        self._watch = Watched(
            self.roots, home=self.home, package=self.package, options=options, view=self.view
        )
        self._begun = 0
        self.watch.until_watching()
        broken = [one for one in self.watch.said if "sitecustomize" in one]
        if broken:
            sys.exit(f"neither clock nor battery can be changed: {''.join(self.watch.said)}")

    def end(self, number: int = signal.SIGTERM) -> int:
        """End the watcher in this way and return its exit code."""
        self._note_degraded()
        code = self.watch.end(number)
        self.watch.__exit__(None, None, None)
        self.earlier += self.watch.lines
        self.said, self._watch = self.watch.said, None
        return code

    # What is done to it

    def kinds(self) -> dict[str, Callable[[], None]]:
        """Return the hostile events by name."""
        return {
            "clock": self._clock,
            "descriptors": lambda: self._low(
                resource.RLIMIT_NOFILE, lambda: self._descriptors() + 2
            ),
            "killed": self._killed,
            "link": self._link_is_turned,
            "memory": lambda: self._low(
                resource.RLIMIT_AS, lambda: self._address_space() + (4 << 20)
            ),
            "reloaded": self._reloaded,
            "root-away": self._root_is_away,
            "root-replaced": self._root_is_replaced,
            "stopped": self._stopped,
            "terminated": self._terminated,
        }

    def round(self, names: Sequence[str]) -> None:
        """Do all of these in any order, amid changes, and wait until the watcher has caught up."""
        kinds = self.kinds()
        for name in self._choose.sample(list(names), len(names)):
            self._change()
            self.journal.note(f"{name}, of process {self.watch.pid}")
            kinds[name]()
            self.journal.note(f"{name} done")
            self.deeds[name] += 1
            if self.watch.process.poll() is not None:
                self.wrong.append(f"{name} ended it: {''.join(self.watch.said[-5:])}")
                self.end()
                self.start()
        self._change()
        self._put("clock", "0")
        self._tree.finish()
        self._catch_up()
        self.journal.note("the round is over")

    def _clock(self) -> None:
        for ahead_s in self._choose.sample([_YEAR_S, -_YEAR_S, 0], 2):
            self._put("clock", str(ahead_s))
            self._hold()

    def _low(self, limit: int, value: Callable[[], int]) -> None:
        """Let the watcher have next to nothing of a resource for a while, but not as it starts.

        A process that cannot open its model when it begins says so, and ends.
        """
        self.watch.until(self._has_reloaded, within_s=10.0)
        before = resource.prlimit(self.watch.pid, limit)
        resource.prlimit(self.watch.pid, limit, (value(), before[1]))
        self._hold()
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(self.watch.pid, limit, before)

    def _note_degraded(self) -> None:
        """Note what was told by a watcher that says that it cannot remember, and is to end."""
        lines = list(self.watch.lines)
        if self._is_degraded(": the cache "):
            self.unsure |= {line.path for line in lines}
        if self._is_degraded("a kill may lose actions"):
            told = [line for line in lines if "sha256" in line.record]
            self.unsure_acts |= {line.path: line.record["sha256"] for line in told}

    def _is_degraded(self, what: str) -> bool:
        said = [one for one in list(self.watch.said) if what in one]
        return bool(said) and "degraded: " in said[-1]

    def _has_reloaded(self) -> bool:
        return sum("Watching" in one for one in list(self.watch.said)) > self._begun

    def _reloaded(self) -> None:
        self._note_degraded()
        self._begun = sum("Watching" in one for one in list(self.watch.said))
        self.watch.send(signal.SIGHUP)

    def _killed(self) -> None:
        since = time.perf_counter() - _UNSURE_S
        if since < self._continued_at:  # it had no time to remember while it was stopped
            since -= self.hold_s
        self.end(signal.SIGKILL)
        recent = [line for line in self.earlier if line.at > since]
        self.unsure |= {line.path for line in recent}
        self._change()
        self.start()

    def _terminated(self) -> None:
        code = self.end()
        if code != 0:
            self.wrong.append(f"SIGTERM ended it with {code}: {''.join(self.said[-5:])}")
        self._change()
        self.start()

    def _stopped(self) -> None:
        self.watch.send(signal.SIGSTOP)
        self._hold()
        self.watch.send(signal.SIGCONT)
        self._continued_at = time.perf_counter()

    def _root_is_away(self) -> None:
        self._tree.finish()
        os.rename(self._root, self._at("unplugged"))
        time.sleep(self.hold_s)
        os.rename(self._at("unplugged"), self._root)

    def _root_is_replaced(self) -> None:
        """Put another folder in its place for a while, as with another disk.

        What changes in the moments around that, the watcher may ascribe to the other disk.
        """
        self._tree.finish()
        self._catch_up()
        os.rename(self._root, self._at("unplugged"))
        os.mkdir(self._root)
        self._write(os.path.join(self._root, f"interim {time.monotonic_ns()}.jpg"))
        time.sleep(self.hold_s)
        shutil.rmtree(self._root)
        os.rename(self._at("unplugged"), self._root)
        self.watch.until(self._knows_root_again, within_s=_CAUGHT_UP_WITHIN_S)

    def _knows_root_again(self) -> bool:
        with contextlib.closing(
            sqlite3.connect(f"file:{self.home}/library.sqlite3?mode=ro", uri=True)
        ) as cache:
            rows = dict(cache.execute("SELECT path, identity FROM place"))
        known = rows.get(os.fsencode(self._root), b"")
        return bool(known == os.fsencode(WatchedPlaces([self._root], {}).identity(self._root)))

    def _link_is_turned(self) -> None:
        for side in "ba":
            os.symlink(self._at(side), self._at("next"))
            os.rename(self._at("next"), self._link)
            self._hold()

    def _hold(self) -> None:
        until = time.monotonic() + self.hold_s
        while time.monotonic() < until:
            self._change()
            time.sleep(0.1)

    def _change(self) -> None:
        self._tree.change(self.plan.burst)
        for side in "ab":
            self._write(os.path.join(self._at(side), f"{side} {self._choose.randrange(30)}.jpg"))

    # What becomes of it

    def _differ(self) -> dict[str, str]:
        there = dict(self._tree.files)
        for name in filter(lambda one: one.endswith(".jpg"), os.listdir(self._at("a"))):
            with open(os.path.join(self._at("a"), name), "rb") as file:
                there[os.path.join(self._link, name)] = hashlib.sha256(file.read()).hexdigest()
        told = {path: fact.sha256 for path, fact in self.known().items()}
        return {
            path: f"{path}: {told.get(path)} told, {there.get(path)} there"
            for path in sorted(told.keys() | there.keys())
            if told.get(path) != there.get(path)
        }

    def known(self) -> dict[str, Fact]:
        """Return the tree as it was told, without what was elsewhere: on no disk that is there."""
        return {
            path: fact
            for path, fact in dict(self.view.known).items()
            if not os.path.basename(path).startswith(("interim ", "b "))
            and (path not in self.unsure or os.path.exists(path))
        }

    def acts(self) -> Counter[str]:
        """Return of how many acts about each path was told; one may have failed, with no memory."""
        lines = [*self.earlier, *(self._watch.lines if self._watch is not None else ())]
        return Counter(line.path for line in lines if line.record["event"] == "acted")

    def flagged(self) -> Counter[str]:
        """Return how often each path was told to hold another flagged content."""
        lines = [*self.earlier, *(self._watch.lines if self._watch is not None else ())]
        told = [line for line in lines if line.record.get("decision") == "nsfw"]
        told = [line for line in told if line.record["event"] in {"new", "changed", "moved"}]
        return Counter(path for path, _sha256 in {(one.path, one.record["sha256"]) for one in told})

    def not_acted(self) -> dict[str, str]:
        """Return the flagged pictures about which nothing was done, each with a sentence."""
        acts, known = self.acts(), self.known()
        return {
            path: f"not acted on: {path}"
            for path, one in known.items()
            if one.decision == "nsfw" and not (acts[path] or self._is_act_unsure(path, one.sha256))
        }

    def excess(self) -> Counter[str]:
        """Return of how many acts about each path more was told than of flagged contents."""
        excess = self.acts() - self.flagged()
        return Counter(
            {path: count for path, count in excess.items() if path not in self.unsure_acts}
        )

    def _is_act_unsure(self, path: str, sha256: str | None) -> bool:
        return path in self.unsure_acts and self.unsure_acts[path] == sha256

    def _catch_up(self) -> None:
        until = time.monotonic() + _CAUGHT_UP_WITHIN_S
        while (wrong := self._differ() or self.not_acted()) and time.monotonic() < until:
            if self.watch.process.poll() is not None:
                break
            time.sleep(0.5)
        after = f"after {sum(self.deeds.values())} events"
        self.wrong += [f"{after}: {one}" for one in wrong.values()]
        if wrong:
            self.look_into(list(wrong))

    def look_into(self, paths: list[str]) -> None:
        """Keep what there is to see about `paths`, the first time that something is wrong."""
        if not self.evidence:
            lines = [*self.earlier, *(self._watch.lines if self._watch is not None else ())]
            found = evidence(self._watch, self.journal, self._tree, lines, paths, self.home)
            self.evidence = list(found)

    def idle(self, seconds: float) -> None:
        """Measure the processor time of nothing to do: first paused on battery, then at rest."""
        self._put("battery", "")
        self.watch.until(lambda: False, within_s=12.0)  # a battery is asked for every ten seconds
        for _ in range(3):
            self._change()
        self._tree.finish()
        if not self.watch.until(self._is_paused, within_s=12.0):
            self.wrong.append("on battery it does not pause")
        self._spend("paused", seconds)
        os.unlink(self._at("battery"))
        self._catch_up()
        self._spend("idle", seconds)

    def _is_paused(self) -> bool:
        status = read_status(os.path.join(self.home, "state", "watch-status.json"))
        return status is not None and bool(status.paused)

    def _spend(self, name: str, seconds: float) -> None:
        time.sleep(6.0)  # young files are looked at once more
        before = watched.core_seconds(self.watch.pid)
        time.sleep(seconds)
        share = (watched.core_seconds(self.watch.pid) - before) / seconds
        self.shares[name] = share
        if share > _IDLE_SHARE:
            self.wrong.append(f"{name}, it takes {share:.2%} of a core")

    # Files

    def _descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.watch.pid}/fd"))

    def _address_space(self) -> int:
        with open(f"/proc/{self.watch.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")

    def _at(self, name: str) -> str:
        return os.path.join(self.scratch, name)

    def _put(self, name: str, content: str) -> None:
        """Replace a file whole: the watcher reads it at any moment."""
        with open(self._at(f"{name}.part"), "w", encoding="utf-8") as file:
            file.write(content)
        os.replace(self._at(f"{name}.part"), self._at(name))

    def _write(self, path: str) -> None:
        with open(path, "wb") as file:
            file.write(self._pictures.next())


def judge(run: Hostile) -> Iterator[str]:
    """Yield what is not as it should be, when the watcher has ended."""
    yield from run.wrong
    oracle, _ = fresh_scan(run.roots, home=os.path.join(run.scratch, "fresh"), package=run.package)
    cache, _ = fresh_scan(run.roots, home=run.home, package=run.package)
    yield from (f"told: {one}" for one in differences(run.known(), oracle))
    yield from (f"in the cache: {one}" for one in differences(cache, oracle))
    yield from run.not_acted().values()
    excess = run.excess()
    if excess.total() > run.deeds["killed"]:
        yield from (f"acted on {number} times too often: {path}" for path, number in excess.items())
    print(
        f"{len(oracle):,} pictures there at the end; {run.view.lines:,} lines, "
        f"{len(run.view.repeated)} of them told before; {run.acts().total():,} acts, "
        f"{excess.total()} of them done before, in hand at a kill"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, print, and exit with 1 when something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="rounds begin for so long")
    parser.add_argument("--events", default="", help="names of events, with commas between")
    parser.add_argument("--pictures", type=int, default=300, help="pictures at a time, about")
    parser.add_argument("--hold", type=float, default=3.0, help="seconds that an event lasts")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds to measure; 0 for none")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", default="", help="where to put cache and logs if it goes wrong")
    given = parser.parse_args(arguments)
    if sys.platform != "linux":
        sys.exit("limits, stops and watches are Linux's")
    plan = Plan(0, 0, 0, 0, 0, given.pictures, given.seed, 10, broken=False)
    before = dict(os.environ)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        run = Hostile(scratch, plan, given.hold)
        names = given.events.split(",") if given.events else sorted(run.kinds())
        try:
            run.start()
            while True:
                run.round(names)
                measure.note(f"{(time.monotonic() - began) / 60:.1f} min: {dict(run.deeds)}")
                if time.monotonic() - began >= 60 * given.minutes or run.wrong:
                    break
            if given.idle:
                run.idle(given.idle)
            code = run.end()
            if code != 0:
                run.wrong.append(f"it ended with {code}: {''.join(run.said[-5:])}")
        finally:
            with contextlib.suppress(AssertionError):
                run.end(signal.SIGKILL)
            os.environ.clear()
            os.environ.update(before)
        measure.note("")
        wrong = list(judge(run))
        if wrong:
            run.look_into([path for path in run.known() if path in " ".join(wrong)])
            if given.keep:
                shutil.copytree(run.home, given.keep, dirs_exist_ok=True)
    events = ", ".join(f"{number} {name}" for name, number in sorted(run.deeds.items()))
    shares = ", ".join(f"{name} {share:.3%} of a core" for name, share in run.shares.items())
    print(f"{(time.monotonic() - began) / 60:.1f} min; {events}; {shares or 'idle not measured'}")
    for sentence in wrong[:_MOST_SHOWN]:
        print(f"wrong: {sentence}")
    if len(wrong) > _MOST_SHOWN:
        print(f"and {len(wrong) - _MOST_SHOWN} more")
    print("".join(f"{one}\n" for one in run.evidence), end="")
    print("not as it should be" if wrong else "equal to a fresh scan, and every act was done once")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
