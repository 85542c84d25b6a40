"""Pictures for the page: made by the decode processes, and never the bytes of a file.

In: a picture and a size. Out: a JPEG made anew from its pixels. A hostile file thus meets the
decode process, which is made for it, and not the browser. Fails with `Gone`, and with `DecodeError`
for a picture that cannot be shown.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from nsfwscan.media.decode.thumbnail import MAX_LONGEST

if TYPE_CHECKING:
    from nsfwscan.media.decode.thumbnail import Thumbnail
    from nsfwscan.review.collect import ReviewPicture
    from nsfwscan.review.lookup import Lookup

_KEPT_BYTES = 64 << 20


class Size(StrEnum):
    """How large a picture is wanted."""

    SMALL = "small"
    LARGE = "large"
    ZOOM = "zoom"

    @property
    def longest(self) -> int:
        """The longest edge, in pixels."""
        return {Size.SMALL: 192, Size.LARGE: 1280, Size.ZOOM: MAX_LONGEST}[self]


class MakeThumbnail(Protocol):
    """A function such as `DecodePool.thumbnail`."""

    def __call__(self, data: bytes, longest: int, *, frame: int = 0) -> Thumbnail:
        """Return a picture made anew. Raises `DecodeError`."""


class Gallery:
    """Makes pictures, and keeps the latest. Thread-safe."""

    def __init__(self, lookup: Lookup, make: MakeThumbnail) -> None:
        self._lookup = lookup
        self._make = make
        self._kept: OrderedDict[tuple[bytes, Size], Thumbnail] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._shown: set[bytes] = set()

    def was_shown(self, sha256: bytes) -> bool:
        """Return True if this content was handed out, in any size."""
        return sha256 in self._shown

    def get(self, picture: ReviewPicture, size: Size) -> Thumbnail:
        """Return a picture. Raises `Gone`, `DecodeError`, `NsfwscanError`."""
        key = (picture.sha256, size)
        with self._lock:
            made = self._kept.get(key)
            if made is not None:
                self._kept.move_to_end(key)
        if made is None:
            located = self._lookup.find(picture)
            made = self._make(located.data, size.longest, frame=picture.scored.frame or 0)
            self._keep(key, made)
        self._shown.add(picture.sha256)
        return made

    def _keep(self, key: tuple[bytes, Size], made: Thumbnail) -> None:
        with self._lock:
            before = self._kept.pop(key, None)
            self._bytes += len(made.data) - (len(before.data) if before else 0)
            self._kept[key] = made
            while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= len(dropped.data)
