"""`nsfwscan report`, and scans with `--format html`: from a folder to a page."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_model
from conftest import Paint
from PIL import Image
from report_pages import data_of, thumbnails_of
from shell import Call, start
from tiny_model import GREEN, ORANGE, RED

from nsfwscan.cache.cache import Cache
from nsfwscan.cli.shared import page_file
from nsfwscan.report.html import page
from nsfwscan.values import file_key

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the times of files that were written a moment ago."""
    monkeypatch.setattr(file_key, "_RACY_NS", 0)


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return Call(capfd)


@pytest.fixture
def pictures(tmp_path: Path, paint: Paint) -> Path:
    """A folder with a picture for each decision, a copy, a damaged one, and other files."""
    folder = tmp_path / "pictures"
    for name, colour in (("red", RED), ("a/orange", ORANGE), ("a/green", GREEN)):
        paint(folder / f"{name}.png", colour)
    shutil.copy(folder / "red.png", folder / "a" / "copy of red.png")
    (folder / "cut.png").write_bytes((folder / "red.png").read_bytes()[:60])
    for name in ("film.mp4", "raw.cr2", "notes.txt"):
        (folder / name).write_bytes(b"x")
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "report.html"


def states(report: bytes) -> dict[str, str]:
    """Return the state of each row, by name."""
    data = data_of(report)
    return dict(zip(data["names"].split("\n"), data["states"], strict=True))


def sparse(report: bytes, field: str) -> dict[str, Any]:
    """Return what some rows have, by name."""
    data = data_of(report)
    names = data["names"].split("\n")
    column = data["sparse"][field]
    return {names[row]: value for row, value in zip(column["rows"], column["values"], strict=True)}


def text(report: bytes) -> str:
    """Return a page as text."""
    return " ".join(report.decode().split())


def test_a_report_has_what_the_scan_found(call: Call, pictures: Path, target: Path) -> None:
    call("scan", pictures)
    done = call("report", pictures, "-o", target)
    assert (done.code, done.out) == (0, "")
    assert "2 flagged, 1 to review, 1 safe, 1 without a verdict." in done.err
    assert target.as_uri() in done.err
    made = target.read_bytes()
    assert states(made) == {
        "red.png": "n", "copy of red.png": "n", "orange.png": "r", "green.png": "s", "cut.png": "f"
    }  # fmt: skip
    assert sparse(made, "reason") == {"cut.png": "truncated"}
    for one in ("1 camera raw file", "1 video", "1 other file"):
        assert f"<li>{one}</li>" in text(made)
    assert len(data_of(made)["copies"]) == 1


def test_a_scan_writes_the_same_report(call: Call, pictures: Path, target: Path) -> None:
    done = call("scan", "-f", "html", "-o", target, pictures)
    assert done.code == 1
    scanned = data_of(target.read_bytes())
    assert call("report", pictures, "-o", target).code == 0
    assert data_of(target.read_bytes()) == scanned


def test_thumbnails_are_pixelated_in_their_bytes(
    call: Call, tmp_path: Path, paint: Paint, target: Path
) -> None:
    folder = tmp_path / "large"
    for number in range(3):
        paint(folder / f"{number}.jpg", RED, size=(400 + number, 300))
    paint(folder / "tall.png", ORANGE, size=(20, 900))
    paint(folder / "safe.png", GREEN, size=(500, 500))
    for options, most, count in (
        ([], 16, 4), (["--thumbnails", "all"], 16, 5), (["--thumbnails", "none"], 0, 0),
        (["--clear-thumbnails"], 96, 4),
    ):  # fmt: skip
        call("scan", folder)
        assert call("report", folder, "-o", target, *options).code == 0
        sizes = [Image.open(io.BytesIO(one)).size for one in thumbnails_of(target.read_bytes())]
        assert len(sizes) == count
        assert all(max(size) <= most for size in sizes)
        assert max(max(size) for size in [*sizes, (0, 0)]) > most // 2 or not count


def test_a_picture_that_was_replaced_meanwhile_gets_no_thumbnail(
    call: Call, pictures: Path, target: Path, paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("scan", pictures)
    arranged = page.arranged

    def replace(rows: Any) -> Any:
        for name in ("red.png", "a/copy of red.png"):
            paint(pictures / name, (0, 0, 255))
        (pictures / "a" / "orange.png").unlink()
        return arranged(rows)

    monkeypatch.setattr(page, "arranged", replace)
    assert call("report", pictures, "-o", target).code == 0
    assert thumbnails_of(target.read_bytes()) == []
    assert states(target.read_bytes())["red.png"] == "n"


def test_what_is_gone_is_left_out_and_what_is_new_or_changed_has_no_verdict(
    call: Call, pictures: Path, target: Path, paint: Paint
) -> None:
    call("scan", pictures)
    (pictures / "red.png").unlink()
    paint(pictures / "a" / "orange.png", GREEN)
    paint(pictures / "new.png", RED)
    (pictures / "empty.png").touch()
    done = call("report", pictures, "-o", target)
    assert "2 pictures are new or changed: not scanned yet." in done.err
    made = target.read_bytes()
    assert states(made) == {
        "copy of red.png": "n", "orange.png": "u", "green.png": "s", "new.png": "u",
        "cut.png": "f", "empty.png": "f",
    }  # fmt: skip
    assert sparse(made, "reason") == {
        "orange.png": "changed", "new.png": "new", "cut.png": "truncated", "empty.png": "empty"
    }  # fmt: skip


def test_no_picture_is_opened_and_no_model_is_loaded(
    call: Call, pictures: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("scan", pictures)
    opened: list[str] = []
    sys.addaudithook(lambda name, args: opened.append(str(args[0])) if name == "open" else None)
    assert call("report", pictures, "-o", target, "--thumbnails", "none").code == 0
    assert [one for one in opened if one.startswith(f"{pictures}/")] == []
    opened.clear()


def test_without_a_folder_it_is_about_everything_known_that_is_there(
    call: Call, pictures: Path, target: Path, tmp_path: Path, paint: Paint
) -> None:
    away = tmp_path / "stick"
    paint(away / "1.png", RED)
    paint(tmp_path / "single" / "one.png", ORANGE)
    paint(tmp_path / "single" / "other.png", RED)
    call("scan", pictures, away, tmp_path / "single" / "one.png")
    shutil.rmtree(away)
    done = call("report", "-o", target)
    assert done.code == 0
    assert "1 folder of earlier scans is not there now." in done.err
    assert set(states(target.read_bytes())) == {
        "red.png", "copy of red.png", "orange.png", "green.png", "cut.png", "one.png"
    }  # fmt: skip


def test_rulings_and_thresholds_apply_without_a_scan(
    call: Call, pictures: Path, target: Path
) -> None:
    call("scan", pictures)
    call("allow", pictures / "red.png")
    call("report", pictures, "-o", target, "--flag-at", "0.5")
    made = target.read_bytes()
    assert states(made)["red.png"] == states(made)["copy of red.png"] == "s"
    assert states(made)["orange.png"] == "n"
    assert sparse(made, "by") == {"red.png": "person", "copy of red.png": "person"}


def test_another_model_answers_where_the_wanted_one_cannot(
    call: Call, pictures: Path, target: Path, home: Path
) -> None:
    call("scan", pictures)
    second = Path(tiny_model.write_package(str(home / "models"), name="second"), "manifest.json")
    described = json.loads(second.read_bytes())
    del described["checksum"]
    described["input"]["mean"] = [0.001, 0, 0]  # another model has other scores
    second.write_text(json.dumps(described))
    done = call("report", pictures, "-o", target, "--model", "second")
    assert done.code == 0
    assert states(target.read_bytes())["red.png"] == "n"
    assert set(sparse(target.read_bytes(), "model").values()) == {1}
    names = [one["name"] for one in data_of(target.read_bytes())["models"]]
    assert names[0].startswith("second")
    assert names[1].startswith("tiny")


def test_content_that_no_model_in_question_has_scored_is_not_scanned_yet(
    call: Call, pictures: Path, target: Path, home: Path, tiny: Path
) -> None:
    call("scan", pictures)
    second = Path(tiny_model.write_package(str(home / "models"), name="second"), "manifest.json")
    described = json.loads(second.read_bytes())
    described["input"]["mean"] = [0.001, 0, 0]
    del described["checksum"]
    second.write_text(json.dumps(described))
    shutil.rmtree(tiny)
    assert call("report", pictures, "-o", target).code == 0
    assert set(states(target.read_bytes()).values()) == {"u"}
    assert set(sparse(target.read_bytes(), "reason").values()) == {"no-score"}


def test_pictures_that_are_scanned_just_after_they_are_written_are_in_the_report(
    call: Call, pictures: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_key, "_RACY_NS", 3_600_000_000_000)
    call("scan", pictures)
    assert "n" in states(scan_report := report_of(call, pictures, target)).values()
    assert set(sparse(scan_report, "reason").values()) == {"truncated"}
    (pictures / "a" / "green.png").write_bytes((pictures / "red.png").read_bytes())
    (pictures / "a" / "orange.png").unlink()
    (pictures / "a" / "orange.png").mkdir()
    changed = report_of(call, pictures, target)
    assert states(changed)["green.png"] == "u"
    assert states(changed)["red.png"] == "n"
    assert "orange.png" not in states(changed)


def report_of(call: Call, pictures: Path, target: Path) -> bytes:
    """Return the report of a folder."""
    assert call("report", pictures, "-o", target).code == 0
    return target.read_bytes()


def test_paths_are_whole_wherever_the_command_runs(
    call: Call, pictures: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("scan", pictures)
    monkeypatch.chdir(pictures)
    assert call("report", ".", "../pictures/a", "-o", target).code == 0
    assert data_of(target.read_bytes())["folders"] == [str(pictures), str(pictures / "a")]


def test_a_report_that_is_passed_on_names_nothing(call: Call, pictures: Path, target: Path) -> None:
    call("scan", pictures)
    call("report", pictures, "--no-paths", "-o", target)
    made = target.read_bytes()
    words = f"{data_of(made)}{made.decode()}"
    for word in ("orange", "copy of", str(pictures), str(pictures.parent)):
        assert word not in words
    assert data_of(made)["count"] == 5


def test_acts_are_shown_with_their_picture_and_its_thumbnail(
    call: Call, pictures: Path, target: Path, tmp_path: Path
) -> None:
    done = call(
        "scan", "-f", "html", "-o", target, "--action", "quarantine", "--yes",
        "--quarantine", tmp_path / "held", pictures,
    )  # fmt: skip
    assert done.code == 1
    acts = sparse(target.read_bytes(), "acts")
    assert set(acts) == {"red.png", "copy of red.png"}
    assert acts["red.png"].startswith(f"quarantine done {tmp_path / 'held'}")
    assert set(sparse(target.read_bytes(), "thumb")) == {*acts, "orange.png"}


def test_the_name_of_a_folder_is_no_markup(
    call: Call, tmp_path: Path, paint: Paint, target: Path
) -> None:
    folder = tmp_path / "<img src=x onerror=alert(1)>&'\"{{ 7*7 }}"
    paint(folder / "red.png", RED)
    call("scan", folder)
    call("report", folder, "-o", target)
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;&#39;&#34;{{ 7*7 }}" in text(target.read_bytes())
    assert b"<img" not in target.read_bytes().partition(b"<script")[0]


# What can go wrong


def test_the_scan_that_it_suggests_is_about_the_same_files_and_the_same_model(
    call: Call, pictures: Path, target: Path, tiny: Path
) -> None:
    call("scan", pictures)
    (pictures / "red.png").rename(pictures / ".red.png")
    options = [f"--model {tiny}", "--flag-at 0.7", "--include '*.png'", "--hidden"]
    done = call("report", *shlex.split(" ".join(options)), pictures, "-o", target, "--large")
    suggested = done.err.partition("scan the rest:")[2].split("\n")[0]
    for option in options:
        assert option in suggested
    assert not {"-o", "--large"}.intersection(shlex.split(suggested))
    assert call(*shlex.split(suggested)[1:]).code == 1
    done = call("report", *shlex.split(" ".join(options)), pictures, "-o", target)
    assert "scan the rest" not in done.err


def test_only_a_page_in_a_file_can_be_opened_later(
    call: Call, pictures: Path, target: Path
) -> None:
    call("scan", pictures)
    assert "open it" in call("report", pictures, "-o", target).err
    for command in ("report", "scan -f html"):
        assert "open it" not in call(*command.split(), pictures, "-o", os.devnull).err


def test_it_counts_in_the_words_of_a_scan(
    call: Call, pictures: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = call("report", pictures, "-o", target)
    assert done.err.startswith("5 pictures are new or changed: not scanned yet.\n")
    (pictures / "closed").mkdir()
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: scandir(_unless_closed(path)))
    call("scan", pictures)
    call("deny", pictures / "a" / "green.png")
    counted = (
        "3 flagged, 1 to review, 0 safe, 1 without a verdict.\n1 folder could not be opened.\n"
        "1 of these has a ruling: 0 allowed, 1 denied.\n"
    )
    assert counted in call("scan", pictures).err
    assert counted in call("report", pictures, "-o", target).err
    (tmp_path / "empty").mkdir()
    done = call("report", tmp_path / "empty", "-o", target)
    assert done.err.startswith("No pictures were found (")


def _unless_closed(path: Any) -> Any:
    if os.path.basename(os.fsdecode(path)) == "closed":
        _refuse(path)
    return path


def test_a_missing_folder_does_not_stop_the_others(
    call: Call, pictures: Path, target: Path, tmp_path: Path
) -> None:
    call("scan", pictures)
    done = call("report", tmp_path / "nowhere", pictures, "-o", target)
    assert done.code == 2
    assert f"{tmp_path}/nowhere does not exist" in done.err
    assert len(states(target.read_bytes())) == 5
    target.unlink()
    assert call("report", tmp_path / "nowhere", "-o", target).code == 2
    assert not target.exists()


@pytest.mark.parametrize("command", ["report", "scan -f html"])
def test_only_a_report_is_overwritten(
    call: Call, pictures: Path, target: Path, command: str
) -> None:
    before = (pictures / "red.png").read_bytes()
    words = command.split()
    done = call(*words, pictures, "-o", pictures / "red.png")
    assert done.code == 2
    assert "red.png exists and is not a report, so it is not overwritten" in done.err
    assert (pictures / "red.png").read_bytes() == before
    done = call(*words, pictures, "-o", pictures)
    assert done.code == 2
    assert f"{pictures} is a folder\n  name a file: -o {pictures}/report.html" in done.err
    assert call(*words, pictures, "-o", pictures / "no" / "r.html").code == 2
    for _ in range(2):
        assert call(*words, pictures, "-o", target).code in {0, 1}
    assert not list(target.parent.glob("*.part"))


def test_a_file_that_cannot_be_read_is_not_taken_for_a_report(
    call: Call, pictures: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.write_bytes(b"a letter")
    monkeypatch.setattr(page_file, "open_bytes", _refuse)
    done = call("report", pictures, "-o", target)
    assert done.code == 2
    assert "exists and is not a report, so it is not overwritten" in done.err
    assert target.read_bytes() == b"a letter"


def _refuse(path: str) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def test_a_suggested_file_is_one_word_of_a_shell(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "it's here"
    folder.mkdir()
    suggested = call("report", "-o", folder).err.partition("name a file: ")[2]
    assert shlex.split(suggested) == ["-o", str(folder / "report.html")]


def test_a_report_goes_to_standard_output_but_not_to_a_terminal(
    call: Call, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("scan", pictures)
    done = call("report", pictures, "-o", "-")
    assert done.code == 0
    assert len(states(done.out.encode())) == 5
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda _: True)
    done = call("report", pictures, "-o", "-")
    assert (done.code, done.out) == (2, "")
    assert "a report is for a browser, not for a terminal" in done.err


def test_a_large_report_is_written_only_if_that_is_wanted(
    call: Call, pictures: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("scan", pictures)
    monkeypatch.setattr("nsfwscan.cli.report.MOST_BYTES", 20_000)
    done = call("report", pictures, "-o", target)
    assert done.code == 5
    assert "kB, which browsers open slowly; nothing was written" in done.err
    assert list(target.parent.glob("report.html*")) == []
    assert call("report", pictures, "-o", target, "--large").code == 0
    assert len(states(target.read_bytes())) == 5


def test_without_a_model_or_scan_it_says_what_to_do(
    call: Call, pictures: Path, target: Path, home: Path
) -> None:
    done = call("report", pictures, "-o", target)
    assert done.code == 0
    assert "5 pictures are new or changed: not scanned yet." in done.err
    shutil.rmtree(home / "models")
    target.unlink()
    done = call("report", pictures, "-o", target)
    assert (done.code, target.exists()) == (4, False)
    assert "no model is installed, so nothing has been scanned" in done.err
    assert call("report", pictures, "-o", target, "--model", "nothing").code == 4


def test_a_full_disk_leaves_the_old_report(call: Call, pictures: Path, target: Path) -> None:
    call("scan", pictures)
    call("report", pictures, "-o", target)
    old = target.read_bytes()

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    arguments = ("report", pictures, "-o", target, "--thumbnails", "none")
    with start(*arguments, preexec_fn=limit) as command:
        _, err = command.communicate(timeout=30)
    assert command.returncode == 6, err
    assert f"cannot write {target}".encode() in err
    assert target.read_bytes() == old
    assert not list(target.parent.glob("*.part"))


def test_an_interrupted_report_leaves_nothing_behind(
    call: Call, pictures: Path, target: Path
) -> None:
    call("scan", pictures)
    slow = (
        "import time, os, signal, nsfwscan.cli.shared.thumbnails as t\n"
        "def identify(path):\n    os.kill(os.getpid(), signal.SIGINT); time.sleep(1)\n"
        "t.identify = identify\n"
    )
    with start("report", pictures, "-o", target, before=slow) as command:
        command.communicate(timeout=30)
    assert command.returncode == 130
    assert list(target.parent.glob("report.html*")) == []


def test_a_cache_that_cannot_be_read_is_an_error_and_not_an_empty_report(
    call: Call, pictures: Path, target: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("scan", pictures)

    def fail(*_: object) -> None:
        from nsfwscan.values.errors import CacheUnavailable

        raise CacheUnavailable("the cache cannot be read")

    monkeypatch.setattr(Cache, "folder", fail)
    done = call("report", pictures, "-o", target)
    assert (done.code, target.exists()) == (6, False)
    assert "the cache cannot be read" in done.err
