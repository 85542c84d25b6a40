"""The pixels of one page of a TIFF, as a Pillow image.

Pillow and its libtiff never see the file: they get small TIFF files written here, with only the
tags that were checked. Layouts that Pillow reads correctly (`tests/test_tiff.py` compares them all)
are passed on as they are. For all others Pillow only decompresses the data, as if the bytes of a
row were grey pixels, and `tiff_samples` turns them into colours.
"""

from __future__ import annotations

import io
import itertools
import struct
from typing import TYPE_CHECKING, TypeAlias

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from nsfwscan.media.decode.formats import tiff_layout as tiff
from nsfwscan.media.decode.formats.picture import MEGA
from nsfwscan.media.decode.formats.tiff_layout import row_bytes, segment_rows
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nsfwscan.media.decode.formats.tiff_layout import TiffLayout

_SHORT, _LONG, _UNDEFINED = 3, 4, 7

_HEADER_BYTES = 8

_Tags: TypeAlias = "dict[int, tuple[int, Sequence[int] | bytes]]"
"""Type and numbers of each tag; the numbers of UNDEFINED are bytes."""

_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
"""Each byte with its bits reversed: FillOrder 2."""

_BATCH_BYTES = 32 * MEGA
"""How much is decompressed at once, so that a large page is not in memory twice."""

_PIECE_BYTES = 2 * MEGA
"""How much is turned into samples at once: numpy takes many times as much."""

_MAX_SEGMENT_BYTES = 64 * MEGA
"""For a strip or tile that goes to numpy, uncompressed: it can only be decoded as a whole."""


def fits_pillow(layout: TiffLayout) -> bool:
    """Return True if Pillow reads such a page the way viewers show it."""
    if layout.planar or layout.sample_format != tiff.UNSIGNED:
        return False
    if layout.compression in tiff.FAX or layout.compression == tiff.JPEG:
        return True
    if layout.fill_order == 2:
        return False
    match layout.photometric, layout.samples:
        case (tiff.WHITE_IS_ZERO, 1):
            return layout.bits in (1, 2, 4, 8)
        case (tiff.BLACK_IS_ZERO, 1):
            return layout.bits in (1, 2, 4, 8, 16)
        case (tiff.RGB, _):
            return layout.bits in (8, 16)
        case (tiff.PALETTE, 1) | (tiff.CMYK, _):
            return True
        case _:
            return False


def by_pillow(content: bytes, layout: TiffLayout, *, alpha: bool) -> Image.Image:
    """Decode a page for which `fits_pillow` holds; without `alpha`, an extra sample is dropped."""
    tags: _Tags = {
        258: (_SHORT, [layout.bits] * layout.samples),
        262: (_SHORT, [layout.photometric]),
        266: (_SHORT, [layout.fill_order if layout.compression in tiff.FAX else 1]),
        277: (_SHORT, [layout.samples]),
        317: (_SHORT, [layout.predictor]),
    }
    if layout.alpha is not None:
        kind = layout.alpha or tiff.UNASSOCIATED
        tags[338] = (_SHORT, [kind if alpha else tiff.UNSPECIFIED])
    if layout.photometric == tiff.PALETTE:
        tags[320] = (_SHORT, layout.colour_map)
    if layout.fax_options:
        tags[293 if layout.compression == 4 else 292] = (_LONG, [layout.fax_options])
    if layout.tiled:
        tags |= {322: (_LONG, [layout.segment_width]), 323: (_LONG, [layout.segment_height])}
    bands = _bands(content, layout, tags)
    _, first = next(bands)
    if first.height == layout.height:
        return first
    whole = Image.new(first.mode, (layout.width, layout.height))
    if first.mode == "P":
        whole.putpalette(first.getpalette() or b"")
    whole.paste(first)
    for top, band in bands:
        whole.paste(band, (0, top))
    return whole


def _bands(content: bytes, layout: TiffLayout, tags: _Tags) -> Iterator[tuple[int, Image.Image]]:
    """Decode a page in bands of its full width; also yield the first row of each."""
    for numbers in _batches(layout):
        top = numbers.start // layout.across * layout.segment_height
        rows = len(numbers) // layout.across * layout.segment_height
        size = (layout.width, min(layout.height - top, rows))
        yield top, _decoded(content, layout, numbers, size, tags)


def by_numpy(content: bytes, layout: TiffLayout, *, alpha: bool, white: float) -> Image.Image:
    """Decode any other page. `white` is the value of white in grey floats."""
    from nsfwscan.media.decode.formats import tiff_samples

    if layout.segment_bytes > _MAX_SEGMENT_BYTES:
        size = layout.segment_bytes / 1e6
        raise DecodeError(FailReason.TOO_MANY_PIXELS, f"a strip or tile of {size:.0f} MB")
    mode = _mode(layout, alpha)
    planes = [
        Image.new("L", (layout.width, layout.height)) for _ in range(Image.getmodebands(mode))
    ]
    wanted = layout.colours + (1 if alpha else 0)
    for first, x, y, data in _pieces(content, layout):
        if first >= wanted:
            break  # the remaining samples are not shown
        levels = tiff_samples.levels(data, layout, first, wanted, white)
        for plane, level in zip(planes[first:], levels, strict=False):
            shown = level[: layout.height - y, : layout.width - x]
            extent = (shown.shape[1], shown.shape[0])
            piece = Image.frombuffer("L", extent, shown.tobytes(), "raw", "L", 0, 1)
            plane.paste(piece, (x, y))
    return planes[0] if mode == "L" else Image.merge(mode, planes)


def _mode(layout: TiffLayout, alpha: bool) -> str:
    match layout.photometric:
        case tiff.WHITE_IS_ZERO | tiff.BLACK_IS_ZERO:
            mode = "L"
        case tiff.CMYK:
            mode = "CMYK"
        case tiff.CIELAB:
            mode = "LAB"
        case _:
            mode = "RGB"
    if not alpha:
        return mode
    return mode + ("a" if layout.alpha == tiff.ASSOCIATED else "A")


def by_libtiff(content: bytes, at: int, layout: TiffLayout) -> Image.Image:
    """Decode the page whose directory is at this offset from the file itself, oriented as it says.

    Old-style JPEG needs this: the parts of a page are scattered over the file.
    """
    order = layout.order
    if struct.unpack_from(f"{order}H", content, 2)[0] != 42:
        raise DecodeError(FailReason.UNSUPPORTED, "old-style JPEG in BigTIFF is not supported")
    data = content[:4] + struct.pack(f"{order}I", at) + content[_HEADER_BYTES:]
    return _loaded(io.BytesIO(data), layout)


def _batches(layout: TiffLayout) -> Iterator[range]:
    """Yield the numbers of the segments to decode together: whole rows of one plane."""
    across, per_plane = layout.across, layout.across * layout.down
    if layout.compression == tiff.NONE and fits_pillow(layout):
        yield range(per_plane)  # Pillow reads uncompressed data piece by piece
        return
    together = across * max(1, _BATCH_BYTES // (layout.segment_bytes * across))
    for plane in range(0, len(layout.segments), per_plane):
        for first in range(plane, plane + per_plane, together):
            yield range(first, min(plane + per_plane, first + together))


def _pieces(content: bytes, layout: TiffLayout) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield uncompressed rows in pieces: the first sample, the position (x, y), the bytes.

    A piece is as wide as a segment, and ends with the segment or before.
    """
    row, block = row_bytes(layout), layout.subsampling[1]
    step = max(1, _PIECE_BYTES // row)
    for numbers in _batches(layout):
        heights = [-(-segment_rows(layout, number) // block) for number in numbers]
        data = _inflated(content, layout, numbers, heights)
        start = 0
        for number, height in zip(numbers, heights, strict=True):
            plane, place = divmod(number, layout.across * layout.down)
            y, x = divmod(place, layout.across)
            for first in range(0, height, step):
                end = min(height, first + step)
                yield (
                    plane,
                    x * layout.segment_width,
                    y * layout.segment_height + first * block,
                    data[(start + first) * row : (start + end) * row],
                )
            start += height


def _inflated(content: bytes, layout: TiffLayout, numbers: range, heights: list[int]) -> bytes:
    """Return the uncompressed bytes of several segments with these heights, concatenated.

    libtiff decompresses them as strips of grey pixels, as wide as a row has bytes.
    """
    if layout.compression == tiff.NONE:
        return b"".join(_raw(content, layout, numbers))
    tags: _Tags = {
        258: (_SHORT, [8]),
        262: (_SHORT, [tiff.BLACK_IS_ZERO]),
        277: (_SHORT, [1]),
        278: (_LONG, [heights[0]]),
    }
    size = (row_bytes(layout), sum(heights))
    return _decoded(content, layout, numbers, size, tags).tobytes()


def _raw(content: bytes, layout: TiffLayout, numbers: range) -> list[bytes | memoryview]:
    """Return the bytes of several segments as they are in the file, high bits first."""
    view = memoryview(content)
    found = [view[at : at + size] for at, size in layout.segments[numbers.start : numbers.stop]]
    # libtiff passes JPEG bytes on, and for fax codes there is a tag for the bit order.
    if layout.fill_order == 1 or layout.compression in (tiff.JPEG, *tiff.FAX):
        return list(found)
    return [bytes(segment).translate(_REVERSED) for segment in found]


def _decoded(
    content: bytes, layout: TiffLayout, numbers: range, size: tuple[int, int], tags: _Tags
) -> Image.Image:
    """Decode segments as a page of this size with these tags, in strips unless tags say tiles."""
    segments = _raw(content, layout, numbers)
    lengths = [len(segment) for segment in segments]
    if layout.compression == tiff.NONE:  # the data stays where it is
        offsets = [at for at, _ in layout.segments[numbers.start : numbers.stop]]
        start = len(content) + len(content) % 2
    else:
        offsets = list(itertools.accumulate(lengths, initial=_HEADER_BYTES))
        start = offsets.pop()
        start += start % 2
    strips = 322 not in tags
    tags = {
        256: (_LONG, [size[0]]),
        257: (_LONG, [size[1]]),
        259: (_SHORT, [layout.compression]),
        273 if strips else 324: (_LONG, offsets),
        279 if strips else 325: (_LONG, lengths),
        **({278: (_LONG, [layout.segment_height])} if strips else {}),
        **({347: (_UNDEFINED, layout.jpeg_tables)} if layout.jpeg_tables else {}),
        **tags,
    }
    order = layout.order
    header = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    directory = _directory(tags, order, start)
    if layout.compression == tiff.NONE:
        return _loaded(_Patched(header, content, start, directory), layout)
    pad = bytes(start - _HEADER_BYTES - sum(lengths))
    return _loaded(io.BytesIO(b"".join((header, *segments, pad, directory))), layout)


class _Patched(io.BytesIO):
    """A file with another header, and a directory after its end; the rest is not copied."""

    def __init__(self, header: bytes, content: bytes, start: int, directory: bytes) -> None:
        super().__init__()
        self._header, self._content = header, content
        self._start, self._directory = start, directory
        self._at = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most so many bytes; fewer where two parts meet."""
        at, end = self._at, self._start + len(self._directory)
        if size is not None and size >= 0:
            end = min(end, at + size)
        if at < len(self._header):
            found = self._header[at:end]
        elif at < self._start:
            found = self._content[at : min(end, self._start)]
        else:
            found = self._directory[at - self._start : max(0, end - self._start)]
        self._at += len(found)
        return found

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Change the position, as `io.IOBase.seek` does."""
        base = {io.SEEK_CUR: self._at, io.SEEK_END: self._start + len(self._directory)}
        self._at = base.get(whence, 0) + offset
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at


def _directory(tags: _Tags, order: str, start: int) -> bytes:
    """Return the directory that begins at `start`, followed by the values of its tags."""
    values = start + 2 + 12 * len(tags) + 4
    table, body = struct.pack(f"{order}H", len(tags)), b""
    for tag, (kind, numbers) in sorted(tags.items()):
        code = {_SHORT: "H", _LONG: "I", _UNDEFINED: "B"}[kind]
        packed = struct.pack(f"{order}{len(numbers)}{code}", *numbers)
        table += struct.pack(f"{order}HHI", tag, kind, len(numbers))
        if len(packed) <= 4:
            table += packed.ljust(4, b"\0")
        else:
            table += struct.pack(f"{order}I", values + len(body))
            body += packed + bytes(len(packed) % 2)
    return table + bytes(4) + body


def _loaded(file: io.BytesIO, layout: TiffLayout) -> Image.Image:
    """Decode the first page of a TIFF file with Pillow."""
    image = TiffImageFile(file)
    try:
        image.load()
    except OSError as error:
        if "decoder error" in str(error):  # all that Pillow reports of libtiff's errors
            detail = f"data of compression {layout.compression} cannot be decompressed"
            raise DecodeError(FailReason.CORRUPT, detail) from error
        raise
    return image
