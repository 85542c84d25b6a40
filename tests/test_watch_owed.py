"""No act about a picture is lost, or done twice, whenever the watcher stops."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
from test_cli_watch import FAKES, Watch, watching, write

from nsfwscan.system import locations
from nsfwscan.watch import owed as owed_module
from nsfwscan.watch.owed import Owed
from nsfwscan.watch.traces import traces

pytestmark = pytest.mark.usefixtures("tiny")
unix = pytest.mark.skipif(sys.platform == "win32", reason="its signals")
SLOWLY = f"""{FAKES}
import time
decode = scan_fakes.FakePool.decode
def slowly(self, data, geometry):
    time.sleep(0.02)
    return decode(self, data, geometry)
scan_fakes.FakePool.decode = slowly
"""
PICTURES = 150


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(PICTURES):
        first = b"\xff" if number % 3 == 0 else b"\x00"
        write(tmp_path / "root" / str(number % 5) / f"{number}.jpg", first + b"%d" % number)
    return tmp_path / "root"


class Recorder:
    """A command for `--action` that writes down which pictures it was run for."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "acted"
        script = write(
            folder / "act.py", b"import sys; open(sys.argv[1], 'a').write(sys.argv[2] + '\\n')"
        )
        command = f"command={sys.executable} -S {script} {self._log} {{path}}"
        self.options = ["--action", command, "--limit-percent", "100", "--jobs", "1"]

    @property
    def acted(self) -> Counter[str]:
        return Counter(self._log.read_text().splitlines() if self._log.exists() else [])


def flagged(root: Path) -> set[str]:
    return {str(path) for path in root.rglob("*.jpg") if path.read_bytes()[0] == 0xFF}


def until_all_acted(watch: Watch, recorder: Recorder, root: Path) -> None:
    watch.until(lambda: set(recorder.acted) >= flagged(root), within_s=60)


@unix
@pytest.mark.parametrize("how", ["SIGTERM", "SIGHUP", "SIGKILL"])
def test_what_was_found_in_a_first_look_that_was_cut_short_is_acted_on_once(
    root: Path, tmp_path: Path, how: str
) -> None:
    recorder = Recorder(tmp_path)
    number = getattr(signal, how)
    with watching(*recorder.options, root, before=SLOWLY) as watch:
        watch.until(lambda: len(watch.records) > 20)
        assert not recorder.acted
        if how == "SIGHUP":
            os.kill(watch.process.pid, number)
            until_all_acted(watch, recorder, root)
        watch.end() if how == "SIGHUP" else watch.end(number)
        told = [one["path"] for one in watch.records if one["event"] == "new"]
    with watching(*recorder.options, root) as watch:
        until_all_acted(watch, recorder, root)
        assert watch.end() == 0
        told += [one["path"] for one in watch.records if one["event"] == "new"]
    assert recorder.acted == Counter(flagged(root))
    if how != "SIGKILL":  # which takes away the last second of what the cache knows
        assert len(told) == len(set(told))
    with watching(*recorder.options, root) as watch:
        write(root / "new.jpg", b"\xffnew")
        until_all_acted(watch, recorder, root)
    assert recorder.acted == Counter(flagged(root))


@unix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stop_amid_acts_leaves_the_rest_to_the_next_watcher(
    root: Path, tmp_path: Path, number: signal.Signals
) -> None:
    recorder = Recorder(tmp_path)
    at_once = f"{FAKES}\nimport nsfwscan.cli.watch_acts as acts; acts._LAST_ACTS_S = 0.0\n"
    with watching(*recorder.options, root, before=at_once) as watch:
        watch.until(lambda: len(recorder.acted) >= 5)
        watch.end(number)
    first = recorder.acted
    assert set(first) < flagged(root)
    with watching(*recorder.options, root) as watch:
        until_all_acted(watch, recorder, root)
        assert watch.end() == 0
    twice = sum((recorder.acted - Counter(flagged(root))).values())
    assert twice <= (number is signal.SIGKILL)  # the one in hand may have been done already


@unix
def test_a_picture_that_moved_while_nothing_watched_is_acted_on_where_it_is(
    root: Path, tmp_path: Path
) -> None:
    recorder = Recorder(tmp_path)
    with watching(*recorder.options, root, before=SLOWLY) as watch:
        watch.until(lambda: sum(one["decision"] == "nsfw" for one in watch.records) > 3)
        watch.end(signal.SIGKILL)
        first = next(one["path"] for one in watch.records if one["decision"] == "nsfw")
    os.rename(first, root / "elsewhere.jpg")
    with watching(*recorder.options, root) as watch:
        until_all_acted(watch, recorder, root)
        watch.end()
    assert recorder.acted == Counter(flagged(root))


@unix
def test_a_dry_run_leaves_what_is_owed_alone(root: Path, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    with watching(*recorder.options, root, before=SLOWLY) as watch:
        watch.until(lambda: len(watch.records) > 20)
        watch.end(signal.SIGKILL)
    before = Path(locations.owed_file()).read_bytes()
    with watching(*recorder.options, "--dry-run", root) as watch:
        watch.until(lambda: len(watch.records) > 100)
    assert Path(locations.owed_file()).read_bytes() == before


def listed(owed: Owed) -> list[str]:
    return sorted(owed.below("/"))


def test_what_is_owed_outlives_its_process(tmp_path: Path) -> None:
    path = str(tmp_path / "state" / "owed")
    one = Owed(path)
    odd = os.fsdecode(b"/p/\xff\n.jpg")
    assert one.begin({"/p/a": b"", "/p/b": b"1", odd: b""}) == frozenset()
    assert one.begin({"/p/a": b"", "/p/b": b"1", "/q": b"2"}) == {"/p/a"}
    one.keep(["/p/b"])
    one.end(["/p/a", "/p/b"])
    assert Owed(path).below("/") == {"/p/b": b"", "/q": b"2", odd: b""}
    one.done(["/p/b", "/q", odd])
    assert len(Owed(path)) == 0


@pytest.mark.parametrize(
    "rest",
    [
        b'["owe", {"/x": ""',
        b"\xff\xfe",
        b"7\n",
        b'["owe", 7]\n',
        b"[]\n",
        b'{"a": 1}\n',
        b'["owe", {"/x": "no hex"}]\n',
        b'["owe"]\n',
        b'["done", []]\n',
    ],
)
def test_a_damaged_line_costs_only_itself(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "owed"
    Owed(str(path)).begin({"/a": b""})
    path.write_bytes(path.read_bytes() + rest)
    again = Owed(str(path))
    assert listed(again) == ["/a"]
    again.begin({"/b": b""})
    assert listed(Owed(str(path))) == ["/a", "/b"]


def test_the_file_is_bounded_by_what_is_owed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owed_module, "_SLACK", 10)
    owed = Owed(str(tmp_path / "owed"))
    for number in range(500):
        owed.begin({f"/{number}": b""})
        owed.end([f"/{number}"])
    assert len((tmp_path / "owed").read_bytes().splitlines()) < 20


def test_what_a_kill_leaves_of_a_list_that_is_being_written_is_known_to_be_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[tuple[str, tuple[str, ...]]] = []
    replace = os.replace

    def noted(part: str, target: str) -> None:
        found.append((part, next(traces()).files))
        replace(part, target)

    monkeypatch.setattr(os, "replace", noted)
    Owed(locations.owed_file()).begin({"/a.jpg": b"content"})
    ((part, ours),) = found
    assert part in ours


def test_a_list_that_cannot_be_written_is_said_and_written_whole_later(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "owed").mkdir()
    owed = Owed(str(tmp_path / "owed"), said.append)
    owed.begin({"/a": b""})
    assert "a kill may lose actions" in said[-1]
    (tmp_path / "owed").rmdir()
    owed.begin({"/b": b""})
    assert said[-1] == ""
    (tmp_path / "owed").unlink()  # deleted under a running watcher
    owed.begin({"/c": b""})
    owed.begin({"/d": b""})
    assert listed(Owed(str(tmp_path / "owed"))) == ["/a", "/b", "/c", "/d"]
