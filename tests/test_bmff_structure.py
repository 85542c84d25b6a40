"""AVIF and HEIC of several pictures, odd brands and codings, short, large and hostile."""

from __future__ import annotations

import contextlib
import random
import struct
from typing import TYPE_CHECKING

import bmff_files as files
import pictures
import pytest
from bmff_files import box, crop, edited, imir, irot
from bmff_shown import (
    SIZE,
    SMALL,
    TOLERANCE,
    difference,
    frames_of,
    outcome,
    over_white,
    sequence,
    small,
    transformed,
    views,
)

from nsfwscan.media.decode.decode import decode
from nsfwscan.media.decode.formats import heif, heif_grid
from nsfwscan.media.decode.formats.bmff import Bmff
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.filterwarnings("ignore:Corrupt EXIF"),
    pytest.mark.usefixtures("over_white_only"),
]


def reason(data: bytes) -> FailReason:
    with pytest.raises(DecodeError) as caught:
        decode(data, SMALL)
    assert caught.value.detail
    return caught.value.reason


# Stills and sequences


@pytest.mark.parametrize("brand", [b"avis", b"avif", b"mif1", b"msf1"])
@pytest.mark.parametrize("frames", [2, 3, 40])
def test_a_still_picture_and_another_sequence_are_both_shown(brand: bytes, frames: int) -> None:
    size = (64, 48)
    both = files.with_both(files.avif(), sequence(frames, size))
    data = both[:8] + brand + both[12:]
    decoded = decode(data, SMALL)
    assert decoded.facts.frames == frames
    assert decoded.views == min(frames + 1, 16)
    found = views(data)
    for wanted in (files.source(), frames_of(frames, size)[0], frames_of(frames, size)[-1]):
        assert min(difference(small(wanted), one) for one in found) <= TOLERANCE


def test_a_sequence_that_begins_with_its_still_picture_has_no_other_view() -> None:
    decoded = decode(sequence(3), SMALL)
    assert (decoded.facts.frames, decoded.views) == (3, 3)
    assert outcome(sequence(3), frames_of(3)) == "right"


def test_a_still_picture_that_shares_the_first_frame_but_is_cropped_is_shown_too() -> None:
    data = edited(sequence(3), [crop(SIZE, (90, 10, 150, 80))])
    cropped = frames_of(1)[0].crop((90, 10, 150, 80))
    assert outcome(data, [*frames_of(3), cropped]) == "right"


@pytest.mark.parametrize("major", [b"hevc", b"msf1", b"heic"])
def test_frames_of_an_hevc_sequence_are_shown_and_those_that_are_not_are_told(major: bytes) -> None:
    data = files.sequence_of(files.heic(), SIZE, samples=5)
    data = data[:8] + major + data[12:]
    decoded = decode(data, SMALL)
    assert decoded.facts.frames == 5
    assert decoded.facts.missing == "4 of 5 frames of its sequence could not be read"
    assert outcome(data, [files.source()]) == "right"


def test_every_picture_at_the_top_of_a_heic_is_shown() -> None:
    first, *rest = frames_of(3)
    options: dict[str, object] = {"save_all": True, "append_images": rest}
    data = pictures.encode(first, "HEIF", quality=90, **options)
    assert outcome(data, frames_of(3)) == "right"


def test_another_picture_in_an_avif_is_shown_too() -> None:
    data = files.avif("RGBA").replace(b"auxl", b"cdsc")  # alpha becomes a picture of its own
    decoded = decode(data, SMALL)
    assert (decoded.facts.frames, decoded.views) == (2, 2)
    alpha = files.source("RGBA").getchannel("A")
    assert outcome(data, [files.source("RGBA").convert("RGB"), alpha]) == "right"


def test_a_broken_picture_beside_the_main_one_is_told() -> None:
    data = files.avif("RGBA").replace(b"auxl", b"cdsc")
    broken = edited(data, drop=[b"av1C"], of=2)
    decoded = decode(broken, SMALL)
    assert decoded.facts.missing == "a picture beside the main one could not be read"
    assert outcome(broken, [files.source("RGBA").convert("RGB")]) == "right"


def test_thumbnails_are_not_shown() -> None:
    data = pictures.encode(files.source(size=(400, 300)), "HEIF", thumbnails=[64, 128])
    assert decode(data, SMALL).facts.frames == 1


# Brands


@pytest.mark.parametrize("major", [b"heic", b"heix", b"mif1", b"msf1", b"miaf", b"MiHE", b"hevc"])
@pytest.mark.parametrize("codec", ["AVIF", "HEIF"])
def test_the_coding_decides_and_not_the_brand(codec: str, major: bytes) -> None:
    base = files.avif() if codec == "AVIF" else files.heic()
    data = files.with_brands(base, major, b"heic")
    assert decode(data, SMALL).facts.format == codec
    assert outcome(data, [files.source()]) == "right"


@pytest.mark.parametrize(
    ("kind", "name"),
    [(b"vvc1", "VVC"), (b"evc1", "EVC"), (b"jpeg", "JPEG"), (b"unci", "uncompressed"),
     (b"av02", "AV2"), (b"zzzz", "zzzz")],
)  # fmt: skip
def test_other_codings_are_named(kind: bytes, name: str) -> None:
    for base, coding in ((files.avif(), b"av01"), (files.heic(), b"hvc1")):
        at = base.index(b"infe")
        data = base[:at] + base[at:].replace(coding, kind, 1)
        with pytest.raises(DecodeError, match=name) as caught:
            decode(data, SMALL)
        assert caught.value.reason is FailReason.UNSUPPORTED


def test_properties_that_must_be_known_and_are_not_are_unsupported() -> None:
    for base in (files.avif(), files.heic()):
        data = edited(base, [box(b"zzzz", bytes(8))], essential=True)
        assert reason(data) is FailReason.UNSUPPORTED
        assert outcome(edited(base, [box(b"zzzz", bytes(8))]), [files.source()]) == "right"


@pytest.mark.parametrize("kind", [b"ispe", b"av1C", b"hvcC"])
def test_a_picture_without_what_its_codec_needs_is_corrupt(kind: bytes) -> None:
    for base in (files.avif(), files.heic()):
        if kind in base:
            assert reason(edited(base, drop=[kind])) is FailReason.CORRUPT


@pytest.mark.parametrize("junk", [b"", b"\xff" * 40, b"junk" * 9, bytes(50), bytes(7)])
def test_bytes_after_the_boxes_do_not_matter(junk: bytes) -> None:
    for mode in ("RGB", "RGBA"):
        source = over_white(files.source("RGBA")) if mode == "RGBA" else files.source()
        for base in (files.avif(mode), files.heic(mode)):
            for data in (base, edited(base, drop=[b"ispe"], of=2)):
                at = data.index(b"mdat") - 4
                assert outcome(data + junk, [source]) == "right"
                assert outcome(data[:at] + bytes(4) + data[at + 4 :] + junk, [source]) == "right"


def test_the_minimized_form_is_named() -> None:
    data = box(b"ftyp", b"mif3avif") + box(b"mini", bytes(40))
    assert reason(data) is FailReason.UNSUPPORTED


# Large grids


@pytest.mark.parametrize("size", [(640, 384), (600, 330), (384, 900)])
@pytest.mark.parametrize("turns", [None, 1, 2])
def test_a_grid_that_is_too_large_at_once_is_decoded_row_by_row(
    size: tuple[int, int], turns: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    edges = (size[0] // 2, 0, size[0], size[1])
    added = [crop(size, edges)] + ([] if turns is None else [irot(turns), imir(1)])
    data = edited(files.heic(size=size, tile_size=128), added, of=1)
    source = files.source(size=size)
    expected = [
        transformed(source, ("clap", "irot", "imir"), turns, 1 if turns else None, some)
        for some in (edges, None)
    ]
    assert outcome(data, expected) == "right"
    monkeypatch.setattr(heif, "MAX_PIXELS", 100_000)
    assert outcome(data, expected) == "right"


def test_a_grid_takes_the_memory_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    data = files.heic(size=(640, 384), tile_size=128)
    monkeypatch.setattr(heif, "MAX_PIXELS", 100_000)
    monkeypatch.setattr(heif_grid, "REDUCED_PIXELS", 50_000)
    decode(data, SMALL, before_pixels=lambda memory, _: asked.append(memory))
    assert asked == [12 * 640 * 128 + 8 * 50_000]


def test_a_picture_beyond_the_limit_is_refused_from_its_header() -> None:
    grid = files.heic(size=(640, 384), tile_size=128)
    for side, least in ((20_000, "400 MP"), (65_535, "4295 MP")):
        at = grid.index(struct.pack(">HH", 640, 384))
        data = grid[:at] + struct.pack(">HH", side, side) + grid[at + 4 :]
        at = data.index(struct.pack(">II", 640, 384))
        data = data[:at] + struct.pack(">II", side, side) + data[at + 8 :]
        with pytest.raises(DecodeError, match=least) as caught:
            decode(data, SMALL)
        assert caught.value.reason is FailReason.TOO_MANY_PIXELS


# Short and hostile files


def ending(data: bytes) -> str:
    """Say how decoding ends: the reason, or `partial`, or `whole`."""
    try:
        decoded = decode(data, SMALL)
    except DecodeError as error:
        return error.reason.value
    return "partial" if decoded.facts.missing else "whole"


@pytest.mark.parametrize("name", ["AVIF", "HEIF", "AVIF alpha", "AVIF sequence", "grid"])
def test_a_file_that_is_cut_is_called_truncated_or_shows_what_it_has(name: str) -> None:
    whole = {
        "AVIF": files.avif,
        "HEIF": files.heic,
        "AVIF alpha": lambda: files.avif("RGBA"),
        "AVIF sequence": lambda: sequence(3),
        "grid": lambda: files.heic(size=(300, 200), tile_size=128),
    }[name]()
    outcomes = set()
    for part in range(24, len(whole), max(1, len(whole) // 60)):
        outcomes.add(ending(whole[:part]))
    assert outcomes <= {"truncated", "partial"}
    assert "truncated" in outcomes
    assert ("partial" in outcomes) == (name in ("AVIF sequence", "grid"))


@pytest.mark.parametrize("build", [files.avif, files.heic], ids=["AVIF", "HEIF"])
def test_hostile_boxes_are_refused_or_decoded_and_never_take_long(
    build: Callable[[], bytes],
) -> None:
    choose, whole = random.Random(11), build()
    head = whole.index(b"mdat")
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(choose.randrange(1, 4)):
            at = choose.randrange(8, head)
            data[at : at + 4] = choose.choice(
                (b"\0\0\0\0", b"\0\0\0\1", b"\xff\xff\xff\xff", b"\0\0\0\x08", b"free", b"meta",
                 b"\x7f\xff\xff\xff", bytes((choose.randrange(256),)) * 4)
            )  # fmt: skip
        with contextlib.suppress(DecodeError):
            Bmff(bytes(data))


@pytest.mark.parametrize(
    "tables",
    [
        box(b"iloc", bytes(4) + b"\0\0" + struct.pack(">H", 65535) + b"\0" * 600_000),
        box(b"iref", bytes(4) + box(b"dimg", b"\0\1\xff\xff" + b"\0\1" * 65535) * 20),
        box(b"iinf", bytes(4) + b"\xff\xff" + box(b"infe", b"\2\0\0\0\0\1\0\0av01") * 20_000),
        b"\0\0\0\0meta" * 10_000,
        b"\0\0\0\x08free" * 50_000,
    ],
)
def test_tables_without_end_are_refused_soon(tables: bytes) -> None:
    data = box(b"ftyp", b"avif\0\0\0\0mif1") + box(b"meta", bytes(4) + tables)
    assert reason(data) is FailReason.CORRUPT
