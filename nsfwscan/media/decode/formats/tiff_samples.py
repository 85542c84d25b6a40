"""From uncompressed rows of a TIFF to 8-bit planes of colour, with numpy.

numpy is loaded by the first page that needs it. Section numbers refer to TIFF 6.0.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nsfwscan.media.decode.formats import tiff_layout as tiff
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

# One thread: the buffers of others would use up the address space of a decode worker.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from nsfwscan.media.decode.formats.tiff_layout import TiffLayout

    Array: TypeAlias = np.ndarray[Any, Any]


def levels(data: bytes, layout: TiffLayout, first: int, wanted: int, white: float) -> list[Array]:
    """Return planes of 0 to 255, (rows, columns) of uint8, from the bytes of a segment's rows.

    The planes are those of sample `first` and of the samples after it in the segment, at most
    `wanted`, in the form in which Pillow keeps their colours; a colour map gives three.
    """
    samples = _samples(data, layout)
    count = min(samples.shape[2], wanted)
    planes = [_scaled(samples[..., at], layout, first + at, white) for at in range(count)]
    if layout.photometric == tiff.YCBCR:
        return _rgb_of_ycbcr(planes, layout)
    if layout.photometric == tiff.PALETTE:
        return [*_mapped(planes[0], layout), *planes[1:]]
    return planes


def _samples(data: bytes, layout: TiffLayout) -> Array:
    """Turn rows of bytes into (rows, columns, samples of the segment), predictor undone."""
    row, columns, samples = tiff.row_bytes(layout), layout.segment_width, layout.segment_samples
    rows = np.frombuffer(data, np.uint8).reshape(-1, row)
    if layout.subsampling != (1, 1):
        return _blocks(rows, layout)
    bits, size = layout.bits, layout.bits // 8
    if layout.predictor == 3:
        # Differences of bytes: the first bytes of all samples of a row, then the second bytes, ...
        sums = np.cumsum(rows.reshape(len(rows), -1, samples), axis=1, dtype=np.uint8)
        split = sums.reshape(len(rows), size, -1).transpose(0, 2, 1)
        return np.ascontiguousarray(split).view(">f4").reshape(len(rows), columns, samples)
    if bits not in (8, 16, 32):
        unpacked = np.unpackbits(rows, axis=1)[:, : columns * samples * bits]
        digits = unpacked.reshape(len(rows), columns, samples, bits)
        return digits @ (1 << np.arange(bits - 1, -1, -1, dtype=np.uint16))
    native: Array = rows.view(f"{layout.order}u{size}").astype(f"u{size}")
    values = native.reshape(len(rows), columns, samples)
    if layout.predictor == 2:
        values = np.cumsum(values, axis=1, dtype=values.dtype)
    return values.view(np.float32) if layout.sample_format == tiff.FLOAT else values


def _blocks(rows: Array, layout: TiffLayout) -> Array:
    """Expand subsampled YCbCr: each block has one value of Cb and of Cr (section 21)."""
    across, down = layout.subsampling
    blocks = rows.reshape(len(rows), -1, across * down + 2)
    high, wide = len(rows) * down, blocks.shape[1] * across
    luma = blocks[..., :-2].reshape(len(rows), -1, down, across).transpose(0, 2, 1, 3)
    chroma = blocks[..., -2:].repeat(down, axis=0).repeat(across, axis=1)
    pixels = np.concatenate((luma.reshape(high, wide, 1), chroma), axis=2)
    return pixels[:, : layout.segment_width]


def _scaled(values: Array, layout: TiffLayout, sample: int, white: float) -> Array:
    """Scale one sample of some pixels to 0 to 255, uint8."""
    photometric, bits = layout.photometric, layout.bits
    is_colour = sample < layout.colours
    if layout.sample_format == tiff.FLOAT:
        if not np.isfinite(values).all():
            raise DecodeError(FailReason.CORRUPT, "a sample is not a finite number")
        values = values.astype(np.float32)
        values = _gamma(values) if photometric == tiff.RGB else values / white
        return (values.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    if photometric == tiff.PALETTE and is_colour:
        return values.astype(np.uint8)
    if bits == 16:
        values = values >> 8
    elif bits != 8:
        values = (values * 255.0 / ((1 << bits) - 1) + 0.5).astype(np.uint8)
    values = values.astype(np.uint8)
    if photometric == tiff.WHITE_IS_ZERO and is_colour:
        return 255 - values
    if photometric == tiff.CIELAB and sample in (1, 2):
        return values ^ 0x80  # signed in the file
    return values


def _gamma(linear: Array) -> Array:
    """Encode linear light for sRGB (IEC 61966-2-1). RGB floats are linear, as in scRGB."""
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def _mapped(indices: Array, layout: TiffLayout) -> list[Array]:
    """Look colours up in the colour map."""
    table = np.array(layout.colour_map, np.uint32).reshape(3, -1) >> 8
    return [channel.astype(np.uint8)[indices] for channel in table]


def _rgb_of_ycbcr(planes: list[Array], layout: TiffLayout) -> list[Array]:
    """Convert YCbCr to RGB (section 21)."""
    red, green, blue = layout.luma
    low_y, high_y, low_b, high_b, low_r, high_r = layout.reference
    luma, cb, cr = (plane.astype(np.float32) for plane in planes)
    luma = (luma - low_y) * 255 / ((high_y - low_y) or 1)
    cb = (cb - low_b) * 127 / ((high_b - low_b) or 1)
    cr = (cr - low_r) * 127 / ((high_r - low_r) or 1)
    r = luma + cr * (2 - 2 * red)
    b = luma + cb * (2 - 2 * blue)
    g = (luma - blue * b - red * r) / (green or 1)
    return [(plane.clip(0, 255) + 0.5).astype(np.uint8) for plane in (r, g, b)]
