from __future__ import annotations

import subprocess
import sys

import pictures
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsfwscan.images.sniff import HEAD_BYTES, READABLE, sniff


@pytest.mark.parametrize("name", pictures.seeds())
def test_d7_every_readable_format_is_told_by_its_content(name: str) -> None:
    assert sniff(pictures.seeds()[name][:HEAD_BYTES]) == name.split()[0]


def test_the_seeds_cover_all_readable_formats() -> None:
    assert {name.split()[0] for name in pictures.seeds()} == READABLE


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


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\xff\x0a\0\0", "JXL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
        (b"8BPS\0\1", "PSD"),
        (b"\0\0\1\0\1\0", "ICO"),
        (b"II*\0\x10\0\0\0CR\2\0", "RAW"),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "EPS"),
        (b"", None),
        (b"\xff", None),
        (b"BM is how this text begins", None),
        (b"#!/bin/sh\n", None),
        (b"%PDF-1.7", None),
        (b"<svg xmlns", None),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"\n\xff\xd8\xff\xe0", None),
    ],
)
def test_what_is_not_read_has_a_name_or_none(head: bytes, name: str | None) -> None:
    assert sniff(head) == name
    assert name not in READABLE or name == "TIFF"


@given(st.binary(max_size=80))
def test_d2_any_bytes_have_an_answer(head: bytes) -> None:
    assert sniff(head) == sniff(head[:HEAD_BYTES])


@given(st.sampled_from(sorted(pictures.seeds())), st.integers(0, HEAD_BYTES))
def test_d2_a_shorter_head_gives_the_same_answer_or_none(name: str, length: int) -> None:
    assert sniff(pictures.seeds()[name][:length]) in (name.split()[0], None)


def test_it_loads_nothing_heavy() -> None:
    code = "import sys, nsfwscan.images.sniff; print({'PIL', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
