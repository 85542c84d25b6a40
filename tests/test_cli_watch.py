"""`nsfwscan watch` as a process: signals, stops, limits, unplugged disks, idleness."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_model
from conftest import Paint
from shell import PROGRAM, Call, own_users
from sizes import trials
from tiny_model import GREEN, RED
from watch_fakes import tree

from nsfwscan.system import locations
from nsfwscan.watch import judging, watcher

pytestmark = [
    pytest.mark.usefixtures("tiny"),
    pytest.mark.skipif(sys.platform != "linux", reason="stops and limits are Linux's"),
]

HERE = os.path.dirname(os.path.abspath(__file__))
FAKES = f"""
import sys; sys.path.append({HERE!r})
import scan_fakes, nsfwscan.scanning.engine as engine, nsfwscan.scanning.session as session
session.Engine = lambda *given, **named: engine.Engine(
    *given, **named, make_pool=lambda _jobs: scan_fakes.FakePool()
)
session.loader = lambda *_: scan_fakes.FakeClassifier
"""
"""Python that goes before: what a file holds says what becomes of it, as in `scan_fakes`."""


class Watch:
    """A watcher in a process, and the lines it has printed so far."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        self.records: list[dict[str, Any]] = []
        self.said: list[str] = []
        self._threads = [threading.Thread(target=one) for one in (self._read, self._hear)]
        for one in self._threads:
            one.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.records.append(json.loads(line))

    def _hear(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.decode())

    def until(self, true: Any, *, within_s: float = 30) -> float:
        began = time.monotonic()
        while not true():
            assert self.process.poll() is None, self.said
            assert time.monotonic() - began < within_s, (len(self.records), self.said)
            time.sleep(0.02)
        return time.monotonic() - began

    @property
    def tree(self) -> dict[str, str | None]:
        """The tree as it was told."""
        found: dict[str, str | None] = {}
        for one in list(self.records):
            if one["event"] == "moved":
                found.pop(one["from"], None)
            if one["event"] == "gone":
                found.pop(one["path"], None)
            else:
                found[one["path"]] = one["sha256"]
        return found

    def end(self, number: int = signal.SIGTERM) -> int:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)
        code = self.process.wait(timeout=30)
        for one in self._threads:
            one.join(10)
        return code


@contextlib.contextmanager
def watching(
    *arguments: str | Path, before: str = FAKES, wrap: tuple[str, ...] = ()
) -> Iterator[Watch]:
    """Start `nsfwscan watch --format jsonl` and leave nothing of it behind."""
    program = PROGRAM
    if before:
        program = [sys.executable, "-c", f"{before}\nfrom nsfwscan.cli.main import run; run()"]
    options = ["watch", "--format", "jsonl", "--offline", "--settle-ms", "150"]
    options += ["--under-load", "run"]
    watch = Watch([*wrap, *program, *options, *map(os.fspath, arguments)])
    try:
        watch.until(lambda: any(line.startswith("Watching") for line in watch.said))
        yield watch
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(watch.process.pid, signal.SIGKILL)
        watch.end()
        for pipe in (watch.process.stdout, watch.process.stderr):
            assert pipe is not None
            pipe.close()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


# With real decoders and a real, if tiny, model


def test_a_verdict_for_each_picture_with_the_real_thing(root: Path, paint: Paint) -> None:
    paint(root / "red.png", RED)
    with watching(root, before="") as watch:
        watch.until(lambda: len(watch.records) == 1)
        paint(root / "sub" / "green.jpg", GREEN)
        watch.until(lambda: len(watch.records) == 2)
        os.rename(root / "red.png", root / "sub" / "red.png")
        watch.until(lambda: len(watch.records) == 3)
        (root / "sub" / "green.jpg").unlink()
        watch.until(lambda: len(watch.records) == 4)
        assert watch.end() == 0
    red, green, moved, gone = watch.records
    assert (red["event"], red["decision"], red["status"]) == ("new", "nsfw", "scanned")
    assert (green["event"], green["decision"]) == ("new", "safe")
    assert (moved["event"], moved["from"]) == ("moved", str(root / "red.png"))
    assert (moved["path"], moved["decision"]) == (str(root / "sub" / "red.png"), "nsfw")
    assert (gone["event"], gone["status"], gone["decision"]) == ("gone", "gone", "safe")
    assert set(gone) == set(red)


def test_once_ends_and_knows(root: Path, paint: Paint, call: Call) -> None:
    paint(root / "red.png", RED)
    paint(root / "green.png", GREEN)
    first = call("watch", "--once", "-q", root)
    assert first.code == 0
    (line,) = first.out.splitlines()
    assert line.split()[2:] == ["new", "nsfw", "0.981", str(root / "red.png")]
    again = call("watch", "--once", "--only", "all", root)
    assert (again.code, again.out) == (0, "")
    scan = call("scan", "--format", "jsonl", root)
    assert set(scan.origins.values()) == {"cache"}


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return Call(capfd)


def test_what_cannot_be_watched_is_refused(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file.jpg").touch()
    for path, words in (("nowhere", "does not exist"), ("file.jpg", "is not a folder")):
        done = call("watch", tmp_path / path)
        assert (done.code, done.out) == (2, "")
        assert words in done.err
        assert len(done.err.splitlines()) == 2


def test_the_log_says_why_a_watcher_ended(call: Call, root: Path, tmp_path: Path) -> None:
    """Of a service nobody sees what it said on stderr."""
    package = Path(tiny_model.write_package(str(tmp_path / "models")))
    (package / "model.onnx").write_bytes(b"no graph")
    done = call("watch", "--once", "--model", package, root)
    assert done.code == 4
    (last,) = Path(locations.log_file()).read_text().splitlines()[-1:]
    assert "ERROR the watcher ended: " in last
    assert "model.onnx" in last


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_what_can_be_no_path_is_refused_before_anything_starts(call: Call, path: str) -> None:
    done = call("watch", path)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 2)


def test_a_folder_that_may_not_be_looked_at_is_not_said_to_be_missing(
    call: Call, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.stat

    def refuse(path: Any, **more: Any) -> os.stat_result:
        if str(path) == str(root):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, **more)

    monkeypatch.setattr(os, "stat", refuse)
    done = call("watch", root)
    assert (done.code, "cannot be reached: Permission denied" in done.err) == (2, True)


def test_once_tells_by_its_exit_code_what_was_not_looked_at(
    call: Call, root: Path, paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(root / "closed" / "red.png", RED)
    paint(root / "open" / "green.png", GREEN)
    real = os.scandir

    def refuse(path: Any) -> Any:
        if str(path) == str(root / "closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        done = call("watch", "--once", root)
    assert done.code == 3
    assert "degraded: 1 folder cannot be listed" in done.err
    assert call("watch", "--once", root).code == 0
    root.rename(root.with_name("unplugged"))
    assert call("watch", "--once", root).code == 3  # known from before, and not there


@pytest.mark.parametrize("believed", [True, False])
def test_once_tells_by_its_exit_code_of_pictures_without_a_verdict(
    call: Call, root: Path, paint: Paint, monkeypatch: pytest.MonkeyPatch, believed: bool
) -> None:
    if believed:
        monkeypatch.setattr(judging, "retry_delay_s", lambda *_, **__: None)
    else:  # it may be readable some time later, for which `--once` does not wait for ever
        monkeypatch.setattr(watcher, "_LAST_WAIT_S", 0.5)
    paint(root / "green.png", GREEN)
    whole = paint(root / "cut.png", RED).read_bytes()
    (root / "cut.png").write_bytes(whole[: len(whole) // 2])
    done = call("watch", "--once", root)
    assert done.code == 3
    if believed:
        assert "cut.png" in done.out
    else:
        assert "1 picture did not settle and got no verdict" in done.err


def test_once_tells_by_its_exit_code_what_became_of_actions(
    call: Call, root: Path, paint: Paint, tmp_path: Path
) -> None:
    paint(root / "red.png", RED)
    (tmp_path / "file").write_text("in the way")
    options = ("watch", "--once", "-a", "quarantine", "--quarantine")
    held = call(*options, tmp_path / "q", "--limit-files", "0", root)
    assert held.code == 5
    assert held.err.count("This would move 1 of 1 picture ") == 1
    assert "This would move" not in held.out
    shutil.rmtree(locations.models_folder())
    paint(root / "again.png", RED)
    tiny_model.write_package(locations.models_folder())
    failed = call(*options, tmp_path / "file", root)
    assert failed.code == 6


def test_lines_stand_in_columns_whatever_they_say(
    call: Call, root: Path, paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "retry_delay_s", lambda *_, **__: None)
    paint(root / "red.png", RED)
    for name, content in {"a.png": b"no picture", "b.png": b"\x89PNG\r\n\x1a\n"}.items():
        (root / name).write_bytes(content)
    lines = call("watch", "--once", "--only", "all", root).out.splitlines()
    assert len(lines) == 3
    assert len({line.index(str(root)) for line in lines}) == 1


def test_an_interrupt_while_nothing_is_done_speaks_of_no_pictures(root: Path) -> None:
    write(root / "a.jpg", b"content")
    with watching(root) as watch:
        watch.until(lambda: len(watch.records) == 1)
        time.sleep(1)
        assert watch.end(signal.SIGINT) == 0
        assert not any("Finishing" in line for line in watch.said)


def test_the_help_says_which_folder_must_be_there_and_speaks_of_its_own_formats(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    text = " ".join(call("watch", "--help").out.split())
    assert "Any other folder that does not exist is an error" in text
    assert "paths0" not in text
    assert "the table" not in text


# Signals and restarts


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0(root: Path, number: signal.Signals) -> None:
    write(root / "a.jpg", b"content")
    with watching(root) as watch:
        watch.until(lambda: len(watch.records) == 1)
        began = time.monotonic()
        assert watch.end(number) == 0
        assert time.monotonic() - began < 2
    assert not [line for line in watch.said if "Traceback" in line]


def test_a_second_interrupt_ends_it_at_once(root: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    slow = FAKES + (
        "import time, nsfwscan.scanning.examine as examine\n"
        f"def slow(*_, **__): open({os.fspath(mark)!r}, 'w').close(); time.sleep(60)\n"
        "examine.read_picture = slow\n"
    )
    write(root / "a.jpg", b"content")
    with watching(root, before=slow) as watch:
        watch.until(mark.exists)
        os.kill(watch.process.pid, signal.SIGINT)
        watch.until(lambda: any("Ctrl-C again" in line for line in watch.said))
        os.kill(watch.process.pid, signal.SIGINT)
        assert watch.process.wait(5) == 130


def test_sighup_reads_the_configuration_again(root: Path, home: Path) -> None:
    write(root / "a.jpg", b"\x99 for review")
    with watching(root) as watch:
        watch.until(lambda: len(watch.records) == 1)
        assert watch.records[0]["decision"] == "review"
        (home / "config.toml").write_text("[watch]\nflag-at = 'high'\n")
        os.kill(watch.process.pid, signal.SIGHUP)
        watch.until(lambda: any("keeping the old settings" in line for line in watch.said))
        (home / "config.toml").write_text("[watch]\nflag-at = 0.55\n")
        os.kill(watch.process.pid, signal.SIGHUP)
        watch.until(lambda: sum(line.startswith("Watching") for line in watch.said) == 2)
        write(root / "b.jpg", b"\x99 for review, too")
        watch.until(lambda: any(one["path"].endswith("b.jpg") for one in watch.records))
        assert watch.records[-1]["decision"] == "nsfw"
        assert watch.end() == 0


def test_kill_and_restart_loses_nothing(root: Path) -> None:
    for at in range(50):
        write(root / f"{at}.jpg", b"%d" % at)
    with watching(root) as watch:
        watch.until(lambda: len(watch.records) > 5)
        watch.end(signal.SIGKILL)
    write(root / "later.jpg", b"later")
    with watching(root) as again:
        again.until(lambda: any(one["path"].endswith("later.jpg") for one in again.records))
        again.until(lambda: {**watch.tree, **again.tree} == tree(root))


# Many changes at once


@pytest.mark.timeout(900)
def test_files_that_appear_while_the_watcher_is_stopped_are_found(
    root: Path, tiny: Path, tmp_path: Path, capsys: Any
) -> None:
    other_home = tmp_path / "other-home"
    shutil.copytree(tiny.parent, other_home / "models")
    folders, files = trials(100, 2000), trials(80, 100)
    for at in range(folders * 9 // 10):  # most of them are watched, and their queue overflows
        (root / f"{at}").mkdir()
    write(root / "first.jpg", b"first")
    with watching(root) as watch:
        watch.until(lambda: len(watch.records) == 1)
        time.sleep(0.5)
        os.kill(watch.process.pid, signal.SIGSTOP)
        for at in range(folders):
            (root / f"{at}").mkdir(exist_ok=True)
            for number in range(files):
                (root / f"{at}" / f"{number}.jpg").write_bytes(b"%d %d" % (at, number))
        cpu_s = _cpu_s(watch.process.pid)
        os.kill(watch.process.pid, signal.SIGCONT)
        began = time.monotonic()
        count = folders * files + 1
        watch.until(lambda: len(watch.records) >= count, within_s=600)
        took = time.monotonic() - began
        cpu_s = _cpu_s(watch.process.pid) - cpu_s
        assert watch.tree == tree(root)
        assert len(watch.records) == count, "each is told once"
    # A scan of the same from nothing, which reads, hashes and remembers as much.
    began, fresh_cpu_s = time.monotonic(), _children_cpu_s()
    fresh = subprocess.run(
        [sys.executable, "-c", f"{FAKES}\nfrom nsfwscan.cli.main import run; run()",
         "scan", "--offline", "-q", "--format", "jsonl", root],
        capture_output=True, check=False, env={**os.environ, "NSFWSCAN_HOME": str(other_home)},
    )  # fmt: skip
    fresh_s, fresh_cpu_s = time.monotonic() - began, _children_cpu_s() - fresh_cpu_s
    scanned = [json.loads(line) for line in fresh.stdout.splitlines()]
    assert {one["path"]: one["sha256"] for one in scanned} == watch.tree
    with capsys.disabled():
        print(
            f"\nW1: {count:,} files, all told {took:.1f} s after SIGCONT ({cpu_s:.1f} s of "
            f"processor time); a fresh scan of them takes {fresh_s:.1f} s ({fresh_cpu_s:.1f} s)"
        )
    # By the processor's clock: a watcher has a low priority, and other programs may be at work.
    assert cpu_s < fresh_cpu_s + 30


def test_a_folder_renamed_while_the_queue_overflows_is_still_watched(
    root: Path, tiny: Path
) -> None:
    """The watch goes with the folder, and who missed the renaming hears of it by its old name."""
    write(root / "old" / "first.jpg", b"first")
    flood = [write(root / name, b"flood") for name in ("a.jpg", "b.jpg")]
    with watching(root) as watch:
        watch.until(lambda: len(watch.records) == 3)
        time.sleep(0.5)
        os.kill(watch.process.pid, signal.SIGSTOP)
        with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as file:
            most = int(file.read())
        for number in range(most // 2 + 500):  # alike neighbours would be merged into one
            os.utime(flood[0], ns=(number, number))
            os.utime(flood[1], ns=(number, number))
        os.rename(root / "old", root / "new")
        os.kill(watch.process.pid, signal.SIGCONT)
        watch.until(lambda: any(one["event"] == "moved" for one in watch.records))
        deadline = time.monotonic() + 30
        at = 0
        while not any("/new/late" in one["path"] for one in watch.records):
            assert time.monotonic() < deadline, "written into the renamed folder, and never told"
            write(root / "new" / f"late {at}.jpg", b"late %d" % at)
            at += 1
            time.sleep(1)


# Too few watches


def after(setup: str, wrap: list[str]) -> tuple[str, ...]:
    """Return what to put before a command so that it runs in namespaces that were set up."""
    return (*wrap, "sh", "-c", f'{setup} && exec "$@"', "sh")


def test_fewer_watches_than_folders_is_said_and_polled(root: Path, tmp_path: Path) -> None:
    limit, folders = 100, trials(300, 3000)
    for at in range(folders):
        (root / f"{at}").mkdir()
    wrap = after(f"echo {limit} > /proc/sys/user/max_inotify_watches", own_users())
    with watching(root, wrap=wrap) as watch:
        watch.until(lambda: any("directories watched" in line for line in watch.said))
        said = next(line for line in watch.said if "directories watched" in line)
        assert said == f"nsfwscan: degraded: {limit} of {folders + 1} directories watched\n"
        for at in range(folders):
            write(root / f"{at}" / "p.jpg", b"%d" % at)
        took = watch.until(lambda: watch.tree == tree(root), within_s=30)
        assert took < 15, "a poll interval, and the time to settle and to look"
        assert len(watch.records) == folders


def test_without_inotify_instances_a_root_is_polled_also_one_that_comes_back(root: Path) -> None:
    write(root / "a.jpg", b"before")
    wrap = after("echo 0 > /proc/sys/user/max_inotify_instances", own_users())
    with watching(root, wrap=wrap) as watch:
        watch.until(lambda: len(watch.records) == 1)
        assert any("is polled" in line and "inotify instances" in line for line in watch.said)
        root.rename(root.with_name("away"))
        watch.until(lambda: any("waiting for" in line for line in watch.said))
        write(root.with_name("away") / "b.jpg", b"while it was away")
        root.with_name("away").rename(root)
        watch.until(lambda: len(watch.records) == 2)
        write(root / "c.jpg", b"after")
        watch.until(lambda: watch.tree == tree(root), within_s=30)
        assert watch.end() == 0
    assert not any("Traceback" in line for line in watch.said)


# Disks that leave


def test_a_disk_that_is_unplugged_is_waited_for(root: Path, tmp_path: Path) -> None:
    disk, usb = tmp_path / "disk", root / "usb"
    disk.mkdir()
    usb.mkdir()
    for at in range(20):
        write(disk / f"{at}.jpg", b"%d" % at)
    write(root / "here.jpg", b"here")
    wrap = after(f"mount --bind {disk} {usb}", own_users())
    with watching(root, usb, wrap=wrap) as watch:

        def in_there(*command: str | Path) -> None:
            pid = str(watch.process.pid)
            subprocess.run(
                ["nsenter", "--preserve-credentials", "-U", "-m", "-t", pid, *command], check=True
            )

        watch.until(lambda: len(watch.records) == 21)
        in_there("umount", "-l", usb)
        watch.until(lambda: any("waiting for" in line for line in watch.said))
        in_there("rm", root / "here.jpg")
        watch.until(lambda: len(watch.records) == 22)
        assert (watch.records[21]["event"], watch.records[21]["path"][-8:]) == ("gone", "here.jpg")
        time.sleep(3)
        assert len(watch.records) == 22
        (disk / "0.jpg").unlink()
        write(disk / "new.jpg", b"new")
        in_there("mount", "--bind", disk, usb)
        watch.until(lambda: len(watch.records) == 24)
        last = {(one["event"], os.path.basename(one["path"])) for one in watch.records[22:]}
        assert last == {("gone", "0.jpg"), ("new", "new.jpg")}
        assert watch.end() == 0


# Idle


def _cpu_s(pid: int) -> float:
    """Return the processor time of a process and its threads."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        total += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
    return total / 1e9


def _children_cpu_s() -> float:
    """Return the processor time of all processes that this one started and that have ended."""
    import resource  # not on Windows

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _io(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


def _rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError


@pytest.mark.timeout(500)
def test_idle_it_costs_next_to_nothing(root: Path, paint: Paint, capsys: Any) -> None:
    picture = paint(root / "0" / "0.png", GREEN).read_bytes()
    for at in range(1, trials(300, 20_000)):
        # What follows the end of a PNG is read by nobody, but makes each content another one.
        write(root / f"{at % 50}" / f"{at}.png", picture + b"%d" % at)
    with watching("--unload-minutes", "0.05", root, before="") as watch:
        pid = watch.process.pid
        watch.until(lambda: len(watch.records) == trials(300, 20_000), within_s=300)
        watch.until(lambda: not _children(pid), within_s=60)
        time.sleep(4)  # the young files are read once more, and snapshots written
        cpu, io, began = _cpu_s(pid), _io(pid), time.monotonic()
        time.sleep(trials(10, 300))
        share = (_cpu_s(pid) - cpu) / (time.monotonic() - began)
        written = {name: _io(pid)[name] - io[name] for name in ("wchar", "write_bytes")}
        rss = _rss_mb(pid)
        with capsys.disabled():
            print(f"\nL5: {share:.3%} of a core, {rss:.0f} MB, written: {written}")
        assert share <= 0.001
        assert rss <= 120
        assert written == {"wchar": 0, "write_bytes": 0}
        assert watch.end() == 0


def _children(pid: int) -> list[str]:
    found = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError):  # the thread has ended meanwhile
            found += Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
    return found


def test_names_that_are_no_text_stand_whole_in_base64(root: Path) -> None:
    with watching(root) as watch:
        path = os.fsencode(root) + b"/\xff.jpg"
        with open(path, "wb") as file:
            file.write(b"content")
        watch.until(lambda: len(watch.records) == 1)
    assert watch.records[0]["path"].endswith("\\xff.jpg")
    assert watch.records[0]["path_base64"]
    assert watch.records[0]["sha256"] == hashlib.sha256(b"content").hexdigest()


def test_the_cache_deleted_under_a_watcher_is_made_anew_and_no_second_watcher_starts(
    root: Path, home: Path, call: Call
) -> None:
    write(root / "0.jpg", b"\xff 0")
    with watching(root) as watch:
        watch.until(lambda: len(watch.records) == 1)
        for path in home.glob("library.sqlite3*"):
            path.unlink()
        write(root / "1.jpg", b"\xff 1")
        write(root / "2.jpg", b"\x00 2")
        watch.until(lambda: len(watch.records) == 3)
        watch.until(lambda: (home / "library.sqlite3").exists())
        second = call("watch", "--offline", str(root))
        assert second.code == 6
        assert "another watcher" in second.err
        status = call("status", "--format", "json")
        assert status.code == 0
        assert json.loads(status.out)["degraded"] == []
        assert watch.end() == 0
    assert any("was deleted; a new one is created" in line for line in watch.said)
    assert len(watch.records) == 3


def test_a_reload_is_not_told_to_the_service_manager_as_the_end(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root / "0.jpg", b"\xff 0")
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    monkeypatch.setenv("NOTIFY_SOCKET", "notify")
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("notify")
        manager.settimeout(0.05)

        def hears(word: str, times: int) -> bool:
            with contextlib.suppress(TimeoutError):
                while True:
                    heard.append(manager.recv(4096).decode().partition("\n")[0])
            return heard.count(word) >= times

        with watching(root) as watch:
            watch.until(lambda: hears("READY=1", 1))
            watch.process.send_signal(signal.SIGHUP)
            watch.until(lambda: hears("READY=1", 2))
            assert watch.end() == 0
            hears("STOPPING=1", 1)
    assert [one for one in heard if not one.startswith("STATUS")] == [
        "READY=1", "RELOADING=1", "READY=1", "STOPPING=1",
    ]  # fmt: skip


def test_a_reader_that_reads_nothing_does_not_keep_a_watcher_from_stopping(
    root: Path, call: Call
) -> None:
    names = [f"{'long name ' * 15}{number}.jpg" for number in range(600)]
    for number, name in enumerate(names):
        write(root / name, b"\xff %d" % number)
    program = [sys.executable, "-c", f"{FAKES}\nfrom nsfwscan.cli.main import run; run()"]
    command = [
        *program,
        "watch",
        "--format",
        "jsonl",
        "--offline",
        "--under-load",
        "run",
        str(root),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            began = time.monotonic()
            while "is not being read" not in call("status").out:
                assert time.monotonic() - began < 60
                time.sleep(0.2)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
            told = [json.loads(line)["path"] for line in process.stdout if line.endswith(b"\n")]
        finally:
            process.kill()
    assert 0 < len(told) < len(names)
    with watching(root) as watch:  # what was not told is told by the next one
        rest = {str(root / name) for name in names} - set(told)
        watch.until(lambda: {one["path"] for one in watch.records} >= rest)
        assert watch.end() == 0
    again = {one["path"] for one in watch.records} & set(told)
    assert len(again) <= 1


def test_a_reader_of_stderr_that_reads_nothing_holds_nothing_up(root: Path) -> None:
    write(root / "a.jpg", b"\xff one")
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"full" * 1024)
    os.set_blocking(writing, True)
    program = [sys.executable, "-c", f"{FAKES}\nfrom nsfwscan.cli.main import run; run()"]
    command = [*program, "watch", "--format", "jsonl", "--offline", "--under-load", "run"]
    with subprocess.Popen([*command, str(root)], stdout=subprocess.PIPE, stderr=writing) as process:
        assert process.stdout is not None
        try:
            assert json.loads(process.stdout.readline())["path"] == str(root / "a.jpg")
            root.rename(root.with_name("away"))  # of which it is said that it is waited for
            time.sleep(3)
            root.with_name("away").rename(root)
            write(root / "b.jpg", b"\xff two")
            assert json.loads(process.stdout.readline())["path"] == str(root / "b.jpg")
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
        finally:
            process.kill()
            os.close(reading)
            os.close(writing)
