"""What becomes of the cache when its file, its disk or its folder fails.

`TESTS_AT_FULL_SIZE=1 pytest tests/test_cache_faults.py` runs the numbers of trials that the
project's reliability targets name; the normal run takes a sample of them. A kill or a copied file
does not model the loss of power: what a disk does to unsynced pages is not tested here.
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cache_writer
import pytest
from cache_facts import (
    BATCH,
    SCORER,
    fill,
    folders,
    known_contents,
    known_numbers,
    write_numbers,
)
from shell import needs, own_mounts
from sizes import trials as at_size

from nsfwscan.cache import database
from nsfwscan.cache.cache import Cache
from nsfwscan.values.errors import CacheTooNew, CacheUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = 320
PAGE_BYTES = 4096


def fail_on_warning(text: str) -> None:
    raise AssertionError(text)


def use_journal(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "journal_mode", lambda _version: mode)


def assert_whole_batches(numbers: set[int]) -> int:
    """Fail unless the numbers are those of the first so many batches; return how many."""
    assert numbers == set(range(len(numbers)))
    assert len(numbers) % BATCH == 0 or len(numbers) == COUNT
    return len(numbers) // BATCH


@pytest.mark.timeout(1800)
def test_a_write_ahead_log_cut_anywhere_opens_with_a_prefix_of_whole_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_journal("wal", monkeypatch)
    source = tmp_path / "source.sqlite3"
    with Cache.open(str(source), warn=fail_on_warning) as cache:
        fill(cache, COUNT, snapshots=False)
        main, log = source.read_bytes(), Path(f"{source}-wal").read_bytes()
    assert len(log) > 50 * PAGE_BYTES
    found = set()
    rng = random.Random(2)
    cuts = [0, 1, 31, 32, len(log)]
    cuts += [rng.randrange(len(log)) for _ in range(at_size(60, 1000))]
    for cut in cuts:
        path = tmp_path / "cut.sqlite3"
        path.write_bytes(main)
        Path(f"{path}-wal").write_bytes(log[:cut])
        for mode in ("wal", "delete"):
            use_journal(mode, monkeypatch)
            with Cache.open(str(path), warn=fail_on_warning) as cache:
                batches = assert_whole_batches(known_numbers(cache, COUNT))
                assert known_contents(cache, COUNT) == set(range(batches * BATCH))
        found.add(batches)
    assert max(found) == COUNT // BATCH
    assert len(found) > 5


def interrupted_commit(source: Path, *, spill: bool) -> tuple[bytes, bytes]:
    """Return the file and its rollback journal in the middle of a transaction."""
    raw = sqlite3.connect(source, isolation_level=None)
    raw.execute(f"PRAGMA cache_size = {1 if spill else 10_000}")
    raw.execute("BEGIN IMMEDIATE")
    raw.execute("UPDATE file SET written_at = written_at + 1")
    raw.execute("UPDATE outcome SET written_at = written_at + 1")
    raw.execute("UPDATE snapshot SET checksum = checksum + 1")
    journal = Path(f"{source}-journal")
    state = source.read_bytes(), journal.read_bytes()
    raw.close()
    return state


@pytest.mark.timeout(1800)
def test_a_rollback_journal_cut_before_it_was_synced_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite writes to the file only after the journal is on the disk, so a cut comes before."""
    use_journal("delete", monkeypatch)
    source = tmp_path / "source.sqlite3"
    with Cache.open(str(source), warn=fail_on_warning) as cache:
        fill(cache, COUNT)
    before = source.read_bytes()
    _, journal = interrupted_commit(source, spill=True)
    assert len(journal) > 20 * PAGE_BYTES
    rng = random.Random(3)
    for _ in range(at_size(60, 1000)):
        path = tmp_path / "cut.sqlite3"
        path.write_bytes(before)
        Path(f"{path}-journal").write_bytes(journal[: rng.randrange(len(journal))])
        with Cache.open(str(path), warn=fail_on_warning) as cache:
            assert known_numbers(cache, COUNT) == set(range(COUNT))
            assert known_contents(cache, COUNT) == set(range(COUNT))


def test_a_transaction_that_had_reached_the_file_is_rolled_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_journal("delete", monkeypatch)
    source, path = tmp_path / "source.sqlite3", tmp_path / "killed.sqlite3"
    with Cache.open(str(source), warn=fail_on_warning) as cache:
        fill(cache, COUNT)
    before = source.read_bytes()
    main, journal = interrupted_commit(source, spill=True)
    assert main != before
    path.write_bytes(main)
    Path(f"{path}-journal").write_bytes(journal)
    with Cache.open(str(path), warn=fail_on_warning) as cache:
        assert known_numbers(cache, COUNT) == set(range(COUNT))
        assert cache.verify().deleted == 0


@pytest.mark.timeout(1800)
def test_a_journal_cut_although_it_was_synced_gives_no_wrong_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk lied. SQLite rolls half of it back; the checksums of the rows stand."""
    use_journal("delete", monkeypatch)
    source = tmp_path / "source.sqlite3"
    with Cache.open(str(source), warn=fail_on_warning) as cache:
        fill(cache, COUNT)
    main, journal = interrupted_commit(source, spill=True)
    rng = random.Random(4)
    for trial in range(at_size(40, 500)):
        folder = tmp_path / str(trial)
        folder.mkdir()
        path = folder / "library.sqlite3"
        path.write_bytes(main)
        Path(f"{path}-journal").write_bytes(journal[: rng.randrange(len(journal))])
        use_damaged(path)
        shutil.rmtree(folder)


def flip_a_bit(content: bytearray, rng: random.Random) -> None:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def flip_a_bit_of_the_header(content: bytearray, rng: random.Random) -> None:
    content[rng.randrange(100)] ^= 1 << rng.randrange(8)


def zero_a_page(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content) // PAGE_BYTES) * PAGE_BYTES
    content[start : start + PAGE_BYTES] = bytes(PAGE_BYTES)


def swap_two_pages(content: bytearray, rng: random.Random) -> None:
    one, other = (rng.randrange(len(content) // PAGE_BYTES) * PAGE_BYTES for _ in range(2))
    page = content[one : one + PAGE_BYTES]
    content[one : one + PAGE_BYTES] = content[other : other + PAGE_BYTES]
    content[other : other + PAGE_BYTES] = page


def scribble(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    content[start : start + 200] = rng.randbytes(min(200, len(content) - start))


def truncate(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content)) :]


def use_damaged(path: Path) -> tuple[int, bool]:
    """Read, write and check a damaged library; return (outcomes still known, set aside)."""
    said: list[str] = []
    try:
        with Cache.open(str(path), warn=said.append) as cache:
            kept = len(known_contents(cache, COUNT) & known_numbers(cache, COUNT))
            cache.snapshot([folders(COUNT)[0]], SCORER)
            write_numbers(cache, range(BATCH))
            known_numbers(cache, COUNT)
            for row in cache.export():
                assert row.path is None or row.path.startswith("/pictures/")
            cache.stats()
            cache.prune(older_than_days=1000)  # only rows that make no sense are that old
            cache.verify()
            write_numbers(cache, range(COUNT))
            assert known_numbers(cache, COUNT) == set(range(COUNT))
    except CacheTooNew:  # a bit of the version's number
        assert not said
        return 0, False
    aside = [one for one in os.listdir(path.parent) if ".corrupt-" in one]
    assert len(said) == len([one for one in aside if not one.endswith(database.SIDE_FILES)]) <= 1
    for text in said:
        assert "damaged" in text
        assert aside[0].removesuffix("-journal") in text
    with Cache.open(str(path), warn=fail_on_warning) as cache:
        assert known_numbers(cache, COUNT) == set(range(COUNT))
        assert known_contents(cache, COUNT) == set(range(COUNT))
        assert cache.verify()[1:] == (0, False)
    return kept, bool(said)


@pytest.mark.parametrize(
    "damage",
    [flip_a_bit, flip_a_bit_of_the_header, zero_a_page, swap_two_pages, scribble, truncate],
    ids=lambda damage: str(damage.__name__),
)
@pytest.mark.timeout(1200)
def test_damage_gives_no_wrong_answer_and_is_said_once(
    damage: Callable[[bytearray, random.Random], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_journal("delete", monkeypatch)
    source = tmp_path / "source.sqlite3"
    with Cache.open(str(source), warn=fail_on_warning) as cache:
        cache.remember_model(SCORER.fingerprint, "m", ("a", "b"))
        fill(cache, COUNT)
    whole = source.read_bytes()
    full = 3000 if damage is flip_a_bit else 1000
    trials = at_size(60 if damage is flip_a_bit else 20, full)
    results = []
    for trial in range(trials):
        content = bytearray(whole)
        damage(content, random.Random(f"{damage.__name__} {trial}"))
        folder = tmp_path / str(trial)
        folder.mkdir()
        path = folder / "library.sqlite3"
        path.write_bytes(content)
        results.append(use_damaged(path))
        shutil.rmtree(folder)
    lost = sum(kept < COUNT for kept, _ in results)
    aside = sum(was for _, was in results)
    print(f"{damage.__name__}: {trials} trials, {lost} lost rows, {aside} set aside")
    assert lost + aside > 0


def assert_said_plainly(child: subprocess.Popen[str]) -> str:
    """Fail if the child showed a traceback or SQLite's words; return what it said."""
    stdout, stderr = child.communicate(timeout=110)
    assert (child.returncode, stderr) == (0, ""), stdout + stderr
    assert stdout.endswith("closed\n")
    assert "database is locked" not in stdout
    for line in stdout.splitlines():
        if line.startswith("unavailable: "):
            assert not line.endswith("; "), "an error without a hint"
    return stdout


def assert_nothing_acknowledged_is_lost(path: Path, stdout: str) -> None:
    with Cache.open(str(path), warn=fail_on_warning) as cache:
        assert cache_writer.acknowledged(stdout) <= known_numbers(cache, COUNT)
        assert cache.verify()[1:] == (0, False)


@needs("strace", "strace")
@pytest.mark.timeout(1800)
def test_any_write_may_fail_with_any_error(tmp_path: Path) -> None:
    rng = random.Random(6)
    calls = ["pwrite64", "fdatasync", "fsync", "unlink", "ftruncate"]
    failures = 0
    for trial in range(at_size(16, 300)):
        path = tmp_path / str(trial) / "library.sqlite3"
        path.parent.mkdir()
        if trial % 2:
            with Cache.open(str(path), warn=fail_on_warning) as cache:
                write_numbers(cache, range(BATCH))
        call = calls[trial % len(calls)]
        error = rng.choice(["EIO", "ENOSPC", "EROFS", "EDQUOT"])
        first = rng.randrange(1, 40 if call == "pwrite64" else 12)
        when = f"{first}{rng.choice(['', '+'])}"
        mode = rng.choice(["wal", "delete"])
        child = cache_writer.start(
            *("strace", "-f", "-qq", "-o", os.devnull),
            *("-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"),
            *cache_writer.command(path, 0, 5 * BATCH, mode),
        )
        stdout = assert_said_plainly(child)
        assert "warned" not in stdout, f"{call} {error} {when}: sound file set aside: {stdout}"
        failures += "unavailable" in stdout
        assert_nothing_acknowledged_is_lost(path, stdout)
    assert failures > 3


def in_a_small_file_system(script: str, path: Path) -> subprocess.Popen[str]:
    """Run a shell script in a namespace of its own where $folder is a file system of 300 KB."""
    return cache_writer.start(
        *(*own_mounts(), "sh", "-ec"),
        f'folder={path}; mount -t tmpfs -o size=300k none "$folder"; {script}',
    )


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_full_disk_is_unavailable_with_a_hint(tmp_path: Path, mode: str) -> None:
    write = shlex.join(cache_writer.command("library.sqlite3", 0, 600 * BATCH, mode))
    child = in_a_small_file_system(f'cd "$folder"; {write}', tmp_path)
    stdout = assert_said_plainly(child)
    assert "wrote 0\n" in stdout
    assert "free some space" in stdout


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_read_only_file_system_is_read_but_not_written(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "library.sqlite3"
    write = shlex.join(cache_writer.command(path, 0, BATCH, mode))
    read = shlex.join([sys.executable, "-c", READ_AND_TRY_TO_WRITE, str(path)])
    child = in_a_small_file_system(
        f'{write}; mount -o remount,bind,ro "$folder"; {read}; {write}', tmp_path
    )
    stdout = assert_said_plainly(child)
    assert stdout.splitlines()[2:4] == [
        "knows 16",
        "refused: make the file and its folder writable",
    ]
    assert stdout.count("wrote 0") == 1
    assert stdout.count("unavailable") == 1


READ_AND_TRY_TO_WRITE = """
import sys
from cache_facts import *
from nsfwscan.values.errors import CacheUnavailable
with Cache.open(sys.argv[1], warn=print) as cache:
    assert cache.stats().read_only
    print("knows", len(known_numbers(cache, BATCH) & known_contents(cache, BATCH)))
    try:
        write_numbers(cache, range(1))
    except CacheUnavailable as error:
        print("refused:", error.hint.split(",")[0])
"""


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_write_protected_cache_is_read_but_not_written(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_journal(mode, monkeypatch)
    path = str(tmp_path / "library.sqlite3")
    with Cache.open(path, warn=fail_on_warning) as cache:
        fill(cache, COUNT)
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    with Cache.open(path, warn=fail_on_warning) as cache:
        assert cache.stats().read_only
        assert known_numbers(cache, COUNT) == set(range(COUNT))
        for refused in (
            lambda: write_numbers(cache, range(3)),
            lambda: cache.snapshot(["/x"], SCORER),
            lambda: cache.remember_model("0", "m", ("a", "b")),
            cache.clear,
        ):
            with pytest.raises(CacheUnavailable, match="cannot be written") as caught:
                refused()
            assert caught.value.hint


def test_a_full_cache_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "library.sqlite3"
    with Cache.open(str(path), warn=fail_on_warning) as cache:
        fill(cache, 2 * BATCH)
        cache._database.read(lambda connection: connection.execute("PRAGMA max_page_count = 12"))
        with pytest.raises(CacheUnavailable) as caught:
            fill(cache, COUNT)
        assert "free some space" in caught.value.hint
        assert known_numbers(cache, COUNT) >= set(range(2 * BATCH))
    with Cache.open(str(path), warn=fail_on_warning) as cache:
        fill(cache, COUNT)
        assert cache.verify()[1:] == (0, False)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps folders that are in use")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_cache_deleted_while_it_is_open_is_begun_anew(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "cache"
    said: list[str] = []
    with Cache.open(str(folder / "library.sqlite3"), warn=said.append) as cache:
        fill(cache, BATCH)
        if what == "folder":
            shutil.rmtree(folder)
        else:
            for path in folder.iterdir():
                path.unlink()
        assert known_numbers(cache, BATCH) == set()
        write_numbers(cache, range(BATCH))
    with Cache.open(str(folder / "library.sqlite3"), warn=fail_on_warning) as cache:
        assert len(known_numbers(cache, BATCH)) == BATCH
    (sentence,) = said
    assert "was deleted; a new one is created" in sentence


def test_damage_that_cannot_be_set_aside_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.2)
    path = tmp_path / "library.sqlite3"
    with Cache.open(str(path), warn=fail_on_warning):  # some other user of the file
        path.write_bytes(b"not a database at all" * 1000)
        with pytest.raises(CacheUnavailable, match="damaged") as caught:
            Cache.open(str(path), warn=fail_on_warning)
        assert "close every other nsfwscan" in caught.value.hint
    said: list[str] = []
    with Cache.open(str(path), warn=said.append) as cache:
        fill(cache, BATCH)
    assert len(said) == 1


def test_the_journals_of_a_damaged_file_go_with_it(tmp_path: Path) -> None:
    path = tmp_path / "library.sqlite3"
    for suffix in ("", "-journal", "-wal", "-shm"):
        Path(f"{path}{suffix}").touch()
    names = {database._move_away(str(path))}
    path.touch()
    names.add(database._move_away(str(path)))
    assert len(names) == 2
    first = min(names)
    left = {one.name for one in tmp_path.iterdir()}
    assert left == {first, *(f"{first}{suffix}" for suffix in ("-2", *database.SIDE_FILES))}
