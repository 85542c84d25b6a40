"""One picture in many wrappings, each with what viewers show of it, for the differential test.

A wrapping is drawn by Hypothesis: a format, the options of its encoder, and metadata or stray bytes
that must not matter, or must. What viewers show follows from how the file was made, and not from
how it is read.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pictures
import tifffile
from hypothesis import strategies as st
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import DrawFn

_SIZES = ((64, 48), (48, 64), (63, 47), (40, 40))
_WHITE = (255, 255, 255)

_TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Wrapped(NamedTuple):
    """A file and what viewers show of it."""

    kind: str
    """Format and what is odd about the file, for a message."""
    data: bytes
    shown: tuple[Image.Image, ...]
    """RGB pictures; where viewers differ or the picture moves, each of them has to be scored."""
    whole: bool = True
    """Whether all of the picture is there."""


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Return what a viewer shows of these pixels with this EXIF orientation."""
    return image.transpose(_TURNED[orientation]) if orientation in _TURNED else image


def over_white(image: Image.Image) -> Image.Image:
    """Return what shows over white."""
    white = Image.new("RGBA", image.size, _WHITE)
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


@st.composite
def _photo(draw: DrawFn) -> Image.Image:
    return pictures.photo(*draw(st.sampled_from(_SIZES)), seed=draw(st.integers(0, 6)))


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def _xmp(orientation: int) -> bytes:
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf'
        b'-syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
        b'tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>' % orientation
    )


_ORIENTATIONS = st.integers(0, 9)
_JUNK = st.binary(max_size=40)


# JPEG


@st.composite
def jpeg(draw: DrawFn) -> Wrapped:
    """Draw a JPEG: coding, segments that do not count, one orientation that does."""
    image = draw(_photo())
    mode = draw(st.sampled_from(["RGB", "RGB", "L", "CMYK"]))
    options = {
        "quality": 96,
        "subsampling": draw(st.sampled_from([0, 1, 2])),
        "progressive": draw(st.booleans()),
        "optimize": draw(st.booleans()),
        "restart_marker_blocks": draw(st.sampled_from([0, 0, 1, 5])),
    }
    data = pictures.encode(image.convert(mode), "JPEG", **options)
    said = [mode, "progressive" if options["progressive"] else "baseline"]
    orientation, segments = 1, b""
    for _ in range(draw(st.integers(0, 3))):
        match draw(st.sampled_from(["comment", "app", "xmp", "exif", "fill"])):
            case "comment":
                segments += _segment(0xFE, draw(_JUNK))
            case "app":
                segments += _segment(draw(st.sampled_from([0xE3, 0xE4, 0xED])), draw(_JUNK))
            case "xmp":
                turn = draw(st.integers(2, 8))
                segments += _segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + _xmp(turn))
                said.append("xmp")
            case "exif" if "exif" not in said:
                orientation = draw(_ORIENTATIONS)
                segments += _segment(0xE1, _exif(orientation))
                said.append("exif")
            case "fill":
                segments += b"\xff" * draw(st.integers(1, 4)) + _segment(0xFE, b"fill")[1:]
    data = data[:2] + segments + data[2:]
    tail = draw(st.sampled_from(["", "", "junk", "scans", "jpeg", "exif"]))
    data += {
        "": b"",
        "junk": draw(_JUNK),
        "scans": b"\xff\xda\0\x0c" * 300,
        "jpeg": pictures.encode(image.rotate(180), "JPEG"),
        "exif": _segment(0xE1, _exif(3)),
    }[tail]
    whole = bool(tail) or draw(st.integers(0, 5)) > 0
    if not whole:
        data = data[:-2]
    shown = turned(image.convert(mode).convert("RGB"), orientation)
    return Wrapped(f"JPEG {' '.join(said)} +{tail}", data, (shown,), whole)


def _segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes((marker,)) + struct.pack(">H", len(body) + 2) + body


# PNG

_HEAD_BYTES = 33
"""Signature and IHDR."""


@st.composite
def png(draw: DrawFn) -> Wrapped:
    """Draw a PNG: layout, chunks that do not count where they are, one orientation that does."""
    image = draw(_photo())
    mode = draw(st.sampled_from(["1", "L", "P", "RGB", "RGBA", "LA", "I;16"]))
    stored = _stored(image, mode)
    data = pictures.encode(stored, "PNG", compress_level=draw(st.sampled_from([1, 6, 9])))
    said = [mode]
    orientation = 1
    first_idat = data.index(b"IDAT") - 4
    end = data.rindex(b"IEND") - 4
    before, middle, after = b"", b"", b""
    for _ in range(draw(st.integers(0, 3))):
        choice = draw(st.sampled_from(sorted(_PNG_CHUNKS)))
        place, chunk = _PNG_CHUNKS[choice]
        said.append(choice)
        match place:
            case "anywhere":
                before += chunk * draw(st.integers(0, 2))
                after += chunk
            case "before":
                before += chunk
            case _:
                after += chunk
    if draw(st.booleans()):
        orientation = draw(_ORIENTATIONS)
        middle = pictures.png_chunk(b"eXIf", _exif(orientation).removeprefix(b"Exif\0\0"))
        said.append("eXIf")
    parts = (data[:_HEAD_BYTES], before, data[_HEAD_BYTES:first_idat], middle)
    tail = draw(_JUNK)
    data = b"".join((*parts, data[first_idat:end], after, data[end:], tail))
    shown = turned(_rendered(stored), orientation)
    return Wrapped(f"PNG {' '.join(said)}", data, (shown,))


def _stored(image: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        return pictures.gray_16_bit(image)
    if mode == "P":
        return image.quantize(200)
    stored = image.convert(mode.removesuffix("A")) if mode != "1" else image.convert("1")
    if mode.endswith("A"):
        stored.putalpha(Image.linear_gradient("L").resize(image.size))
    return stored


def _rendered(stored: Image.Image) -> Image.Image:
    if stored.mode.startswith("I;16"):
        wide = np.asarray(stored)
        return Image.fromarray((wide >> 8).astype(np.uint8)).convert("RGB")
    return over_white(stored) if stored.mode.endswith("A") else stored.convert("RGB")


def _bad_crc(kind: bytes, content: bytes) -> bytes:
    good = pictures.png_chunk(kind, content)
    return good[:-1] + bytes((good[-1] ^ 0x55,))


_GAMMA_2 = b"icc\0\0" + zlib.compress(pictures.icc_profile(pictures.P3, gamma=0.5))
_PNG_CHUNKS: dict[str, tuple[str, bytes]] = {
    "tEXt": ("anywhere", pictures.png_chunk(b"tEXt", b"Comment\0hello")),
    "large zTXt": ("anywhere", pictures.png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**21)))),
    "iTXt xmp": (
        "anywhere",
        pictures.png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + _xmp(3)),
    ),
    "raw profile": (
        "anywhere",
        pictures.png_chunk(
            b"tEXt",
            b"Raw profile type exif\0\nexif\n%8d\n" % len(_exif(3)) + _exif(3).hex().encode(),
        ),
    ),
    "private": ("anywhere", pictures.png_chunk(b"vpAg", bytes(9))),
    "bad pHYs": ("anywhere", _bad_crc(b"pHYs", bytes(9))),
    "short pHYs": ("anywhere", pictures.png_chunk(b"pHYs", bytes(3))),
    "bad iCCP": ("before", _bad_crc(b"iCCP", _GAMMA_2)),
    "empty sRGB": ("before", pictures.png_chunk(b"sRGB", b"")),
    "short gAMA": ("before", pictures.png_chunk(b"gAMA", b"\0\0")),
    "short cHRM": ("before", pictures.png_chunk(b"cHRM", bytes(7))),
    "sRGB gAMA": ("before", pictures.png_chunk(b"gAMA", struct.pack(">I", 45455))),
    "tRNS late": ("after", pictures.png_chunk(b"tRNS", bytes(2))),
    "iCCP late": ("after", pictures.png_chunk(b"iCCP", _GAMMA_2)),
    "gAMA late": ("after", pictures.png_chunk(b"gAMA", struct.pack(">I", 100_000))),
    "cICP late": ("after", pictures.png_chunk(b"cICP", bytes((9, 16, 0, 1)))),
    "acTL late": ("after", pictures.png_chunk(b"acTL", bytes((0, 0, 0, 9, 0, 0, 0, 0)))),
}
"""Name -> where it stands, and the chunk. None of these changes what is shown."""


# GIF


@st.composite
def gif(draw: DrawFn) -> Wrapped:
    """Draw a GIF: frames in and out of the screen, extensions, comments."""
    image = draw(_photo())
    frames = [image.rotate(180 * at).quantize(64) for at in range(draw(st.integers(1, 3)))]
    data = pictures.encode(
        frames[0], "GIF", save_all=True, append_images=frames[1:], disposal=draw(st.integers(0, 2))
    )
    said = [str(len(frames))]
    end = data.rindex(b";")
    stray = draw(st.sampled_from(["", "", "late", "early"]))
    outside = b",%b\x80" % struct.pack("<HHHH", 5000, 5000, 1, 1) + bytes(6) + b"\x02\x02\x44\x01\0"
    if stray == "late":
        data = data[:end] + outside + data[end:]
    first = _first_block(data)
    if draw(st.booleans()):
        data = data[:first] + b"!\xfe\x05hello\0" + data[first:]
    if stray == "early":
        data = data[:first] + outside + data[first:]
    said.append(stray)
    if draw(st.booleans()):
        data += draw(_JUNK)
    shown = tuple(frame.convert("RGB") for frame in frames)
    return Wrapped(f"GIF {' '.join(said)}", data, shown)


def _first_block(data: bytes) -> int:
    flags = data[10]
    return 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)


# WebP


@st.composite
def webp(draw: DrawFn) -> Wrapped:
    """Draw a WebP: coding, alpha, orientation, chunks that do not count."""
    image = draw(_photo())
    mode = draw(st.sampled_from(["RGB", "RGBA"]))
    stored = _stored(image, mode)
    options: dict[str, object] = {"lossless": True}
    if mode == "RGB" and draw(st.booleans()):
        options = {"quality": 97}
    orientation, said = 1, [mode]
    if draw(st.booleans()):
        orientation = draw(_ORIENTATIONS)
        options["exif"] = _exif(orientation)
        said.append("exif")
    if draw(st.booleans()):
        options["xmp"] = _xmp(draw(st.integers(2, 8)))
        said.append("xmp")
    data = pictures.encode(stored, "WEBP", **options)
    if draw(st.booleans()):
        data += draw(_JUNK)
        said.append("junk")
    shown = turned(_rendered(stored), orientation)
    return Wrapped(f"WEBP {' '.join(said)}", data, (shown,))


# BMP


@st.composite
def bmp(draw: DrawFn) -> Wrapped:
    """Draw a BMP: bits, direction, masks, an alpha channel that is empty."""
    image = draw(_photo())
    bits = draw(st.sampled_from([1, 4, 8, 16, 24, 32]))
    down = draw(st.booleans())
    header = draw(st.sampled_from([40, 108, 124]))
    if bits <= 8:
        data = pictures.encode(
            {1: image.convert("1"), 4: image.quantize(16), 8: image.quantize(256)}[bits], "BMP"
        )
        with Image.open(io.BytesIO(data)) as again:
            return Wrapped(f"BMP {bits}", data, (again.convert("RGB"),))
    if bits == 24:
        return Wrapped("BMP 24", pictures.encode(image, "BMP"), (image,))
    pixels = np.asarray(image).astype(np.uint32)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    if bits == 16:
        masks = (0xF800, 0x07E0, 0x001F, 0)
        values = (red >> 3 << 11 | green >> 2 << 5 | blue >> 3).astype("<u2")
    else:
        masks = (0x00FF0000, 0x0000FF00, 0x000000FF, draw(st.sampled_from([0, 0xFF000000])))
        values = (red << 16 | green << 8 | blue).astype("<u4")
    rows = values if down else values[::-1]
    stride = -(-values.shape[1] * (bits // 8) // 4) * 4
    body = b"".join(row.tobytes().ljust(stride, b"\0") for row in rows)
    height = -image.height if down else image.height
    info = struct.pack(
        "<IiiHHIIiiII", header, image.width, height, 1, bits, 3, len(body), 0, 0, 0, 0
    )
    info += struct.pack("<IIII", *masks)[: 12 if header == 40 else 16]
    if header > 40:
        info = info.ljust(header, b"\0")
        if masks[3]:
            info = info[:56] + b"BGRs" + info[60:]
    start = 14 + len(info)
    data = struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start) + info + body
    said = f"BMP {bits} header {header} alpha {masks[3] and header > 40} down {down}"
    return Wrapped(said, data, (image,))


# TIFF


@st.composite
def tiff(draw: DrawFn) -> Wrapped:
    """Draw a TIFF: photometry, bits, planes, compression, byte order."""
    image = draw(_photo())
    photometric = draw(st.sampled_from(["minisblack", "miniswhite", "rgb", "rgba", "cmyk"]))
    wide = draw(st.booleans())
    planar = draw(st.booleans())
    options = {
        "byteorder": draw(st.sampled_from("<>")),
        "compression": draw(st.sampled_from([None, "lzw", "deflate", "packbits"])),
        "bigtiff": draw(st.booleans()),
    }
    if options["compression"] in ("lzw", "deflate") and draw(st.booleans()):
        options["predictor"] = True
    if draw(st.booleans()):
        options["tile"] = (16, 32)
    else:
        options["rowsperstrip"] = draw(st.sampled_from([1, 7, 100]))
    shown = image
    match photometric:
        case "minisblack" | "miniswhite":
            grey = image.convert("L")
            samples, shown = np.asarray(grey), grey.convert("RGB")
            if photometric == "miniswhite":
                samples = 255 - samples
        case "rgb":
            samples = np.asarray(image)
        case "rgba":
            stored = _stored(image, "RGBA")
            samples, shown = np.asarray(stored), over_white(stored)
            photometric = "rgb"
            options["extrasamples"] = ["unassalpha"]
        case _:
            inks = image.convert("CMYK")
            samples, shown = np.asarray(inks), inks.convert("RGB")
            photometric = "separated"
    if wide:
        samples = samples.astype(np.uint16) * 257
    if samples.ndim == 3:
        options["planarconfig"] = "separate" if planar else "contig"
        if planar:
            samples = np.moveaxis(samples, -1, 0)
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, photometric=photometric, metadata=None, **options)
    said = f"TIFF {photometric} {samples.dtype} {options}"
    return Wrapped(said, stream.getvalue(), (shown,))


# AVIF and HEIF


@st.composite
def avif(draw: DrawFn) -> Wrapped:
    """Draw an AVIF: alpha and stray boxes behind it."""
    return _coded(draw, "AVIF", {"quality": 95, "speed": 10, "subsampling": "4:4:4"})


@st.composite
def heif(draw: DrawFn) -> Wrapped:
    """Draw a HEIC: alpha and stray boxes behind it."""
    return _coded(draw, "HEIF", {"quality": 95, "chroma": 444})


def _coded(draw: DrawFn, format_: str, options: dict[str, object]) -> Wrapped:
    image = draw(_photo())
    mode = draw(st.sampled_from(["RGB", "RGBA"]))
    stored = _stored(image, mode)
    said = [mode]
    # pillow-heif's writer turns the picture itself when it is given such an XMP.
    if format_ == "AVIF" and draw(st.booleans()):
        options = {**options, "xmp": _xmp(draw(st.integers(2, 8)))}
        said.append("xmp")
    data = pictures.encode(stored, format_, **options)
    if draw(st.booleans()):
        data += struct.pack(">I", 20) + b"free" + bytes(12)
        said.append("free")
    return Wrapped(f"{format_} {' '.join(said)}", data, (_rendered(stored),))


FORMATS: dict[str, Callable[[], st.SearchStrategy[Wrapped]]] = {
    "JPEG": jpeg,
    "PNG": png,
    "GIF": gif,
    "WEBP": webp,
    "BMP": bmp,
    "TIFF": tiff,
    "AVIF": avif,
    "HEIF": heif,
}
