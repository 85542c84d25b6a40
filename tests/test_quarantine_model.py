"""The quarantine as a state machine, on several kinds of file systems: see quarantine_model.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from quarantine_model import NO_MOUNT
from shell import needs, own_mounts, tool
from sizes import AT_FULL_SIZE, trials

MODEL = Path(__file__).with_name("quarantine_model.py")
NFS = MODEL.with_name("nfs_manners.c")
_SEQUENCES = {"tmpfs": trials(50, 10_000), "nfs": trials(10, 1_000)}
_OTHERS = trials(5, 1_000)

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's mounts"),
    pytest.mark.timeout(6 * 3600 if AT_FULL_SIZE else 120),
]


def run(kind: str, sequences: int, tmp_path: Path, *, mounts: bool, preload: str = "") -> str:
    """Run sequences on a kind of file system and return what was printed."""
    wrap = own_mounts() if mounts else []
    environment = {**os.environ, "TMPDIR": str(tmp_path), "NSFWSCAN_TEST_MOUNTS": "01"[mounts]}
    if preload:
        environment["LD_PRELOAD"] = preload
    done = subprocess.run(
        [*wrap, sys.executable, MODEL, "--on", kind, "--sequences", str(sequences)],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env=environment,
    )
    if done.returncode == NO_MOUNT:
        pytest.skip(f"this machine mounts no {kind}")
    assert done.returncode == 0, done.stderr[-20_000:]
    assert ", 0 tracebacks" in done.stdout
    print(done.stdout)
    return done.stdout


@pytest.mark.parametrize(
    "kind",
    [
        "tmpfs",
        "overlay",
        pytest.param("ext4", marks=needs("mkfs.ext4", "e2fsprogs")),
        pytest.param("vfat", marks=needs("mkfs.vfat", "dosfstools")),
    ],
)
def test_each_picture_is_in_one_place_its_last_decision_holds_and_losses_are_told(
    kind: str, tmp_path: Path
) -> None:
    run(kind, _SEQUENCES.get(kind, _OTHERS), tmp_path, mounts=True)


def test_so_it_is_where_nothing_may_be_mounted(tmp_path: Path) -> None:
    run("tmpfs", _OTHERS, tmp_path, mounts=False)


def test_so_it_is_where_locks_and_handles_are_those_of_nfs(tmp_path: Path) -> None:
    shim = tmp_path / "nfs.so"
    compiler = shutil.which("cc") or tool("gcc", "gcc")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", shim, NFS], check=True)
    run("tmpfs", _SEQUENCES["nfs"], tmp_path, mounts=False, preload=str(shim))
