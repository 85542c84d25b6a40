"""The run-length encodings of BMP ("Bitmap Compression" in the Windows GDI documentation)."""

from __future__ import annotations

from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

_ENDS_EARLY = "the data of its runs ends early"

_END_OF_LINE, _END_OF_BITMAP, _DELTA = range(3)


def unpack_rle(
    data: memoryview, width: int, height: int, *, nibbles: bool
) -> tuple[bytes, bytes | None]:
    """Unpack RLE8, or RLE4 with `nibbles`.

    Returns one byte per pixel, lowest row first as in the file, and a mask of the same shape, 255
    where a pixel was drawn, or None if all were. Runs are cut off at the end of their row. Raises
    `DecodeError` if the data ends before the picture does.
    """
    pixels, drawn = bytearray(width * height), bytearray(width * height)
    at = x = y = 0
    try:
        while y < height:
            count, value = data[at], data[at + 1]
            at += 2
            if count:
                run = bytes((value >> 4, value & 15) if nibbles else (value, value))
                run *= (count + 1) // 2
            elif value == _END_OF_LINE:
                x, y = 0, y + 1
                continue
            elif value == _END_OF_BITMAP:
                break
            elif value == _DELTA:
                x, y = x + data[at], y + data[at + 1]
                at += 2
                continue
            else:
                count, length = value, (value + 1) // 2 if nibbles else value
                run = _literal(data, at, length)
                at += length + length % 2
                if nibbles:
                    run = bytes(half for byte in run for half in (byte >> 4, byte & 15))
            fits = max(0, min(count, width - x))
            begin = y * width + x
            pixels[begin : begin + fits] = run[:fits]
            drawn[begin : begin + fits] = b"\xff" * fits
            x += fits
    except IndexError:  # the end-of-bitmap code is often left out
        if y < height - 1 or x < width:
            raise DecodeError(FailReason.TRUNCATED, _ENDS_EARLY) from None
    return bytes(pixels), bytes(drawn) if 0 in drawn else None


def _literal(data: memoryview, at: int, length: int) -> bytes:
    if at + length > len(data):
        raise DecodeError(FailReason.TRUNCATED, _ENDS_EARLY)
    return bytes(data[at : at + length])
