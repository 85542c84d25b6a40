"""The paths that a user gives: whether they exist, and how they are printed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nsfwscan.values.errors import PathNotFound, UsageError
from nsfwscan.values.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

QUARANTINE_NAME = ".nsfwscan-quarantine"
"""A folder of this name is never scanned: its pictures were scanned before they were moved."""


def check_roots(roots: Iterable[str]) -> None:
    """Raise `UsageError` for the first root that does not exist or is in a quarantine."""
    for root in roots:
        problem = root_problem(root)
        if problem is not None:
            raise problem


def root_problem(root: str) -> UsageError | None:
    """Return why a path cannot be scanned: it does not exist, or is in a quarantine."""
    if not root:
        return PathNotFound(
            "a path is empty", path=root, hint="perhaps a variable in your script is not set"
        )
    shown = printable(root)
    if "\0" in root:
        return UsageError(f"{shown!r} holds a NUL byte, which no path can")
    try:
        real = os.path.realpath(root)
        os.lstat(root)
    except (FileNotFoundError, NotADirectoryError):
        if not os.path.isabs(root) and not _has_working_folder():
            return UsageError(
                "the current folder no longer exists", hint="change to another folder"
            )
        return PathNotFound(
            f"{shown} does not exist", path=root, hint="check the spelling of the path"
        )
    except OSError as error:
        return UsageError(
            f"{shown} cannot be reached: {error.strerror or error}",
            hint="check the permissions of the folders above it, or its disk",
        )
    if is_quarantined(real):
        return UsageError(
            f"{shown} is in a quarantine, which is never scanned",
            hint="`nsfwscan quarantine list` shows its pictures",
        )
    return None


def _has_working_folder() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def is_quarantined(path: str) -> bool:
    """Return True if an absolute path leads into a quarantine, judging by names alone."""
    return QUARANTINE_NAME in path and QUARANTINE_NAME in path.split(os.sep)
