"""The journal: nothing that was promised is lost, nothing damaged is used."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sizes import trials

from nsfwscan.system import journal as journal_module
from nsfwscan.system.journal import Journal, JournalContents
from nsfwscan.values.errors import JournalError


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(str(tmp_path / "journal.jsonl"))


def contents(journal: Journal) -> bytes:
    return Path(journal.path).read_bytes()


def numbers(journal: Journal) -> list[int]:
    return [record["n"] for record in journal.read().records]


def test_records_come_back_equal_and_in_order(journal: Journal) -> None:
    records = [
        {"path": "/p/caf\udce9\n\u2028.jpg", "score": 0.1 + 0.2, "mtime_ns": 2**62},
        {"nested": {"list": [1, None, True, "\0"]}},
        {},
    ]
    journal.append(records[0])
    journal.append(*records[1:])
    assert journal.read() == JournalContents(records, ())
    assert stat.S_IMODE(os.stat(journal.path).st_mode) == 0o600
    for line in contents(journal).splitlines():
        assert json.loads(line).keys() == {"crc32", "record"}


def test_no_file_is_an_empty_journal_and_reading_makes_none(journal: Journal) -> None:
    assert journal.read() == JournalContents([], ())
    assert not os.path.exists(journal.path)


def test_a_number_that_json_does_not_know_is_refused(journal: Journal) -> None:
    with pytest.raises(ValueError):
        journal.append({"n": float("nan")})
    assert not os.path.exists(journal.path)


def test_a_torn_last_line_is_passed_over_and_repaired_at_every_length(journal: Journal) -> None:
    journal.append({"n": 0})
    whole = contents(journal)
    journal.append({"n": 1, "text": "x\udcff"})
    both = contents(journal)
    for end in range(len(whole), len(both)):
        Path(journal.path).write_bytes(both[:end])
        kept = [0, 1] if end == len(both) - 1 else [0]  # only the newline is missing
        assert numbers(journal) == kept
        assert journal.read().damaged == ()
        journal.append({"n": 2})
        assert numbers(journal) == [*kept, 2]
        assert journal.read().damaged == ()


def test_zeros_that_a_power_cut_left_are_repaired(journal: Journal) -> None:
    journal.append({"n": 0})
    Path(journal.path).write_bytes(contents(journal) + bytes(300))
    assert numbers(journal) == [0]
    journal.append({"n": 1})
    assert numbers(journal) == [0, 1]


def test_no_flipped_bit_goes_unseen_or_takes_another_record_along(journal: Journal) -> None:
    for n in range(5):
        journal.append({"n": n, "path": "/somewhere/else.jpg"})
    whole = contents(journal)
    starts = [0]
    starts += [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    rng = random.Random(1)
    for _ in range(trials(300, 5000)):
        bit = rng.randrange(len(whole) * 8)
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        Path(journal.path).write_bytes(damaged)
        line = sum(start <= bit // 8 for start in starts) - 1
        lost = {line, line + 1} if whole[bit // 8] == ord("\n") else {line}
        if bit // 8 == len(whole) - 1:
            assert numbers(journal) == [0, 1, 2, 3]
        else:
            assert numbers(journal) == [n for n in range(5) if n not in lost]
            assert journal.read().damaged != ()
        journal.append({"n": 5})
        assert numbers(journal) == [n for n in range(6) if n not in lost]
        assert line + 1 in journal.read().damaged


def test_a_line_that_is_no_record_is_reported_and_kept(journal: Journal) -> None:
    journal.append({"n": 0})
    with open(journal.path, "ab") as file:
        file.write(b"\nnot a record\n[1]\n")
    journal.append({"n": 1})
    assert numbers(journal) == [0, 1]
    assert journal.read().damaged == (2, 3, 4)
    assert b"not a record" in contents(journal)


def append_some(path: str, worker: int, count: int) -> None:
    journal = Journal(path)
    for n in range(count):
        journal.append({"n": worker * 1000 + n, "text": "x" * (n * 37 % 5000)})


def test_several_processes_append_at_once(journal: Journal) -> None:
    count = trials(25, 500)
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=append_some, args=(journal.path, one, count)) for one in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    found = numbers(journal)
    assert sorted(found) == [one * 1000 + n for one in range(4) for n in range(count)]
    for one in range(4):  # each one's own in its order
        mine = [n for n in found if n // 1000 == one]
        assert mine == sorted(mine)


def test_kill_9_loses_nothing_that_was_acknowledged(journal: Journal) -> None:
    script = (
        "import sys\nfrom nsfwscan.system.journal import Journal\nn = int(sys.argv[2])\n"
        "while True:\n    Journal(sys.argv[1]).append({'n': n, 'text': 'x' * 3000})\n"
        "    print(n, flush=True)\n    n += 1\n"
    )
    expected = 0
    for _ in range(trials(4, 100)):
        with subprocess.Popen(
            [sys.executable, "-c", script, journal.path, str(expected)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            for _ in range(20):
                process.stdout.readline()
            process.kill()
            acknowledged = expected + 20 + len(process.stdout.read().splitlines())
        found = numbers(journal)
        assert found == list(range(len(found)))
        assert acknowledged <= len(found) <= acknowledged + 1
        assert journal.read().damaged == ()
        expected = len(found)


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_failed_append_leaves_the_file_as_it_was(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    journal.append({"n": 0})
    before = contents(journal)
    real_write = os.write

    def half_a_write(file: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(file, data[:19])

    def no_fsync(file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, half_a_write if call == "write" else no_fsync)
        with pytest.raises(JournalError, match="cannot be written") as caught:
            journal.append({"n": 1})
    assert journal.path in str(caught.value)
    assert caught.value.hint
    assert contents(journal) == before
    journal.append({"n": 2})
    assert numbers(journal) == [0, 2]


def test_errors_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Journal(str(tmp_path / "nowhere" / "journal"))
    with pytest.raises(JournalError, match="nowhere"):
        missing.append({"n": 0})
    folder = Journal(str(tmp_path))
    with pytest.raises(JournalError, match="not a regular file"):
        folder.read()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JournalError):
        Journal(str(tmp_path / "link")).append({"n": 0})
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="flock")
def test_a_lock_that_is_never_given_up_is_told(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    journal.append({"n": 0})
    monkeypatch.setattr(journal_module, "_PATIENCE_S", 0.05)
    with open(journal.path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(JournalError, match="locked"):
            journal.append({"n": 1})
    journal.append({"n": 2})
    assert numbers(journal) == [0, 2]


def test_a_file_system_without_stable_inode_numbers_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "samestat", lambda *_: False)
    journal = Journal(str(tmp_path / "journal"))
    journal.append({"n": 1})
    assert journal.compact(lambda records: [*records, {"n": 2}])
    assert journal.read().records == [{"n": 1}, {"n": 2}]


def test_a_journal_that_remembers_reads_what_another_would(tmp_path: Path) -> None:
    path = str(tmp_path / "journal.jsonl")
    remembering, fresh = Journal(path, remember=True), Journal(path)
    fresh.append({"n": -1})
    chance = random.Random(6)
    for number in range(trials(300, 3000)):
        match chance.randrange(8):
            case 0:
                chance.choice((remembering, fresh)).compact(lambda all_: all_[-3:])
            case 1:
                Path(path).write_bytes(contents(fresh)[: chance.randrange(200)])
            case 2 if contents(fresh):
                data = bytearray(contents(fresh))
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
                Path(path).write_bytes(data)
            case 3:
                Path(path).write_bytes(b"")
            case _:
                record = {"n": number}
                chance.choice((remembering, fresh)).extend(lambda _, new=record: [new])
        assert remembering.read() == Journal(path).read()
