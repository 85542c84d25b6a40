"""What people do to their pictures, done to a watched folder, scene by scene.

`python -m benchmarks.watch_person` plays scenes, each with a watcher and a cache of its own: a
download, rsync, an untar, a tree moved about, a disk that is unplugged, a full disk, a watcher that
is killed. It prints a line for each and exits with 1 when one is not as it must be: each picture
has one verdict, for its final content; what is gone or moved is said to be; and what is only away
is not forgotten.

Photographs are fetched as by `benchmarks.photos`; `--small` draws small pictures instead.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import measure, photos, tiny
from benchmarks.watched import Line, Pictures, View, Watched, marked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_KINDS = 40
"""Photographs that are made; copies of them differ in a comment."""
_WITHIN_S = 120.0
_LINGER_S = 3.5
"""How long after the last line another one could still come: settling, and what has moved."""
_SAVED_S = 4.0
"""What was told this long before `kill -9` may be told again: a scan of small pictures saves once a
second, and the kill comes in the middle of one."""
_DISK_MB = 48


class SkipScene(Exception):
    """The machine lacks something; `str` says what."""


class Wrong(Exception):
    """Something is not as it must be; `str` says what."""


class Source:
    """Gives pictures, no two with the same bytes."""

    def __init__(self, *, small: bool) -> None:
        self._paths = [] if small else photos.default_set(_KINDS)
        self._pictures = Pictures((160, 120))
        self._serial = 0

    def next(self) -> bytes:
        """Return the bytes of a picture that was not there before."""
        self._serial += 1
        if not self._paths:
            return self._pictures.next()
        with open(self._paths[self._serial % len(self._paths)], "rb") as file:
            return marked(file.read(), self._serial)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a scene plays."""

    scratch: str
    """A folder of its own."""
    package: str
    source: Source
    count: int
    """Pictures, where many are needed."""

    @property
    def root(self) -> str:
        """The folder that is watched."""
        return os.path.join(self.scratch, "Pictures")

    def watch(self, *, home: str = "", view: View | None = None) -> Watched:
        """Watch the root, beginning with what the library in `home` knows."""
        os.makedirs(self.root, exist_ok=True)
        home = home or os.path.join(self.scratch, "home")
        return Watched([self.root], home=home, package=self.package, view=view)

    def write(self, path: str, data: bytes = b"") -> str:
        """Write a picture below the root; return its path."""
        path = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data or self.source.next())
        return path

    def fill(self, folder: str, count: int) -> list[str]:
        """Write pictures into folders of a hundred below `folder`; return their paths."""
        return [
            self.write(os.path.join(folder, f"roll {at // 100}", f"IMG_{at:05d}.jpg"))
            for at in range(count)
        ]


def there(root: str) -> dict[str, str]:
    """Return the pictures below a folder, and the hash of each."""
    found = {}
    for folder, _folders, names in os.walk(root):
        for name in names:
            if name.endswith(".jpg") and not name.startswith("."):
                path = os.path.join(folder, name)
                with open(path, "rb") as file:
                    found[path] = hashlib.sha256(file.read()).hexdigest()
    return found


def settle(watch: Watched, root: str, *, within_s: float = _WITHIN_S) -> None:
    """Wait until what was told is what is there, and a little longer. Raises `Wrong`."""
    expected = there(root)

    def told() -> dict[str, str | None]:
        return {path: fact.sha256 for path, fact in dict(watch.view.known).items()}

    equal = watch.until(lambda: told() == expected, within_s=within_s)
    watch.until_quiet(_LINGER_S, within_s=30)
    if not equal or told() != expected:
        missed = [path for path, sha256 in expected.items() if told().get(path) != sha256]
        extra = told().keys() - expected.keys()
        raise Wrong(
            f"{len(missed)} pictures missed {missed[:3]}, {len(extra)} told that are not there "
            f"{sorted(extra)[:3]}; the watcher said {watch.said[-3:]}"
        )
    if watch.view.wrong:
        raise Wrong("; ".join(watch.view.wrong[:3]))


def events(lines: Sequence[Line]) -> str:
    """Say how many lines of each kind there are."""
    counts = Counter(str(line.record["event"]) for line in lines)
    return ", ".join(f"{count:,} {event}" for event, count in counts.items()) or "no lines"


def expect(lines: Sequence[Line], **counts: int) -> None:
    """Check the number of lines of each kind. Raises `Wrong`."""
    wanted = {event: count for event, count in counts.items() if count}
    if Counter(str(line.record["event"]) for line in lines) != wanted:
        shown = [f"{line.record['event']} {os.path.basename(line.path)}" for line in lines[:6]]
        raise Wrong(f"{events(lines)} instead of {wanted}; they begin {shown}")


def ended(watch: Watched) -> None:
    """End the watcher as a service manager does. Raises `Wrong`."""
    code = watch.end()
    if code:
        raise Wrong(f"it ended with {code}: {watch.said[-3:]}")


# The scenes: each returns what to say about it


def download(stage: Stage) -> str:
    """Download as two browsers do, and as a program that writes in place and stalls."""
    data = [stage.source.next() for _ in range(3)]
    with stage.watch() as watch:
        watch.until_watching()
        reserved = stage.write("firefox.jpg", b"\0")
        os.truncate(reserved, 0)
        beside = [f"{reserved}.part", os.path.join(stage.root, "Unconfirmed 7.crdownload")]
        in_place = os.path.join(stage.root, "wget.jpg")
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(open(path, "wb")) for path in (*beside, in_place)]
            for step in range(10):
                for file, content in zip(files, data, strict=True):
                    piece = len(content) // 10 + 1
                    file.write(content[step * piece : (step + 1) * piece])
                    file.flush()
                time.sleep(2.5 if step == 5 else 0.3)  # it stalls for longer than settling takes
        os.rename(beside[0], reserved)
        os.rename(beside[1], os.path.join(stage.root, "chrome.jpg"))
        settle(watch, stage.root)
        expect(watch.lines, new=3)
        ended(watch)
    return "three ways to download, one verdict each, none of half a picture"


def rsync(stage: Stage) -> str:
    """Copy photographs with rsync, three times."""
    if not shutil.which("rsync"):
        raise SkipScene("rsync is not installed")
    origin = os.path.join(stage.scratch, "card")
    stage.fill(origin, stage.count)
    for path in there(origin):
        os.utime(path, (1.6e9, 1.6e9))  # rsync gives the copies these times
    with stage.watch() as watch:
        watch.until_watching()
        began = time.monotonic()
        subprocess.run(["rsync", "-a", f"{origin}/", stage.root], check=True)
        copied = time.monotonic() - began
        settle(watch, stage.root, within_s=600)
        took = time.monotonic() - began - _LINGER_S
        expect(watch.lines, new=stage.count)
        subprocess.run(["rsync", "-a", f"{origin}/", stage.root], check=True)
        # One of them is edited at its origin, and rsync writes into the copy.
        with open(os.path.join(origin, "roll 0", "IMG_00000.jpg"), "wb") as file:
            file.write(stage.source.next())
        subprocess.run(["rsync", "-a", "--inplace", f"{origin}/", stage.root], check=True)
        settle(watch, stage.root)
        expect(watch.lines, new=stage.count, changed=1)
        ended(watch)
    return f"{stage.count:,} photographs in {copied:.1f} s, all told after {took:.1f} s"


def untar(stage: Stage) -> str:
    """Unpack an archive."""
    if not shutil.which("tar"):
        raise SkipScene("tar is not installed")
    origin, archive = os.path.join(stage.scratch, "origin"), f"{stage.scratch}/all.tar"
    stage.fill(os.path.join(origin, "a", "b"), stage.count // 2)
    stage.fill(os.path.join(origin, "c"), stage.count // 2)
    subprocess.run(["tar", "-cf", archive, "-C", origin, "."], check=True)
    with stage.watch() as watch:
        watch.until_watching()
        subprocess.run(["tar", "-xf", archive, "-C", stage.root], check=True)
        settle(watch, stage.root, within_s=600)
        expect(watch.lines, new=stage.count // 2 * 2)
        ended(watch)
    return f"{stage.count // 2 * 2:,} pictures in nested folders"


def moves(stage: Stage) -> str:
    """Move a whole tree in, rename it, and move it out."""
    count = stage.count // 4
    outside = os.path.join(stage.scratch, "outside")
    stage.fill(outside, count)
    with stage.watch() as watch:
        watch.until_watching()
        stage.write("stays.jpg")
        os.rename(outside, os.path.join(stage.root, "in"))
        settle(watch, stage.root, within_s=300)
        expect(watch.lines, new=count + 1)
        os.rename(os.path.join(stage.root, "in"), os.path.join(stage.root, "renamed"))
        settle(watch, stage.root, within_s=300)
        expect(watch.lines, new=count + 1, moved=count)
        os.rename(os.path.join(stage.root, "renamed"), outside)
        settle(watch, stage.root, within_s=300)
        expect(watch.lines, new=count + 1, moved=count, gone=count)
        ended(watch)
    return f"a tree of {count:,} pictures in, renamed and out: {events(watch.lines)}"


def unplugged(stage: Stage) -> str:
    """Unmount a disk inside the watched folder, change it elsewhere, and mount it again."""
    image = os.path.join(stage.scratch, "disk.img")
    stick, elsewhere = (os.path.join(stage.scratch, name) for name in ("Pictures/usb", "elsewhere"))
    for folder in (stick, elsewhere):
        os.makedirs(folder)
    _make_disk(image)
    with mounted(stick, "-o", "loop", image) as disk, stage.watch() as watch:
        on_disk = [stage.write(f"usb/{at}.jpg") for at in range(20)]
        here = stage.write("here.jpg")
        watch.until_watching()
        settle(watch, stage.root)
        expect(watch.lines, new=21)
        disk.unmount()
        os.unlink(here)
        if not watch.until(lambda: here not in watch.view.known, within_s=20):
            raise Wrong("a picture beside the disk is gone, and it was not said")
        time.sleep(_LINGER_S + 2)
        expect(watch.lines, new=21, gone=1)
        with mounted(elsewhere, "-o", "loop", image):
            os.unlink(os.path.join(elsewhere, "0.jpg"))
            shutil.move(os.path.join(elsewhere, "1.jpg"), os.path.join(elsewhere, "one.jpg"))
            with open(os.path.join(elsewhere, "new.jpg"), "wb") as file:
                file.write(stage.source.next())
        time.sleep(1)
        disk.mount()
        settle(watch, stage.root)
        expect(watch.lines, new=22, gone=2, moved=1)
        # Pulled for good, and the watcher starts while it is away.
        disk.unmount()
        ended(watch)
        with stage.watch(view=watch.view) as again:
            again.until_watching()
            time.sleep(_LINGER_S + 1)
            expect(again.lines)
            disk.mount()
            settle(again, stage.root)
            expect(again.lines)
            ended(again)
    return f"{len(on_disk)} pictures on a disk that came and went: {events(watch.lines)}"


def full_disk(stage: Stage) -> str:
    """Leave no room for pictures, and then none for the library."""
    home = os.path.join(stage.scratch, "home")
    for folder in (home, stage.root):
        os.makedirs(folder)
    small = ("-t", "tmpfs", "-o", f"size={_DISK_MB}m", "none")
    with mounted(stage.root, *small), mounted(home, *small), stage.watch() as watch:
        watch.until_watching()
        stage.write("first.jpg")
        settle(watch, stage.root)
        # A program copies a picture, fails, and does it again when there is room.
        ballast = os.path.join(stage.root, "ballast.bin")
        _fill(ballast, leave=2048)
        data = stage.source.next() + bytes(1 << 16)
        with contextlib.suppress(OSError):
            stage.write("copied.jpg", data[:4000])
            stage.write("copied.jpg", data)
        if os.path.getsize(os.path.join(stage.root, "copied.jpg")) == len(data):
            raise SkipScene("the disk did not fill up")
        time.sleep(2.5)
        os.unlink(ballast)
        stage.write("copied.jpg", data)
        settle(watch, stage.root)
        expect(watch.lines, new=2)
        ballast = os.path.join(home, "ballast.bin")
        _fill(ballast)
        paths = [stage.write(f"while full {at}.jpg") for at in range(20)]
        settle(watch, stage.root)
        expect(watch.lines, new=22)
        if not any("degraded" in line for line in watch.said):
            raise Wrong(f"the library's disk is full, and it was not said: {watch.said}")
        os.unlink(ballast)
        stage.write("later.jpg")
        settle(watch, stage.root)
        expect(watch.lines, new=23)
        if not watch.until(lambda: any("no longer so" in one for one in watch.said), within_s=10):
            raise Wrong(f"there is room again, and it was not said: {watch.said}")
        ended(watch)
    return f"half a copy not judged; {len(paths)} pictures told while the library had no room"


def killed(stage: Stage) -> str:
    """Kill the watcher while it works, change more, and start it again."""
    count = stage.count // 4
    old = stage.fill("old", count)
    with stage.watch() as watch:
        watch.until_watching()
        settle(watch, stage.root, within_s=300)
        expect(watch.lines, new=count)
        time.sleep(_SAVED_S)
        stage.fill("burst", count)
        watch.until(lambda: len(watch.lines) > count + count // 4, within_s=60)
        watch.kill()
        at = time.perf_counter()
        watch.end()
        first = list(watch.lines)
    os.unlink(old[0])
    os.rename(old[1], os.path.join(stage.root, "renamed.jpg"))
    stage.write("made meanwhile.jpg")
    with open(old[2], "wb") as file:
        file.write(stage.source.next())
    with stage.watch(view=watch.view) as again:
        again.until_watching()
        settle(again, stage.root, within_s=300)
        ended(again)
    told_at = {line.path: line.at for line in first}
    twice = [line.path for line in again.view.repeated]
    early = [path for path in twice if at - told_at[path] > _SAVED_S]
    if early:
        raise Wrong(f"{len(early)} pictures told again that were told long before: {early[:3]}")
    unhurt = [line for line in again.lines if line.path in old[3:]]
    if unhurt:
        raise Wrong(f"{len(unhurt)} lines about pictures that nobody touched: {unhurt[:2]}")
    return (
        f"killed after {len(first) - count:,} of {count:,} pictures: none missed, "
        f"{len(twice)} told again, of the last {_SAVED_S} s"
    )


def restarted(stage: Stage) -> str:
    """Let the watcher begin anew, by SIGHUP and by an end, right after pictures came."""
    count = 20
    with stage.watch() as watch:
        watch.until_watching()
        stage.fill("a", count)
        watch.until(lambda: len(watch.lines) == count, within_s=60)
        watch.send(signal.SIGHUP)
        settle(watch, stage.root)
        expect(watch.lines, new=count)
        stage.fill("b", count)
        watch.until(lambda: len(watch.lines) == 2 * count, within_s=60)
        ended(watch)
    with stage.watch(view=watch.view) as again:
        again.until_watching()
        settle(again, stage.root)
        expect(again.lines)
        ended(again)
    return "SIGHUP and SIGTERM a moment after a verdict: nothing told twice"


# Disks


class Mounted:
    """A file system that is mounted, and may be unmounted and mounted again."""

    def __init__(self, folder: str, command: Sequence[str]) -> None:
        self._folder, self._command = folder, command

    def mount(self) -> None:
        """Mount it. Raises `SkipScene` where that is not allowed."""
        done = subprocess.run(
            ["mount", *self._command, self._folder], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SkipScene(f"nothing can be mounted here: {done.stderr.strip()}")

    def unmount(self) -> None:
        """Unmount it; somebody may be looking at it at this moment."""
        for _ in range(50):
            done = subprocess.run(["umount", self._folder], capture_output=True, check=False)
            if not done.returncode:
                return
            time.sleep(0.1)
        raise Wrong(f"the disk cannot be unmounted: {done.stderr.decode()}")


@contextlib.contextmanager
def mounted(folder: str, *command: str) -> Iterator[Mounted]:
    """Mount something on a folder while the block runs."""
    if not shutil.which("mount"):
        raise SkipScene("there is no mount")
    disk = Mounted(folder, command)
    disk.mount()
    try:
        yield disk
    finally:
        if os.path.ismount(folder):
            subprocess.run(["umount", "-l", folder], check=True)


def _make_disk(image: str) -> None:
    tool = shutil.which("mkfs.ext4") or shutil.which("mkfs.ext4", path="/sbin:/usr/sbin")
    if tool is None:
        raise SkipScene("mkfs.ext4 is not installed")
    with open(image, "wb") as file:
        file.truncate(256 << 20)
    subprocess.run([tool, "-q", image], check=True)


def _fill(path: str, leave: int = 0) -> None:
    """Write until there is no room; leave a few bytes."""
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    if leave:
        os.truncate(path, os.path.getsize(path) - leave)


SCENES: dict[str, Callable[[Stage], str]] = {
    "download": download,
    "rsync": rsync,
    "untar": untar,
    "moves": moves,
    "unplugged": unplugged,
    "full disk": full_disk,
    "killed": killed,
    "restarted": restarted,
}


def play(name: str, source: Source, count: int) -> bool:
    """Play one scene and print its line; tell whether all was as it must be."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        package = tiny.write_package(os.path.join(scratch, "model"), sees_red=True)
        try:
            said, word = SCENES[name](Stage(scratch, package, source, count)), "ok"
        except SkipScene as reason:
            said, word = str(reason), "skipped"
        except Wrong as reason:
            said, word = str(reason), "FAILED"
    print(f"{word:<8} {name}: {said} ({time.monotonic() - began:.0f} s)", flush=True)
    return word != "FAILED"


def main(arguments: Sequence[str] | None = None) -> None:
    """Play the scenes, and exit with 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=", ".join(SCENES))
    parser.add_argument("--photographs", type=int, default=2000, metavar="N", help="for rsync")
    parser.add_argument("--small", action="store_true", help="drawn pictures, no photographs")
    given = parser.parse_args(arguments)
    unknown = set(given.scenes) - SCENES.keys()
    if unknown:
        parser.error(f"no such scene: {', '.join(sorted(unknown))}")
    if sys.platform != "linux":
        sys.exit("mounts and signals are Linux's")
    print(f"{measure.machine()}\n", flush=True)
    source = Source(small=given.small)
    good = [play(name, source, given.photographs) for name in given.scenes or SCENES]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
