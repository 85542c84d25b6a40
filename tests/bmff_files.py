"""AVIF and HEIC files with the properties that a test wants, made by editing written ones."""

from __future__ import annotations

import functools
import io
import struct
from typing import TYPE_CHECKING

import pictures
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Property = tuple[bytes, bool]
"""A whole box, and whether it is essential."""

TRACK_BOXES = (b"trak", b"mdia", b"minf", b"stbl")


def box(kind: bytes, content: bytes) -> bytes:
    """Return a box."""
    return struct.pack(">I4s", 8 + len(content), kind) + content


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give the boxes side by side: kind and content."""
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + size]
        at += size


def irot(turns: int) -> bytes:
    """Turn by so many right angles, anticlockwise."""
    return box(b"irot", bytes((turns,)))


def imir(axis: int) -> bytes:
    """Mirror: 0 exchanges top and bottom, 1 left and right."""
    return box(b"imir", bytes((axis,)))


def clap(*numbers: int) -> bytes:
    """Crop: numerator and denominator of width, height, offset across and offset down."""
    return box(b"clap", struct.pack(">8i", *numbers))


def crop(size: tuple[int, int], edges: tuple[int, int, int, int]) -> bytes:
    """Crop a raster of `size` to left, top, right and bottom, all of them whole."""
    width, height = edges[2] - edges[0], edges[3] - edges[1]
    across, down = edges[0] + edges[2] - size[0], edges[1] + edges[3] - size[1]
    return clap(width, 1, height, 1, across, 2, down, 2)


def nclx(primaries: int, transfer: int, matrix: int = 6) -> bytes:
    """Name a colour space by code points, full range."""
    return box(b"colr", b"nclx" + struct.pack(">HHHB", primaries, transfer, matrix, 0x80))


def edited(
    data: bytes,
    add: Sequence[bytes] = (),
    *,
    drop: Sequence[bytes] = (),
    of: int | None = None,
    essential: bool = False,
) -> bytes:
    """Add properties to an item (the main picture's, and its alpha's alike) and drop others.

    With `of`, only the item of this number. `drop` names kinds. Offsets follow what moved.
    """
    parts = dict(boxes(data))
    meta = parts[b"meta"]
    children = list(boxes(meta[4:]))
    properties = dict(children)[b"iprp"]
    known = list(boxes(dict(boxes(properties))[b"ipco"]))
    fresh = len(known)
    known += [(one[4:8], one[8:]) for one in add]
    lines = []
    for item, links in _associations(dict(boxes(properties))[b"ipma"]):
        if of in (None, item):
            links = [link for link in links if known[(link & 0x7FFF) - 1][0] not in drop]
            transforms = (b"irot", b"imir", b"clap")
            for number, (kind, _) in list(enumerate(known, 1))[fresh:]:
                links.append(number | (0x8000 if essential or kind in transforms else 0))
        lines.append(struct.pack(f">HB{len(links)}H", item, len(links), *links))
    table = box(b"ipma", struct.pack(">II", 1, len(lines)) + b"".join(lines))
    stored = box(b"iprp", box(b"ipco", b"".join(box(*one) for one in known)) + table)
    grown = len(stored) - len(box(b"iprp", properties))
    changed = b"".join(
        stored
        if kind == b"iprp"
        else box(kind, moved(content, grown) if kind == b"iloc" else content)
        for kind, content in children
    )
    return b"".join(
        box(kind, shifted(kind, meta[:4] + changed if kind == b"meta" else content, grown))
        for kind, content in boxes(data)
    )


def moved(iloc: bytes, by: int) -> bytes:
    """Return an `iloc` whose offsets into the file are so many bytes further on."""
    version, sizes, count = iloc[0], iloc[4:6], struct.unpack_from(">H", iloc, 6)[0]
    assert sizes in (b"\x44\x00", b"\x44\x40")
    base = 4 if sizes[1] else 0
    changed, at = bytearray(iloc), 8
    for _ in range(count):
        method = 0
        if version:
            method = struct.unpack_from(">H", iloc, at + 2)[0] & 15
            at += 2
        at += 4
        if base and method == 0:
            struct.pack_into(">I", changed, at, struct.unpack_from(">I", iloc, at)[0] + by)
        at += base
        (extents,) = struct.unpack_from(">H", iloc, at)
        at += 2
        for _ in range(extents):
            if method == 0 and not base:
                struct.pack_into(">I", changed, at, struct.unpack_from(">I", iloc, at)[0] + by)
            at += 8
    return bytes(changed)


def _associations(ipma: bytes) -> Iterator[tuple[int, list[int]]]:
    flags, (count,), at = ipma[3], struct.unpack_from(">I", ipma, 4), 8
    assert ipma[0] == 0
    for _ in range(count):
        item, many = struct.unpack_from(">HB", ipma, at)
        at += 3
        if flags & 1:
            links = list(struct.unpack_from(f">{many}H", ipma, at))
        else:
            links = [(one & 0x80) << 8 | one & 0x7F for one in ipma[at : at + many]]
        at += many * (2 if flags & 1 else 1)
        yield item, links


def shifted(kind: bytes, content: bytes, by: int) -> bytes:
    """Move the chunks of a track."""
    if kind == b"stco":
        count, *places = struct.unpack(f">{len(content) // 4 - 1}I", content[4:])
        return content[:4] + struct.pack(f">{count + 1}I", count, *(one + by for one in places))
    if kind in (b"moov", *TRACK_BOXES):
        return b"".join(box(one, shifted(one, inner, by)) for one, inner in boxes(content))
    return content


def with_brands(data: bytes, major: bytes, *compatible: bytes) -> bytes:
    """Exchange the brands; the file keeps its length, so that there may not be more than before."""
    size = struct.unpack_from(">I", data)[0]
    brands = major + bytes(4) + b"".join(compatible)
    assert len(brands) <= size - 8
    padding = b"mif1" * ((size - 8 - len(brands)) // 4)
    return data[:8] + brands + padding + data[size:]


def with_both(still: bytes, sequence: bytes) -> bytes:
    """Put a still picture and a sequence that is another one into one AVIF."""
    head, track = dict(boxes(still)), list(boxes(sequence))
    ftyp = box(b"ftyp", b"avis" + bytes(4) + b"avifavismif1msf1miaf")
    moov = next(content for kind, content in track if kind == b"moov")
    before = sequence.index(b"mdat") - 4
    # In order: ftyp, meta, moov, the data of the still picture, those of the sequence.
    meta = head[b"meta"]
    start = len(ftyp) + len(box(b"meta", meta)) + len(box(b"moov", moov))
    stills = start - (still.index(b"mdat") - 4)
    data = box(b"mdat", head[b"mdat"])
    moving = start + len(data) - before
    children = b"".join(
        box(kind, moved(content, stills) if kind == b"iloc" else content)
        for kind, content in boxes(meta[4:])
    )
    return b"".join(
        (
            ftyp,
            box(b"meta", meta[:4] + children),
            box(b"moov", shifted(b"moov", moov, moving)),
            data,
            sequence[before:],
        )
    )


def sequence_of(heic: bytes, size: tuple[int, int], samples: int = 1) -> bytes:
    """Turn a HEIC of one coded picture into a sequence of the same frame again and again."""
    meta = dict(boxes(dict(boxes(heic))[b"meta"][4:]))
    config = dict(boxes(dict(boxes(meta[b"iprp"]))[b"ipco"]))[b"hvcC"]
    coded = dict(boxes(heic))[b"mdat"]
    entry = bytes(7) + b"\1" + bytes(16) + struct.pack(">HH", *size) + bytes(50)
    assert len(entry) == 78
    full = bytes(4)
    head = box(b"tkhd", bytes(12) + struct.pack(">I", 1) + bytes(68))

    def moov(offset: int) -> bytes:
        table = b"".join(
            (
                box(
                    b"stsd",
                    full + struct.pack(">I", 1) + box(b"hvc1", entry + box(b"hvcC", config)),
                ),
                box(b"stsc", full + struct.pack(">IIII", 1, 1, 1, 1)),
                box(b"stsz", full + struct.pack(">II", len(coded), samples)),
                box(b"stco", full + struct.pack(f">{samples + 1}I", samples, *[offset] * samples)),
                box(b"stss", full + struct.pack(">II", 1, 1)),
            )
        )
        return box(
            b"moov",
            box(b"trak", head + box(b"mdia", box(b"minf", box(b"stbl", table)))),
        )

    ftyp = box(b"ftyp", b"hevc" + bytes(4) + b"msf1hevc")
    offset = len(ftyp) + len(moov(0)) + 8
    return ftyp + moov(offset) + box(b"mdat", coded)


@functools.cache
def avif(mode: str = "RGB", size: tuple[int, int] = (160, 120), **options: object) -> bytes:
    """Encode the source picture as AVIF with little loss."""
    options = {"quality": 95, "speed": 8, "subsampling": "4:4:4", **options}
    return pictures.encode(source(mode, size), "AVIF", **options)


@functools.cache
def heic(mode: str = "RGB", size: tuple[int, int] = (160, 120), **options: object) -> bytes:
    """Encode the source picture as HEIC with little loss."""
    return pictures.encode(source(mode, size), "HEIF", **{"quality": 95, "chroma": 444, **options})


@functools.cache
def premultiplied_heic(size: tuple[int, int] = (160, 120)) -> bytes:
    """Encode the source picture with its alpha as HEIC whose colours are multiplied by it."""
    import pillow_heif

    held, file = io.BytesIO(), pillow_heif.HeifFile()
    file.add_frombytes("RGBa", size, source("RGBA", size).convert("RGBa").tobytes())
    file.save(held, quality=95, chroma=444)
    assert b"prem" in held.getvalue()
    return held.getvalue()


@functools.cache
def deep(format_: str, bits: int, size: tuple[int, int] = (160, 120)) -> bytes:
    """Encode the source picture with 10 or 12 bits a sample."""
    picture = source("RGB", size)
    if format_ == "HEIF":
        import pillow_heif

        wide = b"".join(struct.pack("<H", value * 257) for value in picture.tobytes())
        file = pillow_heif.HeifFile()
        file.add_frombytes("RGB;16", size, wide)
        held = io.BytesIO()
        before = pillow_heif.options.SAVE_HDR_TO_12_BIT
        pillow_heif.options.SAVE_HDR_TO_12_BIT = bits == 12
        try:
            file.save(held, quality=95, chroma=444)
        finally:
            pillow_heif.options.SAVE_HDR_TO_12_BIT = before
        return held.getvalue()
    import pyvips

    raster = pyvips.Image.new_from_memory(picture.tobytes(), *size, 3, "uchar")
    raster = (raster.cast("ushort") * 257).cast("ushort").copy(interpretation="rgb16")
    options = {"compression": "av1", "bitdepth": bits, "Q": 95, "effort": 2}
    return bytes(raster.heifsave_buffer(subsample_mode="off", **options))


def stated(primaries: int, transfer: int) -> bytes:
    """Write an AVIF whose bitstream names other code points than those it was written with."""
    data = avif()
    start = data.index(b"mdat") + 4
    head = int.from_bytes(data[start : start + 16], "big")
    bits = f"{head:0128b}"
    written = f"{1:08b}{13:08b}{6:08b}"
    assert bits.count(written) == 1
    bits = bits.replace(written, f"{primaries:08b}{transfer:08b}{6:08b}")
    return data[:start] + int(bits, 2).to_bytes(16, "big") + data[start + 16 :]


@functools.cache
def source(mode: str = "RGB", size: tuple[int, int] = (160, 120), seed: int = 3) -> Image.Image:
    """Draw the picture that is in the files."""
    picture = pictures.photo(*size, seed=seed)
    if mode.endswith("A"):
        picture.putalpha(Image.radial_gradient("L").resize(size))
    return picture
