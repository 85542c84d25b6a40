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
    """Return paths as words that a shell reads as the same paths; see `word`.

    A path in the home folder begins with `~/`, and one that looks like an option with `./`.
    """
    return " ".join(map(_path, paths))


def word(text: str) -> str:
    r"""Return a word that a shell reads as `text`.

    One that cannot be shown as it is, because it holds control characters or is not valid UTF-8, is
    written as `$'...'` with `\xNN`, which bash, zsh and ksh read.
    """
    if sys.platform == "win32":
        return subprocess.list2cmdline([text])
    if readable(text) != text:
        plain = _UNSAFE.sub(lambda found: b"\\x%02x" % found[0][0], os.fsencode(text))
        return f"$'{plain.decode('ascii')}'"
    return shlex.quote(text)


def _path(path: str) -> str:
    home = os.path.join(os.path.expanduser("~"), "")
    if sys.platform != "win32" and len(home) > 1 and path.startswith(home):
        rest = path[len(home) :]
        return f"~/{word(rest) if rest else ''}"
    return word(os.path.join(".", path) if path.startswith("-") else path)
