"""What a second scan costs: nothing for what is unchanged, a hash for what moved, never a score."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny_model
from conftest import Paint
from shell import needs

_COUNT = 12

_WATCHED = """
import json, os, sys, time

log, folder, *arguments = sys.argv[1:]
opened, started, imported = [], [], set()

def hook(event, details):
    if event == "open" and isinstance(details[0], str) and details[0].startswith(folder + os.sep):
        opened.append(details[0])
    elif event == "subprocess.Popen":
        started.append(str(details[0]))
    elif event == "import":
        imported.add(details[0])

sys.addaudithook(hook)
# A file younger than three seconds is not trusted. The clock is ahead, so that no test waits.
now = time.time_ns
time.time_ns = lambda: now() + 10_000_000_000

from nsfwscan.cli.main import main

code = main(arguments)
found = {"code": code, "opened": opened, "started": started, "imported": sorted(imported)}
with open(log, "w") as file:
    json.dump(found, file)
"""


@dataclass(frozen=True, slots=True)
class Looked:
    """What a scan did."""

    opened: list[str]
    """Names of the pictures that were opened."""
    started: int
    """Processes."""
    imported: set[str]
    origins: dict[str, str]
    """Name of a picture to where its score came from."""

    @property
    def scored(self) -> list[str]:
        return sorted(name for name, origin in self.origins.items() if origin == "model")


@pytest.fixture
def folder(tmp_path: Path, paint: Paint, tiny: Path) -> Path:
    """Return a folder of different pictures in two subfolders."""
    assert tiny.is_dir()
    colours = (tiny_model.GREEN, tiny_model.ORANGE, tiny_model.RED)
    for number in range(_COUNT):
        place = tmp_path / "pictures" / ("a", "b")[number % 2]
        paint(place / f"p{number:02d}.png", colours[number % 3])
    return tmp_path / "pictures"


def scan(folder: Path, *arguments: str) -> Looked:
    """Scan in a process whose every `open` is written down."""
    log = folder.parent / "log.json"
    command = [sys.executable, "-c", _WATCHED, str(log), str(folder), "scan", "--offline", "-q"]
    done = subprocess.run(
        [*command, "--format", "jsonl", *arguments, str(folder)],
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert not done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(record["status"] == "scanned" for record in records)
    found = json.loads(log.read_text())
    assert found["code"] == 1  # some pictures are red
    return Looked(
        sorted(map(os.path.basename, found["opened"])),
        len(found["started"]),
        set(found["imported"]),
        {os.path.relpath(record["path"], folder): record["origin"] for record in records},
    )


def test_a_second_scan_opens_no_picture_and_scores_none(folder: Path) -> None:
    first = scan(folder)
    assert len(first.scored) == len(first.opened) == _COUNT
    assert first.started
    assert "onnxruntime" in first.imported
    second = scan(folder)
    assert second.opened == []
    assert second.scored == []
    assert second.started == 0
    assert not {"onnxruntime", "numpy", "PIL"} & second.imported
    assert second.origins == dict.fromkeys(first.origins, "cache")


def test_renamed_moved_and_copied_pictures_are_hashed_and_not_scored(folder: Path) -> None:
    before = scan(folder)
    (folder / "c").mkdir()
    for number, name in enumerate(sorted(before.origins)):
        old, new = folder / name, folder / "c" / f"renamed{number:02d}.png"
        old.rename(new)
        if number % 2:
            shutil.copy(new, folder / f"copy{number:02d}.png")
    after = scan(folder)
    assert len(after.origins) == _COUNT + _COUNT // 2
    assert after.scored == []
    assert after.started == 0
    assert "onnxruntime" not in after.imported
    assert len(after.opened) == len(after.origins)
    again = scan(folder)
    assert again.opened == []
    assert set(again.origins.values()) == {"cache"}


def test_copies_in_a_first_scan_are_scored_once(folder: Path) -> None:
    for path in sorted(folder.rglob("*.png")):
        shutil.copy(path, path.with_stem(path.stem + "-copy"))
    first = scan(folder)
    assert len(first.scored) == _COUNT
    assert sorted(first.origins.values()).count("duplicate") == _COUNT


def test_touched_pictures_are_hashed_and_not_scored(folder: Path) -> None:
    scan(folder)
    touched = folder / "a" / "p00.png"
    os.utime(touched)
    after = scan(folder)
    assert after.opened == ["p00.png"]
    assert after.scored == []
    assert scan(folder).opened == []


def test_an_edited_picture_is_the_only_one_scored(folder: Path, paint: Paint) -> None:
    scan(folder)
    paint(folder / "b" / "p01.png", tiny_model.RED, size=(50, 50))
    after = scan(folder)
    assert after.opened == ["p01.png"]
    assert after.scored == [os.path.join("b", "p01.png")]
    assert scan(folder).opened == []


def test_an_edit_that_keeps_size_and_time_is_seen(folder: Path) -> None:
    """Only the time of the inode's last change gives it away, which nobody can set."""
    scan(folder)
    path = folder / "a" / "p02.png"
    content, before = path.read_bytes(), path.stat()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    after = scan(folder)
    assert after.opened == ["p02.png"]
    assert after.scored == [os.path.join("a", "p02.png")]


def test_a_new_threshold_opens_and_scores_nothing(folder: Path) -> None:
    scan(folder)
    after = scan(folder, "--flag-at", "0.3")
    assert after.opened == []
    assert after.scored == []


@needs("strace", "strace")
def test_a_second_scan_opens_no_picture_for_the_kernel_either(folder: Path) -> None:
    """What C code opens passes by an audit hook."""
    scan(folder)
    trace = folder.parent / "trace"
    command = ["strace", "-f", "-qq", "-e", "trace=open,openat,openat2,creat", "-o", str(trace)]
    subprocess.run(
        [*command, sys.executable, "-m", "nsfwscan", "scan", "--offline", "-q", str(folder)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    lines = trace.read_text(errors="replace").splitlines()
    assert any(f'"{folder}"' in line for line in lines), "the folder itself was listed"
    assert not [line for line in lines if ".png" in line]
