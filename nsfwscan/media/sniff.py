"""Detects a file's format from its first bytes, never from its name.

Pure Python and cheap to import: the scanner calls this for every candidate, and the decoder to
choose the one codec that may read the bytes.
"""

from __future__ import annotations

import re

HEAD_BYTES = 512
"""How many leading bytes `sniff` uses; fewer are fine."""

_READ = {
    "JPEG": "jpg jpeg jpe jfif jfi jif pjpeg pjp jps mpo",
    "PNG": "png apng",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp dib",
    "TIFF": "tif tiff btf tf8",
    "AVIF": "avif avifs",
    "HEIF": "heic heics heif heifs hif",
}
READABLE = frozenset(_READ)
"""The formats that the decoder reads. HEIF needs the optional extra `heic`."""
PICTURE_ENDINGS = frozenset(" ".join(_READ.values()).split())
"""Endings of their names, lower case. What is inside decides later."""

# In the order they are tried. TIFF's magic is also that of most camera raw files (CR2, NEF, ARW,
# DNG): the decoder refuses those when their tags say so.
_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0\x10\0\0\0CR", "RAW"),  # Canon CR2: its first page is a bare JPEG stream
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0\x08\0\0\0", "TIFF"),  # BigTIFF, whose offsets have eight bytes
    (b"MM\0+\0\x08\0\0", "TIFF"),
    (b"\xff\x0a", "JXL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"8BPS", "PSD"),
    (b"icns", "ICNS"),
    (b"FUJIFILMCCD-RAW", "RAW"),
    (b"IIRO", "RAW"),  # Olympus
    (b"IIU\0", "RAW"),  # Panasonic
    (b"FOVb", "RAW"),  # Sigma
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"\x76\x2f\x31\x01", "EXR"),
    (b"#?RADIANCE", "HDR"),
    (b"gimp xcf ", "XCF"),
    (b"II\xbc\x01", "JPEGXR"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"\x8aMNG\r\n\x1a\n", "MNG"),
    (b"\x8bJNG\r\n\x1a\n", "JNG"),
    (b"BPG\xfb", "BPG"),
    (b"FLIF", "FLIF"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"\x59\xa6\x6a\x95", "SUN"),
    (b"/* XPM */", "XPM"),
)

# A letter and a digit are weak magic, so two numbers or a comment on its own line must follow.
_PNM = re.compile(rb"(?:P[1-6]|P[Ff])\s+(?:#.*\s+)*(?:\d+\s+\d+\s|#)|P7\s*\n(?:#.*\n)*WIDTH \d")
_SVG = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<(?:\?xml|!--|!DOCTYPE svg)[\s[][^\0]*?)?<svg[\s>:]")
_ICONS = {b"\0\0\x01\0": "ICO", b"\0\0\x02\0": "CUR"}
# Kinds of TGA, also run-length encoded: (has a palette, possible bits per pixel).
_TARGA_BITS = {1: (1, (8, 16)), 2: (0, (15, 16, 24, 32)), 3: (0, (8, 16))}

# ISO base media brands: https://mp4ra.org/registered-types/brands
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_GENERIC_BRANDS = frozenset({b"mif1", b"mif2", b"mif3", b"msf1", b"miaf", b"1pic"})
_HEIF_BRANDS = _GENERIC_BRANDS | {
    *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
    *(b"avci", b"avcs", b"evbi", b"evbs", b"evmi", b"evms", b"j2ki", b"j2is"),  # other codings
    *(b"jpeg", b"jpgs", b"unif", b"vvic", b"vvis"),  # that the decoder reports
}


def sniff(head: bytes) -> str | None:
    """Return the format from a file's first bytes, of which at most `HEAD_BYTES` are used.

    Returns a member of `READABLE`, the name of a picture format that is recognised but cannot be
    read (such as `JXL`, `PSD` or `RAW`), or None for any other content.
    """
    head = bytes(head[:HEAD_BYTES])
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    if head[:2] == b"BM" and _is_bitmap(head):
        return "BMP"
    if head[:4] in _ICONS and _is_icon(head):
        return _ICONS[head[:4]]
    if _PNM.match(head):
        return "PNM"
    if _SVG.match(head):
        return "SVG"
    return "TGA" if _is_targa(head) else None


def _by_brand(head: bytes) -> str | None:
    """Read the `ftyp` box: its major brand decides, or the compatible ones if that is generic."""
    end = min(len(head), int.from_bytes(head[:4], "big"))
    major = head[8:12]
    compatible = {head[at : at + 4] for at in range(16, end - 3, 4)}
    if major == b"crx ":
        return "RAW"  # Canon CR3
    if major == b"jxl ":
        return "JXL"
    if major in _AVIF_BRANDS:
        return "AVIF"
    if major in _HEIF_BRANDS - _GENERIC_BRANDS:
        return "HEIF"
    # `mif1` and `msf1` only mean "an image (sequence) is inside"; other majors, such as `MiHB`, are
    # in use as well. The compatible brands name the coding, and the decoder checks the content.
    if compatible & _AVIF_BRANDS:
        return "AVIF"
    if major in _HEIF_BRANDS or compatible & _HEIF_BRANDS:
        return "HEIF"
    return None


def _is_bitmap(head: bytes) -> bool:
    """Return True for a BMP. A text may begin with "BM", so the header's size must fit, too."""
    return int.from_bytes(head[14:18], "little") in (12, 16, 40, 52, 56, 64, 108, 124)


def _is_icon(head: bytes) -> bool:
    """Return True if the icon directory is valid; a TGA may begin with the same four bytes."""
    pictures = int.from_bytes(head[4:6], "little")
    offset = int.from_bytes(head[18:22], "little")
    return pictures > 0 and (len(head) < 22 or (head[9] == 0 and offset >= 6 + 16 * pictures))


def _is_targa(head: bytes) -> bool:
    """Return True if all fields of a TGA header are valid, because TGA has no magic."""
    if len(head) < 18 or head[2] & 7 not in _TARGA_BITS or head[2] & ~0xB:
        return False
    mapped, depths = _TARGA_BITS[head[2] & 7]
    width, height = int.from_bytes(head[12:14], "little"), int.from_bytes(head[14:16], "little")
    colours, entry_bits = int.from_bytes(head[5:7], "little"), head[7]
    has_colours = 0 < colours <= 256 and entry_bits in (15, 16, 24, 32)
    return (
        head[1] == mapped
        and (has_colours if mapped else not any(head[3:8]))
        and head[16] in depths
        and width > 0 < height
        and not head[17] & 0xC0
        and head[17] & 15 in (0, 1, 8)
    )
