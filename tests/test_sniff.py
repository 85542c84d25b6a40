from __future__ import annotations

import hashlib
import struct
import subprocess
import sys

import pictures
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsfwscan.media import sniff as module
from nsfwscan.media.decode.decoded import DECODER_VERSION
from nsfwscan.media.sniff import HEAD_BYTES, READABLE, sniff


@pytest.mark.parametrize("name", pictures.seeds())
def test_every_readable_format_is_told_by_its_content(name: str) -> None:
    assert sniff(pictures.seeds()[name][:HEAD_BYTES]) == name.split()[0]


def test_the_seeds_cover_all_readable_formats() -> None:
    assert {name.split()[0] for name in pictures.seeds()} == READABLE


def test_another_list_of_first_bytes_needs_another_decoder_version() -> None:
    """Content that was not recognised is cached as such until the version is raised."""
    listed = repr((module._MAGIC, sorted(READABLE))).encode()
    pinned = DECODER_VERSION, hashlib.sha256(listed).hexdigest()[:16]
    assert pinned == (3, "12930f82d9177ae7"), (
        "raise DECODER_VERSION if a file may be recognised now; pin both"
    )


def ftyp(major: bytes, *compatible: bytes) -> bytes:
    body = b"ftyp" + major + bytes(4) + b"".join(compatible)
    return (4 + len(body)).to_bytes(4, "big") + body + b"\0\0\0\x08meta"


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (ftyp(b"avif", b"mif1", b"miaf"), "AVIF"),
        (ftyp(b"avis", b"msf1"), "AVIF"),
        (ftyp(b"mif1", b"miaf", b"avif"), "AVIF"),
        (ftyp(b"mif1", b"heic"), "HEIF"),
        (ftyp(b"mif1"), "HEIF"),
        (ftyp(b"mif3", b"avif"), "AVIF"),
        (ftyp(b"miaf", b"heic"), "HEIF"),
        (ftyp(b"vvic", b"mif1"), "HEIF"),
        (ftyp(b"1pic"), "HEIF"),
        (ftyp(b"msf1", b"hevc"), "HEIF"),
        (ftyp(b"heix", b"mif1"), "HEIF"),
        (ftyp(b"MiHB", b"mif1", b"heic"), "HEIF"),
        (ftyp(b"isom", b"mp42"), None),
        (ftyp(b"qt  "), None),
        (ftyp(b"crx ", b"isom"), "RAW"),
        (ftyp(b"jxl "), "JXL"),
        # What stands behind the box is not one of its brands.
        (ftyp(b"isom", b"mp42") + b"avif", None),
    ],
)
def test_brands(head: bytes, name: str | None) -> None:
    assert sniff(head) == name


def icon(kind: int, *, count: int = 1, offset: int = 22) -> bytes:
    entry = struct.pack("<4BHHII", 16, 16, 0, 0, 1, 32, 1000, offset)
    return struct.pack("<3H", 0, kind, count) + entry


def targa(
    kind: int,
    bits: int,
    *,
    width: int = 64,
    descriptor: int = 0,
    colours: int = 0,
    entry_bits: int = 0,
) -> bytes:
    mapped = (colours > 0, kind, 0, colours, entry_bits)
    return struct.pack("<BBBHHB4HBB", 0, *mapped, 0, 0, width, 48, bits, descriptor) + bytes(100)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\xff\x0a\0\0", "JXL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
        (b"8BPS\0\1", "PSD"),
        (b"\0\0\1\0\1\0", "ICO"),
        (icon(1), "ICO"),
        (icon(2), "CUR"),
        (icon(2, count=0), None),
        (icon(2, offset=3), None),
        (targa(2, 24), "TGA"),
        (targa(10, 32, descriptor=0x28), "TGA"),
        (targa(3, 8), "TGA"),
        (targa(1, 8, colours=256, entry_bits=24), "TGA"),
        (targa(2, 24, width=0), None),
        (targa(2, 25), None),
        (targa(4, 24), None),
        (targa(2, 24, descriptor=0xC0), None),
        (bytes(512), None),
        (b"P6\n640 480\n255\n", "PNM"),
        (b"P1\n# written by hand\n2 2\n0 1 1 0\n", "PNM"),
        (b"P7\nWIDTH 64\nHEIGHT 48\n", "PNM"),
        (b"Pf\n64 48\n-1.0\n", "PNM"),
        (b"P3 is how this text begins", None),
        (b"P5: 3 apples", None),
        (b'<svg xmlns="http://www.w3.org/2000/svg">', "SVG"),
        (b'\xef\xbb\xbf<?xml version="1.0" standalone="no"?>\n<!-- a -->\n<svg\n', "SVG"),
        (b'<?xml version="1.0"?><html><body/></html>', None),
        (b"\x8aMNG\r\n\x1a\n", "MNG"),
        (b"II*\0\x10\0\0\0CR\2\0", "RAW"),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "EPS"),
        (b"", None),
        (b"\xff", None),
        (b"BM is how this text begins", None),
        (b"#!/bin/sh\n", None),
        (b"%PDF-1.7", None),
        (b"<svgs are pictures", None),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"\n\xff\xd8\xff\xe0", None),
    ],
)
def test_what_is_not_read_has_a_name_or_none(head: bytes, name: str | None) -> None:
    assert sniff(head) == name
    assert name not in READABLE or name == "TIFF"


@given(st.binary(max_size=80))
def test_any_bytes_have_an_answer(head: bytes) -> None:
    assert sniff(head) == sniff(head[:HEAD_BYTES])


@given(st.sampled_from(sorted(pictures.seeds())), st.integers(0, HEAD_BYTES))
def test_a_shorter_head_gives_the_same_answer_or_none(name: str, length: int) -> None:
    assert sniff(pictures.seeds()[name][:length]) in (name.split()[0], None)


def test_it_loads_nothing_heavy() -> None:
    code = "import sys, nsfwscan.media.sniff; print({'PIL', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
