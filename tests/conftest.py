"""What all tests share: a home of their own, a tiny model, and the command line."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol
from unittest import mock

import pytest
import tiny_model
from PIL import Image
from skips import pytest_make_collect_report, pytest_runtest_makereport

from nsfwscan.media.decode import render
from nsfwscan.media.discover import QUARANTINE_NAME

if TYPE_CHECKING:
    from browsing import Browser

__all__ = ["pytest_make_collect_report", "pytest_runtest_makereport"]  # pytest finds them here

Colour = tuple[int, int, int]
_FORGOTTEN = ("NSFWSCAN_", "HF_", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_", "XDG_STATE_",
              "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")  # fmt: skip
"""Variables that change what nsfwscan does, or where."""
_SETTLED_S = 3600
"""A picture this old is past every rule about files that may still be changing."""


def _quarantines_in_reach() -> list[str]:
    """Return the quarantines that tests would find: those above the folder for temporary files."""
    folder = _TEMPORARY
    found = []
    for place in [folder, *folder.parents, Path("/dev/shm")]:
        with contextlib.suppress(OSError):
            _lstat(place / QUARANTINE_NAME)
            found.append(str(place / QUARANTINE_NAME))
    return found


_TEMPORARY = Path(tempfile.gettempdir()).resolve()
_lstat = os.lstat
"""As it is before a test replaces it."""


def pytest_configure() -> None:
    """Undo what nohup and CI systems set for this process, which every child would inherit."""
    if found := _quarantines_in_reach():
        pytest.exit(
            f"tests would restore and delete the pictures in {found[0]}: set TMPDIR to a folder "
            "with no quarantine above it",
            returncode=2,
        )
    os.umask(0o022)
    if os.name != "posix":
        return
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # Python itself ignores these two, and `subprocess` resets them.
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _HANDLERS.get(number, signal.SIG_DFL))


_HANDLERS: dict[int, Callable[[int, FrameType | None], None]] = {}
"""In place of the default, in this process alone: children never inherit a handler."""
if os.name == "posix":
    _HANDLERS[signal.SIGINT] = signal.default_int_handler
    _HANDLERS[signal.SIGHUP] = lambda *_: None  # nohup still holds for pytest


@pytest.fixture(autouse=True)
def packages_are_looked_for_again() -> Iterator[None]:
    """Drop what Python has kept of folders that a test made unreadable."""
    yield
    metadata.MetadataPathFinder().invalidate_caches()


@pytest.fixture(autouse=True)
def home(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Give each test a home, models, a cache and a configuration of its own, and no hub."""
    for name in list(os.environ):
        if name.startswith(_FORGOTTEN) and not name.startswith("NSFWSCAN_TEST_"):
            monkeypatch.delenv(name)
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("NSFWSCAN_HOME", str(folder))
    # Quarantines are searched for in the home and the working folder, and above both.
    somebody = tmp_path_factory.mktemp("somebody")
    monkeypatch.setenv("USERPROFILE" if sys.platform == "win32" else "HOME", str(somebody))
    monkeypatch.chdir(somebody)
    # Nothing listens there: a test that should not use the network fails at once.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    searched, before = list(sys.path), _quarantines_in_reach()
    yield folder
    assert _quarantines_in_reach() == before, "a test left pictures where all others find them"
    sys.path[:] = searched
    # `classify` keeps its model for the next call, which must not be the next test's.
    if "nsfwscan.api" in sys.modules:
        sys.modules["nsfwscan.api"]._close_engines()


@pytest.fixture
def tiny(home: Path) -> Path:
    """Install the tiny model in the test's home and return its package folder."""
    return Path(tiny_model.write_package(str(home / "models")))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on another file system than `tmp_path`."""
    places = ["/dev/shm", "/run/lock", "/var/tmp", os.getcwd(), os.path.expanduser("~")]
    for place in [os.environ.get("XDG_RUNTIME_DIR", "/dev/shm"), *places]:
        if os.access(place, os.W_OK | os.X_OK) and os.stat(place).st_dev != tmp_path.stat().st_dev:
            with tempfile.TemporaryDirectory(dir=place, prefix="nsfwscan-test-") as folder:
                yield Path(folder)
            return
    pytest.skip("no second file system is at hand")


class Paint(Protocol):
    """Writes a picture of one colour; each picture has other bytes unless told otherwise."""

    def __call__(self, path: Path, colour: Colour, *, size: tuple[int, int] = ...) -> Path: ...


@pytest.fixture(scope="module")
def over_white_only() -> Iterator[None]:
    """Leave out the views over black of transparent pictures, where tests compare the others."""
    with mock.patch.object(render, "MUCH_TRANSPARENCY", 1.0):
        yield


@pytest.fixture
def paint() -> Paint:
    """Return a function that writes a settled picture, in the format of its ending."""
    serial = 0

    def write(path: Path, colour: Colour, *, size: tuple[int, int] = (64, 48)) -> Path:
        nonlocal serial
        serial += 1
        image = Image.new("RGB", size, colour)
        image.putpixel((0, 0), (serial % 256, serial // 256 % 256, 7))
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = io.BytesIO()
        image.save(stream, Image.registered_extensions().get(path.suffix.lower(), "PNG"))
        path.write_bytes(stream.getvalue())
        settle(path)
        return path

    return write


def settle(path: Path) -> None:
    """Make a file look old enough for its stat to be trusted.

    Only the time of the last change of the inode cannot be set; tests that need it trusted set the
    clock of the scan ahead instead.
    """
    os.utime(path, ns=((os.stat(path).st_mtime_ns - _SETTLED_S * 10**9),) * 2)


Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def nsfwscan() -> Run:
    """Return a function that runs the command line in a process of its own."""

    def run(
        *arguments: str | bytes | Path, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "nsfwscan", *arguments],
            input=stdin,
            capture_output=True,
            timeout=60,
            env={**os.environ, **(env or {})},
            check=False,
        )

    return run


@pytest.fixture
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start a browser with a profile of its own; see `browsing`. Skips where there is none."""
    from browsing import open_browser  # selenium takes a quarter of a second

    with open_browser(tmp_path_factory.mktemp("browser")) as one:
        yield one
