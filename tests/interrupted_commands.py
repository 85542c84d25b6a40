"""Ctrl-C at random moments of every command, each in a process of its own, as a person runs it.

    python tests/interrupted_commands.py                  200 moments of every command
    python tests/interrupted_commands.py --times 10 scan  10 moments of this one
    python tests/interrupted_commands.py --start          the first moments of a program, both ways

It must exit with 130, by SIGINT, or with the true code of a command that was through; print no
traceback; and leave nothing half done that the next command does not end: see `calls_world`. Before
the first line of nsfwscan it is Python that is interrupted. It prints a traceback, which no program
can help, and exits with 1 while it looks for its modules (`import site`). Those are counted apart.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence

from calls_world import BOUND_S, KINDS, PROGRAMS, TASKS, World, judge, opened

_TESTS = os.path.dirname(os.path.abspath(__file__))
_START_S = 0.1
"""Longer than Python takes to come to the first line of a program."""
_MODULE = ["-m", "nsfwscan"]
_SCRIPT = """#!/usr/bin/env python
import sys
from nsfwscan.__main__ import run
if __name__ == '__main__':
    sys.argv[0] = sys.argv[0].removesuffix('.exe')
    sys.exit(run())
"""
"""What pip writes for the entry point of a package."""


class Pressed:
    """Runs commands, interrupts them, and counts what came of it."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._chance = random.Random(seed)
        self.codes: Counter[int] = Counter()
        self.pythons = 0
        """Interrupts before the first line of nsfwscan that Python printed a traceback for."""
        self.problems: list[str] = []
        self._kinds: Counter[str] = Counter()

    def command(self, name: str, times: int, start: Sequence[str], within_s: float = 0.0) -> None:
        """Interrupt a command at `times` moments, all within `within_s` or while it runs."""
        task, whole_s = TASKS[name], within_s
        if not within_s:
            for _ in range(2):  # the first one reads everything from the disk
                code, whole_s = self._run(name, start, BOUND_S)
                err = (self._world.base / "err").read_text()
                assert code == task.codes[0], (name, code, err)
                assert task.promise(self._world, code), (name, code, err)
        for number in range(times):
            moment_s = whole_s * (number + self._chance.random()) / times
            code, took_s = self._run(name, start, moment_s)
            path = self._world.base / "err"
            if _is_pythons(path.read_text("utf-8", "replace")):
                self.pythons += 1
                code = -signal.SIGINT
                path.write_text("")
            self.codes[code] += 1
            codes = (*task.codes, 130, -signal.SIGINT)
            for problem in judge(self._world, name, code, took_s, codes=codes):
                self.problems.append(f"{name} after {moment_s:.4f} s: {problem}")
                self._kinds[problem.partition(" (")[0].partition(":")[0]] += 1
                print(self.problems[-1], flush=True)

    def _run(self, name: str, start: Sequence[str], moment_s: float) -> tuple[int, float]:
        """Run a command, interrupt it; return its exit code and the seconds it took afterwards."""
        world, task = self._world, TASKS[name]
        world.prepare(name)
        if task.before:
            code = f"{task.before}\nfrom nsfwscan.__main__ import run; run()"
            start = ["-c", code]
        with (world.base / "out").open("wb") as out, (world.base / "err").open("wb") as err:
            began = time.monotonic()
            program = subprocess.Popen(
                [sys.executable, *start, *task.words(world)],
                cwd=world.top, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                start_new_session=True,
            )  # fmt: skip
            try:
                program.wait(moment_s)
            except subprocess.TimeoutExpired:
                began = time.monotonic()
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(program.pid, signal.SIGINT)  # as a terminal does
                try:
                    program.wait(BOUND_S)
                except subprocess.TimeoutExpired:
                    program.kill()
                    program.wait()
        return program.returncode, time.monotonic() - began

    def add(self, other: Pressed) -> None:
        """Count what another one counted."""
        self.codes += other.codes
        self._kinds += other._kinds
        self.pythons += other.pythons
        self.problems += other.problems

    def __str__(self) -> str:
        """Tell the counts."""
        codes = ", ".join(f"{many:,} with {code}" for code, many in sorted(self.codes.items()))
        told = [
            f"{self.codes.total():,} interrupts ({codes})",
            *(f"{self._kinds[one]:,} {many}" for one, many in KINDS.items()),
            f"{self.pythons:,} before the first line of nsfwscan",
        ]
        return ", ".join(told)


def _is_pythons(err: str) -> bool:
    """Return True for a traceback of Python's own start, in which no file of nsfwscan is named.

    Apart from the package's own `__init__`, which comes before anything that a program can do.
    """
    files = re.findall(r'File "([^"]+)", line', err)
    package = os.path.join("nsfwscan", "")
    ours = [
        one for one in files if package in one and not one.endswith(("__init__.py", "_version.py"))
    ]
    told = bool(files) or err.strip() == "KeyboardInterrupt"
    return told and "internal error" not in err and not ours


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=200, help="moments of each command")
    parser.add_argument("--start", action="store_true", help="only in the first tenth of a second")
    parser.add_argument("--seed", type=int, default=1, help="another one gives other moments")
    parser.add_argument("--elsewhere", default="/dev/shm", help="a folder of another file system")
    parser.add_argument("commands", nargs="*", choices=[[], *PROGRAMS])
    chosen = parser.parse_args()
    search = [_TESTS, os.path.dirname(_TESTS), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, search))
    names = chosen.commands or PROGRAMS
    with opened(chosen.elsewhere, [] if chosen.start else names) as world:
        script = world.base / "nsfwscan"
        script.write_text(_SCRIPT)
        whole = Pressed(world, chosen.seed)
        for name in ("a module", "a script") if chosen.start else names:
            one = Pressed(world, chosen.seed)
            if chosen.start:
                start = _MODULE if name == "a module" else [os.fspath(script)]
                one.command("status", chosen.times, start, _START_S)
            else:
                one.command(name, chosen.times, _MODULE)
            print(f"{name}: {one}", flush=True)
            whole.add(one)
        print(f"all: {whole}", flush=True)
    sys.exit(bool(whole.problems) or not whole.codes[130] + whole.codes[-signal.SIGINT])


if __name__ == "__main__":
    main()
