"""JPEGs for HDR displays that a gain map turns into a different picture on ordinary displays.

Chromium shows that other picture (Ultra HDR Image Format 1.1; ISO 21496-1), so they are refused. In
nearly all files with a gain map, the JPEG itself is the picture for ordinary displays.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Iterator

_XMP = b"BaseRenditionIsHDR"
_SAYS_NO = re.compile(rb"\s*(=\s*[\"']|>)\s*False\s*[\"'<]")
_CLOSING = re.compile(rb"</[^<>]*\Z")
_LONGEST_TAG = 64
_ISO = b"urn:iso:std:iso:ts:21496:-1\0"
"""The start of a segment with ISO 21496-1 metadata."""
_BACKWARD, _COMMON_DENOMINATOR = 0x04, 0x08


def refuse_high_range(content: bytes) -> None:
    """Raise `DecodeError` if a gain map says that its JPEG is not for ordinary displays."""
    by_xmp = any(
        _SAYS_NO.match(content, end) is None
        for end in _ends(content, _XMP)
        if not _CLOSING.search(content, max(0, end - _LONGEST_TAG), end)
    )
    if by_xmp or any(_is_high_range(content, end) for end in _ends(content, _ISO)):
        raise DecodeError(
            FailReason.UNSUPPORTED,
            "a picture that its gain map turns into another is not supported",
        )


def _ends(content: bytes, what: bytes) -> Iterator[int]:
    at = 0
    while (at := content.find(what, at)) >= 0:
        at += len(what)
        yield at


def _is_high_range(content: bytes, at: int) -> bool:
    """Read versions, flags and the base picture's headroom, if the segment has them."""
    start = at - len(_ISO)
    end = start - 2 + int.from_bytes(content[start - 2 : start], "big")
    if end - at < 9:  # the main picture only gives the version
        return False
    flags = content[at + 4]
    headroom = at + (9 if flags & _COMMON_DENOMINATOR else 5)
    return bool(flags & _BACKWARD or any(content[headroom : headroom + 4]))
