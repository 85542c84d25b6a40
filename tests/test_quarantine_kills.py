"""A move that is killed, or whose system calls fail, at any point loses nothing."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import quarantine_worker as worker
from shell import needs
from sizes import AT_FULL_SIZE, trials

from nsfwscan.system import locations

FILE_CALLS = "%file,%desc"
"""What may change a disk, or see it changed. Between two of these nothing there happens."""

pytestmark = [
    needs("strace", "strace"),
    pytest.mark.timeout(3600 if AT_FULL_SIZE else 120),
]


@pytest.fixture
def server() -> Iterator[worker.Server]:
    with worker.server() as running:
        yield running


@pytest.fixture(params=["rename", "copy"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return where the pictures are: on the quarantine's file system, or on another one."""
    if request.param == "rename":
        return tmp_path / "pictures"
    return Path(request.getfixturevalue("elsewhere")) / "pictures"


def fresh(base: Path, quarantine: Path) -> dict[Path, worker.Facts]:
    """Begin anew with three pictures in two folders, and no quarantine, known or not."""
    shutil.rmtree(base, ignore_errors=True)
    shutil.rmtree(quarantine, ignore_errors=True)
    Path(locations.quarantines_file()).unlink(missing_ok=True)
    found = {}
    for number, name in enumerate(("a.jpg", "b.jpg", "deeper/caf\udce9\n.jpg")):
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"picture {number} ".encode() * 1000)
        os.setxattr(path, "user.note", b"kept")
        path.chmod(0o640 - number)
        os.utime(path, ns=(1_600_000_000_123_456_789, 1_500_000_000_987_654_321 + number))
        found[path] = worker.facts(path)
    return found


def prepare(task: str, base: Path, quarantine: Path) -> dict[Path, worker.Facts]:
    pictures = fresh(base, quarantine)
    if task == "restore":
        acts = worker.move_in(quarantine, list(pictures))
        assert {act.outcome for act in acts} == {"done"}
    return pictures


def system_calls(lines: list[str]) -> list[tuple[str, int]]:
    """Return the names of the calls, each with how many of that name it is: so strace counts."""
    numbers: Counter[str] = Counter()
    calls = []
    for line in lines:
        name = line.partition("(")[0]
        numbers[name] += 1
        calls.append((name, numbers[name]))
    return calls


def watched(
    task: str, base: Path, quarantine: Path, server: worker.Server
) -> list[tuple[str, int]]:
    """Let a task run through, and return its system calls."""
    pictures = prepare(task, base, quarantine)
    lines = server.run(task, quarantine, list(pictures), "-e", f"trace={FILE_CALLS}")
    assert server.said.split() == ["done"] * 3
    assert set(worker.places(pictures, quarantine).values()) == {
        "quarantine" if task == "quarantine" else "source"
    }
    return system_calls(lines)


@pytest.mark.parametrize("task", ["quarantine", "restore"])
def test_killed_at_every_system_call_each_picture_is_in_exactly_one_place(
    task: str, base: Path, tmp_path: Path, server: worker.Server
) -> None:
    quarantine = tmp_path / "q"
    calls = watched(task, base, quarantine, server)
    seen = set()
    killed = 0
    chosen = calls[:: trials(6, 1)]
    for name, number in chosen:
        pictures = prepare(task, base, quarantine)
        server.run(
            task, quarantine, list(pictures),
            "-e", f"trace={name}", "-e", f"inject={name}:signal=SIGKILL:when={number}",
        )  # fmt: skip
        killed += server.said == "killed\n"
        found = worker.places(pictures, quarantine)
        assert worker.places(pictures, quarantine) == found, "once is enough"
        seen.add(tuple(found.values()))
    # The read that waits for `go` is counted or not, and names that are given by chance may take a
    # call more or less; so the last ones of a kind may not be reached.
    assert killed >= len(chosen) * 0.95
    assert len(seen) > 2, "some were killed between two pictures"
    print(f"{task}: {killed} kills, {len(calls)} system calls")


@pytest.mark.parametrize("task", ["quarantine", "restore"])
def test_whatever_system_call_fails_no_picture_is_lost(
    task: str, base: Path, tmp_path: Path, server: worker.Server
) -> None:
    quarantine = tmp_path / "q"
    calls = watched(task, base, quarantine, server)
    errors = ("EIO", "ENOSPC", "EACCES", "EXDEV")
    failed = 0
    for turn, (name, number) in enumerate(calls):
        if (name, number) == ("read", 1):
            continue  # the one that waits for `go`
        for error in errors if AT_FULL_SIZE else (errors[turn // 10 % 4],) * (turn % 10 == 0):
            pictures = prepare(task, base, quarantine)
            server.run(
                task, quarantine, list(pictures),
                "-e", f"trace={name}", "-e", f"inject={name}:error={error}:when={number}",
            )  # fmt: skip
            assert server.said != "killed\n"
            failed += server.said.split() != ["done"] * 3
            worker.places(pictures, quarantine, lacking=" lack" in server.said)
    assert failed > 3
    print(f"{task}: {len(calls)} system calls, {failed} failures that stopped a move")
