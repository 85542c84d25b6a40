from __future__ import annotations

import io
import itertools
import struct
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING

import pictures
import pytest
import shown
from PIL import Image, ImageChops, ImageCms, ImageOps, ImageStat

from nsfwscan.media.decode import decode as module
from nsfwscan.media.decode.decode import decode
from nsfwscan.media.decode.decoded import MAX_SAMPLED_FRAMES
from nsfwscan.media.decode.profiles import MAX_ICC_BYTES
from nsfwscan.media.sniff import READABLE
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.geometry import Geometry, Resample, Resize
from nsfwscan.values.results import FailReason, ImageFacts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# A decode worker ignores the warnings of Pillow about odd metadata.
pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Palette images")

STRETCH = Geometry(Resize.STRETCH, 256, 256, Resample.BILINEAR, 224, 224)
SHORTEST = Geometry(Resize.SHORTEST_EDGE, 235, 235, Resample.BICUBIC, 224, 224)
OBLONG = Geometry(Resize.STRETCH, 96, 48, Resample.BILINEAR, 80, 40)
WHOLE = Geometry(Resize.STRETCH, 64, 48, Resample.BILINEAR, 64, 48)
"""The size of `pictures.photo()`: nothing is resized."""


def reference(image: Image.Image, geometry: Geometry) -> Image.Image:
    """Do what the models' publishers do with an RGB picture, step by step."""
    width, height = geometry.resize_width, geometry.resize_height
    if geometry.resize is Resize.SHORTEST_EDGE:
        short, long = sorted(image.size)
        other = int(width * long / short)
        width, height = (width, other) if image.width <= image.height else (other, width)
    filters = {Resample.BILINEAR: Image.BILINEAR, Resample.BICUBIC: Image.BICUBIC}
    image = image.resize((width, height), filters[geometry.resample])
    left = int(round((width - geometry.crop_width) / 2.0))  # noqa: RUF046 - as torchvision has it
    top = int(round((height - geometry.crop_height) / 2.0))  # noqa: RUF046 - as torchvision has it
    return image.crop((left, top, left + geometry.crop_width, top + geometry.crop_height))


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def as_image(data: bytes, geometry: Geometry, *, full: bool = False) -> Image.Image:
    """Decode a still picture, over white where it is transparent."""
    size = geometry.crop_width, geometry.crop_height
    decoded = decode(data, geometry, full=full)
    assert decoded.facts.frames == 1
    return Image.frombytes("RGB", size, decoded.pixels[: size[0] * size[1] * 3])


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return the mean difference of two RGB pictures in levels of 255."""
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean) / 3


def reason(data: bytes, geometry: Geometry = STRETCH) -> FailReason:
    with pytest.raises(DecodeError) as caught:
        decode(data, geometry)
    assert caught.value.detail or caught.value.reason is FailReason.EMPTY
    return caught.value.reason


# Geometry


@pytest.mark.parametrize(
    "geometry", [STRETCH, SHORTEST, OBLONG], ids=["stretch", "short", "oblong"]
)
@pytest.mark.parametrize(
    "size", [(64, 48), (48, 64), (300, 300), (301, 997), (1403, 600), (2000, 1500), (5, 3)]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_full_decoding_is_the_reference_byte_for_byte(
    size: tuple[int, int], mode: str, geometry: Geometry
) -> None:
    data = pictures.encode(pictures.photo(*size).convert(mode), "JPEG", quality=90)
    expected = reference(opened(data).convert("RGB"), geometry)
    assert decode(data, geometry, full=True).pixels == expected.tobytes()


@pytest.mark.parametrize("geometry", [STRETCH, SHORTEST], ids=["stretch", "short"])
@pytest.mark.parametrize("size", [(2400, 1800), (1100, 4000)])
def test_reduced_scale_is_close_to_full_decoding(size: tuple[int, int], geometry: Geometry) -> None:
    data = pictures.encode(pictures.photo(*size), "JPEG", quality=90)
    assert difference(as_image(data, geometry), as_image(data, geometry, full=True)) < 0.5


def test_reduced_scale_keeps_twice_the_size_of_the_resize(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    render = module.render
    monkeypatch.setattr(
        module,
        "render",
        lambda frame, geometry: seen.append(frame.image.size) or render(frame, geometry),
    )
    for edge in (1023, 1024, 2047, 2048, 4096, 9000):
        decode(pictures.encode(Image.new("L", (edge, edge)), "JPEG"), STRETCH)
    assert seen == [(1023,) * 2, (512,) * 2, (1024,) * 2, (512,) * 2, (512,) * 2, (1125,) * 2]


def test_a_strip_does_not_grow_to_gigabytes_when_its_short_edge_is_kept() -> None:
    data = pictures.encode(Image.new("RGB", (30_000, 3), "red"), "PNG")
    assert as_image(data, SHORTEST).getcolors() == [(224 * 224, (255, 0, 0))]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_taken(kind: type) -> None:
    data = pictures.seeds()["PNG RGB"]
    assert decode(kind(data), WHOLE) == decode(data, WHOLE)


# Facts


@pytest.mark.parametrize("name", pictures.seeds())
def test_the_facts_are_those_of_the_file(name: str) -> None:
    decoded = decode(pictures.seeds()[name], STRETCH)
    frames = decoded.facts.frames
    assert decoded.facts.format == name.split()[0]
    assert (decoded.facts.width, decoded.facts.height) in ((64, 48), (20, 16), (24, 20))
    assert (frames > 1) == ("animated" in name or "pages" in name)
    # What is half transparent is seen over white and over black.
    assert decoded.views == (2 if name in ("PNG RGBA", "WEBP lossless") else frames)
    assert len(decoded.pixels) == decoded.views * 224 * 224 * 3


# Modes and colours


def over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def alpha_photo(mode: str) -> Image.Image:
    image = pictures.photo().convert(mode.removesuffix("A"))
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def with_block() -> Image.Image:
    image = pictures.photo()
    image.paste((0, 0, 255), (8, 8, 40, 40))
    return image


NO_ICC = {"GIF", "BMP"}
PHOTO = pictures.photo()
GRAY = PHOTO.convert("L")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (pictures.encode(PHOTO.convert("1"), "PNG"), PHOTO.convert("1")),
        (pictures.encode(PHOTO.convert("1"), "TIFF", compression="group4"), PHOTO.convert("1")),
        (pictures.encode(PHOTO.quantize(4), "PNG"), PHOTO.quantize(4)),
        (pictures.encode(PHOTO.quantize(16), "BMP"), PHOTO.quantize(16)),
        (pictures.encode(PHOTO.quantize(64), "GIF"), PHOTO.quantize(64)),
        (pictures.encode(pictures.gray_16_bit(PHOTO), "PNG"), GRAY),
        (pictures.encode(pictures.gray_16_bit(PHOTO), "TIFF"), GRAY),
        (pictures.encode(pictures.gray_16_bit(PHOTO, ">"), "TIFF"), GRAY),
        (pictures.encode(PHOTO, "TIFF", compression="tiff_adobe_deflate"), PHOTO),
        (pictures.encode(PHOTO.convert("CMYK"), "TIFF"), PHOTO),
        (pictures.encode(PHOTO.convert("YCbCr"), "TIFF"), PHOTO.convert("YCbCr")),
        (pictures.encode(PHOTO, "WEBP", lossless=True), PHOTO),
        (pictures.encode(PHOTO, "BMP"), PHOTO),
    ],
    ids=[
        "PNG-1", "TIFF-1", "PNG-2-bit", "BMP-4-bit", "GIF-6-bit", "PNG-16", "TIFF-16", "TIFF-16-BE",
        "TIFF-RGB", "TIFF-CMYK", "TIFF-YCbCr", "WEBP", "BMP",
    ],
)  # fmt: skip
def test_modes_look_like_their_srgb_render(data: bytes, expected: Image.Image) -> None:
    assert difference(as_image(data, WHOLE), expected.convert("RGB")) < 1.0
    assert difference(as_image(data, STRETCH), reference(expected.convert("RGB"), STRETCH)) < 1.0


@pytest.mark.parametrize("format_", ["JPEG", "AVIF", "HEIF"])
def test_lossy_formats_look_like_the_picture(format_: str) -> None:
    data = pictures.encode(PHOTO, format_, quality=95)
    assert difference(as_image(data, WHOLE), PHOTO) < 4.0
    assert difference(as_image(data, WHOLE), opened(data).convert("RGB")) < 0.01


@pytest.mark.parametrize(
    "data",
    [
        pictures.encode(alpha_photo("RGBA"), "PNG"),
        pictures.encode(alpha_photo("LA"), "PNG"),
        pictures.encode(alpha_photo("RGBA"), "TIFF"),
        pictures.encode(alpha_photo("RGBA"), "WEBP", lossless=True),
        pictures.encode(with_block(), "PNG", transparency=(0, 0, 255)),
        pictures.encode(with_block().convert("L"), "PNG", transparency=29),
        pictures.encode(PHOTO.convert("1"), "PNG", transparency=0),
        pictures.palette_with_transparency(),
        pictures.encode(PHOTO.quantize(32), "PNG", transparency=bytes(range(0, 256, 8))),
        pictures.encode(PHOTO.quantize(32), "GIF", transparency=0),
    ],
    ids=["RGBA", "LA", "TIFF", "WEBP", "RGB-key", "L-key", "1-key", "P-one", "P-many", "GIF"],
)
def test_transparent_parts_are_white(data: bytes) -> None:
    expected = over_white(opened(data))
    assert difference(expected, opened(data).convert("RGB")) > 0.5, "the sample has no transparency"
    assert difference(as_image(data, WHOLE), expected) < 1.0
    assert difference(as_image(data, STRETCH), reference(expected, STRETCH)) < 1.0


def in_white(mode: str) -> Image.Image:
    """Draw the photo in white and transparency: over white, nothing of it is to be seen."""
    image = Image.new("L", PHOTO.size, 255).convert(mode)
    image.putalpha(PHOTO.convert("L"))
    return image


@pytest.mark.parametrize(
    "data",
    [
        pictures.encode(in_white("RGB"), "PNG"),
        pictures.encode(in_white("L"), "PNG"),
        pictures.encode(in_white("RGB"), "TIFF"),
        pictures.encode(in_white("RGB"), "WEBP", lossless=True),
        pictures.encode(in_white("RGB"), "AVIF", quality=95),
        pictures.encode(in_white("RGB"), "HEIF", quality=95),
    ],
    ids=["PNG", "PNG-LA", "TIFF", "WEBP", "AVIF", "HEIF"],
)
def test_a_picture_painted_in_white_and_transparency_is_seen_over_black_too(data: bytes) -> None:
    white, black = shown.views(data, PHOTO.size)
    assert difference(white, Image.new("RGB", PHOTO.size, "white")) < 2
    assert difference(black, PHOTO.convert("L").convert("RGB")) < 2


def test_a_picture_with_a_few_transparent_pixels_is_seen_once() -> None:
    image = PHOTO.convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, PHOTO.width, PHOTO.height // 16))
    assert len(shown.views(pictures.encode(image, "PNG"), PHOTO.size)) == 1


def test_every_sampled_frame_of_a_transparent_animation_is_seen_over_black_too() -> None:
    frames = [Image.new("RGBA", (24, 20), (255, 255, 255, 5 * at)) for at in range(20)]
    options = {"save_all": True, "append_images": frames[1:], "lossless": True}
    data = pictures.encode(frames[0], "WEBP", **options)
    assert decode(data, WHOLE).views == 2 * MAX_SAMPLED_FRAMES


def test_lab_looks_like_the_picture() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    image = ImageCms.buildTransform(srgb, lab, "RGB", "LAB").apply(PHOTO)
    data = pictures.encode(image, "TIFF", icc_profile=None)
    assert opened(data).mode == "LAB"
    assert difference(as_image(data, WHOLE), PHOTO) < 2.0


@pytest.mark.parametrize(
    ("format_", "mode", "profile"),
    [
        *((name, "RGB", pictures.icc_profile(pictures.P3)) for name in sorted(READABLE - NO_ICC)),
        ("JPEG", "L", pictures.gray_profile(1.4)),
        ("PNG", "L", pictures.gray_profile(1.4)),
        ("JPEG", "CMYK", pictures.cmyk_profile()),
        ("TIFF", "CMYK", pictures.cmyk_profile()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_icc_profiles_are_followed_to_srgb(format_: str, mode: str, profile: bytes) -> None:
    options = {"lossless": True} if format_ == "WEBP" else {}
    image = pictures.photo(600, 400).convert(mode)
    data = pictures.encode(image, format_, icc_profile=profile, **options)
    stored = opened(data)
    expected = ImageCms.profileToProfile(
        stored.copy(),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        outputMode="RGB",
    )
    assert expected is not None
    assert difference(stored.convert("RGB"), expected) > 3.0, "the profile changes nothing"
    assert difference(as_image(data, STRETCH), reference(expected, STRETCH)) < 1.0


def test_a_profile_applies_below_transparency() -> None:
    profile = pictures.icc_profile(pictures.P3)
    plain = pictures.encode(PHOTO, "PNG", icc_profile=profile)
    opaque = PHOTO.copy()
    opaque.putalpha(255)
    assert as_image(pictures.encode(opaque, "PNG", icc_profile=profile), WHOLE) == as_image(
        plain, WHOLE
    )


def test_an_srgb_profile_leaves_every_byte_alone() -> None:
    plain = pictures.encode(pictures.photo(300, 200), "JPEG")
    with_profile = pictures.encode(
        pictures.photo(300, 200), "JPEG", icc_profile=pictures.srgb_profile()
    )
    assert decode(plain, STRETCH).pixels == decode(with_profile, STRETCH).pixels


@pytest.mark.parametrize(
    "profile",
    [
        b"no profile",
        pictures.srgb_profile()[:200],
        bytes(MAX_ICC_BYTES + 1),
        pictures.gray_profile(1.0),
        pictures.cmyk_profile(),
    ],
    ids=["text", "cut", "zeros", "grey", "ink"],
)
def test_a_useless_profile_is_ignored(profile: bytes) -> None:
    data = pictures.encode(PHOTO, "JPEG", icc_profile=profile)
    expected = opened(data).convert("RGB")
    assert decode(data, STRETCH).pixels == reference(expected, STRETCH).tobytes()


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize(
    ("at", "value"), [(12, b"link"), (12, b"abst"), (16, b"Lab "), (16, b"HSV ")]
)
def test_a_profile_that_is_not_one_of_a_picture_is_refused(
    format_: str, at: int, value: bytes
) -> None:
    """Chromium does not read these fields and applies it; others ignore the profile."""
    profile = pictures.icc_profile(pictures.P3)
    changed = profile[:at] + value + profile[at + 4 :]
    assert reason(pictures.encode(PHOTO, format_, icc_profile=changed)) is FailReason.UNSUPPORTED


def test_a_cmyk_jpeg_is_inverted_as_adobe_marks_it() -> None:
    data = pictures.encode(PHOTO.convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data
    assert difference(as_image(data, WHOLE), PHOTO) < 3.0


# Orientation


@pytest.mark.parametrize(
    "geometry", [STRETCH, OBLONG, SHORTEST], ids=["stretch", "oblong", "short"]
)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF", "AVIF"])
def test_exif_orientation_is_followed(format_: str, orientation: int, geometry: Geometry) -> None:
    data = pictures.with_orientation(pictures.photo(200, 120), orientation, format_)
    expected = reference(ImageOps.exif_transpose(opened(data)).convert("RGB"), geometry)
    assert difference(as_image(data, geometry), expected) < 0.3
    facts = decode(data, geometry).facts
    assert (facts.width, facts.height) == (200, 120)


def test_broken_exif_is_ignored() -> None:
    good = pictures.with_orientation(PHOTO, 6, "JPEG")
    bad = good.replace(b"Exif\0\0MM\0*\0\0\0\x08", b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert bad != good
    plain = pictures.encode(PHOTO, "JPEG")
    assert decode(bad, STRETCH).pixels == decode(plain, STRETCH).pixels


# Animations


@pytest.mark.parametrize("frames", [2, 16, 17, 40, 100])
@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_animations_are_sampled_evenly_with_both_ends(format_: str, frames: int) -> None:
    geometry = Geometry(Resize.STRETCH, 24, 20, Resample.BILINEAR, 24, 20)
    decoded = decode(pictures.animation(format_, frames), geometry)
    size = 24 * 20 * 3
    assert decoded.facts == ImageFacts(format_, 24, 20, frames)
    assert decoded.views == min(frames, MAX_SAMPLED_FRAMES)
    seen = [
        pictures.frame_number(decoded.pixels[at * size : (at + 1) * size])
        for at in range(decoded.views)
    ]
    assert seen == module.spread(frames)


@pytest.mark.parametrize("frames", [1, 2, 15, 16, 17, 31, 32, 1000, 100_000])
def test_the_spread_is_even(frames: int) -> None:
    chosen = module.spread(frames)
    assert chosen[0] == 0
    assert chosen[-1] == frames - 1
    assert len(set(chosen)) == min(frames, 16)
    gaps = [after - before for before, after in itertools.pairwise(chosen)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_an_animation_cut_short_is_not_passed_for_whole() -> None:
    whole = pictures.animation("PNG", 30)
    decoded = decode(whole[: len(whole) // 2], STRETCH)
    assert 1 <= decoded.views < MAX_SAMPLED_FRAMES
    assert decoded.facts.missing


def test_an_animation_too_long_to_look_at_is_refused_early() -> None:
    with pytest.raises(DecodeError, match="100000 frames") as caught:
        decode(pictures.gif_bomb(100_000, (400, 400)), OBLONG)
    assert caught.value.reason is FailReason.DECODER_TIMEOUT


def test_an_mpo_is_read_as_its_first_picture() -> None:
    other = pictures.photo(seed=3)
    data = pictures.encode(PHOTO, "MPO", quality=95, save_all=True, append_images=[other])
    assert opened(data).n_frames == 2
    decoded = decode(data, STRETCH)
    assert decoded.facts == ImageFacts("JPEG", 64, 48, 1)
    assert difference(as_image(data, WHOLE), PHOTO) < 4.0


# Refusals


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", FailReason.EMPTY),
        (b"hello", FailReason.UNRECOGNISED),
        (b"\xff\x0a" + bytes(100), FailReason.UNSUPPORTED),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", FailReason.UNSUPPORTED),
        (b"\xff\xd8\xff", FailReason.CORRUPT),
        (pictures.seeds()["JPEG baseline"][:-300], FailReason.TRUNCATED),
        (pictures.seeds()["PNG RGB"][:-60], FailReason.TRUNCATED),
        (pictures.seeds()["GIF"][:-60], FailReason.TRUNCATED),
        (pictures.seeds()["BMP"][:-60], FailReason.TRUNCATED),
        (pictures.seeds()["PNG RGB"].replace(b"IDAT", b"IDAX"), FailReason.CORRUPT),
    ],
)
def test_each_refusal_has_its_reason(data: bytes, expected: FailReason) -> None:
    assert reason(data) is expected


def test_a_twelve_bit_jpeg_is_unsupported_not_corrupt() -> None:
    data = bytearray(pictures.seeds()["JPEG baseline"])
    data[data.index(b"\xff\xc0") + 4] = 12
    assert reason(bytes(data)) is FailReason.UNSUPPORTED


@pytest.mark.parametrize(
    ("interpreter", "command"),
    [
        ("/opt/venv/bin/python", "/opt/venv/bin/python -m pip install pillow-heif"),
        ("/my venv/bin/python", '"/my venv/bin/python" -m pip install pillow-heif'),
    ],
)
def test_heic_without_its_codec_names_the_command_that_installs_it(
    interpreter: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(sys, "executable", interpreter)
    with pytest.raises(DecodeError) as caught:
        decode(pictures.seeds()["HEIF"], STRETCH)
    assert caught.value.reason is FailReason.UNSUPPORTED
    assert caught.value.detail == f"HEIC pictures need pillow-heif: {command}"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Image.UnidentifiedImageError("x"), FailReason.CORRUPT),
        (Image.DecompressionBombError("x"), FailReason.TOO_MANY_PIXELS),
        (MemoryError(), FailReason.DECODER_MEMORY),
        (OSError("out of memory when reading image file"), FailReason.DECODER_MEMORY),
        (OSError("image file is truncated (3 bytes not processed)"), FailReason.TRUNCATED),
        (OSError("broken data stream when reading image file"), FailReason.CORRUPT),
        (EOFError("no more images"), FailReason.TRUNCATED),
        (SyntaxError("broken PNG file"), FailReason.CORRUPT),
        (struct.error("unpack requires a buffer"), FailReason.CORRUPT),
        (zlib.error("bad"), FailReason.CORRUPT),
        (ImageCms.PyCMSError("x"), FailReason.CORRUPT),
        (RecursionError(), FailReason.CORRUPT),
        (ZeroDivisionError(), FailReason.CORRUPT),
        (OverflowError("x"), FailReason.CORRUPT),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), FailReason.CORRUPT),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_no_error_of_pillow_leaks(
    error: Exception, expected: FailReason, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("nsfwscan.media.decode.formats.png.load", fail)
    assert reason(pictures.seeds()["PNG RGB"]) is expected


# Limits


@pytest.mark.parametrize(
    "bomb",
    [
        lambda: pictures.png(13_348, 13_348, rows=b""),
        lambda: pictures.png(2**31 - 1, 2**31 - 1, rows=b""),
        pictures.tiff_bomb,
        lambda: pictures.tall_jpeg(20_480, 65_520 // 16 * 16),
        lambda: pictures.jpeg_scan_bomb(200, (64, 48)),
    ],
    ids=["PNG", "PNG-max", "TIFF", "JPEG-1342-MP", "JPEG-scans"],
)
def test_bombs_are_refused_from_the_header(bomb: Callable[[], bytes]) -> None:
    asked: list[int] = []
    with pytest.raises(DecodeError) as caught:
        decode(bomb(), STRETCH, before_pixels=lambda memory, _: asked.append(memory))
    assert caught.value.reason in (FailReason.TOO_MANY_PIXELS, FailReason.UNSUPPORTED)
    assert asked == [], "the limits come before the memory"


def test_full_scale_has_the_limit_of_the_other_formats() -> None:
    data = pictures.tall_jpeg(9_600, 9_600)
    assert decode(data, STRETCH).facts.width == 9_600
    with pytest.raises(DecodeError, match="92 MP") as caught:
        decode(data, STRETCH, full=True)
    assert caught.value.reason is FailReason.TOO_MANY_PIXELS


def test_the_memory_is_announced_before_it_is_taken() -> None:
    asked: list[int] = []
    data = pictures.encode(pictures.photo(1200, 1200), "JPEG")
    decode(data, STRETCH, before_pixels=lambda memory, _: asked.append(memory))
    decode(data, STRETCH, full=True, before_pixels=lambda memory, _: asked.append(memory))
    progressive = pictures.encode(pictures.photo(1200, 1200), "JPEG", progressive=True)
    decode(progressive, STRETCH, before_pixels=lambda memory, _: asked.append(memory))
    reduced, full, with_coefficients = asked
    assert reduced == 600 * 600 * 4
    assert full == 1200 * 1200 * 4
    assert with_coefficients == reduced + 2 * 1200 * 1200 * 3 // 2


# What is loaded


@pytest.mark.parametrize(
    ("names", "plugins"),
    [
        (["JPEG baseline", "PNG RGB"], {"Jpeg"}),
        (list(pictures.seeds()), {"Jpeg", "WebP", "Tiff", "Avif"}),
    ],
)
def test_only_the_codecs_of_the_pictures_are_loaded(
    names: list[str], plugins: set[str], tmp_path: Path
) -> None:
    code = """
import sys
from nsfwscan.media.decode import decode
from nsfwscan.models.manifest import *
decode.prepare_process()
geometry = Geometry(Resize.STRETCH, 64, 64, Resample.BILINEAR, 64, 64)
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        decode.decode(file.read(), geometry)
print(*(m for m in sys.modules if m.startswith("PIL.") and m.endswith("ImagePlugin")))
assert "numpy" not in sys.modules
"""
    for name in names:
        # The names of the files say nothing, or lie.
        (tmp_path / f"{name}.eps").write_bytes(pictures.seeds()[name])
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert set(done.stdout.split()) == {f"PIL.{name}ImagePlugin" for name in plugins}


def test_a_lying_name_inside_does_not_choose_the_codec() -> None:
    # A PNG whose first chunk says PostScript, and a PostScript whose comment says PNG.
    chunk = pictures.png_chunk(b"tEXt", b"Comment\0%!PS-Adobe-3.0 EPSF-3.0")
    whole = pictures.seeds()["PNG RGB"]
    assert decode(whole[:33] + chunk + whole[33:], STRETCH).facts.format == "PNG"
    assert reason(b"%!PS\n% " + whole) is FailReason.UNSUPPORTED
