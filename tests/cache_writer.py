"""A process that writes facts to a cache, batch by batch, and says which were acknowledged.

    python cache_writer.py LIBRARY START STOP [wal|delete]

stdout: `wrote N` once the batch that begins with N is acknowledged, `unavailable: ...` when it
cannot be written, `warned: ...` for a warning, `closed` at the end.
"""

from __future__ import annotations

import os
import subprocess
import sys

from cache_facts import BATCH, SCORER, known_numbers, path_of, write_numbers

import nsfwscan
from nsfwscan.cache import database
from nsfwscan.cache.cache import Cache
from nsfwscan.values.errors import CacheUnavailable


def command(path: object, start: int, stop: int, *mode: str) -> list[str]:
    return [sys.executable, __file__, str(path), str(start), str(stop), *mode]


def environment() -> dict[str, str]:
    """Return what a child needs to find this package and the tests' own modules."""
    here = os.path.dirname(os.path.abspath(__file__))
    package = os.path.dirname(os.path.dirname(os.path.abspath(nsfwscan.__file__)))
    return {**os.environ, "PYTHONPATH": os.pathsep.join((package, here)), "PYTHONFAULTHANDLER": "1"}


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def acknowledged(stdout: str) -> set[int]:
    """Return the numbers whose batches were acknowledged. The last line may be cut by a kill."""
    whole_lines = stdout[: stdout.rfind("\n") + 1].splitlines()
    starts = [int(line.split()[1]) for line in whole_lines if line.startswith("wrote ")]
    return {n for first in starts for n in range(first, first + BATCH)}


def say(text: str) -> None:
    print(text.replace("\n", " "), flush=True)


def main(path: str, start: int, stop: int) -> None:
    try:
        with Cache.open(path, warn=lambda text: say(f"warned: {text}")) as cache:
            for first in range(start, stop, BATCH):
                try:
                    write_numbers(cache, range(first, first + BATCH))
                    say(f"wrote {first}")
                    cache.snapshot(os.path.dirname(path_of(first)), SCORER)
                    known_numbers(cache, first + BATCH)
                except CacheUnavailable as error:
                    say(f"unavailable: {error}; {error.hint}")
    except CacheUnavailable as error:
        say(f"unavailable: {error}; {error.hint}")
    say("closed")


if __name__ == "__main__":
    if len(sys.argv) > 4:
        forced = sys.argv[4]
        database.journal_mode = lambda _version: forced  # type: ignore[assignment]
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
