from __future__ import annotations

import pytest

from nsfwscan.cache.rows import decode_part, encode_part
from nsfwscan.values.place import WHOLE, Part, Place
from nsfwscan.values.results import Failed, FailReason


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (WHOLE, ""),
        (Part("a/b.jpg"), "!/a/b.jpg"),
        (Part(page=3), "#page=3"),
        (Part(at_ms=12_500), "#t=12.500"),
        (Part("inner.zip!/c.pdf", page=1), "!/inner.zip!/c.pdf#page=1"),
    ],
)
def test_a_place_is_written_as_the_path_and_the_part(part: Part, text: str) -> None:
    assert str(Place("/p/x", part)) == f"/p/x{text}"
    assert bool(part) is bool(text)
    assert decode_part(encode_part(part)) == part


def test_a_result_is_about_the_whole_file_unless_it_says_otherwise() -> None:
    assert Failed("/p/x", FailReason.EMPTY).place == Place("/p/x")
    assert str(Failed("/p/x", FailReason.EMPTY, part=Part(page=2)).place) == "/p/x#page=2"
