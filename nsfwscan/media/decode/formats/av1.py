"""The colour code points in an AV1 bitstream, for AVIF files without an `nclx`.

Source: the AV1 specification, 5.5, sequence header OBU.
"""

from __future__ import annotations

HEAD_BYTES = 1024
"""How far from the start of a picture the sequence header may be, in bytes."""

_UNSPECIFIED = (2, 2)
_SEQUENCE_HEADER = 1


def colour_points(sample: bytes) -> tuple[int, int]:
    """Return primaries and transfer function (ITU-T H.273); 2 and 2 if they are not given."""
    try:
        header = _sequence_header(sample)
        return _UNSPECIFIED if header is None else _colour(_Bits(header))
    except IndexError:  # the data ends; the codec will report it
        return _UNSPECIFIED


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> int:
        value = 0
        for at in range(self._at, self._at + count):
            value = value << 1 | self._data[at >> 3] >> (7 - (at & 7)) & 1
        self._at += count
        return value

    def skip(self, count: int) -> None:
        self._at += count

    def skip_uvlc(self) -> None:
        zeros = 0
        while not self.take(1):
            zeros += 1
        self.skip(zeros if zeros < 32 else 0)


def _sequence_header(sample: bytes) -> bytes | None:
    at = 0
    while at < len(sample):
        head = sample[at]
        at += 2 if head & 4 else 1
        size = len(sample) - at
        if head & 2:  # leb128 (4.10.5)
            size = 0
            for shift in range(0, 56, 7):
                byte = sample[at]
                at += 1
                size |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            return sample[at : at + size]
        at += size
    return None


def _colour(bits: _Bits) -> tuple[int, int]:
    """Read a sequence header up to its colour description (5.5.1, 5.5.2)."""
    profile = bits.take(3)
    bits.skip(1)
    reduced = bits.take(1)
    if reduced:
        bits.skip(5)
    else:
        _skip_timing(bits)
    across, down = bits.take(4) + 1, bits.take(4) + 1
    bits.skip(across + down)
    if not reduced and bits.take(1):  # frame ids
        bits.skip(7)
    bits.skip(3)
    if not reduced:
        _skip_tools(bits)
    bits.skip(3)
    deep = bits.take(1)
    if profile == 2 and deep:
        bits.skip(1)
    if profile != 1:
        bits.skip(1)  # monochrome
    return (bits.take(8), bits.take(8)) if bits.take(1) else _UNSPECIFIED


def _skip_timing(bits: _Bits) -> None:
    model, delay = 0, 0
    if bits.take(1):
        bits.skip(64)
        if bits.take(1):
            bits.skip_uvlc()
        model = bits.take(1)
        if model:
            delay = bits.take(5) + 1
            bits.skip(42)
    display_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.skip(12)
        if bits.take(5) > 7:
            bits.skip(1)
        if model and bits.take(1):
            bits.skip(2 * delay + 1)
        if display_delay and bits.take(1):
            bits.skip(4)


def _skip_tools(bits: _Bits) -> None:
    bits.skip(4)
    order_hint = bits.take(1)
    if order_hint:
        bits.skip(2)
    forced = 2 if bits.take(1) else bits.take(1)  # screen content tools
    if forced and not bits.take(1):
        bits.skip(1)
    if order_hint:
        bits.skip(3)
