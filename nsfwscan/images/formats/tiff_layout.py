"""What one page of a TIFF is made of: sizes, samples, and where its strips or tiles are.

`read_layout` knows the layouts that every viewer shows alike, and refuses all others. Section
numbers are those of TIFF 6.0.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nsfwscan.errors import DecodeError
from nsfwscan.images.formats.picture import MAX_PIXELS, MEGA, check_pixels
from nsfwscan.results import FailReason

if TYPE_CHECKING:
    from nsfwscan.images.formats.tiff_tags import Directory, TiffFile

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE = 0, 1, 2, 3
CMYK, YCBCR, CIELAB = 5, 6, 8
"""PhotometricInterpretation."""

NONE, LZW, OLD_JPEG, JPEG, DEFLATE, PACKBITS, OLD_DEFLATE = 1, 5, 6, 7, 8, 32773, 32946
LZMA, ZSTD = 34925, 50000
FAX = (2, 3, 4, 32771)
"""Compression: of two colours, section 10 and 11."""

LOSSLESS = (LZW, DEFLATE, PACKBITS, OLD_DEFLATE, LZMA, ZSTD)
"""Compressions of bytes that know nothing of pixels."""
_PREDICTED = (LZW, DEFLATE, OLD_DEFLATE, LZMA, ZSTD)
"""Where libtiff obeys Predictor; with any other compression the tag means nothing."""

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

_MAY_HAVE_MORE = (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE)

_RAW_PHOTOMETRICS = (32803, 34892)
"""A colour filter array; linear raw. TIFF/EP and DNG."""
_RAW_COMPRESSIONS = (32767, 32769, 32770, 34713, 65000, 65535)
"""Sony, Epson, Samsung, Nikon, Kodak, Pentax."""
_RAW_TAGS = (33422, 50706, 50740)
"""CFAPattern, DNGVersion, DNGPrivateData."""

_MAX_SAMPLES = 16
_MAX_SEGMENTS = 1 << 20
_CUT_BYTES = 65_536
_MAX_PROFILE_BYTES = 4 * MEGA


@dataclass(frozen=True, slots=True)
class Layout:
    """One page, checked: each segment lies within the file and all of them are there."""

    order: str
    """`<` or `>`."""
    width: int
    height: int
    photometric: int
    bits: int
    """Of one sample; all samples have as many."""
    sample_format: int
    samples: int
    """Of one pixel."""
    colours: int
    """The first of them, which are its colour."""
    alpha: int | None
    """ExtraSamples of the first one after the colour; None where there is no such sample."""
    planar: bool
    """Whether each segment holds one sample of its pixels and not all of them."""
    compression: int
    predictor: int
    fill_order: int
    tiled: bool
    segment_width: int
    """Pixels."""
    segment_height: int
    segments: list[tuple[int, int]]
    """Offset and length in bytes, row by row, and plane by plane."""
    subsampling: tuple[int, int]
    """Pixels across and down that share a value of Cb and of Cr (section 21)."""
    luma: tuple[float, ...]
    """YCbCrCoefficients."""
    reference: tuple[float, ...]
    """ReferenceBlackWhite of Y, Cb and Cr."""
    colour_map: tuple[int, ...]
    """16 bits a value: all reds, all greens, all blues."""
    orientation: int
    profile: bytes
    jpeg_tables: bytes
    fax_options: int

    @property
    def across(self) -> int:
        """Segments in a row of them."""
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
        """Samples of a pixel in one segment."""
        return 1 if self.planar else self.samples


def refuse_raw(file: TiffFile) -> None:
    """Raise `DecodeError` for a camera's raw file, in which the first page is a small preview."""
    first = file.directory(file.directories[0])
    found, elsewhere = [first], file.directories[1:8]
    with contextlib.suppress(DecodeError):
        elsewhere.extend(first.integers(330, 8))  # SubIFDs
    for at in elsewhere:
        with contextlib.suppress(DecodeError):
            found.append(file.directory(at))
    for one in found:
        if (
            any(tag in one for tag in _RAW_TAGS)
            or _quiet(one, 262) in _RAW_PHOTOMETRICS
            or _quiet(one, 259) in _RAW_COMPRESSIONS
        ):
            raise _unsupported("a camera raw file")


def _quiet(directory: Directory, tag: int) -> int:
    try:
        return directory.integer(tag, 0)
    except DecodeError:
        return 0


def read_layout(file: TiffFile, directory: Directory) -> Layout:
    """Check everything that decides what a page shows.

    Raises `DecodeError`: unsupported for a layout that is not read or that viewers do not agree on,
    corrupt for tags that contradict one another, truncated for a page that is not all there.
    """
    width, height = directory.integer(256, 0), directory.integer(257, 0)
    if width <= 0 or height <= 0:
        raise DecodeError(FailReason.CORRUPT, f"a page of {width} x {height} pixels")
    check_pixels(width, height, MAX_PIXELS)
    compression = directory.integer(259, NONE)
    if compression not in (NONE, OLD_JPEG, JPEG, *LOSSLESS, *FAX):
        raise _unsupported(f"compression {compression}")
    photometric = directory.integer(262, -1)
    if photometric == -1:
        raise _unsupported("no photometric interpretation")
    if photometric not in _COLOURS:
        raise _unsupported(f"photometric interpretation {photometric}")
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
    layout = Layout(
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
        segments=[],
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
    if compression != OLD_JPEG:
        layout.segments.extend(_segments(file, directory, layout))
    return _cut(layout)


def _unsupported(what: str) -> DecodeError:
    return DecodeError(FailReason.UNSUPPORTED, f"a TIFF with {what} is not read")


def _samples(directory: Directory) -> tuple[int, int, int]:
    """Return how many samples a pixel has, the bits of one, and their format."""
    all_bits = directory.integers(258, _MAX_SAMPLES) or (1,)
    samples = directory.integer(277, 1)
    if not 1 <= samples <= _MAX_SAMPLES:
        raise _unsupported(f"{samples} samples a pixel")
    formats = directory.integers(339, samples) or (UNSIGNED,)
    if len(set(all_bits[:samples])) > 1 or len(set(formats)) > 1:
        raise _unsupported("samples of different kinds")
    bits, sample_format = all_bits[0], formats[0]
    if sample_format not in (UNSIGNED, FLOAT):
        raise _unsupported(f"sample format {sample_format}")
    if not 1 <= bits <= 16 and not (bits == 32 and sample_format == FLOAT):
        raise _unsupported(f"{bits}-bit samples, which viewers show differently,")
    if sample_format == FLOAT and bits != 32:
        raise _unsupported(f"{bits}-bit floats")
    return samples, bits, sample_format


def _alpha(directory: Directory, extra: int) -> int | None:
    """Return what the sample after the colours means. Of several, viewers take different ones."""
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
    if kind == 999:  # what Corel Draw 10 wrote; libtiff knows it
        kind = UNASSOCIATED
    if kind not in (UNSPECIFIED, ASSOCIATED, UNASSOCIATED):
        raise _unsupported(f"extra samples of kind {kind}")
    return kind


def _ycbcr(
    directory: Directory | None,
) -> tuple[tuple[int, int], tuple[float, ...], tuple[float, ...]]:
    """Return how YCbCr is subsampled, its coefficients, and its black and white.

    None stands for a page of other colours, in which these tags mean nothing.
    """
    luma, reference = (0.299, 0.587, 0.114), (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)
    if directory is None:
        return (1, 1), luma, reference
    found = directory.integers(530, 2) or (2, 2)
    return (
        (found[0], found[-1]),
        directory.numbers(529, 3) or luma,
        directory.numbers(532, 6) or reference,
    )


def _fax_options(directory: Directory, compression: int) -> int:
    """Return T4Options or T6Options."""
    if compression not in FAX:
        return 0
    return directory.integer(293 if compression == 4 else 292, 0)


def _orientation(directory: Directory) -> int:
    found = _quiet(directory, 274)
    return found if 1 <= found <= 8 else 1


def _profile(directory: Directory) -> bytes:
    try:
        return directory.data(34675, _MAX_PROFILE_BYTES)
    except DecodeError:  # the pixels are there without it
        return b""


def _check(layout: Layout, directory: Directory) -> None:
    """Refuse combinations that are not read. `tests/test_tiff.py` holds those that are."""
    if layout.predictor not in (1, 2, 3) or layout.fill_order not in (1, 2):
        raise DecodeError(FailReason.CORRUPT, "a predictor or fill order that does not exist")
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


def _may_be_compressed(layout: Layout) -> bool:
    """Return True if these samples can have this compression, one that knows of pixels."""
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


def _check_colours(layout: Layout, directory: Directory) -> None:
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
        # For libvips and ImageMagick they are transparency, whatever they say of themselves.
        raise _unsupported("extra samples after such colours")
    if layout.alpha is not None and bits not in (8, 16):
        raise _unsupported(f"transparency of {bits} bits")
    if layout.planar and layout.colours == 1 and layout.alpha is not None:
        # ImageMagick takes the plane of transparency for a colour.
        raise _unsupported("grey and transparency in planes")


def _check_ycbcr(layout: Layout) -> None:
    across, down = layout.subsampling
    if across not in (1, 2, 4) or down not in (1, 2, 4):
        raise DecodeError(FailReason.CORRUPT, f"YCbCr subsampled {across} x {down}")
    if layout.bits != 8 or layout.samples != 3:
        raise _unsupported("YCbCr of other than 3 x 8 bits")
    if layout.planar:
        raise _unsupported("YCbCr in planes")
    if (across, down) == (1, 1):
        return
    if layout.predictor != 1:
        raise _unsupported("subsampled YCbCr with a predictor")
    if layout.segment_height % down and layout.segment_height < layout.height:
        raise DecodeError(FailReason.CORRUPT, "strips that divide a block of YCbCr")
    if layout.tiled and layout.segment_width % across:
        raise DecodeError(FailReason.CORRUPT, "tiles that divide a block of YCbCr")


def row_bytes(layout: Layout) -> int:
    """Return the bytes of one row of a segment, or of one row of blocks of subsampled YCbCr."""
    across, down = layout.subsampling
    if (across, down) != (1, 1):
        return -(-layout.segment_width // across) * (across * down + 2)
    return (layout.segment_width * layout.segment_samples * layout.bits + 7) // 8


def segment_rows(layout: Layout, number: int) -> int:
    """Return the rows of pixels in the segment of this number: the last strip may be shorter."""
    if layout.tiled:
        return layout.segment_height
    return min(layout.segment_height, layout.height - number % layout.down * layout.segment_height)


def _colour_map(directory: Directory, bits: int) -> tuple[int, ...]:
    """Return the colour map in 16 bits. As in libtiff, one without a larger value has 8 bits."""
    found = directory.integers(320, 3 << bits)
    return tuple(value * 257 for value in found) if found and max(found) < 256 else found


def _segments(file: TiffFile, directory: Directory, layout: Layout) -> list[tuple[int, int]]:
    """Return where each strip or tile is. All of them must be whole."""
    count = layout.across * layout.down * (layout.samples if layout.planar else 1)
    if count > _MAX_SEGMENTS:
        raise _unsupported(f"{count} strips or tiles")
    at_tag, length_tag = (324, 325) if layout.tiled else (273, 279)
    told = directory.count(at_tag)
    # In planes, readers disagree on which of too many belong to the second one.
    if told < count or (layout.planar and told > count):
        raise DecodeError(FailReason.CORRUPT, f"{told} strips or tiles and not {count}")
    if directory.count(length_tag) not in (0, told):
        raise DecodeError(FailReason.CORRUPT, "strips or tiles without their lengths")
    offsets, lengths = directory.integers(at_tag, count), directory.integers(length_tag, count)
    size = len(file.content)
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


def _needed(layout: Layout, told: tuple[int, ...]) -> tuple[int, ...]:
    """Return the lengths that uncompressed segments must have, whatever longer ones are told.

    A single one may be told to be shorter; libtiff does not believe that either.
    """
    row, block = row_bytes(layout), layout.subsampling[1]
    count = layout.across * layout.down * (layout.samples if layout.planar else 1)
    needed = tuple(-(-segment_rows(layout, at) // block) * row for at in range(count))
    if count > 1 and any(0 < one < need for one, need in zip(told, needed, strict=False)):
        raise DecodeError(FailReason.CORRUPT, "strips or tiles that are too short")
    return needed


def _cut(layout: Layout) -> Layout:
    """Cut a strip that is a whole plane into shorter ones, where nothing has to be unpacked."""
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
