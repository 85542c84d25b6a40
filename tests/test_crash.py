"""Errors that nobody foresaw: they exit with a code of their own and ask for a bug report."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import Paint
from shell import PROGRAM, Call, start
from tiny_model import RED

from nsfwscan.cli.main import main
from nsfwscan.cli.shared import crash
from nsfwscan.cli.shared.codes import FAILED, INTERNAL, NO_MODEL
from nsfwscan.system import locations
from nsfwscan.values.errors import ModelUnusable

pytestmark = pytest.mark.usefixtures("tiny")

_ROOT = Path(__file__).parents[1]

LAYERS = {
    "discover": ("nsfwscan.media.discover._Walk.root", ["scan"]),
    "read": ("nsfwscan.scanning.examine.read_picture", ["scan"]),
    "workers": ("nsfwscan.scanning.workers.ThreadWorkers.submit", ["scan"]),
    "memory": ("nsfwscan.scanning.scan_cache.ScanCache.claim", ["scan"]),
    "decode pool start": ("nsfwscan.media.decode.pool.DecodePool.start", ["scan"]),
    "decode pool": ("nsfwscan.media.decode.pool.DecodePool.decode", ["scan"]),
    "decode worker": ("nsfwscan.media.decode.process.Slot.start", ["scan"]),
    "model": ("nsfwscan.models.classifier.OrtClassifier.__init__", ["scan"]),
    "classifier": ("nsfwscan.models.classifier.OrtClassifier.read", ["scan"]),
    "policy": ("nsfwscan.judge.policy.Policy.judge", ["scan"]),
    "cache open": ("nsfwscan.cache.cache.Cache.open", ["scan"]),
    "cache read": ("nsfwscan.cache.cache.Cache.folder", ["scan"]),
    "cache write": ("nsfwscan.cache.cache.Cache.write", ["scan"]),
    "rulings": ("nsfwscan.judge.book.RulingBook.current", ["scan"]),
    "report": ("nsfwscan.report.table.TableReporter.add", ["scan"]),
    "report end": ("nsfwscan.report.table.TableReporter.end", ["scan"]),
    "summary": ("nsfwscan.report.summary.Summary.lines", ["scan"]),
    "record": ("nsfwscan.report.record.Recorder.record", ["scan", "-f", "jsonl"]),
    "actions": (
        "nsfwscan.actions.runner.ActionRunner.carry_out",
        ["scan", "--action", "tag", "--yes"],
    ),
    "configuration": ("nsfwscan.cli.shared.config.read", ["scan"]),
    "locations": ("nsfwscan.system.locations.cache_file", ["scan"]),
    "watcher": ("nsfwscan.watch.watcher.Watcher.run", ["watch", "--once"]),
    "watch folder": ("nsfwscan.media.discover._Walk._tree", ["watch", "--once"]),
    "watch scan": ("nsfwscan.scanning.scanner.Scanner.scan_listings", ["watch", "--once"]),
    "allow": ("nsfwscan.judge.book.RulingBook.load", ["allow", "--yes"]),
}
ERRORS = [
    RuntimeError("odd"),
    KeyError("key"),
    RecursionError("maximum recursion depth exceeded"),
    MemoryError(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    OSError(5, "Input/output error"),
    BrokenPipeError(32, "Broken pipe"),
    SystemError("from C"),
]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return Call(capfd)


@pytest.fixture
def picture(tmp_path: Path, paint: Paint) -> Path:
    return paint(tmp_path / "pictures" / "red.png", RED)


def fail(monkeypatch: pytest.MonkeyPatch, place: str, error: Exception) -> None:
    """Let the function at `place` raise `error`."""

    def broken(*_arguments: object, **_named: object) -> object:
        raise error

    monkeypatch.setattr(place, broken)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("error", [ERRORS[0], ERRORS[5]], ids=lambda one: type(one).__name__)
def test_an_error_in_any_layer_exits_with_a_code_of_its_own(
    call: Call, picture: Path, monkeypatch: pytest.MonkeyPatch, layer: str, error: Exception
) -> None:
    place, arguments = LAYERS[layer]
    fail(monkeypatch, place, error)
    done = call(*arguments, picture.parent)
    assert done.code == INTERNAL
    internal = [line for line in done.err.splitlines() if "internal error: " in line]
    assert len(internal) == 1
    assert "Traceback" not in done.err
    assert crash.ISSUES in done.err


@pytest.mark.parametrize("error", ERRORS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("layer", ["read", "decode pool", "report", "configuration", "actions"])
def test_any_kind_of_error_does(
    call: Call, picture: Path, monkeypatch: pytest.MonkeyPatch, layer: str, error: Exception
) -> None:
    place, arguments = LAYERS[layer]
    fail(monkeypatch, place, error)
    # A scan foresees that memory runs out.
    foreseen = isinstance(error, MemoryError) and layer in {"read", "decode pool"}
    assert call(*arguments, picture.parent).code == (FAILED if foreseen else INTERNAL)


def test_the_traceback_is_kept_in_a_file_that_only_its_owner_may_read(
    call: Call, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, "nsfwscan.judge.policy.Policy.judge", RuntimeError("\x1b[31modd"))
    done = call("scan", picture)
    path = Path(locations.crash_file())
    assert done.err.splitlines() == [
        "nsfwscan: internal error: RuntimeError: \\x1b[31modd",
        f"  please report it at {crash.ISSUES} and attach {path} (it may name files)",
    ]
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert text.startswith("nsfwscan ")
    assert "in judge" not in text.splitlines()[0]
    assert text.endswith("RuntimeError: \x1b[31modd\n")


def test_the_traceback_is_printed_where_no_file_can_be_written(
    call: Call, picture: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "state").write_text("a file where a folder should be")
    fail(monkeypatch, "nsfwscan.judge.policy.Policy.judge", RuntimeError("odd"))
    done = call("scan", picture)
    assert done.code == INTERNAL
    assert f"report it at {crash.ISSUES} with these lines:" in done.err
    assert "Traceback (most recent call last)" in done.err


def test_a_system_that_refuses_memory_is_said_to_do_so(
    call: Call, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, "nsfwscan.scanning.examine.read_picture", OSError(24, "Too many open files"))
    assert "free memory or raise the limits" in call("scan", picture).err
    fail(monkeypatch, "nsfwscan.scanning.examine.read_picture", MemoryError())
    assert "the system is out of memory" in call("scan", picture).err


def test_the_page_for_reports_is_the_one_of_the_package() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    assert project["urls"]["Issues"] == crash.ISSUES


@pytest.mark.parametrize(
    "module",
    [
        "nsfwscan.cli.shared.streams",
        "nsfwscan.cli.app",
        "nsfwscan.cli.scan",
        "nsfwscan.report.table",
    ],
)
@pytest.mark.parametrize("error", ["ImportError('odd')", "MemoryError()", "SyntaxError('odd')"])
def test_an_error_while_importing_does_not_exit_with_1(
    picture: Path, module: str, error: str
) -> None:
    before = (
        "import sys\nclass Finder:\n def find_spec(self, name, path=None, target=None):\n"
        f"  if name == {module!r}: raise {error}\nsys.meta_path.insert(0, Finder())"
    )
    with start("scan", picture, before=before) as scan:
        _, err = scan.communicate(timeout=60)
    assert (scan.returncode, b"Traceback" in err) == (INTERNAL, False)


def test_an_error_in_a_thread_ends_the_command(picture: Path) -> None:
    before = (
        "import threading, nsfwscan.media.decode.pool as pool\n"
        "def watch(self): raise RuntimeError('odd')\n"
        "pool.DecodePool._watch = watch"
    )
    for command in (["scan", "--no-cache", picture], ["watch", "--poll", picture.parent]):
        with start(*command, before=before) as scan:
            _, err = scan.communicate(timeout=60)
        assert scan.returncode == INTERNAL, err
        assert b"internal error: RuntimeError: odd" in err
        assert b"Traceback" not in err


@pytest.mark.parametrize(
    ("limit", "least", "most"), [("RLIMIT_NOFILE", 9, 29), ("RLIMIT_AS", 60 << 20, 400 << 20)]
)
def test_low_limits_never_exit_with_the_code_for_flagged(
    picture: Path, limit: str, least: int, most: int
) -> None:
    resource = pytest.importorskip("resource")
    for value in range(least, most, (most - least) // 5):
        done = subprocess.run(
            [*PROGRAM, "scan", "--exit-zero", picture],
            preexec_fn=lambda: resource.setrlimit(
                getattr(resource, limit),
                (value, value),  # noqa: B023  called at once
            ),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode in {0, FAILED, NO_MODEL, INTERNAL}, (value, done.stderr)
        assert b"Traceback (most" not in done.stderr, value


def test_an_error_of_the_terminal_is_no_finding() -> None:
    """typer and rich make exit code 1 of a broken pipe, whoever broke it."""
    script = (
        "import sys, nsfwscan.cli.doctor as doctor\n"
        "def broken(*_, **__): raise BrokenPipeError(32, 'Broken pipe')\n"
        "doctor.print_rows = broken\n"
        "from nsfwscan.cli.main import run; run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "doctor"],
        env={**os.environ},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == INTERNAL


def _disguised(error: Exception) -> None:
    error.__cause__ = KeyboardInterrupt()
    raise error


DISGUISES: dict[str, Exception] = {
    "in_a_class": RuntimeError("Error calling __set_name__"),
    "in_an_import": ImportError("initialization failed"),
    "in_onnxruntime": ModelUnusable("onnxruntime refuses the graph"),
}


@pytest.mark.parametrize("where", ["in_threads", *DISGUISES])
def test_ctrl_c_is_an_interruption_wherever_it_comes(
    where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_threads: object) -> None:
        raise KeyboardInterrupt

    if where == "in_threads":
        monkeypatch.setattr(crash, "in_threads", interrupt)
    else:
        error = DISGUISES[where]
        monkeypatch.setattr("nsfwscan.cli.main._run", lambda _arguments: _disguised(error))
    assert main(["status"]) == 130
    assert capsys.readouterr().err == "\nnsfwscan: interrupted\n"


@pytest.mark.parametrize("place", ["system.cores.available", "models.runtime.available_providers"])
def test_ctrl_c_in_doctor_is_no_finding(
    place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = DISGUISES["in_an_import"]
    monkeypatch.setattr(f"nsfwscan.{place}", lambda: _disguised(error))
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "\nnsfwscan: interrupted\n"
