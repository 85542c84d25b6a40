"""What one page of a TIFF is made of: sizes, samples, and what they mean.

`read_layout` accepts the layouts that every viewer shows alike, and refuses all others. Section
numbers refer to TIFF 6.0.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nsfwscan.media.decode.formats.picture import MAX_PIXELS, check_pixels
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from nsfwscan.media.decode.formats.tiff_tags import Directory, TiffFile

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE = 0, 1, 2, 3
CMYK, YCBCR, CIELAB = 5, 6, 8
"""PhotometricInterpretation."""

NONE, LZW, OLD_JPEG, JPEG, DEFLATE, PACKBITS, OLD_DEFLATE = 1, 5, 6, 7, 8, 32773, 32946
LZMA, ZSTD = 34925, 50000
FAX = (2, 3, 4, 32771)
"""Compression, for bilevel pictures: sections 10 and 11."""

LOSSLESS = (LZW, DEFLATE, PACKBITS, OLD_DEFLATE, LZMA, ZSTD)
"""Compressions that treat data as bytes, not pixels."""
_PREDICTED = (LZW, DEFLATE, OLD_DEFLATE, LZMA, ZSTD)
"""Where libtiff applies Predictor; with any other compression the tag has no meaning."""

UNSIGNED, FLOAT = 1, 3
"""SampleFormat."""
UNSPECIFIED, ASSOCIATED, UNASSOCIATED = 0, 1, 2
"""ExtraSamples."""

_COLOURS = {
    WHITE_IS_ZERO: 1,
    BLACK_IS_ZERO: 1,
    RGB: 3,
    PALETTE: 1,
    CMYK: 4,
    YCBCR: 3,
    CIELAB: 3,
}
"""How many samples of a pixel are its colour."""

_LUMAS: tuple[tuple[float, ...], ...] = ((0.299, 0.587, 0.114), (0.2126, 0.7152, 0.0722))
"""From ITU-R BT.601 and BT.709."""
_REFERENCES: tuple[tuple[float, ...], ...] = (
    (0.0, 255.0, 128.0, 255.0, 128.0, 255.0),
    (16.0, 235.0, 128.0, 240.0, 128.0, 240.0),
)
"""Black and white of Y, Cb and Cr: in full range, and in video range."""

_PHOTOMETRICS = {
    4: "a transparency mask for a picture",
    9: "ICC L*a*b*, which viewers show as CIE L*a*b*,",
    10: "ITU L*a*b*",
    32844: "LogL",
    32845: "LogLuv",
}
_COMPRESSIONS = {
    32766: "NeXT compression",
    32809: "ThunderScan compression",
    34676: "LogLuv compression",
    34677: "LogLuv compression",
    34712: "JPEG 2000 compression",
    34887: "LERC compression",
    34892: "lossy JPEG compression of raw data",
    34933: "PNG compression",
    50001: "WebP compression",
    50002: "JPEG XL compression",
    52546: "JPEG XL compression",
}
"""Names for messages about what is not supported."""

_MAY_HAVE_MORE = (BLACK_IS_ZERO, RGB, PALETTE)
"""Photometrics that allow an extra sample. With others, viewers disagree about it."""

_MAX_SAMPLES = 16


@dataclass(frozen=True, slots=True)
class TiffLayout:
    """One page, checked."""

    order: str
    """`<` or `>`."""
    width: int
    height: int
    photometric: int
    bits: int
    """Per sample; the same for all samples."""
    sample_format: int
    samples: int
    """Per pixel."""
    colours: int
    """How many of these are colour; they come first."""
    alpha: int | None
    """ExtraSamples: the meaning of the one sample after the colours; None if there is none."""
    planar: bool
    """Whether each segment has only one sample of its pixels, instead of all of them."""
    compression: int
    predictor: int
    fill_order: int
    tiled: bool
    segment_width: int
    """In pixels."""
    segment_height: int
    subsampling: tuple[int, int]
    """Pixels across and down that share a value of Cb and of Cr (section 21)."""
    luma: tuple[float, ...]
    """YCbCrCoefficients."""
    reference: tuple[float, ...]
    """ReferenceBlackWhite of Y, Cb and Cr."""
    colour_map: tuple[int, ...]
    """16 bits per value: all reds, all greens, all blues."""
    orientation: int
    profile: bytes
    jpeg_tables: bytes
    fax_options: int
    segments: list[tuple[int, int]] = field(default_factory=list)
    """Offset and length in bytes, row by row, and plane by plane; see `tiff_segments`."""

    @property
    def across(self) -> int:
        """Segments per row of segments."""
        return -(-self.width // self.segment_width)

    @property
    def down(self) -> int:
        """Rows of segments in one plane."""
        return -(-self.height // self.segment_height)

    @property
    def segment_bytes(self) -> int:
        """Bytes of a whole segment, uncompressed."""
        return row_bytes(self) * -(-self.segment_height // self.subsampling[1])

    @property
    def segment_samples(self) -> int:
        """Samples per pixel in one segment."""
        return 1 if self.planar else self.samples


def read_layout(file: TiffFile, directory: Directory) -> TiffLayout:
    """Check everything that affects what a page shows.

    Raises `DecodeError`: unsupported for a layout that viewers disagree about or that we do not
    support, corrupt for contradictory tags, truncated for an incomplete page.
    """
    width, height = directory.integer(256, 0), directory.integer(257, 0)
    if width <= 0 or height <= 0:
        raise DecodeError(FailReason.CORRUPT, f"a page of {width} x {height} pixels")
    check_pixels(width, height, MAX_PIXELS)
    compression = directory.integer(259, NONE)
    if compression not in (NONE, OLD_JPEG, JPEG, *LOSSLESS, *FAX):
        raise _unsupported(_COMPRESSIONS.get(compression, f"compression {compression}"))
    photometric = directory.integer(262, -1)
    if photometric == -1:
        raise _unsupported("no photometric interpretation")
    if photometric not in _COLOURS:
        raise _unsupported(_PHOTOMETRICS.get(photometric, f"photometric {photometric}"))
    for tag in (346, 433, 32995, 32996, 32997):  # Indexed, Decode, Matteing, DataType, ImageDepth
        if tag in directory and not (tag == 32997 and directory.integer(tag, 1) == 1):
            raise _unsupported(f"tag {tag}")
    samples, bits, sample_format = _samples(directory)
    colours = _COLOURS[photometric]
    alpha = _alpha(directory, samples - colours)
    planes = directory.integer(284, 1)
    if planes not in (1, 2):
        raise DecodeError(FailReason.CORRUPT, f"planar configuration {planes}")
    if planes == 2 and (bits < 8 or compression == PACKBITS):
        # libvips reads less than a byte as a byte; runs that cross rows are read in two ways.
        raise _unsupported("such samples or compression in planes")
    tiled = 322 in directory
    if tiled:
        segment_width, segment_height = directory.integer(322, 0), directory.integer(323, 0)
        if segment_width <= 0 or segment_height <= 0:
            raise DecodeError(FailReason.CORRUPT, "tiles without a size")
        check_pixels(segment_width, segment_height, MAX_PIXELS)
    else:
        segment_width = width
        segment_height = min(height, directory.integer(278, height) or height)
    subsampling, luma, reference = _ycbcr(directory if photometric == YCBCR else None)
    layout = TiffLayout(
        order=file.order,
        width=width,
        height=height,
        photometric=photometric,
        bits=bits,
        sample_format=sample_format,
        samples=samples,
        colours=colours,
        alpha=alpha,
        planar=samples > 1 and planes == 2,
        compression=compression,
        predictor=directory.integer(317, 1) if compression in _PREDICTED else 1,
        fill_order=directory.integer(266, 1),
        tiled=tiled,
        segment_width=segment_width,
        segment_height=segment_height,
        subsampling=subsampling,
        luma=luma,
        reference=reference,
        colour_map=_colour_map(directory, bits) if photometric == PALETTE else (),
        orientation=_orientation(directory),
        profile=_profile(directory),
        jpeg_tables=directory.data(347, 65_536) if compression == JPEG else b"",
        fax_options=_fax_options(directory, compression),
    )
    _check(layout, directory)
    return layout


def _unsupported(what: str) -> DecodeError:
    return DecodeError(FailReason.UNSUPPORTED, f"a TIFF with {what} is not supported")


def _samples(directory: Directory) -> tuple[int, int, int]:
    """Return the samples per pixel, the bits per sample, and the sample format."""
    all_bits = directory.integers(258, _MAX_SAMPLES) or (1,)
    samples = directory.integer(277, 1)
    if not 1 <= samples <= _MAX_SAMPLES:
        raise _unsupported(f"{samples} samples a pixel")
    formats = directory.integers(339, samples) or (UNSIGNED,)
    if len(set(all_bits[:samples])) > 1 or len(set(formats)) > 1:
        raise _unsupported("samples of different kinds")
    bits, sample_format = all_bits[0], formats[0]
    if sample_format not in (UNSIGNED, FLOAT):
        kind = "signed integers" if sample_format == 2 else f"sample format {sample_format}"
        raise _unsupported(f"{kind}, which viewers show differently,")
    if not 1 <= bits <= 16 and not (bits == 32 and sample_format == FLOAT):
        raise _unsupported(f"{bits}-bit samples, which viewers show differently,")
    if sample_format == FLOAT and bits != 32:
        raise _unsupported(f"{bits}-bit floats")
    return samples, bits, sample_format


def _alpha(directory: Directory, extra: int) -> int | None:
    """Return what the sample after the colours means. Of several, viewers use different ones."""
    if extra < 0:
        raise _unsupported("fewer samples than its colours need")
    if extra > 1:
        raise _unsupported(f"{extra} extra samples")
    kinds = directory.integers(338, _MAX_SAMPLES)
    if len(kinds) > extra:
        raise _unsupported("more extra samples than samples")
    if not extra:
        return None
    kind = kinds[0] if kinds else UNSPECIFIED
    if kind == 999:  # written by Corel Draw 10; libtiff accepts it
        kind = UNASSOCIATED
    if kind not in (UNSPECIFIED, ASSOCIATED, UNASSOCIATED):
        raise _unsupported(f"extra samples of kind {kind}")
    return kind


def _ycbcr(
    directory: Directory | None,
) -> tuple[tuple[int, int], tuple[float, ...], tuple[float, ...]]:
    """Return how YCbCr is subsampled, its coefficients, and its black and white.

    `directory` is None for a page with other colours, in which these tags have no meaning.
    """
    luma, reference = _LUMAS[0], _REFERENCES[0]
    if directory is None:
        return (1, 1), luma, reference
    found = directory.integers(530, 2) or (2, 2)
    across, down = found[0], found[-1]
    if across not in (1, 2, 4) or down not in (1, 2, 4):
        raise DecodeError(FailReason.CORRUPT, f"YCbCr subsampled {across} x {down}")
    luma = directory.numbers(529, 3) or luma
    return (across, down), luma, directory.numbers(532, 6) or reference


def _fax_options(directory: Directory, compression: int) -> int:
    """Return T4Options or T6Options."""
    if compression not in FAX:
        return 0
    return directory.integer(293 if compression == 4 else 292, 0)


def _orientation(directory: Directory) -> int:
    found = directory.lenient(274)
    return found if 1 <= found <= 8 else 1


def _profile(directory: Directory) -> bytes:
    try:
        return directory.data(34675, sys.maxsize)  # if too large, it is refused later
    except DecodeError:  # the pixels can be shown without it
        return b""


def _check(layout: TiffLayout, directory: Directory) -> None:
    """Refuse unsupported combinations. `tests/test_tiff.py` lists the supported ones."""
    if layout.predictor not in (1, 2, 3) or layout.fill_order not in (1, 2):
        raise DecodeError(FailReason.CORRUPT, "an invalid predictor or fill order")
    if layout.predictor == 2 and layout.bits not in (8, 16, 32):
        raise _unsupported(f"a predictor for {layout.bits} bits")
    if layout.predictor == 3 and layout.sample_format != FLOAT:
        raise _unsupported("a predictor of floats for integers")
    if layout.compression == NONE or layout.compression in LOSSLESS:
        if layout.photometric == YCBCR:
            _check_ycbcr(layout)
    elif not _may_be_compressed(layout):
        raise _unsupported(f"compression {layout.compression} of such samples")
    _check_colours(layout, directory)


def _may_be_compressed(layout: TiffLayout) -> bool:
    """Return True if such samples can have this compression, which works on pixels."""
    samples, colours, photometric = layout.samples, layout.colours, layout.photometric
    if layout.compression in FAX:
        return layout.bits == samples == 1 and photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)
    if layout.bits != 8 or layout.sample_format != UNSIGNED:
        return False
    if layout.compression == OLD_JPEG:
        return photometric == YCBCR and samples == 3
    if samples != colours or photometric not in (BLACK_IS_ZERO, RGB, CMYK, YCBCR):
        return False
    return not (photometric == YCBCR and layout.planar)


def _check_colours(layout: TiffLayout, directory: Directory) -> None:
    photometric, bits = layout.photometric, layout.bits
    if layout.sample_format == FLOAT and photometric not in (BLACK_IS_ZERO, RGB):
        raise _unsupported("floats that are neither RGB nor black at zero")
    if layout.sample_format == FLOAT and layout.alpha is not None:
        raise _unsupported("floats and transparency, which viewers blend differently,")
    if photometric == PALETTE and (bits not in (1, 2, 4, 8) or len(layout.colour_map) != 3 << bits):
        raise _unsupported(f"a colour map of {len(layout.colour_map)} values for {bits} bits")
    if photometric == CMYK and directory.integer(332, 1) != 1:  # InkSet
        raise _unsupported("inks other than CMYK")
    if photometric in (CMYK, CIELAB) and bits not in (8, 16):
        raise _unsupported(f"such colours in {bits} bits")
    if photometric not in _MAY_HAVE_MORE and layout.alpha is not None:
        raise _unsupported("extra samples after such colours")
    if layout.alpha is not None and bits not in (8, 16):
        raise _unsupported(f"transparency of {bits} bits")
    if layout.planar and layout.colours == 1 and layout.alpha is not None:
        # ImageMagick takes the plane of transparency for a colour.
        raise _unsupported("grey and transparency in planes")


def _check_ycbcr(layout: TiffLayout) -> None:
    across, down = layout.subsampling
    if layout.bits != 8 or layout.samples != 3:
        raise _unsupported("YCbCr of other than 3 x 8 bits")
    if layout.planar:
        raise _unsupported("YCbCr in planes")
    if not any(_close(layout.luma, known, 0.01) for known in _LUMAS):
        raise _unsupported("unusual coefficients of YCbCr, which only some viewers apply,")
    if not any(_close(layout.reference, known, 1) for known in _REFERENCES):
        raise _unsupported("an unusual black or white of YCbCr, which only some viewers apply,")
    if (across, down) == (1, 1):
        return
    if layout.predictor != 1:
        raise _unsupported("subsampled YCbCr with a predictor")
    if layout.segment_height % down and layout.segment_height < layout.height:
        raise DecodeError(FailReason.CORRUPT, "strips that divide a block of YCbCr")
    if layout.tiled and layout.segment_width % across:
        raise DecodeError(FailReason.CORRUPT, "tiles that divide a block of YCbCr")


def _close(one: tuple[float, ...], other: tuple[float, ...], most: float) -> bool:
    return all(abs(here - there) <= most for here, there in zip(one, other, strict=True))


def row_bytes(layout: TiffLayout) -> int:
    """Return the bytes of one row of a segment, or of one row of blocks of subsampled YCbCr."""
    across, down = layout.subsampling
    if (across, down) != (1, 1):
        return -(-layout.segment_width // across) * (across * down + 2)
    return (layout.segment_width * layout.segment_samples * layout.bits + 7) // 8


def segment_rows(layout: TiffLayout, number: int) -> int:
    """Return the rows of pixels in the segment of this number: the last strip may be shorter."""
    if layout.tiled:
        return layout.segment_height
    return min(layout.segment_height, layout.height - number % layout.down * layout.segment_height)


def _colour_map(directory: Directory, bits: int) -> tuple[int, ...]:
    """Return the colour map in 16 bits. As in libtiff, if no value exceeds 255, it has 8 bits."""
    found = directory.integers(320, 3 << bits)
    return tuple(value * 257 for value in found) if found and max(found) < 256 else found
