"""The marker segments of a JPEG (ITU-T T.81, annex B), read without decoding."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.media.decode.formats.exif import orientation_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

END_OF_IMAGE = 0xD9
START_OF_SCAN = 0xDA

_MARKER = re.compile(rb"\xff[^\0\x01\xd0-\xd8\xff]")
"""All markers with parameters, and the end of image."""

_PROGRESSIVE = (0xC2, 0xCA)
_READ = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_NOT_READ = {
    0xC3: "a lossless JPEG",
    0xC5: "a hierarchical JPEG",
    0xC6: "a hierarchical JPEG",
    0xC7: "a hierarchical JPEG",
    0xCB: "a lossless JPEG",
    0xCD: "a hierarchical JPEG",
    0xCE: "a hierarchical JPEG",
    0xCF: "a hierarchical JPEG",
    0xDE: "a hierarchical JPEG",
    0xF7: "a JPEG-LS picture",
}
"""Frame types that neither browsers nor libjpeg support."""

_LEAST_PADDING = 64
"""This many zeros at the end are padding rather than pixels."""

_EXIF = b"Exif\0"
"""Browsers ignore the sixth byte, which should also be NUL."""
_EXIF_BYTES = 6
_ICC = b"ICC_PROFILE\0"

_KEPT = {0xE0: (b"JFIF\0", 14), 0xE1: (_EXIF, 6), 0xE2: (_ICC, 14), 0xEE: (b"Adobe", 12)}
"""The application segments that affect what is shown, with their prefixes and minimum lengths;
libjpeg ignores shorter ones."""


class Segment(NamedTuple):
    """One marker with its parameters."""

    marker: int
    start: int
    """Position of the marker."""
    body: int
    """Where its parameters begin, after their length."""
    end: int
    """Where they end; beyond the file, if it is cut off there."""


def segments(content: bytes, at: int = 2) -> Iterator[Segment]:
    """Walk over the markers from `at` to the end of image, or of the file.

    Bytes between segments, mainly entropy-coded data, are skipped as in libjpeg.
    """
    while (found := _MARKER.search(content, at)) is not None:
        at = found.start()
        marker = content[at + 1]
        if marker == END_OF_IMAGE:
            yield Segment(marker, at, at + 2, at + 2)
            return
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        end = at + 2 + max(2, length)
        yield Segment(marker, at, at + 4, end)
        at = end


class Structure:
    """The frame and scans of a JPEG that did not decode, to find out why."""

    def __init__(self, content: bytes) -> None:
        self._found = list(segments(content))
        self._content = content
        self._frame = next((part for part in self._found if self._is_frame(part)), None)

    @staticmethod
    def _is_frame(segment: Segment) -> bool:
        return segment.marker in _READ or segment.marker in _NOT_READ

    def unsupported(self) -> str:
        """Describe the kind of JPEG if libjpeg does not support it; empty otherwise."""
        if self._frame is None:
            return ""
        if self._frame.marker in _NOT_READ:
            return f"{_NOT_READ[self._frame.marker]} is not supported"
        bits, rows, components = self._dimensions()
        if bits != 8:
            return f"a JPEG of {bits} bits is not supported"
        if rows == 0:
            return "a JPEG that gives its height after the picture is not supported"
        if components not in (1, 3, 4):
            return f"a JPEG of {components} components is not supported"
        return ""

    def _dimensions(self) -> tuple[int, int, int]:
        body = self._content[self._frame.body :] if self._frame else b""
        body = body[:6].ljust(6, b"\0")
        return body[0], int.from_bytes(body[1:3], "big"), body[5]

    @property
    def ends(self) -> bool:
        """Whether the end-of-image marker is there."""
        return bool(self._found) and self._found[-1].marker == END_OF_IMAGE

    @property
    def progressive(self) -> bool:
        """Whether each scan covers the whole picture, and later scans sharpen it."""
        return self._frame is not None and self._frame.marker in _PROGRESSIVE

    @property
    def is_shown_whole(self) -> bool:
        """Whether the file has data of every component for the whole picture, or nearly so.

        For a progressive JPEG, that takes a complete first scan; later scans only sharpen it. For a
        sequential JPEG, the scan must have begun; rows may be missing at the end.
        """
        shown = set[int]()
        scans = [segment for segment in self._found if segment.marker == START_OF_SCAN]
        for scan in scans:
            body = self._content[scan.body : scan.end]
            if len(body) < scan.end - scan.body or not body:
                continue
            count = body[0]
            first_band, _, approximation = body[-3:]
            if self.progressive:
                finished = scan is not self._found[-1]
                if first_band or approximation >> 4 or not finished:
                    continue
            shown.update(body[1 : 1 + 2 * count : 2])
        return len(shown) >= self._dimensions()[2] > 0

    def usable(self) -> bytes:
        """Return the file without an incomplete last segment, half a marker, or padding.

        Interrupted downloads often have their full length, with zeros for the rest.
        """
        if self._found and self._found[-1].end > len(self._content):
            return self._content[: self._found[-1].start]
        bare = self._content.rstrip(b"\0\xff")
        padded = len(self._content) - len(bare) >= _LEAST_PADDING
        return bare if padded else self._content.rstrip(b"\xff")

    def next_restart(self) -> int:
        """Return the number of the next restart marker that would follow, 0 to 7."""
        scans = [segment.end for segment in self._found if segment.marker == START_OF_SCAN]
        begin = scans[-1] if scans else 0
        markers = {
            number: self._content.rfind(bytes((0xFF, 0xD0 + number)), begin) for number in range(8)
        }
        last = max(markers, key=markers.__getitem__)
        return (last + 1) % 8 if markers[last] >= 0 else 0


def without_idle_segments(content: bytes) -> bytes:
    """Drop application segments and comments that do not affect what is shown.

    Pillow fails on some that are too short, which viewers skip.
    """
    kept, at = [content[:2]], 2
    for marker, start, body, end in segments(content):
        if marker == START_OF_SCAN:
            break
        if 0xE0 <= marker <= 0xEF or marker == 0xFE:
            beginning, least = _KEPT.get(marker, (b"", end))
            kept.append(content[at:start])
            if content.startswith(beginning, body) and end - body >= least:
                kept.append(content[start:end])
            at = end
    return b"".join((*kept, content[at:]))


def orientation(applications: Iterable[tuple[str, bytes]]) -> int:
    """Return the orientation in the first EXIF segment, 1 to 8; browsers ignore a second one."""
    for name, body in applications:
        if name == "APP1" and body.startswith(_EXIF) and len(body) > _EXIF_BYTES:
            return orientation_of(body[_EXIF_BYTES:])
    return 1


def icc_profile(applications: Iterable[tuple[str, bytes]]) -> bytes:
    """Join the ICC profile (ICC.1, annex B.4); return b"" if that is impossible.

    Segments after a complete profile are ignored, as in Chromium.
    """
    parts = dict[int, bytes]()
    total = 0
    for name, body in applications:
        if name != "APP2" or not body.startswith(_ICC) or len(body) <= len(_ICC) + 2:
            continue
        number, count = body[12], body[13]
        total = total or count
        if count != total or not 1 <= number <= total or number in parts:
            break
        parts[number] = body[14:]
        if len(parts) == total:
            return b"".join(parts[part] for part in range(1, total + 1))
    return b""
