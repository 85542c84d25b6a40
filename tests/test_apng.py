"""The frames of an APNG look as in a player, its still picture as in other viewers."""

from __future__ import annotations

import itertools
import random
import struct
import zlib

import numpy as np
import png_files as files
import pytest
from png_files import GREY, PALETTE, RGB, Layout, Part, chunk, damaged
from test_png import views

from nsfwscan.media.decode.decode import decode
from nsfwscan.media.decode.decoded import Decoded
from nsfwscan.values.geometry import Geometry, Resample, Resize

pytestmark = pytest.mark.usefixtures("over_white_only")

SIDE = 12
FULL = (0, 0, SIDE, SIDE)
RED, GREEN, BLUE = ((200, 0, 0, 255), (0, 200, 0, 255), (0, 0, 200, 255))
THREE = [Part(RED, FULL), Part(GREEN, FULL), Part(BLUE, FULL)]
# Of `THREE`, in the order of `files.animated`.
HEADER, COUNT, CONTROL_0, DATA_0, CONTROL_1, DATA_1, CONTROL_2, DATA_2, END = range(1, 10)


def decoded(data: bytes) -> Decoded:
    return decode(data, Geometry(Resize.STRETCH, SIDE, SIDE, Resample.BILINEAR, SIDE, SIDE))


def colours(data: bytes) -> list[str]:
    """Name each view by its colour."""
    names = {RED[:3]: "red", GREEN[:3]: "green", BLUE[:3]: "blue"}
    return [names[tuple(int(level) for level in view[0, 0])] for view in views(data, SIDE, SIDE)]


def composed(parts: list[Part]) -> list[np.ndarray]:
    """Compose frames by the definition, over white at the end."""
    canvas = np.zeros((SIDE, SIDE, 4))
    shown = []
    for number, part in enumerate(parts):
        left, top, right, bottom = part.box
        before = canvas.copy()
        area = canvas[top:bottom, left:right]
        new = np.broadcast_to(np.array(part.colour) / 255, area.shape)
        if part.blend == 0:
            area[:] = new
        else:
            alpha = new[..., 3:] + area[..., 3:] * (1 - new[..., 3:])
            mixed = new[..., :3] * new[..., 3:]
            mixed = mixed + area[..., :3] * area[..., 3:] * (1 - new[..., 3:])
            area[..., :3] = mixed / np.where(alpha == 0, 1, alpha)
            area[..., 3:] = alpha
        shown.append(255 * (canvas[..., :3] * canvas[..., 3:] + 1 - canvas[..., 3:]))
        if part.dispose == 1 or (part.dispose == 2 and number == 0):
            area[:] = 0
        elif part.dispose == 2:
            canvas = before
    return shown


@pytest.mark.parametrize("seed", range(40))
def test_frames_are_composed_by_the_definition(seed: int) -> None:
    chance = random.Random(seed)
    parts = []
    for number in range(chance.randint(2, 8)):
        left, top = (0, 0) if number == 0 else (chance.randrange(SIDE), chance.randrange(SIDE))
        right = SIDE if number == 0 else chance.randint(left + 1, SIDE)
        bottom = SIDE if number == 0 else chance.randint(top + 1, SIDE)
        colour = tuple(chance.choice((0, 90, 255)) for _ in range(3))
        alpha = chance.choice((0, 60, 128, 255))
        box = (left, top, right, bottom)
        parts.append(Part((*colour, alpha), box, chance.randrange(3), chance.randrange(2)))
    seen = views(b"".join(files.animated(parts)), SIDE, SIDE)
    for one, other in zip(seen, composed(parts), strict=True):
        assert np.abs(one - other).max() <= 3


@pytest.mark.parametrize("kind", [GREY, RGB, PALETTE])
def test_frames_with_a_transparent_colour_let_the_canvas_through(kind: int) -> None:
    layout = Layout(kind, 8)
    width = {GREY: 1, RGB: 3, PALETTE: 1}[kind]
    below, key = bytes([1]) * width, bytes([2]) * width
    transparency = b"\xff\xff\0" if kind == PALETTE else b"".join(b"\0\2" for _ in range(width))
    part = Part((0, 0, 0, 0), (0, 0, 4, 4), blend=1)
    data = [files.SIGNATURE, files.header(layout, 4, 4), files.count_of(2), files.control(0, part)]
    if kind == PALETTE:
        data.append(chunk(b"PLTE", bytes((9, 9, 9, 1, 1, 1, 2, 2, 2))))
    data.append(chunk(b"tRNS", transparency))
    rows = [zlib.compress((b"\0" + one * 4) * 4) for one in (below, key)]
    data += [chunk(b"IDAT", rows[0]), files.control(1, part)]
    data += [chunk(b"fdAT", struct.pack(">I", 2) + rows[1]), files.END]
    first, second = views(b"".join(data), 4, 4)
    assert (first == 1).all()
    assert np.array_equal(first, second)


def test_a_still_picture_that_is_no_frame_is_shown_as_well() -> None:
    data = b"".join(files.animated(THREE[1:], still=THREE[0]))
    assert colours(data) == ["red", "green", "blue"]
    assert decoded(data).facts.frames == 3


def changed(**chunks: bytes) -> bytes:
    """Assemble `THREE` with some chunks in place of others, named in lower case."""
    parts = files.animated(THREE)
    for name, data in chunks.items():
        parts[globals()[name.upper()]] = data
    return b"".join(parts)


OUTSIDE = files.control(1, Part(GREEN, (1, 0, SIDE + 1, SIDE)))
NOTHING = files.control(1, Part(GREEN, (0, 0, 0, SIDE)))


@pytest.mark.parametrize(
    "data",
    [
        changed(count=b""),
        changed(count=files.count_of(0)),
        changed(count=files.count_of(1 << 31)),
        changed(count=damaged(files.count_of(3))),
        changed(count=chunk(b"acTL", bytes(7))),
        changed(count=chunk(b"acTL", bytes([0, 0, 0, 3] + [0] * 5))),
        changed(count=b"", control_1=files.count_of(3) + files.control(1, THREE[1])),
    ],
    ids=["none", "zero", "huge", "crc", "short", "long", "after-data"],
)
def test_without_a_good_count_of_frames_the_picture_is_still(data: bytes) -> None:
    assert colours(data) == ["red"]
    assert decoded(data).facts.frames == 1
    assert decoded(data).facts.missing == ""


@pytest.mark.parametrize(
    ("data", "expected", "missing"),
    [
        (changed(count=files.count_of(2)), "rgb", ""),
        (changed(count=files.count_of(5)), "rgb", "2 of 5 frames"),
        (changed(count=files.count_of(3) + files.count_of(9)), "rgb", ""),
        (changed(control_0=b""), "rgb", "1 of 3 frames"),
        (changed(control_0=damaged(files.control(0, THREE[0]))), "rgb", "1 of 3 frames"),
        (changed(control_0=files.control(0, Part(RED, (0, 0, 4, 4)))), "rgb", "1 of 3 frames"),
        (changed(control_0=files.control(7, THREE[0])), "rgb", ""),
        (changed(control_1=OUTSIDE), "rb", "1 of 3 frames"),
        (changed(control_1=NOTHING), "rb", "1 of 3 frames"),
        (changed(control_1=damaged(files.control(1, THREE[1]))), "rb", "1 of 3 frames"),
        (changed(control_1=b""), "rb", "1 of 3 frames"),
        (changed(control_1=chunk(b"fcTL", bytes(26))), "rb", "1 of 3 frames"),
        (changed(control_1=files.control(1, Part(GREEN, FULL, 9))), "rb", "1 of 3 frames"),
        (changed(control_1=files.control(4, THREE[1])), "rgb", ""),
        (changed(data_1=b""), "rb", "1 of 3 frames"),
        (changed(data_1=chunk(b"fdAT", b"\0\0\0\2junk")), "r", "frame 2 of 3: "),
        (changed(data_1=chunk(b"fdAT", b"\0")), "r", "frame 2 of 3: "),
        (changed(data_2=chunk(b"fdAT", b"\0\0\0\4junk"), end=b""), "rg", "frame 3 of 3: "),
        (changed(control_1=chunk(b"ABCD")), "rb", "1 of 3 frames"),
        (changed(control_1=chunk(b"PLTE") + files.control(1, THREE[1])), "rgb", ""),
        (changed(control_2=files.END), "rg", "1 of 3 frames"),
    ],
    ids=[
        "count-low", "count-high", "count-twice", "no-control-0", "control-0-crc",
        "control-0-part", "sequence-0", "outside", "no-size", "control-crc", "no-control",
        "control-zero", "dispose-9", "sequence-1", "no-data", "data-junk", "data-short",
        "last-junk", "critical", "palette", "early-end",
    ],
)  # fmt: skip
def test_a_damaged_animation_shows_what_it_can_and_says_what_is_missing(
    data: bytes, expected: str, missing: str
) -> None:
    assert "".join(name[0] for name in colours(data)) == expected
    found = decoded(data).facts.missing
    assert found.startswith(missing)
    assert bool(found) == bool(missing)


def test_every_cut_of_an_animation_shows_its_first_frames() -> None:
    whole = changed()
    first = whole.index(b"IDAT") + 4 + len(files.flat(THREE[0]))
    for end in range(first + 4, len(whole)):
        names = colours(whole[:end])
        assert names == ["red", "green", "blue"][: len(names)]
        assert names == ["red", "green", "blue"] or decoded(whole[:end]).facts.missing


def test_a_disputed_transparency_is_shown_in_both_ways_in_each_frame() -> None:
    layout = Layout(GREY, 8)
    transparency = chunk(b"tRNS", b"\0\2\0")  # a byte too long: libpng drops it
    part = Part((0, 0, 0, 0), (0, 0, 4, 4))
    rows = [zlib.compress((b"\0" + bytes([level] * 4)) * 4) for level in (2, 3)]
    data = b"".join(
        (
            files.SIGNATURE, files.header(layout, 4, 4), files.count_of(2), files.control(0, part),
            transparency, chunk(b"IDAT", rows[0]), files.control(1, part),
            chunk(b"fdAT", b"\0\0\0\2" + rows[1]), files.END,
        )
    )  # fmt: skip
    assert [view[0, 0, 0] for view in views(data, 4, 4)] == [255, 2, 3, 3]
    assert len(set(itertools.chain(*(view.ravel() for view in views(data, 4, 4))))) == 3
