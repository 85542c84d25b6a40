"""How a decode process is started, and what little it inherits.

It reads hostile bytes with native code, so it gets no token, proxy, home or terminal: only what
Python needs to start. It has no descriptor but its pipes, and holds no folder open, so a disk can
be unmounted while it waits.
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
"""Prefixes of variables without which a Python that bundles its libraries may not start."""
_FOR_WINDOWS = ("SYSTEMROOT", "WINDIR", "PATH")
"""Python asks the system for random numbers, and some distributions find their DLLs by PATH."""

_OURS = os.path.abspath(os.path.join(__file__, *[os.pardir] * 4))
"""The folder that contains the package `nsfwscan`."""


def worker_command(cpu_seconds: float, pictures: int) -> list[str]:
    """Return the command that starts a worker process.

    In a bundle there is no interpreter, so the program itself is started. Raises `NsfwscanError` if
    no Python can be found to start.
    """
    limits = [f"{cpu_seconds:g}", str(pictures)]
    if bundled.folder():
        return [sys.executable, bundled.WORKER_FLAG, *limits]
    # The child sees exactly the modules that this process sees, however they got on the path.
    # Unlike `multiprocessing`, `-c` needs no `__main__` guard in a user's script.
    start = (
        "import sys; path, *limits = sys.argv[1:]; sys.path[:] = path.split('\\n');"
        "from nsfwscan.media.decode.worker import main; main(limits)"
    )
    path = [os.path.abspath(entry) for entry in (*sys.path, _OURS)]
    return [_interpreter(), "-I", "-c", start, "\n".join(path), *limits]


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables in `environ` without which Python may not start."""
    windows = sys.platform == "win32"
    names = _FOR_WINDOWS if windows else ()
    # Without any home, Python looks up this user's home, which may open a socket.
    home = {} if windows else {"HOME": os.sep}
    return home | {
        name: value
        for name, value in environ.items()
        if name.startswith(_FOR_THE_LOADER) or name.upper() in names
    }


def _interpreter() -> str:
    """Return the path of this Python.

    A program that embeds Python may set `sys.executable` to itself or to nothing; the interpreter
    is then often found beside the standard library.
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
