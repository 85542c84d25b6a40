"""Pictures that are not where they were: each has moved, or is gone, and time will tell.

A moved picture disappears at once, and appears only when it has settled elsewhere. So what is
missing is kept here for a while, by its content, until it turns up at another path or is believed
to be gone.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from nsfwscan.watch.inventory import NO_DIGEST
from nsfwscan.watch.places import is_below

if TYPE_CHECKING:
    from collections.abc import Callable


_MOST_CANDIDATES = 100
"""Equal pictures that are compared by name: ten thousand equal ones must not take hours."""


class Absent:
    """Missing paths, since when, and what was there."""

    def __init__(self, patience_s: float) -> None:
        """`patience_s` is how long a picture may be on its way."""
        self._patience_s = patience_s
        self._since: dict[str, tuple[float, bytes]] = {}
        """In the order in which they were missed."""
        self._by_content: dict[bytes, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, path: str) -> bool:
        return path in self._since

    def add(self, path: str, sha256: bytes, now: float) -> None:
        """Note that the picture at `path` is missing; it keeps its time if that is known."""
        if path not in self._since:
            self._since[path] = now, sha256
            self._by_content.setdefault(sha256, {})[path] = None

    def drop(self, path: str) -> None:
        """Miss a path no longer: it is back, or what became of it is known."""
        _since, sha256 = self._since.pop(path, (0.0, b""))
        paths = self._by_content.get(sha256)
        if paths is not None:
            paths.pop(path, None)
            if not paths:
                del self._by_content[sha256]

    def earlier_path(
        self, path: str, sha256: bytes, may_be: Callable[[str, float], bool] = lambda *_: True
    ) -> str:
        """Return where the picture that turned up at `path` was before; empty if nowhere.

        `may_be` is asked about each missing path and the time since when it is missing.
        """
        if sha256 == NO_DIGEST:
            return ""
        missing = islice(self._by_content.get(sha256, ()), _MOST_CANDIDATES)
        candidates = [one for one in missing if may_be(one, self._since[one][0])]
        # Copies that move together keep their names, if anything.
        name = os.path.basename(path)
        return min(candidates, key=lambda one: (os.path.basename(one) != name, one), default="")

    def below(self, folder: str) -> list[str]:
        """Return the missing paths below `folder`."""
        return [path for path in self._since if is_below(path, folder)]

    def overdue(self, now: float) -> list[str]:
        """Return the paths that have been missing for too long to be still on their way."""
        found = []
        for path, (since, _sha256) in self._since.items():
            if now - since < self._patience_s:
                break
            found.append(path)
        return found

    def next_due(self) -> float | None:
        """Return when `overdue` will return something, by `time.monotonic`."""
        for since, _sha256 in self._since.values():
            return since + self._patience_s
        return None
