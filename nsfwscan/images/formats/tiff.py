"""TIFF and BigTIFF, one view a page."""

from __future__ import annotations

from PIL.TiffImagePlugin import TiffImageFile

from nsfwscan.images.formats.picture import (
    Frame,
    Picture,
    PillowPicture,
    check_pixels,
    open_with,
)
from nsfwscan.results import ImageFacts

_ORIENTATION_TAG = 0x0112


class _TiffPicture(PillowPicture[TiffImageFile]):
    def show(self, view: int) -> Frame:
        """Decode one page, which has its own size."""
        image = self.image
        image.seek(view)
        check_pixels(*image.size, self.max_pixels)
        image.load()  # turns the page as its orientation says
        return Frame(image, image.info.get("icc_profile") or b"")


def open_tiff(content: bytes) -> Picture:
    """Read the header of the first page and count the pages."""
    image = open_with(TiffImageFile, content)
    picture = _TiffPicture("TIFF", image)
    if image.tag_v2.get(_ORIENTATION_TAG, 1) >= 5:  # the plugin tells the size after the rotation
        facts = picture.facts
        picture.facts = ImageFacts(facts.format, facts.height, facts.width, facts.frames)
    return picture
