"""Every system call of the commands about decisions, the cache and uninstalling fails once."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_model
from conftest import Paint
from failing_calls import ERRNOS, Failing
from shell import Call, start
from sizes import AT_FULL_SIZE, trials

from nsfwscan.actions.quarantine import held as quarantines
from nsfwscan.judge import RulingBook
from nsfwscan.values.results import Ruling

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="flock")

Held = dict[bytes, Ruling]

_DECIDING = {
    "allow": ["allow", "pics/1.png", "pics/2.png"],
    "deny": ["deny", "pics"],
    "forget": ["rulings", "forget", "pics"],
    "import": ["rulings", "import", "elsewhere.jsonl"],
    "list": ["rulings", "list"],
    "export": ["rulings", "export"],
    "repair": ["rulings", "repair", "--yes"],
}
_CACHE = {
    name: ["cache", *name.split()] for name in ("stats", "prune", "verify", "export", "clear --yes")
}


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("COLUMNS", "400")
    return Call(capfd)


class World:
    """A person's home with pictures, decisions and a cache, which can be put back as it was."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self._home = home
        self._copy = folder.with_name("copy")

    def keep(self) -> None:
        for one in (self.folder, self._home):
            shutil.copytree(one, self._copy / one.name, symlinks=True)

    def put_back(self) -> None:
        for one in (self.folder, self._home):
            for inner in os.scandir(one):
                if inner.is_dir(follow_symlinks=False):
                    shutil.rmtree(inner.path)
                else:
                    os.unlink(inner.path)
            shutil.copytree(self._copy / one.name, one, dirs_exist_ok=True, symlinks=True)

    def decisions(self) -> Held:
        book = RulingBook(str(self._home / "rulings.jsonl"))
        return {one.sha256: one.ruling for one in book.load()}

    def pictures(self) -> int:
        return len(list((self.folder / "pics").iterdir()))


@pytest.fixture
def world(
    call: Call,
    tmp_path: Path,
    home: Path,
    tiny: Path,
    paint: Paint,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    assert tiny.is_dir()
    folder = tmp_path / "person"
    for number, colour in enumerate((tiny_model.RED, tiny_model.GREEN, tiny_model.ORANGE)):
        paint(folder / "pics" / f"{number}.png", colour)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setattr(quarantines, "above", lambda one: [one])
    monkeypatch.setattr(quarantines, "candidates", lambda _folder: [str(folder)])
    assert call("allow", "pics/0.png").code == 0
    assert call("deny", "pics/1.png").code == 0
    records = [json.loads(line) for line in call("rulings", "export").out.splitlines()]
    for one in records:
        one |= {"entry": "allowed", "at": one["at"] + 9}
    lines = "".join(f"{json.dumps(one)}\n" for one in records)
    (folder / "elsewhere.jsonl").write_text(lines)
    assert call("scan", "--offline", "--exit-zero", "pics").code == 0
    made = World(folder, home)
    made.keep()
    return made


def every_failure(world: World, call: Call, command: list[str]) -> Iterator[tuple[int, str]]:
    """Run a command as often as it makes system calls, and yield what became of each run."""
    failing = Failing()
    assert call(*command, during=failing()).code == 0
    assert failing.count > 5
    for at in range(failing.count):
        for number in ERRNOS if AT_FULL_SIZE else (ERRNOS[at % len(ERRNOS)],):
            world.put_back()
            failing = Failing(at, number)
            done = call(*command, during=failing())
            where = f"{failing.failed}: {os.strerror(number)}: {done.code}: {done.err}"
            assert done.code in {0, 2, 3, 6}, where
            assert "Traceback" not in done.err, where
            assert done.code == 0 or done.err, where
            yield done.code, where


@pytest.mark.parametrize("name", _DECIDING)
def test_a_failing_call_loses_no_decision_and_is_told(world: World, call: Call, name: str) -> None:
    before = world.decisions()
    assert call(*_DECIDING[name]).code == 0
    after = world.decisions()
    assert (before != after) == (name not in {"list", "export", "repair"})
    world.put_back()
    for code, where in every_failure(world, call, _DECIDING[name]):
        held = world.decisions()
        if code == 0:
            assert held == after, where
        elif code == 3:  # a picture could not be read, and the rest was decided
            assert all(held.get(one) in {before.get(one), after.get(one)} for one in after), where
        else:
            assert held in (before, after), where
        if "the rulings were not changed" in where:
            assert held == before, where
        assert world.pictures() == 3


@pytest.mark.parametrize("name", _CACHE)
def test_a_failing_call_costs_the_cache_nothing_but_time(
    world: World, call: Call, name: str
) -> None:
    for _code, where in every_failure(world, call, _CACHE[name]):
        assert call("cache", "stats").code == 0, where
        assert len(world.decisions()) == 2, where


@pytest.mark.parametrize("held", [True, False])
def test_a_failing_call_while_uninstalling_costs_no_picture(
    world: World, call: Call, tmp_path: Path, held: bool
) -> None:
    done = call("scan", "--action", "quarantine", "--yes", "--flag-at", "0", "pics/2.png")
    assert done.code == 1
    if not held:
        assert call("quarantine", "restore", "--all").code == 0
    shutil.rmtree(tmp_path / "copy")
    world.keep()
    for _code, where in every_failure(world, call, ["self-uninstall", "--purge", "-y"]):
        if held:
            assert call("quarantine", "restore", "--all").code == 0, where
        assert world.pictures() == 3, where


_BEGUN = "import nsfwscan.cli.main; print('begun', flush=True)"
"""Before that it is Python that is interrupted, which says so in its own way."""


@pytest.mark.parametrize("name", ["allow", "deny", "import", "prune"])
def test_ctrl_c_at_any_moment_decides_all_or_nothing(world: World, call: Call, name: str) -> None:
    command = {**_DECIDING, **_CACHE}[name]
    before = world.decisions()
    assert call(*command).code == 0
    after = world.decisions()
    world.put_back()
    began = time.monotonic()
    start(*command).communicate(timeout=60)
    whole_s = time.monotonic() - began
    count = trials(6, 200)
    for number in range(count):
        world.put_back()
        process = start(*command, before=_BEGUN)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(whole_s * (number + 0.5) / count)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            _, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert process.returncode in {0, 130, -signal.SIGINT}, err
        assert b"Traceback" not in err
        held = world.decisions()
        assert held in (before, after)
        if process.returncode == 0:
            assert held == after
        assert call("cache", "stats").code == 0
