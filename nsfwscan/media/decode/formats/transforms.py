"""Which part of a raster is shown, and how it is turned, by the properties of ISO/IEC 23008-12.

`clap` crops (6.5.9), `irot` rotates (6.5.10), `imir` mirrors (6.5.12), in the order of association.
Readers differ. Browsers crop, rotate and mirror an AVIF always in this order, and only crop
apertures at the top left; libheif and programs built on it follow the file's order.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsfwscan.media.decode.formats.boxes import Box

Edges = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; right and bottom are exclusive."""

# The corners of the stored raster are a, b, c, d, clockwise from the top left. A view is the order
# in which they are seen; these are the views for the EXIF orientations.
_ORIENTATIONS = {
    "abcd": 1, "badc": 2, "cdab": 3, "dcba": 4, "adcb": 5, "dabc": 6, "cbad": 7, "bcda": 8,
}  # fmt: skip
_SIDES = {"ab": 1, "ba": 1, "bc": 2, "cb": 2, "cd": 3, "dc": 3, "da": 0, "ad": 0}
"""The index in `Edges` of the stored side between two corners."""

_CLOSE = 16
"""An aperture that cuts less than this part of an edge does not make another picture: encoders pad
to whole blocks."""
_PADDING = 8
"""The same, in pixels, for a small picture."""
_SMALLEST = 64
"""HEVC encoders pad smaller pictures on the right and at the bottom."""


class Shown(NamedTuple):
    """Which part of a stored raster is shown, and how it is turned."""

    edges: Edges
    orientation: int
    """As in EXIF, after the crop."""


def in_order(data: bytes, properties: Iterable[Box], size: tuple[int, int]) -> Shown:
    """Apply crop, rotation and mirroring in the given order. Invalid apertures are ignored."""
    corners, edges = "abcd", (0, 0, *size)
    for box in properties:
        value = data[box.body] if box.end > box.body else 0
        if box.kind == b"irot":
            turns = value & 3  # by 90 degrees, anticlockwise
            corners = corners[turns:] + corners[:turns]
        elif box.kind == b"imir":
            corners = _mirrored(corners, value & 1)
        elif box.kind == b"clap":
            edges = _cropped(data, box, edges, corners)
    return Shown(edges, _ORIENTATIONS[corners])


def in_usual_order(
    data: bytes, properties: Iterable[Box], size: tuple[int, int], *, crop: bool
) -> Shown:
    """Crop (or not), rotate and mirror, using the first of each, whatever their order."""
    found = {box.kind: box for box in reversed(list(properties))}
    kinds = (b"clap", b"irot", b"imir") if crop else (b"irot", b"imir")
    return in_order(data, [found[kind] for kind in kinds if kind in found], size)


def differs(one: Shown, other: Shown) -> bool:
    """Return True if a person may see something different in the two."""
    if one.orientation != other.orientation:
        return True
    for at in (0, 1):  # across, down
        slight = max(_PADDING, max(one.edges[at + 2], other.edges[at + 2]) / _CLOSE)
        if any(abs(one.edges[side] - other.edges[side]) > slight for side in (at, at + 2)):
            return True
    return False


def cuts(data: bytes, properties: Iterable[Box], size: tuple[int, int]) -> bool:
    """Return True if the clean aperture of a HEIC cuts so much that it is another picture."""
    left, top, right, bottom = in_order(data, properties, size).edges
    right, bottom = (
        _SMALLEST if whole == _SMALLEST else end
        for whole, end in zip(size, (right, bottom), strict=True)
    )
    return differs(Shown((0, 0, *size), 1), Shown((left, top, right, bottom), 1))


def _mirrored(corners: str, axis: int) -> str:
    order = (1, 0, 3, 2) if axis else (3, 2, 1, 0)
    return "".join(corners[at] for at in order)


def _cropped(data: bytes, box: Box, edges: Edges, corners: str) -> Edges:
    """Crop the visible part further, and return its edges in the stored raster."""
    if box.end - box.body < 32:
        return edges
    fields = [
        int.from_bytes(data[at : at + 4], "big", signed=True)
        for at in range(box.body, box.body + 32, 4)
    ]
    if min(*fields[:4], *fields[5::2]) <= 0:  # sizes and denominators
        return edges
    turned = _SIDES[corners[:2]] % 2 == 0
    sizes = [edges[2] - edges[0], edges[3] - edges[1]]
    if turned:
        sizes.reverse()
    margins = [0, 0, 0, 0]  # of the visible part: left, top, right, bottom
    for at, whole in enumerate(sizes):
        part = fields[2 * at] / fields[2 * at + 1]
        offset = fields[4 + 2 * at] / fields[5 + 2 * at]
        start = math.floor((whole - part) / 2 + offset)
        end = start + round(part)
        start, end = max(0, start), min(whole, end)
        if start >= end:
            return edges
        margins[at], margins[at + 2] = start, whole - end
    cut = list(edges)
    seen = ((corners[3] + corners[0]), corners[:2], corners[1:3], corners[2:])
    for pair, margin in zip(seen, margins, strict=True):
        side = _SIDES[pair]
        cut[side] += margin if side < 2 else -margin
    return cut[0], cut[1], cut[2], cut[3]
