from __future__ import annotations

import hashlib
import io

import pytest
from PIL import Image

from nsfwscan.models.probes import PROBES, render

_SHA256_OF_PIXELS = {
    "checks": "ccac6ef0ec6f9c76eb7e9f2a21a61c69d7f326ae7f582031980432080b350858",
    "disc": "026209533b4ae47f8eabccd2a0b6ffe1db08098dab4e96e0630a2561981a1d2f",
    "noise": "a239f40e35e6c8a36c42ee038cfbbc20f3689838693dc8f245fbc59014f4afb8",
    "sunset": "f7d1f5bfeddffc9f530e000b745680b3dd969a94236557791c5b7d2fdfac0b10",
}


@pytest.mark.parametrize("name", sorted(PROBES))
def test_a_probe_has_the_same_pixels_everywhere(name: str) -> None:
    """Recorded scores hold for these pixels and no others."""
    with Image.open(io.BytesIO(render(name))) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (96, 96))
        assert hashlib.sha256(image.tobytes()).hexdigest() == _SHA256_OF_PIXELS[name]
        assert image.getpixel((70, 11)) == PROBES[name](70, 11)


def test_an_unknown_probe_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        render("none")
