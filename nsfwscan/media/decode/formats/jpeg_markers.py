"""What stands in the marker segments of a JPEG (ITU-T T.81, annex B), read without decoding."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.media.decode.formats.exif import orientation_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

END_OF_IMAGE = 0xD9
START_OF_SCAN = 0xDA

_MARKER = re.compile(rb"\xff[^\0\x01\xd0-\xd8\xff]")
"""All that have parameters, and the end of image."""

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
"""Frame types that neither browsers nor libjpeg read."""

_LEAST_PADDING = 64
"""Zeros at the end that are no pixels any more."""

_EXIF = b"Exif\0"
"""Browsers do not look at the sixth byte, which should be a NUL as well."""
_EXIF_BYTES = 6
_ICC = b"ICC_PROFILE\0"

_KEPT = {0xE0: (b"JFIF\0", 14), 0xE1: (_EXIF, 6), 0xE2: (_ICC, 14), 0xEE: (b"Adobe", 12)}
"""The application segments that change what is shown, with their beginnings and least lengths;
libjpeg does not count shorter ones."""


class Segment(NamedTuple):
    """One marker with its parameters."""

    marker: int
    start: int
    """Where the marker stands."""
    body: int
    """Where its parameters begin, behind their length."""
    end: int
    """Where they end; beyond the file, when that is cut there."""


def segments(content: bytes, at: int = 2) -> Iterator[Segment]:
    """Walk over the markers from `at` to the end of image, or of the file.

    Bytes between the segments, entropy-coded data first of all, are passed over as libjpeg does.
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
        self._frame = next((one for one in self._found if self._is_frame(one)), None)

    @staticmethod
    def _is_frame(segment: Segment) -> bool:
        return segment.marker in _READ or segment.marker in _NOT_READ

    def unsupported(self) -> str:
        """Say which kind of JPEG it is when none of libjpeg's; empty otherwise."""
        if self._frame is None:
            return ""
        if self._frame.marker in _NOT_READ:
            return f"{_NOT_READ[self._frame.marker]} is not read"
        bits, rows, components = self._dimensions()
        if bits != 8:
            return f"a JPEG of {bits} bits is not read"
        if rows == 0:
            return "a JPEG that says its height behind the picture is not read"
        if components not in (1, 3, 4):
            return f"a JPEG of {components} components is not read"
        return ""

    def _dimensions(self) -> tuple[int, int, int]:
        body = self._content[self._frame.body :] if self._frame else b""
        body = body[:6].ljust(6, b"\0")
        return body[0], int.from_bytes(body[1:3], "big"), body[5]

    @property
    def ends(self) -> bool:
        """Whether the end of image is there."""
        return bool(self._found) and self._found[-1].marker == END_OF_IMAGE

    @property
    def progressive(self) -> bool:
        """Whether each scan passes over the whole picture, and later ones sharpen it."""
        return self._frame is not None and self._frame.marker in _PROGRESSIVE

    @property
    def is_shown_whole(self) -> bool:
        """Whether there is something of every component all over the picture, or nearly so.

        Of a progressive JPEG that needs a finished first pass; later ones sharpen it. Of a
        sequential one it needs a begun scan, of which rows may be missing at the end.
        """
        shown = set[int]()
        scans = [one for one in self._found if one.marker == START_OF_SCAN]
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
        """Return the file without a last segment that is cut, half a marker, or padding.

        Downloads that were broken off often have their full length, the rest of it zeros.
        """
        if self._found and self._found[-1].end > len(self._content):
            return self._content[: self._found[-1].start]
        bare = self._content.rstrip(b"\0\xff")
        padded = len(self._content) - len(bare) >= _LEAST_PADDING
        return bare if padded else self._content.rstrip(b"\xff")

    def next_restart(self) -> int:
        """Return the number of the restart marker that would come next, 0 to 7."""
        scans = [one.end for one in self._found if one.marker == START_OF_SCAN]
        begin = scans[-1] if scans else 0
        markers = {
            number: self._content.rfind(bytes((0xFF, 0xD0 + number)), begin) for number in range(8)
        }
        last = max(markers, key=markers.__getitem__)
        return (last + 1) % 8 if markers[last] >= 0 else 0


def without_idle_segments(content: bytes) -> bytes:
    """Drop the application segments and comments that have no part in what is shown.

    Pillow stumbles over some that are too short, where viewers pass over them.
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
    """Return the orientation in the first EXIF segment, 1 to 8; browsers read no second one."""
    for name, body in applications:
        if name == "APP1" and body.startswith(_EXIF) and len(body) > _EXIF_BYTES:
            return orientation_of(body[_EXIF_BYTES:])
    return 1


def icc_profile(applications: Iterable[tuple[str, bytes]]) -> bytes:
    """Put the ICC profile together (ICC.1, annex B.4), or return nothing when that cannot be done.

    What follows when it is whole does not count. The rule is Chromium's.
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
