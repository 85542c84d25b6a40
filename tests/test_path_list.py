"""`scan --files-from`: lists as `find` and Windows write them, and lists that never end."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
from conftest import Paint
from shell import Call, start
from tiny_model import GREEN, ORANGE, RED

import nsfwscan.scanning.path_scan

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return Call(capfd)


@pytest.fixture
def pictures(tmp_path: Path, paint: Paint) -> Path:
    """A folder with one picture for each decision."""
    folder = tmp_path / "pictures"
    for name, colour in (("red", RED), ("orange", ORANGE), ("green", GREEN)):
        paint(folder / f"{name}.png", colour)
    return folder


def list_of(tmp_path: Path, content: bytes) -> tuple[str, Path]:
    (tmp_path / "list").write_bytes(content)
    return "--files-from", tmp_path / "list"


def test_a_list_with_nul_bytes_asks_for_the_option(call: Call, pictures: Path) -> None:
    given = list_of(pictures.parent, os.fsencode(pictures / "red.png") + b"\0")
    done = call("scan", *given)
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith("list contains NUL bytes\n  add -0\n")
    assert call("scan", *given, "-0").code == 1


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_a_list_that_windows_saved_is_read(
    call: Call, pictures: Path, mark: bytes, end: bytes
) -> None:
    lines = [os.fsencode(pictures / name) for name in ("red.png", "green.png")]
    done = call("scan", "-f", "jsonl", *list_of(pictures.parent, mark + end.join([*lines, b""])))
    assert done.verdicts == {"red.png": "nsfw", "green.png": "safe"}


def test_a_path_that_really_ends_so_is_taken_first(call: Call, pictures: Path) -> None:
    os.rename(pictures / "red.png", pictures / "green.png\r")
    given = list_of(pictures.parent, os.fsencode(pictures / "green.png\r") + b"\n")
    done = call("scan", "--any-name", "-f", "jsonl", *given)
    assert done.verdicts == {"green.png\r": "nsfw"}


def test_a_list_in_utf16_is_refused(call: Call, pictures: Path) -> None:
    content = f"{pictures}/red.png\r\n".encode("utf-16")
    done = call("scan", *list_of(pictures.parent, content))
    assert done.code == 2
    assert "is in UTF-16\n  save it in UTF-8" in done.err


@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize(
    ("endless", "why"), [("/dev/zero", ""), (b"x", "has a line over"), (b"\n", "more than")]
)
def test_a_list_that_never_ends_is_refused(
    pictures: Path, endless: str | bytes, why: str, null: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--files-from", "-", *(["-0"] if null else [])]
    if isinstance(endless, bytes) and null:
        endless = endless.replace(b"\n", b"\0")
    reader, writer = (None, None) if isinstance(endless, str) else os.pipe()
    stdin = os.open(endless, os.O_RDONLY) if isinstance(endless, str) else reader
    before = "import nsfwscan.cli.shared.path_list as lists; lists._MOST_PATHS = 300_000"
    with start("scan", *options, before=before, stdin=stdin) as scan:
        os.close(stdin)
        if writer is not None:
            with contextlib.suppress(BrokenPipeError):
                while True:
                    os.write(writer, endless * 65536)
            os.close(writer)
        _, err = scan.communicate(timeout=60)
    assert scan.returncode == 2
    assert why in err.decode()
    assert len(err) < 400


def test_an_endless_list_of_one_path_names_it_once(call: Call, pictures: Path) -> None:
    lines = b"nowhere.png\n" * 1000 + (os.fsencode(pictures / "red.png") + b"\n") * 1000
    done = call("scan", "-f", "jsonl", *list_of(pictures.parent, lines))
    assert [one["status"] for one in done.records] == ["failed", "scanned"]


def test_folders_in_a_list_are_scanned_and_their_files_counted_once(
    call: Call, pictures: Path, paint: Paint
) -> None:
    """As `find` prints them, folders before what is in them."""
    paint(pictures / "sub" / "more.png", RED)
    (pictures / "notes.txt").write_text("text")
    names = [".", "red.png", "orange.png", "green.png", "notes.txt", "sub", "sub/more.png"]
    paths = [os.fsencode(pictures / name) for name in names]
    for order in (paths, paths[::-1]):
        done = call("scan", "-f", "json", *list_of(pictures.parent, b"\n".join(order)))
        results = [one["path"] for one in json.loads(done.out)["results"]]
        assert sorted(map(os.path.basename, results)) == [
            "green.png",
            "more.png",
            "orange.png",
            "red.png",
        ]
        assert done.code == 1


def test_files_of_a_list_that_are_not_named_like_pictures_are_left_out(
    call: Call, pictures: Path
) -> None:
    (pictures / "notes.txt").write_text("text")
    given = list_of(pictures.parent, os.fsencode(pictures / "notes.txt"))
    done = call("scan", "-f", "json", *given)
    assert done.code == 0
    assert json.loads(done.out)["summary"]["other_files"] == 1
    assert call("scan", "--any-name", "-f", "jsonl", *given).verdicts == {
        "notes.txt": "not-an-image"
    }


@pytest.mark.parametrize("cached", [False, True])
def test_links_that_are_named_are_followed(
    call: Call, pictures: Path, cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nsfwscan.scanning.path_scan, "is_racy", lambda *_: False)
    link = pictures.parent / "link.png"
    link.symlink_to(pictures / "red.png")
    if cached:
        call("scan", pictures)
    assert call("scan", "-f", "jsonl", link).verdicts == {"link.png": "nsfw"}
    listed = call("scan", "-f", "jsonl", *list_of(pictures.parent, os.fsencode(link)))
    assert listed.verdicts == {"link.png": "nsfw"}
    link.unlink()
    link.symlink_to(pictures)
    assert call("scan", link).code == 1
