"""Thumbnails of pictures, with the hash of the content that they show.

In: a path, bytes, or a `Content` read before. Out: a `ContentThumbnail`. It needs no model: a
started `DecodePool` is enough, and an `Engine` has one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from nsfwscan.scanning.examine import Source, identify

if TYPE_CHECKING:
    from nsfwscan.media.decode.thumbnail import Thumbnail, ThumbnailForm


class ContentThumbnail(NamedTuple):
    """A thumbnail, and which content it shows."""

    sha256: bytes
    """Of the bytes that were shown. A file may have been replaced since it was scanned, so compare
    this with the hash that was expected."""
    thumbnail: Thumbnail


class MakesThumbnails(Protocol):
    """What makes thumbnails of bytes: a `DecodePool`."""

    def thumbnail(
        self,
        data: bytes,
        longest: int,
        *,
        pixelated: bool = False,
        frame: int = 0,
        form: ThumbnailForm | None = None,
    ) -> Thumbnail:
        """See `DecodePool.thumbnail`."""


def thumbnail_of(
    source: Source,
    longest: int,
    *,
    pool: MakesThumbnails,
    pixelated: bool = False,
    frame: int = 0,
    form: ThumbnailForm | None = None,
) -> ContentThumbnail:
    """Read a picture and make a thumbnail; see `DecodePool.thumbnail` for what is asked of it.

    Raises `DecodeError` for a picture that cannot be read or decoded.
    """
    content = identify(source)
    made = pool.thumbnail(content.data, longest, pixelated=pixelated, frame=frame, form=form)
    return ContentThumbnail(content.sha256, made)
