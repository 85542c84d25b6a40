"""The log: bounded, private, discreet."""

from __future__ import annotations

import logging
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsfwscan.values.errors import NsfwscanError
from nsfwscan.watch import logs
from nsfwscan.watch.logs import LoggedPath, close_log, open_log

log = logging.getLogger(f"{logs.LOGGER}.part")


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path / "state" / "watch.log")
    assert not logging.getLogger(logs.LOGGER).handlers, "the test closes its log"


def lines(path: str) -> list[str]:
    return Path(path).read_text("utf-8").splitlines()


def test_with_paths(path: str) -> None:
    handler = open_log(path, with_paths=True)
    log.info("flagged %s with %.2f", LoggedPath("/pictures/a\nb\udcff.jpg"), 0.9)
    log.debug("not worth a line")
    close_log(handler)
    log.info("after the end")
    (line,) = lines(path)
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO flagged /pictures/a", line)
    assert line.endswith("with 0.90")
    if os.name == "posix":
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_without_paths_lines_still_belong_together(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("USERPROFILE", "/home/someone")
    handler = open_log(path, with_paths=False)
    log.info("new %s", LoggedPath("/home/someone/Pictures/holiday.jpg"))
    log.info("gone %s", LoggedPath("/home/someone/Pictures/holiday.jpg"))
    log.info("new %s", LoggedPath("/home/someone/Pictures/other.jpg"))
    log.warning("the library /home/someone/.cache/x cannot be written")
    close_log(handler)
    text = "\n".join(lines(path))
    assert "holiday" not in text
    assert "someone" not in text
    first, second, third, fourth = lines(path)
    mark = re.search(r"new (<[0-9a-f]{8}>)$", first)
    assert mark is not None
    assert second.endswith(f"gone {mark[1]}")
    assert mark[1] not in third
    assert fourth.endswith("the library ~/.cache/x cannot be written")


def test_without_paths_an_error_does_not_name_its_file_either(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("USERPROFILE", "/home/ann")
    handler = open_log(path, with_paths=False)
    try:
        os.stat("/no/holiday.jpg")
    except OSError as error:
        log.warning("it failed: %s", error)
        log.exception("it failed: %s", LoggedPath("/no/holiday.jpg"))
    try:
        int("holiday.jpg")
    except ValueError:
        log.exception("odd")
    log.info("watching /home/anna/x, /home/ann, and '/home/ann'")
    close_log(handler)
    text = Path(path).read_text()
    assert "holiday" not in text
    assert text.count("No such file or directory") == 2
    *_, odd, last = lines(path)
    assert odd.endswith("odd (ValueError)")
    assert last.endswith("watching /home/anna/x, ~, and '~'")
    # Whoever else listens hears everything.
    assert "holiday.jpg" in caplog.text
    assert "Traceback" in caplog.text


def test_a_home_at_the_root_is_no_part_of_every_path(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setenv("USERPROFILE", "/")
    handler = open_log(path, with_paths=False)
    log.info("the library /var/x")
    close_log(handler)
    assert lines(path)[0].endswith("the library /var/x")


def test_it_never_grows_beyond_four_files(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_BYTES", 2000)
    handler = open_log(path, with_paths=True)
    for number in range(500):
        log.info("line %d %s", number, "x" * 80)
    close_log(handler)
    kept = sorted(os.listdir(os.path.dirname(path)))
    assert kept == ["watch.log", "watch.log.1", "watch.log.2", "watch.log.3"]
    folder = Path(path).parent
    assert all(os.stat(folder / name).st_size <= 2000 for name in kept)
    assert "line 499" in (folder / "watch.log").read_text()
    if os.name == "posix":
        assert {stat.S_IMODE(os.stat(folder / name).st_mode) for name in kept} == {0o600}


@pytest.mark.skipif(sys.platform != "linux", reason="there is a full device on Linux only")
def test_a_full_disk_is_no_trouble(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    os.makedirs(os.path.dirname(path))
    os.symlink("/dev/full", path)
    handler = open_log(path, with_paths=True)
    log.info("nobody reads this")
    log.info("nor this")
    close_log(handler)
    assert capsys.readouterr() == ("", "")


def test_a_place_that_cannot_be_written_is_named(path: str, tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"")
    with pytest.raises(NsfwscanError, match=r"watch\.log cannot be written"):
        open_log(path, with_paths=True)
