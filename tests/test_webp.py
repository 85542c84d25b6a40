"""WebP: frames, canvas, orientation and profile as viewers show them."""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING

import pictures
import pytest
import pyvips
import shown
from PIL import Image
from test_jpeg import TURNS, exif

from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("over_white_only")

SIZE = (160, 120)
PHOTO = pictures.photo(*SIZE)
PATCH = pictures.photo(80, 60, seed=4)
PROFILE = pictures.icc_profile(pictures.P3, gamma=1.2)
ANIMATED, ALPHA, EXIF, ICC = 0x02, 0x10, 0x08, 0x20


def with_alpha(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.radial_gradient("L").resize(image.size))
    return image


def encoded(image: Image.Image, *, lossless: bool = True) -> bytes:
    return pictures.encode(image, "WEBP", lossless=lossless, quality=95)


def chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) & 1)


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def extended(flags: int, width: int = SIZE[0], height: int = SIZE[1]) -> bytes:
    return chunk(b"VP8X", struct.pack("<I", flags) + low24(width - 1) + low24(height - 1))


def low24(value: int) -> bytes:
    return value.to_bytes(3, "little")


def pixels_of(image: Image.Image, *, lossless: bool = True) -> bytes:
    """Return the chunks that hold the pixels alone."""
    data, at, found = encoded(image, lossless=lossless), 12, b""
    while at < len(data):
        end = at + 8 + (int.from_bytes(data[at + 4 : at + 8], "little") + 1) // 2 * 2
        if data[at : at + 4] in (b"VP8 ", b"VP8L", b"ALPH"):
            found += data[at:end]
        at = end
    return found


def frame(
    image: Image.Image, left: int, top: int, *, over: bool, clear: bool, lossless: bool = True
) -> bytes:
    width, height = image.size
    box = low24(left // 2) + low24(top // 2) + low24(width - 1) + low24(height - 1)
    flags = bytes((2 * (not over) | clear,))
    return chunk(b"ANMF", box + low24(100) + flags + pixels_of(image, lossless=lossless))


def animation(*frames: bytes, flags: int = ANIMATED | ALPHA, more: bytes = b"") -> bytes:
    background = chunk(b"ANIM", struct.pack("<IH", 0xFF00FF00, 0))
    return riff(extended(flags), more, background, *frames)


def in_vips(data: bytes) -> Image.Image:
    image = pyvips.Image.new_from_buffer(data, "").autorot()
    return shown.over_white(Image.fromarray(image.numpy()))


def composed(frames: list[tuple[Image.Image, int, int, bool, bool]]) -> list[Image.Image]:
    """Compose as the container specification says, on a transparent canvas."""
    canvas, found = Image.new("RGBA", SIZE, (0, 0, 0, 0)), []
    for image, left, top, over, clear in frames:
        layer = Image.new("RGBA", SIZE, (0, 0, 0, 0))
        layer.paste(image.convert("RGBA"), (left, top))
        if over:
            canvas = Image.alpha_composite(canvas, layer)
        else:
            canvas.paste(image.convert("RGBA"), (left, top))
        found.append(shown.over_white(canvas))
        if clear:
            box = (left, top, left + image.width, top + image.height)
            canvas.paste((0, 0, 0, 0), box)
    return found


def cells() -> Iterator[tuple[str, bytes, list[Image.Image]]]:
    for alpha, lossless in itertools.product((False, True), (False, True)):
        data = encoded(with_alpha(PHOTO) if alpha else PHOTO, lossless=lossless)
        yield f"still {alpha} {lossless}", data, [in_vips(data)]
    for alpha, over, clear, first, lossless in itertools.product(*[(False, True)] * 5):
        patch = with_alpha(PATCH) if alpha else PATCH
        opening = (PHOTO, 0, 0) if first else (patch, 20, 10)
        parts = [opening, (patch, 40, 20), (PATCH, 0, 60)]
        data = animation(
            *(frame(*part, over=over, clear=clear, lossless=lossless) for part in parts)
        )
        name = f"moving {alpha} {over} {clear} {first} {lossless}"
        yield name, data, composed([(*part, over, clear) for part in parts])


def test_every_layout_is_shown_as_the_specification_composes_it() -> None:
    counts, wrong = shown.tally(cells())
    assert not wrong
    assert counts == {"right": 4 + 32}


@pytest.mark.parametrize("flags", [ANIMATED | ALPHA, ANIMATED])
def test_the_background_colour_of_an_animation_is_not_shown(flags: int) -> None:
    drawn = frame(PATCH, 0, 0, over=False, clear=False, lossless=False)
    (found,) = shown.views(animation(drawn, flags=flags), SIZE)
    assert found.getpixel((150, 110)) == (255, 255, 255)


# Where viewers differ


@pytest.mark.parametrize("orientation", [2, 3, 4])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_an_orientation_is_one_more_view(orientation: int, prefix: bytes) -> None:
    block = chunk(b"EXIF", prefix + exif(orientation)[6:])
    data = riff(extended(EXIF), pixels_of(PHOTO), block)
    turned, stored = shown.views(data, SIZE)
    turn = TURNS[orientation]
    assert turn is not None
    assert turned.tobytes() == PHOTO.transpose(turn).tobytes()
    assert stored.tobytes() == PHOTO.tobytes()


def test_a_turned_picture_exchanges_its_edges() -> None:
    data = riff(extended(EXIF), pixels_of(PHOTO), chunk(b"EXIF", exif(6)[6:]))
    expected = PHOTO.transpose(Image.Transpose.ROTATE_270)
    assert shown.views(data, expected.size)[0].tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "data",
    [
        riff(extended(0), pixels_of(PHOTO), chunk(b"EXIF", exif(3)[6:])),
        riff(pixels_of(PHOTO), chunk(b"EXIF", exif(3)[6:])),
        riff(extended(EXIF), pixels_of(PHOTO)) + chunk(b"EXIF", exif(3)[6:]),
        riff(extended(EXIF), pixels_of(PHOTO), chunk(b"EXIF", exif(3, kind=4)[6:])),
        riff(extended(4), pixels_of(PHOTO), chunk(b"XMP ", b'<a tiff:Orientation="3"/>')),
        riff(extended(0), chunk(b"ICCP", PROFILE), pixels_of(PHOTO)),
    ],
    ids=["no flag", "no VP8X", "behind the end", "LONG", "XMP", "profile without flag"],
)
def test_what_viewers_ignore_changes_nothing(data: bytes) -> None:
    (found,) = shown.views(data, SIZE)
    assert found.tobytes() == PHOTO.tobytes()


def test_a_profile_is_followed_and_in_an_animation_is_one_more_view() -> None:
    profile = chunk(b"ICCP", PROFILE)
    (managed,) = shown.views(riff(extended(ICC), profile, pixels_of(PHOTO)), SIZE)
    assert shown.difference(managed, PHOTO) > 10
    moving = animation(
        frame(PHOTO, 0, 0, over=False, clear=False), flags=ANIMATED | ICC, more=profile
    )
    assert [view.tobytes() for view in shown.views(moving, SIZE)] == [
        managed.tobytes(),
        PHOTO.tobytes(),
    ]


# Refusals


def without_alpha_hint(image: Image.Image) -> bytes:
    """Clear the bit of a VP8L header that says whether there is alpha."""
    data = bytearray(pixels_of(image))
    data[12] &= ~0x10
    return bytes(data)


STILL = encoded(PHOTO)
MOVING = animation(
    frame(PHOTO, 0, 0, over=False, clear=False), frame(PATCH, 0, 0, over=False, clear=False)
)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        *((STILL[:length], FailReason.TRUNCATED) for length in (-2, -100, 200, 40, 26, 16)),
        (MOVING[:-100], FailReason.TRUNCATED),
        (MOVING[: len(MOVING) // 3], FailReason.TRUNCATED),
        (riff(extended(0, 80, 60), pixels_of(PHOTO)), FailReason.CORRUPT),
        (riff(extended(0, 320, 240), pixels_of(PHOTO)), FailReason.CORRUPT),
        (animation(frame(PATCH, 120, 80, over=False, clear=False)), FailReason.CORRUPT),
        (riff(chunk(b"ABCD", b""), pixels_of(PHOTO)), FailReason.CORRUPT),
        (riff(without_alpha_hint(with_alpha(PHOTO))), FailReason.UNSUPPORTED),
        (riff(extended(0), pixels_of(with_alpha(PHOTO))), FailReason.UNSUPPORTED),
    ],
)
def test_what_is_not_shown_is_refused_for_its_reason(data: bytes, reason: FailReason) -> None:
    assert shown.refusal(data) is reason


def test_bytes_behind_the_end_do_not_matter() -> None:
    (found,) = shown.views(STILL + b"more", SIZE)
    assert found.tobytes() == PHOTO.tobytes()
