"""GIF: frames are composed on the logical screen as browsers do it."""

from __future__ import annotations

import itertools
import random
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
import shown
from PIL import Image

from nsfwscan.media.decode.decode import decode
from nsfwscan.values.geometry import Geometry, Resample, Resize
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("over_white_only")

SCREEN = (40, 32)
SMALL = Geometry(Resize.STRETCH, 8, 8, Resample.BILINEAR, 8, 8)
PALETTE = tuple((17 * at, at * 5 % 16 * 17, at * 11 % 16 * 17) for at in range(16))
OTHER_PALETTE = tuple((255 - red, blue, green) for red, green, blue in PALETTE)
CLEAR = (0, 0, 0, 0)


def packed(codes: list[int], bits: int = 4) -> bytes:
    """Pack pixels as LZW codes of one length, with a clear code as often as that needs."""
    clear, width = 1 << bits, bits + 1
    stream = [code for at, one in enumerate(codes) for code in ([clear] * (at % 8 == 0) + [one])]
    number = sum(code << at * width for at, code in enumerate([*stream, clear + 1]))
    data = number.to_bytes((len(stream) + 1) * width // 8 + 1, "little")
    blocks = (data[at : at + 255] for at in range(0, len(data), 255))
    return bytes((bits,)) + b"".join(bytes((len(block),)) + block for block in blocks) + b"\0"


@dataclass(frozen=True)
class Piece:
    """One frame, and what the test expects of it."""

    box: tuple[int, int, int, int]
    """Left, top, width and height."""
    seed: int = 0
    disposal: int = 0
    transparent: bool = False
    palette: tuple[tuple[int, int, int], ...] | None = None
    interlaced: bool = False
    data: bytes | None = None

    def pixels(self) -> list[int]:
        """Make blocks of 5 x 4 pixels; a third of them transparent where that is asked for."""
        _, _, width, height = self.box
        chance = random.Random(self.seed)
        blocks = [chance.randrange(16) for _ in range(200)]
        least = 0 if self.transparent else 1
        return [
            max(least, blocks[y // 4 * 12 + x // 5]) for y in range(height) for x in range(width)
        ]

    def encoded(self) -> bytes:
        _, _, width, height = self.box
        rows = [self.pixels()[at * width : (at + 1) * width] for at in range(height)]
        if self.interlaced:
            order = [*range(0, height, 8), *range(4, height, 8), *range(2, height, 4)]
            rows = [rows[at] for at in [*order, *range(1, height, 2)]]
        control = struct.pack(
            "<BBBBHBB", 0x21, 0xF9, 4, self.disposal << 2 | self.transparent, 5, 0, 0
        )
        flags = 0x40 * self.interlaced | (0x83 if self.palette else 0)
        table = bytes(itertools.chain(*self.palette)) if self.palette else b""
        data = packed(list(itertools.chain(*rows))) if self.data is None else self.data
        return control + b"," + struct.pack("<4HB", *self.box, flags) + table + data


def gif(*pieces: Piece, screen: tuple[int, int] = SCREEN, end: bytes = b";") -> bytes:
    table = bytes(itertools.chain(*PALETTE))
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x83, 7, 0) + table
    return head + b"".join(piece.encoded() for piece in pieces) + end


def composed(pieces: tuple[Piece, ...], size: tuple[int, int]) -> list[Image.Image]:
    """Compose pixel by pixel, by the words of the specification and Chromium's reading of them."""
    canvas: dict[tuple[int, int], tuple[int, int, int, int]] = {}
    shown_frames = []
    for piece in pieces:
        before = dict(canvas)
        left, top, width, height = piece.box
        palette = piece.palette or PALETTE
        for at, value in enumerate(piece.pixels()):
            if not (piece.transparent and value == 0):
                canvas[left + at % width, top + at // width] = (*palette[value], 255)
        frame = Image.new("RGBA", size, CLEAR)
        for (x, y), colour in canvas.items():
            if x < size[0] and y < size[1]:
                frame.putpixel((x, y), colour)
        shown_frames.append(shown.over_white(frame))
        if piece.disposal == 2:
            area = itertools.product(range(left, left + width), range(top, top + height))
            for place in area:
                canvas.pop(place, None)
        elif piece.disposal in (3, 4):
            canvas = before
    return shown_frames


WHOLE = Piece((0, 0, *SCREEN), seed=1)
PATCH = Piece((10, 8, 20, 16), seed=2)
BOXES = {
    "whole": (0, 0, *SCREEN),
    "inside": (10, 8, 20, 16),
    "over-the-edge": (30, 24, 20, 16),
    "outside": (50, 40, 10, 8),
}


def cells() -> Iterator[tuple[str, bytes, list[Image.Image]]]:
    for (first, second), disposal, transparent, interlaced in itertools.product(
        itertools.product(BOXES, BOXES), range(5), (False, True), (False, True)
    ):
        opening = Piece(BOXES[first], 1, disposal, transparent, interlaced=interlaced)
        middle = Piece(BOXES[second], 2, disposal, transparent, OTHER_PALETTE)
        pieces = (opening, middle, Piece((5, 20, 20, 8), 3, transparent=True))
        left, top, width, height = opening.box
        grown = max(SCREEN[0], left + width), max(SCREEN[1], top + height)
        name = f"{first} {second} {disposal} {transparent} {interlaced}"
        yield name, gif(*pieces), composed(pieces, SCREEN)
        if grown != SCREEN:
            yield f"{name} grown", gif(*pieces), composed(pieces, grown)


def test_frames_are_composed_as_browsers_do_it() -> None:
    counts, wrong = shown.tally(at_its_size(cells()))
    assert not wrong
    assert counts["refused"] == 0
    assert counts["right"] == 4 * 4 * 5 * 2 * 2 + 2 * 4 * 5 * 2 * 2


def at_its_size(
    found: Iterator[tuple[str, bytes, list[Image.Image]]],
) -> Iterator[tuple[str, bytes, list[Image.Image]]]:
    """Give the expected frames at a size at which both canvases can be compared."""
    for name, data, expected in found:
        yield (
            name,
            data,
            [frame.resize((256, 256), Image.Resampling.BILINEAR) for frame in expected],
        )


def test_a_later_frame_never_grows_the_canvas() -> None:
    data = gif(WHOLE, Piece((60_000, 34_000, 20, 16)))
    assert decode(data, SMALL).facts[1:4] == (*SCREEN, 2)
    first, second = shown.views(data, SCREEN)
    assert first.tobytes() == second.tobytes() == composed((WHOLE,), SCREEN)[0].tobytes()


def test_a_picture_behind_a_stray_first_frame_is_seen_on_the_screen() -> None:
    stray = Piece((3_000, 3_000, 2, 2))
    found = shown.views(gif(stray, WHOLE), SCREEN)
    assert len(found) == 4
    assert min(shown.difference(one, composed((WHOLE,), SCREEN)[0]) for one in found) == 0


def test_a_first_frame_that_grows_the_canvas_beyond_the_limit_is_refused() -> None:
    assert shown.refusal(gif(Piece((60_000, 34_000, 2, 2)), WHOLE)) is FailReason.TOO_MANY_PIXELS


@pytest.mark.parametrize("screen", [(0, 0), (0, 32), (40, 0)])
def test_a_screen_without_area_is_that_of_the_first_frame(screen: tuple[int, int]) -> None:
    (found,) = shown.views(gif(WHOLE, screen=screen), SCREEN)
    assert found.tobytes() == composed((WHOLE,), SCREEN)[0].tobytes()


BROKEN = b"\4\5\xff\xff\xff\xff\xff\0"


@pytest.mark.parametrize("cut", [1, 20, 60, 110])
def test_a_file_cut_in_a_later_frame_shows_the_earlier_ones_and_says_so(cut: int) -> None:
    data = gif(WHOLE, PATCH, end=b"")[:-cut]
    assert shown.missing(data)
    assert shown.difference(shown.views(data, SCREEN)[0], composed((WHOLE,), SCREEN)[0]) == 0


def test_a_broken_later_frame_is_said() -> None:
    data = gif(WHOLE, replace(PATCH, data=BROKEN), PATCH)
    assert "frame 2" in shown.missing(data)
    assert len(shown.views(data, SCREEN)) == 1


def test_a_missing_trailer_is_said() -> None:
    assert "end mark" in shown.missing(gif(WHOLE, end=b""))
    assert not shown.missing(gif(WHOLE))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (gif(WHOLE)[:-200], FailReason.TRUNCATED),
        (gif(WHOLE)[:70], FailReason.TRUNCATED),
        (gif(WHOLE)[:10], FailReason.TRUNCATED),
        (gif(), FailReason.CORRUPT),
        (gif(replace(WHOLE, data=BROKEN), WHOLE), FailReason.CORRUPT),
        (gif(replace(WHOLE, data=b"\x0c" + WHOLE.encoded()[19:])), FailReason.CORRUPT),
        (gif(Piece((0, 0, 0, 5)), screen=(0, 0)), FailReason.CORRUPT),
    ],
)
def test_what_is_not_shown_is_refused_for_its_reason(data: bytes, reason: FailReason) -> None:
    assert shown.refusal(data) is reason


def test_a_frame_without_area_draws_nothing() -> None:
    first, second = shown.views(gif(WHOLE, Piece((0, 0, 0, 16))), SCREEN)
    assert first.tobytes() == second.tobytes()


def test_the_last_graphic_control_counts_and_only_for_its_frame() -> None:
    hole = Piece((10, 8, 20, 16), 2, transparent=True)
    opaque = replace(hole, transparent=False)
    twice = hole.encoded()[:8] + opaque.encoded()[:8] + hole.encoded()[8:]
    data = gif(WHOLE, end=b"") + twice + b";"
    without = gif(WHOLE, end=b"") + hole.encoded()[8:] + b";"
    expected = gif(WHOLE, end=b"") + opaque.encoded()[:8] + hole.encoded()[8:] + b";"
    frames = [shown.views(one, SCREEN)[1].tobytes() for one in (data, without, expected)]
    assert frames[0] == frames[1] == frames[2] != shown.views(gif(WHOLE, hole), SCREEN)[1].tobytes()


@pytest.mark.parametrize("stray", [b"\0", b"\0\0\0", b"abc"])
def test_stray_bytes_between_frames_hide_none_of_them(stray: bytes) -> None:
    data = gif(WHOLE, end=b"") + stray + PATCH.encoded() + b";"
    assert decode(data, SMALL).facts.frames == 2


def test_a_picture_without_a_palette_is_grey() -> None:
    data = b"GIF89a" + struct.pack("<HHBBB", *SCREEN, 0, 0, 0) + WHOLE.encoded() + b";"
    (found,) = shown.views(data, SCREEN)
    assert found.convert("L").tobytes() == bytes(WHOLE.pixels())
