"""A PNG has the colours and the orientation that browsers give it."""

from __future__ import annotations

import io
import struct

import numpy as np
import pictures
import png_files as files
import pytest
from PIL import Image, ImageCms
from png_files import GREY, HEIGHT, PALETTE, RGB, RGB_ALPHA, WIDTH, Layout, assemble, chunk, damaged
from test_png import difference, native, shown, views

from nsfwscan.media.decode.decode import decode
from nsfwscan.media.decode.profiles import MAX_ICC_BYTES

pytestmark = pytest.mark.usefixtures("over_white_only")

LAYOUTS = [
    Layout(GREY, 8),
    Layout(GREY, 16),
    Layout(GREY, 4),
    Layout(RGB, 8),
    Layout(RGB, 16),
    Layout(PALETTE, 8),
    Layout(RGB_ALPHA, 8),
    Layout(RGB_ALPHA, 16),
]
RGB_8 = Layout(RGB, 8)
GREY_8 = Layout(GREY, 8)
P3_XY = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
SRGB_XY = (0.3127, 0.3290, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060)
P3_TO_SRGB = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])
"""Linear light, both with the white of D65."""

LINEAR = files.gama(1.0)
SRGB = chunk(b"sRGB", b"\0")
P3 = pictures.icc_profile(pictures.P3, gamma=1.0)


def expected(layout: Layout, light_of: object, matrix: np.ndarray | None = None) -> np.ndarray:
    """Compute what is shown over white, from the samples and the definition of sRGB."""
    pixels = np.array(files.samples(layout), float)
    if layout.kind == PALETTE:
        colours = np.frombuffer(files.palette(layout.depth), np.uint8).reshape(-1, 3)
        coded = colours[pixels[:, :, 0].astype(int)] / 255
    else:
        coded = pixels / ((1 << layout.depth) - 1)
    colour, alpha = coded, np.ones((HEIGHT, WIDTH, 1))
    if layout.kind == RGB_ALPHA:
        colour, alpha = coded[:, :, :3], coded[:, :, 3:]
    light = light_of(colour)
    if matrix is not None and light.shape[2] == 3:
        light = np.clip(light @ matrix.T, 0, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.broadcast_to(255 * (encoded * alpha + 1 - alpha), (HEIGHT, WIDTH, 3))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("gamma", [1.0, 0.7, 0.55, 0.3])
@pytest.mark.parametrize("matrix", [None, P3_TO_SRGB], ids=["", "p3"])
def test_gama_and_chrm_are_followed(
    layout: Layout, gamma: float, matrix: np.ndarray | None
) -> None:
    primaries = [] if matrix is None else [files.chrm(*P3_XY)]
    browsers, others = views(assemble(layout, *primaries, files.gama(gamma)))
    wanted = expected(layout, lambda coded: coded ** (1 / gamma), matrix)
    assert difference(browsers, wanted) < 2.5
    assert np.array_equal(others, shown(assemble(layout)))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(("transfer", "exponent"), [(8, 1.0), (4, 2.2), (5, 2.8), (1, 2.4)])
@pytest.mark.parametrize(("primaries", "matrix"), [(1, None), (12, P3_TO_SRGB)])
def test_cicp_is_followed(
    layout: Layout, transfer: int, exponent: float, primaries: int, matrix: np.ndarray | None
) -> None:
    browsers, _ = views(assemble(layout, files.cicp(primaries, transfer)))
    wanted = expected(layout, lambda coded: coded**exponent, matrix)
    assert difference(browsers, wanted) < 2.5


@pytest.mark.parametrize("layout", [Layout(GREY, 8), Layout(GREY, 16), RGB_8], ids=str)
def test_pq_is_mapped_to_the_tones_of_a_page(layout: Layout) -> None:
    def light(coded: np.ndarray) -> np.ndarray:
        root = coded ** (32 / 2523)
        ratio = np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)
        nits = 10_000 * ratio ** (8192 / 1305)
        return np.minimum(nits / 203 / 2, 1)  # right up to the white of a page

    browsers, _ = views(assemble(layout, files.cicp(1, 16)))
    wanted = expected(layout, light)
    below = wanted.max(axis=2) < 185
    assert below.mean() > 0.2
    assert np.abs(browsers - wanted)[below].mean() < 4


@pytest.mark.parametrize("transfer", [16, 18])
def test_the_brightest_light_decides_how_dark_the_rest_is(transfer: int) -> None:
    """The light of the content goes before that of the display; zero stands for neither."""
    named = files.cicp(9, transfer)

    def content(nits: int) -> bytes:
        return chunk(b"cLLI", struct.pack(">II", nits * 10_000, 1))

    def display(nits: int) -> bytes:
        return chunk(b"mDCV", bytes(16) + struct.pack(">II", nits * 10_000, 1))

    def seen(*chunks: bytes) -> np.ndarray:
        return views(assemble(RGB_8, named, *chunks))[0]

    usual, dim = seen(), seen(content(203))
    assert difference(usual, dim) > 5
    assert np.array_equal(dim, seen(display(203)))
    assert np.array_equal(dim, seen(display(1000), content(203)))
    assert np.array_equal(dim, seen(display(203), content(0)))
    assert np.array_equal(usual, seen(display(203), content(1000)))


@pytest.mark.parametrize(
    "chunks",
    [
        (SRGB,),
        (files.gama(0.45455),),
        (SRGB, files.gama(0.45455), files.chrm(*SRGB_XY)),
        (files.gama(0.45455), files.chrm(*SRGB_XY)),
        (files.chrm(*P3_XY),),
        (files.gama(0),),
        (files.gama(1.0), files.chrm(*[0.0] * 8)),
        (SRGB, LINEAR),
        (LINEAR, SRGB),
        (files.cicp(1, 13), LINEAR),
        (files.cicp(1, 13, 0, 0),),
        (files.cicp(1, 2),),
        (files.cicp(1, 8, 1, 1),),
        (files.cicp(1, 8)[:-1] + b"\0",),
        (damaged(LINEAR),),
        (files.iccp(b"no profile" * 50),),
        (files.iccp(P3[:200]),),
        (damaged(files.iccp(P3)),),
        (chunk(b"iCCP", b"x\0\1" + P3),),
        (files.iccp(b"no profile" * 50), files.gama(0.45455)),
    ],
    ids=[
        "sRGB", "gAMA", "all-srgb", "gAMA-cHRM", "cHRM", "gAMA-0", "cHRM-nonsense",
        "sRGB-over-gAMA", "sRGB-later", "cICP-over-gAMA", "narrow", "unspecified", "matrix",
        "cICP-crc", "gAMA-crc",
        "junk", "cut-profile", "iCCP-crc", "compression", "junk-and-gAMA",
    ],
)  # fmt: skip
def test_these_chunks_change_nothing(chunks: tuple[bytes, ...]) -> None:
    assert np.array_equal(shown(assemble(RGB_8, *chunks)), shown(assemble(RGB_8)))


@pytest.mark.parametrize(
    ("chunks", "same_as"),
    [
        ((files.cicp(1, 8), files.iccp(P3)), (files.cicp(1, 8),)),
        ((files.iccp(P3), files.cicp(1, 8)), (files.cicp(1, 8),)),
        ((files.cicp(9, 2), LINEAR), (LINEAR,)),
        ((files.iccp(P3), SRGB, LINEAR), (files.iccp(P3),)),
        ((SRGB, files.iccp(P3)), (files.iccp(P3),)),
        ((files.iccp(b"no profile" * 50), LINEAR), (LINEAR,)),
        ((chunk(b"sRGB", b"\7"), LINEAR), (LINEAR,)),
        ((chunk(b"sRGB"), LINEAR), (LINEAR,)),
        ((LINEAR, files.gama(0.3)), (LINEAR,)),
        ((damaged(files.gama(0.3)), LINEAR), (LINEAR,)),
        ((files.iccp(P3), files.iccp(pictures.srgb_profile())), (files.iccp(P3),)),
        ((files.iccp(P3.ljust(2_000_000, b"\0")),), (files.iccp(P3),)),
    ],
    ids=[
        "cICP-iCCP", "iCCP-cICP", "unknown-cICP", "iCCP-sRGB-gAMA", "sRGB-iCCP", "junk-gAMA",
        "no-intent", "empty-sRGB", "first-gAMA", "good-gAMA", "first-iCCP", "padded-iCCP",
    ],
)  # fmt: skip
def test_cicp_goes_before_iccp_before_srgb_before_gama(
    chunks: tuple[bytes, ...], same_as: tuple[bytes, ...]
) -> None:
    one, other = views(assemble(RGB_8, *chunks))[0], views(assemble(RGB_8, *same_as))[0]
    assert np.array_equal(one, other)
    assert difference(one, shown(assemble(RGB_8))) > 10


@pytest.mark.parametrize(
    "layout", [RGB_8, GREY_8, Layout(GREY, 16), Layout(PALETTE, 8), Layout(GREY, 1)], ids=str
)
def test_colour_behind_the_image_data_does_not_count(layout: Layout) -> None:
    after = (files.iccp(P3), LINEAR, files.cicp(1, 8), files.iccp(pictures.gray_profile(1.0)))
    assert np.array_equal(shown(assemble(layout, after=after)), shown(assemble(layout)))


def test_colour_between_palette_and_image_data_is_shown_in_both_ways() -> None:
    layout = Layout(PALETTE, 8)
    for late in (files.iccp(P3), LINEAR):
        with_it, without_it = views(assemble(layout, middle=(late,)))
        assert np.array_equal(with_it, views(assemble(layout, late))[0])
        assert np.array_equal(without_it, shown(assemble(layout)))


@pytest.mark.parametrize("more", [1, MAX_ICC_BYTES])
def test_what_follows_a_profile_does_not_count(more: int) -> None:
    followed = shown(assemble(RGB_8, files.iccp(P3 + bytes(more))))
    assert np.array_equal(followed, shown(assemble(RGB_8, files.iccp(P3))))


def test_grey_with_a_profile_of_rgb_is_shown_through_it() -> None:
    levels = bytes(pixel[0] for row in files.samples(GREY_8) for pixel in row)
    wanted = ImageCms.profileToProfile(
        Image.frombytes("L", (WIDTH, HEIGHT), levels).convert("RGB"),
        ImageCms.ImageCmsProfile(io.BytesIO(P3)),
        ImageCms.createProfile("sRGB"),
    )
    for layout in (GREY_8, Layout(GREY, 16)):
        view = shown(assemble(layout, files.iccp(P3)))
        assert difference(view, np.asarray(wanted, float)) < 3


@pytest.mark.parametrize("depth", [2, 4, 8, 16])
@pytest.mark.parametrize("profile", [pictures.gray_profile(1.0), P3], ids=["grey", "rgb"])
def test_a_profile_counts_below_a_transparent_colour(depth: int, profile: bytes) -> None:
    layout = Layout(GREY, depth)
    key = chunk(b"tRNS", files.transparency(layout) or b"")
    opaque = shown(assemble(layout, files.iccp(profile)))
    keyed = shown(assemble(layout, files.iccp(profile), key))
    transparent = shown(assemble(layout, key)) != shown(assemble(layout))
    assert (keyed[transparent] == 255).all()
    assert np.abs(keyed - opaque)[~transparent].max() <= 1
    assert transparent.any()


def test_grey_of_an_animation_keeps_its_profile() -> None:
    part = files.Part((0, 0, 0, 0), (0, 0, WIDTH, HEIGHT))
    frame = files.count_of(1) + files.control(0, part)
    for profile in (pictures.gray_profile(1.0), P3):
        still = shown(assemble(GREY_8, files.iccp(profile)))
        animated = shown(assemble(GREY_8, files.iccp(profile), frame))
        assert np.abs(animated - still).max() <= 1
        assert difference(still, shown(assemble(GREY_8))) > 10


def test_a_profile_for_other_samples_does_not_count() -> None:
    for profile in (pictures.gray_profile(1.0), pictures.cmyk_profile()):
        view = shown(assemble(RGB_8, files.iccp(profile)))
        assert np.array_equal(view, shown(assemble(RGB_8)))


# Orientation


def exif_in_text(orientation: int) -> bytes:
    block = b"Exif\0\0" + files.exif(orientation)[8:-4]
    text = f"\nexif\n{len(block):8}\n{block.hex()}\n".encode()
    return chunk(b"tEXt", b"Raw profile type exif\0" + text)


def xmp(orientation: int) -> bytes:
    text = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
        'syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
        f'tiff:Orientation="{orientation}"/></rdf:RDF></x:xmpmeta>'
    )
    return chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + text.encode())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((), (files.exif(3),)),
        ((xmp(3), exif_in_text(3)), ()),
        ((), (xmp(3), exif_in_text(3))),
        ((damaged(files.exif(3)),), ()),
        ((chunk(b"eXIf", b"Exif\0\0" + files.exif(3)[8:-4]),), ()),
        ((chunk(b"eXIf", b"junk"), files.exif(3)), ()),
        ((chunk(b"zxIf", files.exif(3)[8:-4]),), ()),
    ],
    ids=["after", "texts", "texts-after", "crc", "prefix", "second", "old-name"],
)
def test_an_orientation_out_of_its_place_does_not_count(
    before: tuple[bytes, ...], after: tuple[bytes, ...]
) -> None:
    view = shown(assemble(RGB_8, *before, after=after))
    assert np.array_equal(view, shown(assemble(RGB_8)))


@pytest.mark.parametrize("layout", [RGB_8, Layout(PALETTE, 8), Layout(GREY, 16)], ids=str)
def test_the_first_exif_turns_the_picture(layout: Layout) -> None:
    data = assemble(layout, files.exif(3), files.exif(1))
    assert np.array_equal(shown(data), shown(assemble(layout))[::-1, ::-1])


def test_text_of_any_size_does_not_matter() -> None:
    texts = [chunk(b"tEXt", b"key\0" + bytes(8 << 20)) for _ in range(9)]
    decoded = decode(assemble(RGB_8, *texts), native())
    assert decoded.pixels == decode(assemble(RGB_8), native()).pixels
