"""A picture does not hide among many by being one frame: what is shown for long is scored."""

from __future__ import annotations

import itertools

import pictures
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsfwscan.media.decode.decode import decode
from nsfwscan.media.decode.decoded import MAX_SAMPLED_FRAMES, spread
from nsfwscan.values.geometry import Geometry, Resample, Resize

FRAMES, HIDDEN = 200, 131
SMALL = Geometry(Resize.STRETCH, 8, 8, Resample.BILINEAR, 8, 8)


def numbers(data: bytes) -> list[int]:
    """Return which of the frames of `pictures.frame` were sampled."""
    decoded = decode(data, SMALL)
    each = 8 * 8 * 3
    parts = [decoded.pixels[at * each :][:each] for at in range(decoded.views)]
    return [pictures.frame_number(part) for part in parts]


def animation(format_: str, times: list[int]) -> bytes:
    first, *rest = [pictures.frame(at) for at in range(len(times))]
    options: dict[str, object] = {"save_all": True, "append_images": rest, "duration": times}
    if format_ == "WEBP":
        options["lossless"] = True
    if format_ == "AVIF":
        options |= {"quality": 90, "speed": 10}
    return pictures.encode(first, format_, **options)


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("short", [20, 40])
def test_a_frame_that_is_shown_for_long_is_scored(format_: str, short: int) -> None:
    times = [short] * FRAMES
    assert HIDDEN not in numbers(animation(format_, times))
    times[HIDDEN] = 60_000
    found = numbers(animation(format_, times))
    assert HIDDEN in found
    assert found[0] == 0
    assert found[-1] == FRAMES - 1
    assert len(found) == MAX_SAMPLED_FRAMES


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP"])
def test_what_browsers_slow_down_counts_for_as_long_as_they_show_it(format_: str) -> None:
    times = [0] * FRAMES
    times[HIDDEN] = 100
    assert numbers(animation(format_, times)) == numbers(animation(format_, [100] * FRAMES))


@given(
    st.lists(st.integers(0, 1000), min_size=2, max_size=300),
    st.integers(2, 20),
)
def test_whatever_is_shown_for_long_enough_is_chosen(times: list[int], most: int) -> None:
    chosen = spread(len(times), most, times)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(most, len(times))
    assert {chosen[0], chosen[-1]} == {0, len(times) - 1}
    share = sum(times) / (most - 1)
    assert all(at in chosen for at, time in enumerate(times) if time > share)


def test_frames_that_are_shown_alike_are_chosen_evenly() -> None:
    for frames, most in itertools.product((1, 16, 17, 100, 1000), (2, 14, 16)):
        assert spread(frames, most, [40] * frames) == spread(frames, most)
