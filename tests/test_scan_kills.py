"""`kill -9` of a whole scan, again and again, at random points."""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import pytest
from sizes import AT_FULL_SIZE, trials

from nsfwscan.cache.cache import Cache
from nsfwscan.media.decode.decoded import DECODER_VERSION
from nsfwscan.models.package import open_package
from nsfwscan.scanning.scan_cache import _BATCH_ROWS
from nsfwscan.values.file_key import FileKey
from nsfwscan.values.outcome import Outcome, Scored, Scorer

_PICTURES = 3000
_A_FOLDER = 250
_LONGEST_S = 1.5
"""About what a whole scan takes, so that kills come at its beginning and its end."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


class Score(NamedTuple):
    """What the reference scan says of a picture."""

    sha256: str
    unsafe: float


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return 3,000 different pictures in twelve folders, old enough to be trusted."""
    for number in range(_PICTURES):
        folder = tmp_path / "tree" / f"{number // _A_FOLDER:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:04d}.png").write_bytes(_png(number))
    time.sleep(3.1)
    return tmp_path / "tree"


@pytest.mark.slow
@pytest.mark.timeout(5400 if AT_FULL_SIZE else 240)
def test_no_kill_loses_more_than_a_batch_or_leaves_a_wrong_row(
    tree: Path, tiny: Path, home: Path
) -> None:
    reference = _uncached(tree)
    assert len(reference) == _PICTURES
    scorer = Scorer(open_package(str(tiny)).manifest.fingerprint, DECODER_VERSION)
    seed = int.from_bytes(os.urandom(4), "big")
    chance = random.Random(seed)
    kills = rounds = 0
    most_lost = 0
    wanted = trials(30, 1000)
    while kills < wanted:
        output, killed = _scan_for(chance.uniform(0.05, _LONGEST_S), tree)
        emitted = _complete_lines(output)
        for path, score in emitted.items():
            assert score == reference[path], seed
        lost = _check_library(home / "library.sqlite3", scorer, reference, emitted)
        assert lost <= _BATCH_ROWS, seed
        most_lost = max(most_lost, lost)
        kills += killed
        if not killed:  # this one got through: all is known, so the next one begins anew
            assert emitted == reference, seed
            rounds += 1
            for file in home.glob("library.sqlite3*"):
                file.unlink()
    output, killed = _scan_for(60, tree)
    assert not killed
    assert _complete_lines(output) == reference, seed
    print(f"{kills} kills, {rounds + 1} whole scans, at most {most_lost} results lost; seed {seed}")


def _scan_for(seconds: float, tree: Path) -> tuple[bytes, bool]:
    """Scan and kill; return what came out until then, and whether the scan was killed."""
    command = [sys.executable, "-m", "nsfwscan", "scan", "--offline", "-q", "--format", "jsonl"]
    with subprocess.Popen(
        [*command, str(tree)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
    ) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
            killed = False
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            output, errors = process.communicate()
            killed = process.returncode == -signal.SIGKILL
    assert errors == b""
    assert killed or process.returncode == 1, "some pictures are red"
    deadline = time.monotonic() + 20
    while left := _members(process.pid):
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.01)
    return output, killed


def _uncached(tree: Path) -> dict[str, Score]:
    command = [sys.executable, "-m", "nsfwscan", "scan", "--offline", "-q", "--no-cache"]
    done = subprocess.run(
        [*command, "--format", "jsonl", str(tree)], capture_output=True, timeout=200, check=False
    )
    assert done.returncode == 1, done.stderr
    return _complete_lines(done.stdout)


def _complete_lines(output: bytes) -> dict[str, Score]:
    """Read what was emitted; the kill may have cut the last line."""
    records = [json.loads(line) for line in output.splitlines(keepends=True) if line[-1:] == b"\n"]
    assert all(one["status"] == "scanned" for one in records)
    return {one["path"]: Score(one["sha256"], one["nsfw_score"]) for one in records}


def _check_library(
    cache_file: Path, scorer: Scorer, reference: dict[str, Score], emitted: dict[str, Score]
) -> int:
    """Fail for a wrong row; return how many of the emitted results are not in the library."""
    if not cache_file.exists():
        return len(emitted)
    known, scores = set(), dict(reference.values())
    with Cache.open(str(cache_file), warn=pytest.fail) as cache:
        for folder in sorted({os.path.dirname(path) for path in reference}):
            for name, file in cache.folder(folder, scorer).items():
                path = os.path.join(folder, name)
                # A file may be known, and saved, before its score is.
                unsafe = reference[path].unsafe if file.outcome is None else _unsafe(file.outcome)
                assert Score(file.sha256.hex(), unsafe) == reference[path]
                assert file.key == FileKey.of(os.stat(path))
        for row in cache.export():
            sha256 = row.sha256.hex()
            assert row.path is None or sha256 == reference[row.path].sha256
            if row.outcome is not None:
                assert _unsafe(row.outcome) == scores[sha256]
                known.add(sha256)
        verified = cache.verify()
        assert (verified.deleted, verified.set_aside) == (0, False)
    return sum(score.sha256 not in known for score in emitted.values())


def _unsafe(outcome: Outcome) -> float:
    assert isinstance(outcome, Scored)
    return outcome.scores.unsafe


def _members(group: int) -> list[str]:
    """Return the processes of a process group that are not just waiting to be buried."""
    members = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/stat", encoding="latin-1") as file:
                name, _, rest = file.read().rpartition(")")
        except OSError:
            continue  # no process, or it is gone
        state, _, its_group, *_ = rest.split()
        if int(its_group) == group and state != "Z":
            members.append(name)
    return members


def _png(number: int) -> bytes:
    """Draw an 8 x 8 picture of one colour; every number has its own."""
    row = b"\0" + bytes((number % 256, number // 256 * 8, number * 7 % 97)) * 8
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row * 8)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
