"""Alternative names for a file whose name is taken: numbered, and never too long for a folder."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_NAMES = 100_000
"""A limit, because a broken file system may report every name as taken."""
_MOST_BYTES = 255
"""Bytes of a name that nearly every file system accepts."""
_LONGEST_ENDING = 32
"""Bytes; anything longer is not a file extension."""


def beside(path: str, mark: Callable[[int], str], *, start: int = 1) -> Iterator[tuple[int, str]]:
    """Yield (number, path) for names like that of `path`: stem, `mark(number)` and extension.

    Yields at most `MOST_NAMES`. If a name would be too long for its folder, the stem is cut at a
    whole character.
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
    """Return how many bytes a name in a folder may have. On eCryptfs, for example, only 143."""
    try:
        return min(os.pathconf(folder or ".", "PC_NAME_MAX"), _MOST_BYTES)
    except (OSError, AttributeError, ValueError):  # missing folder, or Windows
        return _MOST_BYTES
