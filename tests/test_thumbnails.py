from __future__ import annotations

import hashlib
import io
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pictures
import pytest
import shown
from PIL import Image

from nsfwscan.media.decode import wire
from nsfwscan.media.decode.pool import DecodePool
from nsfwscan.media.decode.thumbnail import PIXELATED_LONGEST, Thumbnail, ThumbnailForm
from nsfwscan.scanning.engine import Engine
from nsfwscan.scanning.thumbnails import thumbnail_of
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.geometry import Geometry, Resample, Resize
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nsfwscan.models.classifier import Classifier


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(1) as started:
        yield started


def opened(thumbnail: Thumbnail) -> Image.Image:
    """Decode a thumbnail, which must be what it says it is."""
    size = (thumbnail.width, thumbnail.height)
    if thumbnail.media_type == ThumbnailForm.RGB:
        return Image.frombytes("RGB", size, thumbnail.data)
    image = Image.open(io.BytesIO(thumbnail.data))
    assert Image.MIME[image.format] == thumbnail.media_type
    assert image.size == size
    return image.convert("RGB")


def rgb(pool: DecodePool, data: bytes, longest: int, *, frame: int = 0) -> Image.Image:
    return opened(pool.thumbnail(data, longest, frame=frame, form=ThumbnailForm.RGB))


# What it shows


@pytest.mark.parametrize("name", pictures.seeds())
def test_a_thumbnail_shows_what_the_model_sees(name: str, pool: DecodePool) -> None:
    data = pictures.seeds()[name]
    made = rgb(pool, data, 32)
    assert shown.difference(made, shown.views(data, made.size)[0]) < shown.TOLERANCE
    assert shown.difference(opened(pool.thumbnail(data, 32)), made) < 3 * shown.TOLERANCE


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_thumbnail_is_upright_and_keeps_its_shape(orientation: int, pool: DecodePool) -> None:
    data = pictures.with_orientation(pictures.photo(80, 40), orientation, "JPEG", quality=95)
    made = rgb(pool, data, 40)
    assert made.size == ((20, 40) if orientation >= 5 else (40, 20))
    assert shown.difference(made, shown.views(data, made.size)[0]) < 3


@pytest.mark.parametrize(
    ("size", "longest", "expected"),
    [
        ((1000, 500), 96, (96, 48)),
        ((500, 1000), 96, (48, 96)),
        ((20, 10), 96, (20, 10)),
        ((1, 1), 96, (1, 1)),
        ((3000, 2), 96, (96, 1)),
        ((1000, 500), 1, (1, 1)),
    ],
)
def test_a_thumbnail_is_never_enlarged_and_never_empty(
    size: tuple[int, int], longest: int, expected: tuple[int, int], pool: DecodePool
) -> None:
    made = pool.thumbnail(pictures.encode(pictures.photo(*size), "PNG"), longest)
    assert (made.width, made.height) == expected == opened(made).size


def test_transparency_is_shown_over_white(pool: DecodePool) -> None:
    clear = Image.new("RGBA", (40, 40), (200, 0, 0, 0))
    made = rgb(pool, pictures.encode(clear, "PNG"), 20)
    assert made.getextrema() == ((255, 255),) * 3


def test_cmyk_and_profiles_are_shown_in_srgb(pool: DecodePool) -> None:
    inks = pictures.photo(64, 48).convert("CMYK")
    data = pictures.encode(inks, "JPEG", quality=95, icc_profile=pictures.cmyk_profile())
    made = rgb(pool, data, 48)
    assert shown.difference(made, shown.views(data, made.size)[0]) < 3
    assert shown.difference(made, inks.convert("RGB").resize(made.size)) > 10


@pytest.mark.parametrize("frames", [1, 2, 16, 20, 50])
@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_the_frame_that_decided_is_shown(format_: str, frames: int, pool: DecodePool) -> None:
    data = pictures.animation(format_, frames)
    scored = pool.decode(data, Geometry(Resize.STRETCH, 24, 20, Resample.BILINEAR, 24, 20))
    length = 24 * 20 * 3
    for view, frame in enumerate(scored.shown):
        made = rgb(pool, data, 24, frame=frame).tobytes()
        expected = scored.pixels[view * length :][:length]
        assert pictures.frame_number(made) == pictures.frame_number(expected)
    last = rgb(pool, data, 24, frame=scored.facts.frames - 1)
    assert rgb(pool, data, 24, frame=10_000) == last


# What it does not show


@pytest.mark.parametrize("longest", [8, 16, 96, 1024])
@pytest.mark.parametrize("name", pictures.seeds())
def test_a_pixelated_thumbnail_has_few_real_pixels_whatever_is_asked_for(
    name: str, longest: int, pool: DecodePool
) -> None:
    made = pool.thumbnail(pictures.seeds()[name], longest, pixelated=True)
    assert max(opened(made).size) <= PIXELATED_LONGEST <= 16
    assert len(made.data) < 400


def test_a_thumbnail_carries_nothing_else_of_the_file(pool: DecodePool) -> None:
    exif = Image.Exif()
    exif[0x010E] = "where we live"
    hidden = b"where we live"
    photo = pictures.photo(200, 150)
    data = pictures.encode(photo, "JPEG", exif=exif, comment=hidden, icc_profile=hidden * 20)
    data += hidden
    for form in ThumbnailForm:
        made = pool.thumbnail(data, 96, form=form)
        assert hidden not in made.data
        if form is not ThumbnailForm.RGB:
            assert not {"exif", "comment", "icc_profile"} & set(
                Image.open(io.BytesIO(made.data)).info
            )


# Bad files and bad answers


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", FailReason.EMPTY),
        (b"no picture", FailReason.UNRECOGNISED),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", FailReason.UNSUPPORTED),
        (pictures.seeds()["JPEG baseline"][:300], FailReason.TRUNCATED),
        (pictures.seeds()["PNG RGB"][:60] + b"x" * 100, FailReason.CORRUPT),
        (pictures.tiff_bomb(), FailReason.TOO_MANY_PIXELS),
    ],
)
def test_a_file_that_cannot_be_decoded_is_refused_as_when_it_is_scored(
    data: bytes, reason: FailReason, pool: DecodePool
) -> None:
    with pytest.raises(DecodeError) as caught:
        pool.thumbnail(data, 96)
    with pytest.raises(DecodeError) as scored:
        pool.decode(data, Geometry(Resize.STRETCH, 32, 24, Resample.BILINEAR, 20, 16))
    assert caught.value.reason == scored.value.reason
    assert caught.value.reason == reason
    assert pool.thumbnail(pictures.seeds()["GIF"], 96).width == 64


def test_a_large_picture_asks_for_its_memory_first(pool: DecodePool) -> None:
    before = pool.restarts
    made = pool.thumbnail(pictures.png_bomb(6000, 6000), 96)
    assert (made.width, made.height) == (96, 96)
    assert pool.restarts == before


@pytest.mark.parametrize(("longest", "frame"), [(0, 0), (-1, 0), (4096, 0), (96, -1)])
def test_a_thumbnail_that_makes_no_sense_is_a_mistake_of_the_caller(
    longest: int, frame: int, pool: DecodePool
) -> None:
    with pytest.raises(ValueError, match="thumbnail"):
        pool.thumbnail(pictures.seeds()["GIF"], longest, frame=frame)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        struct.pack("<HH", 8, 8),
        struct.pack("<HH", 97, 8) + b"x",
        struct.pack("<HH", 0, 8) + b"x",
    ],
)
def test_an_answer_that_is_no_thumbnail_is_garbage(body: bytes) -> None:
    with pytest.raises(wire.Garbled):
        wire.ThumbnailRequest(96, ThumbnailForm.JPEG, False, 0).result(body)


def test_an_answer_with_more_pixels_than_a_pixelated_one_may_have_is_garbage() -> None:
    body = struct.pack("<HH", 17, 8) + b"x"
    with pytest.raises(wire.Garbled):
        wire.ThumbnailRequest(96, ThumbnailForm.WEBP, True, 0).result(body)


def test_a_request_for_a_thumbnail_survives_the_pipe() -> None:
    wanted = wire.ThumbnailRequest(2048, ThumbnailForm.PNG, True, 1 << 31)
    header = wire.pack_request(7, 1 << 33, wanted)
    assert len(header) == wire.REQUEST_BYTES
    assert wire.Request.unpack(header) == (7, 1 << 33, wanted)


# Who makes it


def test_the_content_that_is_shown_is_named(tmp_path: Path, pool: DecodePool) -> None:
    data = pictures.seeds()["JPEG baseline"]
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    made = thumbnail_of(str(path), 32, pool=pool, pixelated=True)
    assert made.sha256 == hashlib.sha256(data).digest()
    assert made.thumbnail == pool.thumbnail(data, 32, pixelated=True)
    path.unlink()
    with pytest.raises(DecodeError) as caught:
        thumbnail_of(str(path), 32, pool=pool)
    assert caught.value.reason is FailReason.VANISHED


def test_the_program_loads_no_pictures_library_for_a_thumbnail(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(pictures.seeds()["PNG RGB"])
    code = """
import sys
from nsfwscan.media.decode.pool import DecodePool
from nsfwscan.scanning.engine import Engine
from nsfwscan.scanning.thumbnails import thumbnail_of
with DecodePool(1) as pool:
    print(thumbnail_of(sys.argv[1], 8, pool=pool).thumbnail.width)
assert not {"PIL", "numpy"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.png"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "8\n"


def test_decoding_for_the_model_loads_no_encoder() -> None:
    code = """
import sys
from nsfwscan.media.decode import decode, worker
assert "nsfwscan.media.decode.miniature" not in sys.modules
assert "PIL.WebPImagePlugin" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


def test_an_engine_makes_thumbnails_without_loading_a_model(tmp_path: Path) -> None:
    def load() -> Classifier:
        raise AssertionError("the model was loaded")

    geometry = Geometry(Resize.STRETCH, 32, 32, Resample.BILINEAR, 32, 32)
    path = tmp_path / "a.gif"
    path.write_bytes(pictures.animation("GIF", 3))
    with Engine(load, geometry, jobs=1) as engine:
        made = engine.thumbnail(str(path), 24, frame=2, form=ThumbnailForm.RGB)
        assert pictures.frame_number(made.thumbnail.data) == 2
        assert made.sha256 == hashlib.sha256(path.read_bytes()).digest()
        engine.unload()
        assert engine.thumbnail(path.read_bytes(), 24).thumbnail.width == 24
