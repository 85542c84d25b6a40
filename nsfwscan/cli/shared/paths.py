"""Paths as a person typed them: what can be no path is refused in a sentence."""

from __future__ import annotations

import os

from nsfwscan.values.errors import UsageError
from nsfwscan.values.text import readable


def absolute(path: str) -> str:
    """Return a path of the command line as an absolute one, `~` expanded. Raises `UsageError`."""
    if not path:
        raise UsageError("a path is empty", hint="a variable of your script may not be set")
    if "\0" in path:
        raise UsageError(
            f"{readable(path)} is not a path: it holds a NUL byte", hint="check what made the path"
        )
    try:
        return os.path.abspath(os.path.expanduser(path))
    except OSError as error:  # from getcwd
        raise UsageError(
            f"the current folder does not exist any more, so {readable(path)} leads nowhere",
            hint="change to one that does, or give an absolute path",
        ) from error
