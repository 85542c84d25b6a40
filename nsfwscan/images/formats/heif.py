"""HEIC and HEIF, by the optional extra `heic`. The one module that knows pillow-heif."""

from __future__ import annotations

from nsfwscan.errors import DecodeError
from nsfwscan.images.formats.picture import Picture, PillowPicture, open_with
from nsfwscan.results import FailReason

_BYTES_PER_PIXEL = 12
"""The codec keeps whole frames of its own."""


def open_heif(content: bytes) -> Picture:
    """Read the header. Raises `DecodeError` where pillow-heif is not installed."""
    try:
        import pillow_heif
    except ImportError:
        raise DecodeError(
            FailReason.UNSUPPORTED,
            "HEIC pictures need the optional extra: pip install 'nsfwscan[heic]'",
        ) from None
    pillow_heif.options.DECODE_THREADS = 1  # whole pictures run in parallel
    image = open_with(pillow_heif.HeifImageFile, content)
    return PillowPicture("HEIF", image, bytes_per_pixel=_BYTES_PER_PIXEL)
