"""Several processes at one library, some of them killed at random moments."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

import cache_writer
import pytest
from cache_facts import BATCH, known_contents, known_numbers
from sizes import trials as at_size

from nsfwscan.cache.cache import Cache

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

MODES = pytest.mark.parametrize("mode", ["wal", "delete"])


def fail_on_warning(text: str) -> None:
    raise AssertionError(text)


def finish(child: subprocess.Popen[str]) -> str:
    """Wait for a child that may have been killed; fail if it showed anything but its lines."""
    stdout, stderr = child.communicate(timeout=110)
    assert stderr == ""
    assert "unavailable" not in stdout
    assert "warned" not in stdout
    return stdout


@MODES
@pytest.mark.timeout(1800)
def test_killed_at_any_moment_every_acknowledged_batch_is_there(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "library.sqlite3"
    rng = random.Random(f"c1 {mode}")
    stop = 600 * BATCH
    done: set[int] = set()
    for _ in range(at_size(8, 500)):
        if max(done, default=0) + BATCH > stop // 2:
            path.unlink()
            done = set()
        child = cache_writer.start(*cache_writer.command(path, len(done), stop, mode))
        assert child.stdout is not None
        # Not readline(): what it reads ahead would be lost to communicate().
        first = os.read(child.stdout.fileno(), 4096).decode() if rng.random() < 0.9 else ""
        time.sleep(rng.uniform(0, 0.15))
        child.kill()
        done |= cache_writer.acknowledged(first + finish(child))
        with Cache.open(str(path), warn=fail_on_warning) as cache:
            there = known_contents(cache, len(done) + 2 * BATCH)
            assert done <= there
            assert len(there - done) in {0, BATCH}, "more than one batch was not acknowledged"
            assert known_numbers(cache, len(done) + 2 * BATCH) == there
            done = there
    assert done
    with Cache.open(str(path), warn=fail_on_warning) as cache:
        assert cache.verify()[1:] == (0, False)


@MODES
@pytest.mark.timeout(1800)
def test_several_processes_and_random_kills_lose_no_acknowledged_batch(
    mode: str, tmp_path: Path
) -> None:
    rng = random.Random(f"c7 {mode}")
    for trial in range(at_size(2, 60)):
        path = tmp_path / str(trial) / "new" / "library.sqlite3"  # all of them race to create it
        size = 12 * BATCH
        children = [
            cache_writer.start(*cache_writer.command(path, n * size, (n + 1) * size, mode))
            for n in range(5)
        ]
        victims = rng.sample(children, 2)
        for victim in victims:
            time.sleep(rng.uniform(0, 0.5))
            victim.kill()
        said = [finish(child) for child in children]
        for child, stdout in zip(children, said, strict=True):
            if child not in victims:
                assert child.returncode == 0
                assert len(cache_writer.acknowledged(stdout)) == size
                assert stdout.endswith("closed\n")
        done = set().union(*map(cache_writer.acknowledged, said))
        with Cache.open(str(path), warn=fail_on_warning) as cache:
            assert done <= known_numbers(cache, 5 * size)
            assert done <= known_contents(cache, 5 * size)
            assert cache.verify()[1:] == (0, False)


def test_several_processes_find_the_same_damage_and_one_sets_it_aside(tmp_path: Path) -> None:
    path = tmp_path / "library.sqlite3"
    path.write_bytes(b"this is not a database " * 1000)
    children = [
        cache_writer.start(*cache_writer.command(path, n * BATCH, (n + 1) * BATCH))
        for n in range(4)
    ]
    said = [child.communicate(timeout=110) for child in children]
    assert [stderr for _, stderr in said] == [""] * 4
    assert sum(stdout.count("warned: ") for stdout, _ in said) == 1
    assert sum(stdout.count("wrote ") for stdout, _ in said) == 4
    with Cache.open(str(path), warn=fail_on_warning) as cache:
        assert known_numbers(cache, 4 * BATCH) == set(range(4 * BATCH))
    assert len(list(tmp_path.glob("*.corrupt-*"))) == 1
