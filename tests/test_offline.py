"""What `--offline` promises: no socket, from Python or from any native library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_model
from shell import needs

_SCORE_FOR_A_WHILE = """
import sys, time
import nsfwscan
until = time.monotonic() + 20
while time.monotonic() < until:
    assert nsfwscan.classify(sys.argv[1], offline=True).verdict.decision == "nsfw"
    time.sleep(0.25)
"""


@needs("strace", "strace")
@pytest.mark.slow
def test_no_socket_is_opened_while_pictures_are_scored(tiny: Path, paint, tmp_path: Path) -> None:
    """onnxruntime 1.32 opens its first connection several seconds after a session was made."""
    picture = paint(tmp_path / "red.png", tiny_model.RED)
    trace = tmp_path / "trace"
    cache = tmp_path / "cache"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=socket,connect", "-o", trace]
        + [sys.executable, "-c", _SCORE_FOR_A_WHILE, picture],
        env={**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(cache)},
        timeout=100,
        check=False,
    )
    assert done.returncode == 0
    assert [line for line in trace.read_text().splitlines() if "socket(" in line] == []
    assert not cache.exists()


@needs("strace", "strace")
def test_an_offline_scan_opens_no_socket(tiny: Path, paint, tmp_path: Path) -> None:
    paint(tmp_path / "pictures" / "red.png", tiny_model.RED)
    trace = tmp_path / "trace"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-e", "trace=socket,connect", "-o", trace]
        + [sys.executable, "-m", "nsfwscan", "scan", "--offline", tmp_path / "pictures"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "socket(" not in trace.read_text()
