"""What people's decisions cost a scan of unchanged files: `python -m benchmarks.rulings`.

100,000 files as in `benchmarks.rescan`, scanned once. The likenesses of so small pictures are put
into the cache as random ones, for what is measured is how long comparing takes. Then fresh
processes scan again in turn, with no decisions and with some: none of them is about one of the
pictures, which is the case that must not cost much.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import tempfile
import time
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import measure
from benchmarks.rescan import Bench
from nsfwscan.cache.cache import Cache
from nsfwscan.cache.rows import FactRow
from nsfwscan.judge import Likeness, Ruled, RulingBook
from nsfwscan.values import likeness
from nsfwscan.values.facts import LIKENESS
from nsfwscan.values.results import Ruling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.measure import Run

_SETTLED_S = 4.0
_CASES = {
    "no decisions": (0, 0),
    "100 decisions": (100, 0),
    "10,000 decisions": (10_000, 0),
    "1 decision with --near": (0, 1),
    "10 decisions with --near": (0, 10),
    "500 decisions with --near": (0, 500),
}


def decide(path: str, exact: int, near: int) -> None:
    """Write decisions about pictures that do not exist."""
    choose = random.Random(exact + near)
    RulingBook(path).add(
        Ruled(
            hashlib.sha256(b"decision %d" % number).digest(),
            Ruling.DENIED,
            number,
            f"/nowhere/{number}.jpg",
            None if number < exact else Likeness(_random(choose), likeness.DEFAULT_WITHIN),
        )
        for number in range(exact + near)
    )


def give_likenesses(home: str) -> None:
    """Give every content of a library a random likeness."""
    choose = random.Random(1)
    with Cache.open(os.path.join(home, "library.sqlite3"), warn=print) as cache:
        rows = [row for row in cache.export() if row.path is not None and row.scorer is not None]
        cache.write(
            [], [], [FactRow(row.sha256, LIKENESS, likeness.pack(_random(choose))) for row in rows]
        )
        folders = sorted({os.path.dirname(row.path or "") for row in rows})
        scorer = rows[0].scorer
        if scorer is not None:
            cache.snapshot(folders, scorer)


def _random(choose: random.Random) -> int:
    """Return a likeness: 32 bits of 64, as `nsfwscan.values.likeness` gives them."""
    return sum(1 << at for at in choose.sample(range(64), 32))


def measure_in(scratch: str, files: int, rounds: int) -> None:
    """Measure, with all files below the folder `scratch`, and print."""
    bench = Bench(scratch)
    bench.tree(files)
    command, environment = bench.command(files)
    home = environment["NSFWSCAN_HOME"]
    if not os.path.isdir(home):
        time.sleep(_SETTLED_S)
        bench.first_scan(files)
        give_likenesses(home)
    tasks: dict[str, Callable[[], Run]] = {}
    for number, (name, (exact, near)) in enumerate(_CASES.items()):
        other = os.path.join(scratch, f"home-case-{number}")
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(home, other)
        decide(os.path.join(other, "rulings.jsonl"), exact, near)
        env = environment | {"NSFWSCAN_HOME": other}
        tasks[name] = partial(_scan, command, env, files)
    for task in tasks.values():
        task()
    results = measure.interleaved(rounds, tasks)
    base = measure.median([run.core_seconds for run in next(iter(results.values()))])
    print(f"{measure.machine()}; medians of {rounds} rounds\n")
    rows = [
        (
            name,
            f"{measure.median([run.seconds for run in runs]):.2f}",
            f"{(core := measure.median([run.core_seconds for run in runs])):.2f}",
            f"{1e3 * (core - base):+.0f}",
        )
        for name, runs in results.items()
    ]
    header = (f"{files:,} unchanged files", "seconds", "core seconds", "core ms more")
    print(measure.table(header, rows))


def _scan(command: list[str], env: dict[str, str], files: int) -> Run:
    run = measure.run(command, env, expect=(0, 1))
    if f"\n{files:,} pictures in" not in run.complaint or "scored" in run.complaint:
        raise SystemExit(f"a second scan did more than it should:\n{run.complaint}")
    return run


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--keep", metavar="FOLDER", help="work here, and reuse what is here")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        measure_in(given.keep or scratch, given.files, given.rounds)


if __name__ == "__main__":
    main()
