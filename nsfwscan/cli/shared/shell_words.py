"""Paths as words of a shell, for commands that users copy from the screen."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable

from nsfwscan.values.text import readable

_UNSAFE = re.compile(rb"[^ -~]|['\\]")


def quoted(paths: Iterable[str]) -> str:
    r"""Return paths as words that a shell reads as the same paths.

    A path in the home folder begins with `~/`. One that cannot be shown as it is, because it holds
    control characters or is not valid UTF-8, is written as `$'...'` with `\xNN`, which bash, zsh
    and ksh read.
    """
    return " ".join(map(_word, paths))


def _word(path: str) -> str:
    if sys.platform == "win32":
        return subprocess.list2cmdline([path])
    if path.startswith("-"):
        path = os.path.join(".", path)
    if readable(path) != path:
        text = _UNSAFE.sub(lambda found: b"\\x%02x" % found[0][0], os.fsencode(path))
        return f"$'{text.decode('ascii')}'"
    home = os.path.join(os.path.expanduser("~"), "")
    if len(home) > 1 and path.startswith(home):
        rest = path[len(home) :]
        return f"~/{shlex.quote(rest) if rest else ''}"
    return shlex.quote(path)
