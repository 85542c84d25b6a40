"""Ctrl-C, once and twice, at every stage of a scan, and the progress bar of a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import Paint
from shell import Call, start
from tiny_model import GREEN, RED

pytestmark = [
    pytest.mark.usefixtures("tiny"),
    pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux's list of processes"),
]

SLOW = """
import os, time
import nsfwscan.scanning.examine as examine
read = examine.read_picture
def slow(path, **options):
    open(os.environ["MARK"], "w").close()
    time.sleep({seconds})
    return read(path, **options)
examine.read_picture = slow
"""
BUSY = """
import os, sys
import nsfwscan.media.decode.pool as pool, hostile_decoders
pool.worker_command = lambda *_: hostile_decoders.command()
"""
MANY = 300


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return Call(capfd)


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that a slow scan makes when it has begun."""
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    return tmp_path / "mark"


@pytest.fixture
def pictures(tmp_path: Path, paint: Paint) -> Path:
    """More pictures than a slow scan gets to."""
    folder = tmp_path / "pictures"
    model = paint(folder / "0.png", GREEN).read_bytes()
    for number in range(1, MANY):
        # What follows the end of a PNG is read by nobody, but makes each content another one.
        (folder / f"{number}.png").write_bytes(model + str(number).encode())
    return folder


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def group_is_gone(group: int, workers: Collection[int] = (), *, within_s: float) -> bool:
    """Tell whether no process of the group, and none of the workers, is left.

    Those that wait for burial by init do not count.
    """
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        alive = [one for one in _processes() if one.state != "Z"]
        if not any(one.group == group or one.pid in workers for one in alive):
            return True
        time.sleep(0.02)
    return False


class _Process(NamedTuple):
    pid: int
    state: str
    parent: int
    group: int


def _processes() -> Iterator[_Process]:
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):  # it may end meanwhile
            if name.isdigit():
                rest = Path("/proc", name, "stat").read_text().rpartition(")")[2]
                state, parent, group, *_ = rest.split()
                yield _Process(int(name), state, int(parent), int(group))


def workers_of(scan: subprocess.Popen[bytes]) -> set[int]:
    """Return the decode processes, which have a session of their own."""
    return {one.pid for one in _processes() if one.parent == scan.pid}


@contextlib.contextmanager
def started(*arguments: str | Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a scan and leave nothing of it behind."""
    with start("scan", *arguments, **options) as scan:
        try:
            yield scan
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(scan.pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_once_finishes_what_is_in_hand_and_keeps_it(
    call: Call, pictures: Path, mark: Path, tmp_path: Path, number: signal.Signals
) -> None:
    output = tmp_path / "result.json"
    slow = SLOW.format(seconds=0.05)
    with started("-f", "json", "-o", output, pictures, before=slow) as scan:
        wait_for(mark)
        time.sleep(0.5)
        workers = workers_of(scan)
        os.killpg(scan.pid, number)  # as a terminal does
        _, err = scan.communicate(timeout=20)
        assert workers
        assert group_is_gone(scan.pid, workers, within_s=2)
    assert scan.returncode == 130
    document = json.loads(output.read_bytes())
    assert document["summary"]["interrupted"] is True
    done = [os.path.basename(one["path"]) for one in document["results"]]
    assert 0 < len(done) < MANY
    assert {one["decision"] for one in document["results"]} == {"safe"}
    assert b"Finishing the current pictures. Press Ctrl-C again to stop immediately." in err
    left = MANY - len(done)
    assert f"Interrupted: {left} files not reached. What was scored is kept.".encode() in err
    assert document["summary"]["not_reached"] == left
    again = call("scan", "-f", "jsonl", pictures)
    assert again.code == 0
    assert {again.origins[name] for name in done} == {"cache"}


def test_once_while_the_decoders_start(pictures: Path, mark: Path) -> None:
    """The signal finds them before they can ignore it, and new ones take their places."""
    late = """
import nsfwscan.media.decode.pool as pool
command = pool.worker_command
def start_late(*limits):
    *program, code, path, cpu_seconds, pictures = command(*limits)
    return [*program, "import time; time.sleep(0.7);" + code, path, cpu_seconds, pictures]
pool.worker_command = start_late
"""
    with started("-f", "jsonl", pictures, before=late + SLOW.format(seconds=0.05)) as scan:
        wait_for(mark)
        for one in (scan.pid, *workers_of(scan)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGINT)
        out, err = scan.communicate(timeout=20)
    assert scan.returncode == 130, err
    assert {json.loads(line)["decision"] for line in out.splitlines()} == {"safe"}


def test_once_in_a_pipe_gives_whole_lines_and_goes_before_flagged(
    pictures: Path, mark: Path, paint: Paint
) -> None:
    paint(pictures / "0.png", RED)
    with started("-q", "-f", "jsonl", pictures, before=SLOW.format(seconds=0.05)) as scan:
        wait_for(mark)
        time.sleep(0.3)
        os.killpg(scan.pid, signal.SIGINT)
        out, err = scan.communicate(timeout=20)
    assert (scan.returncode, err) == (130, b"")
    assert "nsfw" in [json.loads(line)["decision"] for line in out.splitlines()]


def test_twice_is_gone_at_once(pictures: Path, mark: Path) -> None:
    with started(pictures, before=SLOW.format(seconds=30)) as scan:
        wait_for(mark)
        os.killpg(scan.pid, signal.SIGINT)
        assert scan.stderr is not None
        scan.stderr.readline()  # an empty line ends what the bar left
        assert b"Finishing" in scan.stderr.readline()
        begun = time.monotonic()
        workers = workers_of(scan)
        os.killpg(scan.pid, signal.SIGINT)
        assert scan.wait(timeout=20) == 130
        assert group_is_gone(scan.pid, workers, within_s=2)
        assert time.monotonic() - begun < 2


def test_twice_takes_a_busy_decoder_along(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"sleep:60")
    code = BUSY.replace(
        "import os, sys", f"import sys; sys.path.append({os.fspath(Path(__file__).parent)!r})"
    )
    with started(tmp_path / "picture.png", before=code) as scan:
        time.sleep(1.5)
        workers = workers_of(scan)
        assert workers
        for _ in range(2):
            os.kill(scan.pid, signal.SIGINT)
            time.sleep(0.3)
        assert scan.wait(timeout=20) == 130
        assert group_is_gone(scan.pid, workers, within_s=1)


def test_while_a_list_is_awaited(tmp_path: Path) -> None:
    """A read that nobody answers must not swallow Ctrl-C."""
    reader, writer = os.pipe()
    code = "import os; os.write(2, b'up\\n')"
    with started("-f", "json", "--files-from", "-", stdin=reader, before=code) as scan:
        assert scan.stderr is not None
        scan.stderr.readline()
        time.sleep(1.0)
        os.killpg(scan.pid, signal.SIGINT)
        out, err = scan.communicate(timeout=10)
    os.close(reader)
    os.close(writer)
    assert scan.returncode == 130
    assert json.loads(out)["summary"]["interrupted"] is True
    assert b"Traceback" not in err


def test_before_the_scan_began(pictures: Path, tiny: Path) -> None:
    """While a model is looked for, say: no traceback, nothing printed."""
    code = (
        "import os, time, nsfwscan.models.select as select\n"
        "def resolve(*_):\n    os.write(2, b'up\\n'); time.sleep(30)\n"
        "select.resolve_model = resolve"
    )
    with started(pictures, before=code) as scan:
        assert scan.stderr is not None
        assert scan.stderr.readline() == b"up\n"
        os.killpg(scan.pid, signal.SIGINT)
        out, err = scan.communicate(timeout=10)
    assert (scan.returncode, out, err) == (130, b"", b"\nnsfwscan: interrupted\n")


# On a terminal


def on_a_terminal(*arguments: str | Path, before: str, env: dict[str, str]) -> tuple[int, bytes]:
    """Run a scan on a pseudo-terminal; return its exit code and what came on the screen."""
    ours, theirs = pty.openpty()
    seen = b""
    with started(
        *arguments,
        before=before,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", **env},
    ) as scan:
        os.close(theirs)
        with contextlib.suppress(OSError):  # EIO is how a terminal ends
            while chunk := os.read(ours, 1 << 16):
                seen += chunk
        os.close(ours)
        code = scan.wait(timeout=20)
    return code, seen


AT_ONCE = "import nsfwscan.cli.shared.talk as talk; talk._QUICK_S = 0\n"


def test_a_long_scan_on_a_terminal_shows_a_bar(pictures: Path, mark: Path) -> None:
    before = AT_ONCE + SLOW.format(seconds=0.005)
    code, seen = on_a_terminal(pictures, before=before, env={"COLUMNS": "100"})
    assert code == 0
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen)
    assert f"/{MANY} pictures".encode() in plain
    assert b"a second, 0 flagged" in plain
    assert re.search(rb"300 pictures in [\d.]+ s, \d+ a second", seen.replace(b"\r\n", b" "))


def test_a_narrow_terminal_cuts_no_number_and_no_word(pictures: Path, mark: Path) -> None:
    before = AT_ONCE + SLOW.format(seconds=0.005)
    code, seen = on_a_terminal(pictures, before=before, env={"COLUMNS": "40", "LINES": "20"})
    assert code == 0
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen).decode()
    assert "…" not in plain
    assert re.search(rf"\d+/{MANY} \d+ a second, 0 flagged", plain)
    summary = plain[plain.index("0 flagged, 0 to review") :].splitlines()
    assert max(map(len, summary)) <= 40
    assert "300 safe." in " ".join(summary)


def test_a_short_scan_or_a_quiet_one_on_a_terminal_shows_no_bar(
    pictures: Path, mark: Path, tmp_path: Path, paint: Paint
) -> None:
    paint(tmp_path / "one" / "red.png", RED)
    patient = "import nsfwscan.cli.shared.talk as talk; talk._QUICK_S = 60\n"
    code, seen = on_a_terminal(tmp_path / "one", before=patient, env={})
    assert code == 1
    assert b"\x1b[?25l" not in seen  # rich hides the cursor while there is a bar
    code, seen = on_a_terminal("-q", pictures, before=AT_ONCE, env={})
    assert (code, seen) == (0, b"")


def test_a_narrow_terminal_folds_and_cuts_nothing(tmp_path: Path, paint: Paint) -> None:
    name = "a-rather-long-name-of-a-picture-" * 3 + ".png"
    paint(tmp_path / name, RED)
    code, seen = on_a_terminal("-q", tmp_path, before="", env={"COLUMNS": "40", "NO_COLOR": "1"})
    assert code == 1
    text = seen.decode().replace("\x1b[1m", "").replace("\x1b[0m", "")
    lines = text.replace("\r", "").splitlines()
    assert max(map(len, lines)) <= 40
    assert name in "".join(line[17:].rstrip() for line in lines)


def test_no_bar_in_a_pipe(pictures: Path) -> None:
    with started("-f", "paths0", pictures, before=AT_ONCE) as scan:
        out, err = scan.communicate(timeout=60)
    assert (scan.returncode, out) == (0, b"")
    assert err.count(b"\n") == 3
    assert b"\x1b" not in err


def test_ctrl_c_before_the_scan_begins_says_so_and_gives_the_terminal_back(
    call: Call, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a model is fetched, say: the bar must not stay, nor keep the cursor hidden."""
    closed: list[bool] = []

    def interrupted(*_arguments: object, **_named: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("nsfwscan.cli.scan.open_session", interrupted)
    monkeypatch.setattr("nsfwscan.cli.shared.talk.Talk.end_bar", lambda _self: closed.append(True))
    done = call("scan", pictures)
    assert (done.code, done.out) == (130, "")
    assert done.err == "\nnsfwscan: interrupted\n"
    assert closed
