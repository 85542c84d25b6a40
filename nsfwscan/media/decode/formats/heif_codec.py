"""pillow-heif, an extra that decodes HEIC. Imported when the first such file comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsfwscan.media.decode.formats.picture import open_with
from nsfwscan.media.decode.formats.views import Colour
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from PIL import Image, ImageFile


def prepare() -> None:
    """Set pillow-heif up for this process. Raises `DecodeError` if it is not installed."""
    try:
        import pillow_heif
    except ImportError:
        raise DecodeError(FailReason.UNSUPPORTED, hint()) from None
    pillow_heif.options.DECODE_THREADS = 1  # pictures already run in parallel


def hint() -> str:
    """Return a message on how to install the missing pillow-heif."""
    from nsfwscan.system.installation import installing

    return f"HEIC pictures need pillow-heif: {installing('pillow-heif')}"


def opened(content: bytes) -> ImageFile.ImageFile:
    """Read the header of a HEIC."""
    import pillow_heif

    try:
        found: ImageFile.ImageFile = open_with(pillow_heif.HeifImageFile, content)
    except DecodeError as error:
        if error.detail != "not identified by this driver":  # it found nothing to open
            raise
        raise DecodeError(error.reason, "the main picture of the file cannot be opened") from error
    return found


def colour_of(image: Image.Image) -> Colour:
    """Return what the codec reports about the samples."""
    points = image.info.get("nclx_profile") or {}
    light = image.info.get("content_light_level") or {}
    curve = int(points.get("transfer_characteristics", 2))
    peak = int(light.get("max_content_light_level", 0))
    return Colour(int(points.get("color_primaries", 2)), curve, peak)
