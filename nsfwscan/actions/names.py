"""Names for a file whose own is taken: beside it, numbered, and never too long for a folder."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_NAMES = 100_000
"""A broken file system may say of every name that it is taken."""
_MOST_BYTES = 255
"""What nearly every file system takes for one name."""
_LONGEST_ENDING = 32
"""Bytes; what is longer is no ending."""


def beside(path: str, mark: Callable[[int], str], *, start: int = 1) -> Iterator[tuple[int, str]]:
    """Yield (number, path) for names beside `path`: its stem, `mark(number)` and its ending.

    They end after `MOST_NAMES`. A stem is cut, at a whole character, where the name would be too
    long for its folder.
    """
    folder, name = os.path.split(path)
    stem, ending = os.path.splitext(name)
    if len(os.fsencode(ending)) > _LONGEST_ENDING:
        stem, ending = name, ""
    most = _longest(folder)
    for number in range(start, start + MOST_NAMES):
        end = mark(number) + ending
        room = most - len(os.fsencode(end))
        yield number, os.path.join(folder, _cut(stem, room) + end)


def _cut(stem: str, room: int) -> str:
    if len(os.fsencode(stem)) <= room:
        return stem
    ends = itertools.accumulate(len(os.fsencode(one)) for one in stem)
    return stem[: sum(1 for end in ends if end <= room)]


def _longest(folder: str) -> int:
    """Return how many bytes a name in a folder may have. Some, as eCryptfs, take only 143."""
    try:
        return min(os.pathconf(folder or ".", "PC_NAME_MAX"), _MOST_BYTES)
    except (OSError, AttributeError, ValueError):  # not there, or Windows
        return _MOST_BYTES
