"""Small generated pictures for the tests: ordinary ones of every format, odd ones, and bombs."""

from __future__ import annotations

import functools
import io
import itertools
import struct
import zlib

from PIL import Image, ImageCms, ImageFilter

P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
"""Colorants of the RGB spaces, as XYZ under D50, the way ICC profiles hold them."""


def photo(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    """Draw a colourful picture without symmetry, always the same for the same arguments, RGB."""
    corner = 0.13 * (seed % 7)
    bands = []
    for at, (quality, blur) in enumerate(((20, 1.0), (35, 2.0), (60, 0.5))):
        extent = (-2.0 + corner + 0.2 * at, -1.2 + 0.1 * at, 0.7, 1.1 - corner)
        detail = Image.effect_mandelbrot((160, 120), extent, quality)
        detail = detail.filter(ImageFilter.GaussianBlur(blur))
        ramp = Image.linear_gradient("L").rotate(37 * (at + seed) % 360).resize((160, 120))
        bands.append(Image.blend(detail, ramp, 0.5))
    return Image.merge("RGB", bands).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, format_: str, **options: object) -> bytes:
    """Return the bytes of a file; `options` are those of Pillow's writer."""
    if format_ == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def frame(at: int, size: tuple[int, int] = (24, 20)) -> Image.Image:
    """Draw a frame that tells its number: `frame_number` reads it back."""
    return Image.new("RGB", size, ((at % 16) * 16 + 8, (at // 16 % 16) * 16 + 8, 40))


def frame_number(pixels: bytes) -> int:
    """Read the number from the first pixel of (height, width, 3) RGB."""
    return pixels[0] // 16 + pixels[1] // 16 * 16


def animation(format_: str, frames: int) -> bytes:
    """Encode frames 0 to `frames` - 1 as GIF, PNG, WEBP, AVIF or TIFF."""
    first, *rest = [frame(at) for at in range(frames)]
    options: dict[str, object] = {"save_all": True, "append_images": rest}
    if format_ == "WEBP":
        options["lossless"] = True
    if format_ == "AVIF":
        options |= {"quality": 90, "speed": 10}
    return encode(first, format_, **options)


def gray_16_bit(image: Image.Image, byte_order: str = "<") -> Image.Image:
    """Widen a picture to 16 bits of grey."""
    mode, code = ("I;16", "<H") if byte_order == "<" else ("I;16B", ">H")
    gray = image.convert("L").tobytes()
    return Image.frombytes(mode, image.size, b"".join(struct.pack(code, v * 257) for v in gray))


def palette_with_transparency() -> bytes:
    """Encode a PNG whose palette's colour 0 is transparent."""
    image = photo().quantize(32)
    return encode(image, "PNG", transparency=0)


@functools.cache
def seeds() -> dict[str, bytes]:
    """Return small valid files, one of each kind that is read, by name; the format comes first."""
    plain = photo()
    tiny = photo(20, 16)
    alpha = plain.copy()
    alpha.putalpha(Image.linear_gradient("L").resize(plain.size))
    return {
        "JPEG baseline": encode(plain, "JPEG", quality=80),
        "JPEG progressive": encode(plain, "JPEG", progressive=True),
        "JPEG gray": encode(plain.convert("L"), "JPEG"),
        "JPEG CMYK": encode(plain.convert("CMYK"), "JPEG"),
        "PNG RGB": encode(tiny, "PNG"),
        "PNG RGBA": encode(alpha.resize((20, 16)), "PNG"),
        "PNG palette": palette_with_transparency(),
        "PNG 16 bit": encode(gray_16_bit(tiny), "PNG"),
        "PNG 1 bit": encode(plain.convert("1"), "PNG"),
        "PNG animated": animation("PNG", 3),
        "WEBP lossy": encode(plain, "WEBP"),
        "WEBP lossless": encode(alpha, "WEBP", lossless=True),
        "WEBP animated": animation("WEBP", 3),
        "GIF": encode(plain.quantize(16), "GIF"),
        "GIF animated": animation("GIF", 3),
        "BMP": encode(tiny, "BMP"),
        "BMP palette": encode(tiny.quantize(16), "BMP"),
        "TIFF raw": encode(tiny, "TIFF"),
        "TIFF LZW": encode(plain, "TIFF", compression="tiff_lzw"),
        "TIFF JPEG": encode(plain, "TIFF", compression="jpeg"),
        "TIFF pages": animation("TIFF", 2),
        "AVIF": encode(plain, "AVIF"),
        "AVIF animated": animation("AVIF", 3),
        "HEIF": encode(plain, "HEIF"),
    }


def with_orientation(
    image: Image.Image, orientation: int, format_: str, **options: object
) -> bytes:
    """Encode the pixels as they are, with an EXIF orientation of 1 to 8."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(image, format_, exif=exif, **options)


def icc_profile(colorants: tuple[tuple[float, float, float], ...], *, gamma: float = 2.2) -> bytes:
    """Build an RGB matrix profile with one gamma for all channels."""
    tags = {}
    for channel, values in zip("rgb", colorants, strict=True):
        tags[f"{channel}XYZ".encode()] = b"XYZ \0\0\0\0" + _fixed(*values)
        tags[f"{channel}TRC".encode()] = _curve(gamma)
    return _profile(b"mntrRGB XYZ ", tags)


def gray_profile(gamma: float) -> bytes:
    """Build a profile of grey with this gamma."""
    return _profile(b"mntrGRAYXYZ ", {b"kTRC": _curve(gamma)})


def cmyk_profile() -> bytes:
    """Build a profile of inks that are paler than ideal ones, with a table of two points an ink."""
    corners = b""
    for inks in itertools.product((0, 1), repeat=4):  # the last varies fastest
        cyan, magenta, yellow, black = inks
        light = 255 - 45 * cyan - 60 * magenta - 15 * yellow - 110 * black
        corners += bytes((light, 128 - 35 * cyan + 50 * magenta, 128 - 30 * cyan + 60 * yellow))
    straight = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += straight * 4 + corners + straight * 3
    return _profile(b"prtrCMYKLab ", {b"A2B0": table})


def _profile(kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Assemble an ICC profile, version 2; `kind` is device class, colour space and PCS."""
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + _fixed(0.9642, 1, 0.8249),
        **tags,
    }
    table, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        table += tag + struct.pack(">II", at + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4xI", at + len(body), 0x02200000) + kind + bytes(12)
    header += b"acsp" + bytes(28) + _fixed(0.9642, 1, 0.8249)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256))


def srgb_profile() -> bytes:
    """Return LittleCMS's own sRGB profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def png(width: int, height: int, *, rows: bytes, bits: int = 8, colour: int = 2) -> bytes:
    """Assemble a PNG by hand from a header and compressed rows, which need not fit together."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Return one chunk with its length and checksum."""
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png_bomb(width: int = 13_348, height: int = 13_348) -> bytes:
    """Encode a true black RGB picture; at the size given, 178 MP in 2 MB."""
    packer = zlib.compressobj(1)
    row = bytes(1 + 3 * width)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return png(width, height, rows=rows)


def tiff_bomb(edge: int = 65_535) -> bytes:
    """Encode a header that promises `edge` x `edge` RGB pixels in one strip of a few bytes."""
    entries = (
        (256, 4, edge),
        (257, 4, edge),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 2),
        (273, 4, 200),
        (277, 3, 3),
        (278, 4, edge),
        (279, 4, 32),
    )
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)
    return head.ljust(200, b"\0") + bytes(32)


def gif_bomb(frames: int = 100_000, size: tuple[int, int] = (16, 16)) -> bytes:
    """Repeat one frame many times."""
    single = encode(frame(7, size), "GIF")
    at = single.index(b",", 13 + 3 * (2 << (single[10] & 7)))
    head, block = single[:at], single[at:-1]
    control = b"!\xf9\x04\x04\x01\0\0\0"
    return head + (control + block) * frames + b";"


def jpeg_scan_bomb(scans: int = 10_000, size: tuple[int, int] = (1600, 1200)) -> bytes:
    """Repeat the last scan of a progressive JPEG many times."""
    whole = encode(photo(*size), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * scans + b"\xff\xd9"


def tall_jpeg(width: int, height: int) -> bytes:
    """Encode a baseline JPEG of any size by repeating one row of blocks 16 pixels high.

    The writer would need four bytes a pixel; this needs the row. `height` is a multiple of 16.
    """
    row = encode(photo(width, 16), "JPEG", restart_marker_rows=1, quality=85, subsampling=2)
    frame_header = row.index(b"\xff\xc0")
    scan = row.index(b"\xff\xda")
    body = scan + 2 + struct.unpack_from(">H", row, scan + 2)[0]
    head = row[: frame_header + 5] + struct.pack(">H", height) + row[frame_header + 7 : body]
    segment = row[body:-2]
    rows = [segment + bytes((0xFF, 0xD0 + at % 8)) for at in range(height // 16)]
    return head + b"".join(rows)[:-2] + b"\xff\xd9"
