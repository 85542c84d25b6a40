"""Where the strips or tiles of a TIFF page are in the file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nsfwscan.media.decode.formats.jpeg_markers import segments
from nsfwscan.media.decode.formats.tiff_layout import JPEG, NONE, YCBCR, row_bytes, segment_rows
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from nsfwscan.media.decode.formats.tiff_layout import TiffLayout
    from nsfwscan.media.decode.formats.tiff_tags import Directory, TiffFile

_MAX_SEGMENTS = 1 << 16

_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
"""Markers of the frames that libjpeg supports (ITU-T T.81, table B.1)."""

_CUT_BYTES = 65_536
"""Pillow reads uncompressed strips of this size without large copies."""


def located(file: TiffFile, directory: Directory, layout: TiffLayout) -> TiffLayout:
    """Return the page's layout with its segments, each of which lies within the file."""
    layout = replace(layout, segments=_segments(file, directory, layout))
    if layout.compression == JPEG and layout.photometric == YCBCR and 530 in directory:
        _check_factors(file.content, layout)
    return _cut(layout)


def _check_factors(content: bytes, layout: TiffLayout) -> None:
    """Refuse JPEG data whose chroma subsampling differs from what the page says.

    Pillow would follow the data; other users of libtiff follow the tag (YCbCrSubSampling).
    """
    across, down = layout.subsampling
    said = bytes((across << 4 | down,))
    for at, length in layout.segments:
        data = content[at : at + length]
        frame = next((part for part in segments(data) if part.marker in _FRAMES), None)
        if frame is not None and data[frame.body + 7 : frame.body + 8] != said:
            raise DecodeError(
                FailReason.UNSUPPORTED,
                "a TIFF whose JPEG data has another subsampling",
            )


def _segments(file: TiffFile, directory: Directory, layout: TiffLayout) -> list[tuple[int, int]]:
    """Return where each strip or tile is. All of them must be complete."""
    count = layout.across * layout.down * (layout.samples if layout.planar else 1)
    if count > _MAX_SEGMENTS:
        raise DecodeError(
            FailReason.UNSUPPORTED, f"a TIFF with {count} strips or tiles is not supported"
        )
    at_tag, length_tag = (324, 325) if layout.tiled else (273, 279)
    told = directory.count(at_tag)
    # In planes, readers disagree on which of too many entries belong to the second plane.
    if told < count or (layout.planar and told > count):
        raise DecodeError(FailReason.CORRUPT, f"{told} strips or tiles instead of {count}")
    if directory.count(length_tag) not in (0, told):
        raise DecodeError(FailReason.CORRUPT, "strips or tiles without their lengths")
    offsets, lengths = directory.integers(at_tag, count), directory.integers(length_tag, count)
    size = len(file.content)
    if 0 in lengths and 0 in offsets:  # GDAL's sparse files; libtiff fills the gaps with zeros
        raise DecodeError(FailReason.UNSUPPORTED, "a TIFF that leaves out strips or tiles")
    if layout.compression == NONE:
        lengths = _needed(layout, lengths)
    elif not lengths and count == 1:
        lengths = (size - offsets[0],)
    elif not lengths:
        raise DecodeError(FailReason.CORRUPT, "strips or tiles without their lengths")
    segments = list(zip(offsets, lengths, strict=True))
    if any(offset + length > size for offset, length in segments):
        raise DecodeError(FailReason.TRUNCATED, "the file ends before its pixels do")
    if any(offset <= 0 or length <= 0 for offset, length in segments):
        raise DecodeError(FailReason.CORRUPT, "strips or tiles that are empty")
    if layout.compression != NONE and sum(lengths) > size:
        raise DecodeError(FailReason.CORRUPT, "strips or tiles that overlap")
    return segments


def _needed(layout: TiffLayout, told: tuple[int, ...]) -> tuple[int, ...]:
    """Return the lengths that uncompressed segments must have, even if longer ones are given.

    A single segment may be given as shorter; libtiff ignores that, too.
    """
    row, block = row_bytes(layout), layout.subsampling[1]
    count = layout.across * layout.down * (layout.samples if layout.planar else 1)
    needed = tuple(-(-segment_rows(layout, at) // block) * row for at in range(count))
    if count > 1 and any(0 < given < need for given, need in zip(told, needed, strict=False)):
        raise DecodeError(FailReason.CORRUPT, "strips or tiles that are too short")
    return needed


def _cut(layout: TiffLayout) -> TiffLayout:
    """Cut a strip that is a whole plane into shorter strips, if the data is not compressed."""
    row, block = row_bytes(layout), layout.subsampling[1]
    rows = max(1, _CUT_BYTES // row) * block
    if layout.compression != NONE or layout.tiled or layout.down > 1 or rows >= layout.height:
        return layout
    segments = [
        (offset + first // block * row, -(-min(rows, layout.height - first) // block) * row)
        for offset, _ in layout.segments
        for first in range(0, layout.height, rows)
    ]
    return replace(layout, segment_height=rows, segments=segments)
