"""How a process that decodes pictures is started, and the little that it is given of this one.

It reads hostile bytes with native code, so it gets no token, proxy, home or terminal: nothing that
Python does not need to start. It holds no descriptor but its pipes and no folder, so that a disk
can be unmounted while it waits.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from nsfwscan.system import bundled
from nsfwscan.values.errors import NsfwscanError

if TYPE_CHECKING:
    from collections.abc import Mapping

_FOR_THE_LOADER = ("LD_", "DYLD_", "LIBPATH", "_PYI_")
"""Beginnings of names: without these a Python that brings its libraries along may not start."""
_FOR_WINDOWS = ("SYSTEMROOT", "WINDIR", "PATH")
"""Python asks the system for random numbers, and some distributions find their DLLs by PATH."""

_OURS = os.path.abspath(os.path.join(__file__, *[os.pardir] * 4))
"""The folder that holds the package `nsfwscan`."""


def worker_command(cpu_seconds: float, pictures: int) -> list[str]:
    """Build the command that starts a worker process.

    In a bundle there is no interpreter: the program itself takes the part. Raises `NsfwscanError`
    if this process does not know a Python to start.
    """
    limits = [f"{cpu_seconds:g}", str(pictures)]
    if bundled.folder():
        return [sys.executable, bundled.WORKER_FLAG, *limits]
    # The child sees the modules that this process sees, whoever put them on the path, and no
    # others. `-c` needs no `__main__` guard in a user's script, as `multiprocessing` would.
    start = (
        "import sys; path, *limits = sys.argv[1:]; sys.path[:] = path.split('\\n');"
        "from nsfwscan.media.decode.worker import main; main(limits)"
    )
    path = [os.path.abspath(entry) for entry in (*sys.path, _OURS)]
    return [_interpreter(), "-I", "-c", start, "\n".join(path), *limits]


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return those variables of `environ` without which Python may not start."""
    windows = sys.platform == "win32"
    names = _FOR_WINDOWS if windows else ()
    # Without any home, Python asks the system for this user's, which opens a socket.
    home = {} if windows else {"HOME": os.sep}
    return home | {
        name: value
        for name, value in environ.items()
        if name.startswith(_FOR_THE_LOADER) or name.upper() in names
    }


def _interpreter() -> str:
    """Return the path of this Python.

    A program that embeds Python may set `sys.executable` to itself or to nothing; the interpreter
    then often lies where the standard library does.
    """
    given = sys.executable or ""
    if _is_python(given):
        return given
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for prefix in dict.fromkeys((sys.prefix, sys.exec_prefix, sys.base_prefix)):
        for place in (os.path.join("bin", version), "python.exe"):
            path = os.path.join(prefix, place)
            if os.access(path, os.X_OK):
                return path
    raise NsfwscanError(
        f"pictures are decoded by a Python process, and {given or 'this program'} is not Python",
        hint="set sys.executable to the path of a Python interpreter of version "
        f"{version.removeprefix('python')} before nsfwscan is used",
    )


def _is_python(path: str) -> bool:
    name = os.path.basename(path).lower()
    return "python" in name or "pypy" in name
