"""How fast a scan of unchanged files is, against `git status` and `find` over the same tree.

`python -m benchmarks.rescan` writes 100,000 small JPEG files, all different, into 1,000 folders,
scans them once with a model of a few hundred bytes (what is measured does not depend on the model),
and then times fresh processes in turn, from start to end. It also shows the peak memory of first
scans of 1,000 files, ten times as many, and all.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from PIL import Image

from benchmarks import measure, tiny
from benchmarks.measure import Run, median

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_FOLDER_FILES = 100
_SETTLED_S = 4.0
"""A file younger than three seconds is not trusted to stay as it is."""
_RESCAN, _STATUS, _FIND = "nsfwscan scan", "git status", "find -printf"
_BARE = "os.scandir and stat alone, in Python"
_BARE_WALK = """
import os, sys
ahead = [sys.argv[1]]
while ahead:
    with os.scandir(ahead.pop()) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                ahead.append(entry.path)
            else:
                entry.stat(follow_symlinks=False)
"""
_FORMAT = "%p %s %T@ %i\\n"


def write_tree(root: str, files: int) -> None:
    """Write `files` JPEG files of about 600 bytes, a hundred to a folder, no two alike."""
    choose = random.Random(1)
    for number in range(files):
        folder = os.path.join(root, f"{number // _FOLDER_FILES:04d}")
        if number % _FOLDER_FILES == 0:
            os.makedirs(folder)
            colour = tuple(choose.randrange(256) for _ in range(3))
            stream = io.BytesIO()
            Image.new("RGB", (24, 16), colour).save(stream, "JPEG")
            picture = stream.getvalue()
        # A comment after the start marker makes each file another one, and leaves the pixels.
        comment = f"{number:08d}".encode()
        marked = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        with open(os.path.join(folder, f"IMG_{number:06d}.jpg"), "wb") as file:
            file.write(picture[:2] + marked + picture[2:])


class Bench:
    """A tree, a home with what a first scan of it found out, and a git repository of it."""

    def __init__(self, scratch: str) -> None:
        self._scratch = scratch
        self._package = tiny.write_package(os.path.join(scratch, "model"))

    def tree(self, files: int) -> str:
        """Return the folder of a tree, written when it is not there."""
        root = os.path.join(self._scratch, f"tree-{files}")
        if not os.path.isdir(root):
            measure.note(f"writing {files} files")
            write_tree(root, files)
        return root

    def command(self, files: int) -> tuple[list[str], dict[str, str]]:
        """Return the command that scans a tree, and its environment."""
        command = measure.nsfwscan("scan", "--offline", "--model", self._package, self.tree(files))
        return command, measure.environment(os.path.join(self._scratch, f"home-{files}"))

    def first_scan(self, files: int) -> float:
        """Scan a tree, knowing nothing; return the peak memory of all processes in MB."""
        command, env = self.command(files)
        shutil.rmtree(env["NSFWSCAN_HOME"], ignore_errors=True)
        measure.note(f"first scan of {files} files")
        return measure.peak_memory_mb(command, env, (0, 1))

    def scan(self, files: int) -> Run:
        """Scan a tree again. Raises SystemExit when anything was scored or failed."""
        run = measure.run(*self.command(files), expect=(0, 1))
        if f"\n{files:,} pictures in" not in run.complaint or "scored" in run.complaint:
            sys.exit(f"a second scan did more than it should:\n{run.complaint}")
        return run

    def commit(self, files: int) -> None:
        """Put a tree under version control, unless it is; the store lies outside the tree."""
        if os.path.isdir(self._git_store(files)):
            return
        measure.note("git add")
        self._git(files, "init", "--quiet")
        self._git(files, "add", "--all")
        self._git(
            files,
            "-c",
            "user.name=nobody",
            "-c",
            "user.email=nobody@example.com",
            "commit",
            "--quiet",
            "--message",
            "all",
        )

    def status(self, files: int) -> Run:
        """Ask git whether anything changed."""
        run = measure.run([*self._git_command(files), "status", "--short"], dict(os.environ))
        if run.output:
            sys.exit("git sees changes in the tree")
        return run

    def find(self, files: int) -> Run:
        """Let find list every file with its size, time and inode."""
        return measure.run(["find", self.tree(files), "-printf", _FORMAT], dict(os.environ))

    def bare_walk(self, files: int) -> Run:
        """List and `stat` every file in Python and do nothing else: no scan can be faster."""
        command = [sys.executable, "-S", "-c", _BARE_WALK, self.tree(files)]
        return measure.run(command, dict(os.environ))

    def _git_command(self, files: int) -> list[str]:
        return ["git", f"--git-dir={self._git_store(files)}", f"--work-tree={self.tree(files)}"]

    def _git_store(self, files: int) -> str:
        return os.path.join(self._scratch, f"git-{files}")

    def _git(self, files: int, *arguments: str) -> None:
        subprocess.run([*self._git_command(files), *arguments], check=True, capture_output=True)


def report(files: int, results: dict[str, list[Run]], memory: dict[str, float]) -> str:
    """Lay out what was measured."""
    base = median([run.seconds for run in results[_RESCAN]])
    rows = [
        (
            name,
            f"{median([run.seconds for run in runs]):.2f}",
            f"{min(run.seconds for run in runs):.2f}",
            f"{median([run.core_seconds for run in runs]):.2f}",
            f"{base / median([run.seconds for run in runs]):.2f}",
        )
        for name, runs in results.items()
    ]
    header = (
        f"{files:,} unchanged files",
        "seconds",
        "fastest",
        "core seconds",
        "nsfwscan's time / its",
    )
    flat = [(what, f"{mb:.0f}") for what, mb in memory.items()]
    return measure.table(header, rows) + "\n\n" + measure.table(("all processes", "peak MB"), flat)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--keep", metavar="FOLDER", help="work here, and reuse what is here")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        measure_in(given.keep or scratch, given.files, given.rounds)


def measure_in(scratch: str, files: int, rounds: int) -> None:
    """Measure, with all files below the folder `scratch`, and print."""
    bench = Bench(scratch)
    counts = [count for count in (files // 100, files // 10, files) if count >= 1]
    trees = [bench.tree(count) for count in counts]
    time.sleep(_SETTLED_S)
    print(f"{measure.machine()}; {len(trees)} trees; medians of {rounds} rounds\n")
    memory = {f"first scan, {count:,} files": bench.first_scan(count) for count in counts}
    tasks: dict[str, Callable[[], Run]] = {_RESCAN: lambda: bench.scan(files)}
    tasks[_BARE] = lambda: bench.bare_walk(files)
    if shutil.which("git"):
        bench.commit(files)
        tasks[_STATUS] = lambda: bench.status(files)
    if shutil.which("find") and sys.platform == "linux":  # -printf is GNU find's
        tasks[_FIND] = lambda: bench.find(files)
    for task in tasks.values():  # what the first of each writes for the next is not measured
        task()
    results = measure.interleaved(rounds, tasks)
    memory[f"scan of {files:,} unchanged files"] = measure.peak_memory_mb(
        *bench.command(files), (0,)
    )
    print(report(files, results, memory))


if __name__ == "__main__":
    main()
