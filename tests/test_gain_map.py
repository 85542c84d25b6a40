"""JPEGs that a gain map turns into another picture on ordinary displays are refused."""

from __future__ import annotations

import struct

import pictures
import pytest
import shown

from nsfwscan.values.results import FailReason

PHOTO = pictures.encode(pictures.photo(64, 48), "JPEG")


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def with_map(marker: int, metadata: bytes) -> bytes:
    """Append a gain map with this metadata to a picture."""
    gains = pictures.encode(pictures.photo(16, 12).convert("L"), "JPEG")
    return PHOTO + gains[:2] + segment(marker, metadata) + gains[2:]


def xmp(said: bytes) -> bytes:
    return b"http://ns.adobe.com/xap/1.0\0<rdf:Description hdrgm:" + said + b"/>"


def iso(headroom: int, flags: int = 0x40) -> bytes:
    denominator = struct.pack(">I", 1) if flags & 8 else b""
    values = struct.pack(">HHB", 0, 0, flags) + denominator + struct.pack(">4I", headroom, 1, 2, 1)
    return b"urn:iso:std:iso:ts:21496:-1\0" + values


@pytest.mark.parametrize(
    ("marker", "metadata"),
    [
        (0xE1, xmp(b'BaseRenditionIsHDR="False"')),
        (0xE1, xmp(b"BaseRenditionIsHDR = 'False'")),
        (0xE1, xmp(b"BaseRenditionIsHDR>False</hdrgm:BaseRenditionIsHDR>")),
        (0xE1, xmp(b'Version="1.0"')),
        (0xE2, iso(0)),
        (0xE2, iso(0, 0x48)),
        (0xE2, iso(0)[:32]),
    ],
)
def test_a_gain_map_of_an_ordinary_picture_changes_nothing(marker: int, metadata: bytes) -> None:
    (view,) = shown.views(with_map(marker, metadata), (64, 48))
    assert shown.difference(view, shown.views(PHOTO, (64, 48))[0]) == 0


@pytest.mark.parametrize(
    ("marker", "metadata"),
    [
        (0xE1, xmp(b'BaseRenditionIsHDR="True"')),
        (0xE1, xmp(b"BaseRenditionIsHDR = '&#84;rue'")),
        (0xE1, xmp(b"BaseRenditionIsHDR>True</hdrgm:BaseRenditionIsHDR>")),
        (0xE2, iso(2)),
        (0xE2, iso(2, 0x48)),
        (0xE2, iso(0, 0x44)),
    ],
)
def test_a_picture_for_bright_displays_only_is_refused(marker: int, metadata: bytes) -> None:
    assert shown.refusal(with_map(marker, metadata)) is FailReason.UNSUPPORTED
