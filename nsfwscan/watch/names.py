"""One name for each folder, though several roots may reach it.

A root that is a link into another root, or leads to the same folder, is listed once only: by the
name at which the walk came to it first. The system tells of each change once for every root, and
each time by another name. So changes are renamed to what the last walk called the folder.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nsfwscan.watch.places import is_below

if TYPE_CHECKING:
    from collections.abc import Container, Sequence


class Names:
    """The roots, and what is called by which of them."""

    def __init__(self, roots: Sequence[str]) -> None:
        """`roots` are absolute paths as they were given."""
        self._roots = tuple(roots)
        self._aliases: dict[str, str] = {}

    @property
    def aliases(self) -> tuple[str, ...]:
        """Folders that go by another name."""
        return tuple(self._aliases)

    def look(self, visited: Container[str]) -> None:
        """Find out where the roots lead; `visited` are the folders as the last walk named them."""
        real = {root: os.path.realpath(root) for root in self._roots}
        self._aliases = {}
        for inner in self._roots:
            for outer in self._roots:
                if inner == outer or not is_below(real[inner], real[outer]):
                    continue
                other = os.path.normpath(outer + os.sep + os.path.relpath(real[inner], real[outer]))
                if other == inner:
                    continue
                if inner in visited:
                    self._aliases[other] = inner
                elif other in visited:
                    self._aliases[inner] = other

    def usual(self, path: str) -> str:
        """Return `path` as the last walk named it."""
        for alias, name in self._aliases.items():
            if is_below(path, alias):
                return name + path[len(alias) :]
        return path

    def holding(self, path: str) -> list[str]:
        """Return the roots that hold `path`, the innermost first."""
        found = [root for root in self._roots if is_below(path, root)]
        return sorted(found, key=len, reverse=True)
