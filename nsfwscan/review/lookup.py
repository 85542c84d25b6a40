"""Where a content is now. Paths are hints; only the bytes tell.

In: a picture and the places where it was when it was scanned. Out: a path whose file was read and
has this very content. A picture that moved is found at another known place: one of its duplicates',
one that a scan or the watcher has stored meanwhile, or in a quarantine. Raises `Gone`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.cache.rows import SHA256_BYTES
from nsfwscan.scanning.examine import identify
from nsfwscan.values.errors import CacheError, DecodeError, NsfwscanError
from nsfwscan.values.results import FailReason
from nsfwscan.values.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsfwscan.actions.quarantine.held import Quarantines
    from nsfwscan.cache.cache import Cache
    from nsfwscan.review.collect import ReviewPicture

_MISSING = {FailReason.VANISHED, FailReason.EMPTY}


class Gone(Exception):
    """A picture is at none of its known places; `str(gone)` says so, in words for the user."""


class Located(NamedTuple):
    """A picture that was found and read."""

    path: str
    data: bytes


class Lookup:
    """Finds contents. Thread-safe."""

    def __init__(self, cache: Cache, quarantines: Quarantines) -> None:
        self._cache = cache
        self._quarantines = quarantines

    def find(self, picture: ReviewPicture) -> Located:
        """Return where a picture is now, and its bytes. Raises `Gone`."""
        why = ""
        tried: set[str] = set()
        for path in self._places(picture):
            if path in tried:
                continue
            tried.add(path)
            try:
                content = identify(path)
            except DecodeError as error:
                if error.reason not in _MISSING:
                    why = f"{printable(path)} cannot be read: {error.detail or error.reason}"
                continue
            if content.sha256 == picture.sha256:
                return Located(path, content.data)
            why = why or f"{printable(path)} now holds another picture"
        held = self._held(picture.sha256)
        if held is not None:
            return held
        raise Gone(why or f"{printable(picture.places[0])} was moved, renamed or deleted")

    def known(self, picture: ReviewPicture) -> list[str]:
        """Return the places where a file exists that may have this content, unread."""
        paths = dict.fromkeys(self._places(picture))
        return [path for path in paths if os.path.lexists(path)]

    def holding(self, picture: ReviewPicture) -> list[str]:
        """Return the places, outside quarantines, whose file was read now and has this content."""
        return [path for path in self.known(picture) if self.holds(path, picture.sha256)]

    def holds(self, path: str, sha256: bytes) -> bool:
        """Return True if the file can be read and has this content."""
        try:
            return identify(path).sha256 == sha256
        except DecodeError:
            return False

    def _places(self, picture: ReviewPicture) -> Iterator[str]:
        """Yield the places known at the start, then those that the cache knows now."""
        yield from picture.places
        try:
            yield from self._cache.places_of(picture.sha256)
        except CacheError:  # the places known at the start are all there is
            return

    def in_quarantine(self) -> dict[bytes, list[str]]:
        """Return the contents that are in a quarantine now, each with the files there."""
        found: dict[bytes, list[str]] = {}
        for vault in self._quarantines.existing():
            try:
                entries = vault.peek().held
            except (NsfwscanError, OSError):  # what was asked for may be in another one
                continue
            for entry in entries:
                if len(entry.sha256) == 2 * SHA256_BYTES:  # empty in a damaged journal
                    sha256 = bytes.fromhex(entry.sha256)
                    found.setdefault(sha256, []).append(vault.file_of(entry.id))
        return found

    def _held(self, sha256: bytes) -> Located | None:
        for path in self.in_quarantine().get(sha256, ()):
            try:
                content = identify(path)
            except DecodeError:
                continue
            if content.sha256 == sha256:
                return Located(path, content.data)
        return None
