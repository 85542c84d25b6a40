"""Paths as the user typed them; impossible ones are refused."""

from __future__ import annotations

import os

from nsfwscan.values.errors import UsageError
from nsfwscan.values.text import readable


def absolute(path: str) -> str:
    """Return an absolute path, with `~` expanded. Raises `UsageError`."""
    if not path:
        raise UsageError("a path is empty", hint="is a variable in your script not set?")
    if "\0" in path:
        raise UsageError(
            f"{readable(path)} is not a path: it contains a NUL byte",
            hint="check what wrote the path",
        )
    try:
        return os.path.abspath(os.path.expanduser(path))
    except OSError as error:  # from getcwd
        raise UsageError(
            f"{readable(path)} cannot be found because the current folder no longer exists",
            hint="change to another folder, or give an absolute path",
        ) from error
