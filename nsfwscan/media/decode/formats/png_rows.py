"""From the compressed rows of a PNG to pixels, as far as the rows can be read."""

from __future__ import annotations

import contextlib
import io
import zlib
from typing import TYPE_CHECKING

from PIL import Image, ImageFile

from nsfwscan.media.decode.formats.png_chunks import GREY, GREY_ALPHA, PALETTE, RGB, RGB_ALPHA
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nsfwscan.media.decode.formats.png_chunks import Header

# Pillow's mode, and how the samples are packed, by colour type and depth. Sixteen bits are reduced
# to eight, except in grey.
_MODES = {
    (GREY, 1): ("1", "1"),
    (GREY, 2): ("L", "L;2"),
    (GREY, 4): ("L", "L;4"),
    (GREY, 8): ("L", "L"),
    (GREY, 16): ("I;16", "I;16B"),
    (RGB, 8): ("RGB", "RGB"),
    (RGB, 16): ("RGB", "RGB;16B"),
    (PALETTE, 1): ("P", "P;1"),
    (PALETTE, 2): ("P", "P;2"),
    (PALETTE, 4): ("P", "P;4"),
    (PALETTE, 8): ("P", "P"),
    (GREY_ALPHA, 8): ("LA", "LA"),
    (GREY_ALPHA, 16): ("RGBA", "LA;16B"),
    (RGB_ALPHA, 8): ("RGBA", "RGBA"),
    (RGB_ALPHA, 16): ("RGBA", "RGBA;16B"),
}

_LOW_BYTES = "RGB;16L"
"""Takes the second byte of each sample of `RGB;16B`."""

# First row and column of each pass, and the distance to the next (PNG, 8.2).
_ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)

_MISSING_SHARE = 16
"""A picture counts if less than one part in this many is missing."""

_PIECE_BYTES = 65536
_STEP_BYTES = 4096

_MARK = bytes(37 * at % 251 for at in range(251))
"""A pattern that a row is unlikely to have."""

_MAX_FILTER = 4
_REPEAT_ROW_ABOVE = b"\2"
"""The filter "up": with zeros, it repeats the row before."""


def load(header: Header, data: Sequence[memoryview]) -> tuple[Image.Image, str]:
    """Decode the pixels. Return the image, and what is missing, in words for the user.

    Raises `DecodeError` if more than a small part is missing.
    """
    return _load(header, data, _MODES[header.kind, header.depth][1])


def load_low_bytes(header: Header, data: Sequence[memoryview]) -> Image.Image:
    """Decode the low bytes of 16-bit RGB; `load` returns the high ones."""
    return _load(header, data, _LOW_BYTES)[0]


def _load(header: Header, data: Sequence[memoryview], packing: str) -> tuple[Image.Image, str]:
    image = _decoded(header, data, packing)
    if image is not None:
        return image, ""
    repaired, missing = _repaired(header, b"".join(data))
    image = _decoded(header, [memoryview(repaired)], packing)
    if image is None:
        raise DecodeError(FailReason.CORRUPT, "the image data is damaged")
    return image, missing


class _Raster(ImageFile.ImageFile):
    """Has Pillow decode rows from the parts of a stream, without copying them."""

    def __init__(self, header: Header, data: Sequence[memoryview], packing: str) -> None:
        self._header = header
        self._packing = packing
        self._parts = (
            part[at : at + _PIECE_BYTES]
            for part in data
            for at in range(0, len(part), _PIECE_BYTES)
        )
        super().__init__(io.BytesIO())

    def _open(self) -> None:
        header = self._header
        self._mode = _MODES[header.kind, header.depth][0]
        self._size = header.width, header.height
        arguments = self._packing, int(header.interlaced)
        self.tile = [ImageFile._Tile("zip", (0, 0, *self._size), 0, arguments)]

    def load_read(self, _: int) -> bytes | memoryview:
        """Return the next piece, never empty before the end."""
        return next(self._parts, b"")


def _decoded(header: Header, data: Sequence[memoryview], packing: str) -> Image.Image | None:
    """Decode a zlib stream; None if it is damaged or ends before the last row.

    Pillow does not report a stream that is valid but too short. So the row that is written last is
    filled with a pattern beforehand.
    """
    image = _Raster(header, data, packing)
    blank = Image.new(image.mode, image.size, None)
    # In an interlaced picture, the last pass writes the odd rows.
    last = header.height - (2 if header.interlaced and header.height % 2 else 1)
    box = (0, max(0, last), header.width, max(0, last) + 1)
    size = len(blank.crop(box).tobytes())
    pattern = (_MARK * (size // len(_MARK) + 1))[:size]
    mark = Image.frombytes(image.mode, (header.width, 1), pattern)
    blank.paste(mark, box)
    image.im = blank.im
    try:
        image.load()
    except OSError as error:
        if "memory" in str(error):
            raise
        return None
    if last < 0 or image.crop(box).tobytes() == mark.tobytes():
        rows = _Rows(header, b"".join(data))
        return image if rows.good_bytes == rows.all_bytes else None
    return image


def _repaired(header: Header, stream: bytes) -> tuple[bytes, str]:
    """Return a valid stream of the readable rows, the last of them repeated to the end.

    Also returns what is missing. Raises `DecodeError` if that is more than a small part.
    """
    rows = _Rows(header, stream)
    lost = rows.all_bytes - rows.good_bytes
    if lost * _MISSING_SHARE >= rows.all_bytes:
        reason = FailReason.CORRUPT if rows.damaged else FailReason.TRUNCATED
        share = 100 * lost // rows.all_bytes
        raise DecodeError(reason, f"{share} % of the image data is missing or damaged")
    if not lost:
        missing = "the image data does not match its checksum" if rows.damaged else ""
    elif header.interlaced:
        missing = "the end of the image data"
    else:
        count = lost // rows.lengths[0][0]
        missing = f"the last {count} of {header.height} rows"
    return zlib.compress(rows.whole(), 0), missing


class _Rows:
    """The inflated rows of a stream, each with its filter byte, and how many of them are good."""

    def __init__(self, header: Header, stream: bytes) -> None:
        self.lengths = list(_row_lengths(header))
        self.all_bytes = sum(length * count for length, count in self.lengths)
        self.damaged = False
        self.data = self._inflated(stream)
        self.good_bytes = self._good_bytes()

    def whole(self) -> bytes:
        """Return rows for the whole picture."""
        out = self.data[: self.good_bytes]
        at = 0
        for length, count in self.lengths:
            for _ in range(max(0, min(count, (at + length * count - len(out)) // length))):
                out += _REPEAT_ROW_ABOVE + bytes(length - 1)
            at += length * count
        return bytes(out)

    def _inflated(self, stream: bytes) -> bytearray:
        """Inflate up to the end, the size of the picture or the damage, whichever comes first."""
        out = bytearray()
        inflating = zlib.decompressobj()
        for at in range(0, len(stream), _STEP_BYTES):
            if inflating.eof or len(out) >= self.all_bytes:
                break
            piece = stream[at : at + _STEP_BYTES]
            before = inflating.copy()
            try:
                out += inflating.decompress(piece, self.all_bytes - len(out))
            except zlib.error:
                self.damaged = True
                # An error loses the piece's output before the damage, so go byte by byte.
                with contextlib.suppress(zlib.error):
                    for byte in range(len(piece)):
                        if len(out) >= self.all_bytes:
                            break
                        out += before.decompress(piece[byte : byte + 1], self.all_bytes - len(out))
                break
        return out

    def _good_bytes(self) -> int:
        """Count the bytes of whole rows before the first row with an invalid filter."""
        at = 0
        for length, count in self.lengths:
            whole = min(count, (len(self.data) - at) // length)
            filters = self.data[at : at + whole * length : length]
            for row, filter_type in enumerate(filters):
                if filter_type > _MAX_FILTER:
                    self.damaged = True
                    return at + row * length
            at += whole * length
            if whole < count:
                break
        return at


def _row_lengths(header: Header) -> Iterator[tuple[int, int]]:
    """Yield the bytes per row and the number of rows, for each pass that has any."""
    for top, left, down, across in _ADAM7 if header.interlaced else ((0, 0, 1, 1),):
        width = (header.width - left + across - 1) // across
        height = (header.height - top + down - 1) // down
        if width > 0 and height > 0:
            yield 1 + (width * header.bits + 7) // 8, height
