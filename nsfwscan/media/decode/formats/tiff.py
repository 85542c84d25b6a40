"""TIFF and BigTIFF: one view per page, or several where viewers show a page in several ways.

The viewers compared are libtiff, libvips and ImageMagick. What they agree on is supported; where
they differ, each of the ways is a view, or the file is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.media.decode.formats import tiff_layout as tiff
from nsfwscan.media.decode.formats import tiff_pixels
from nsfwscan.media.decode.formats.picture import BYTES_PER_PIXEL, Frame, Picture
from nsfwscan.media.decode.formats.tiff_raw import refuse_raw
from nsfwscan.media.decode.formats.tiff_segments import located
from nsfwscan.media.decode.formats.tiff_tags import TiffFile
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import ImageFacts

if TYPE_CHECKING:
    from nsfwscan.media.decode.formats.tiff_layout import TiffLayout

_MAX_LISTED = 16
"""If a file has more pages, each page is shown in only one way."""


class _PageView(NamedTuple):
    """How a viewer shows a page."""

    alpha: bool
    """Whether the sample after the colours is transparency."""
    white: float = 1.0
    """The value of white in grey floats."""


class _TiffPicture(Picture):
    def __init__(self, file: TiffFile) -> None:
        self._file = file
        refuse_raw(file)
        first = self._layout(0)
        pages = len(file.directories)
        self.facts = ImageFacts("TIFF", first.width, first.height, pages)
        self.missing = file.missing
        self._views = [(0, way) for way in range(len(_ways(first)))]
        pixels = first.width * first.height
        for page in range(1, pages):
            ways = 1
            if pages <= _MAX_LISTED:
                try:
                    layout = self._layout(page)
                except DecodeError:
                    pass  # raised again, and reported, when the page is shown
                else:
                    ways = len(_ways(layout))
                    pixels = max(pixels, layout.width * layout.height)
            self._views += [(page, way) for way in range(ways)]
        self.views = len(self._views)
        self.memory = BYTES_PER_PIXEL * pixels
        self._first_error: Exception | None = None

    def show(self, view: int) -> Frame:
        """Decode one page in one way.

        If the first page cannot be shown, no page is: the first is the one that viewers open.
        """
        if self._first_error is not None:
            raise self._first_error
        page, way = self._views[view]
        try:
            return self._shown(page, way)
        except Exception as error:
            if page == 0:
                self._first_error = error
            raise

    def _shown(self, page: int, way: int) -> Frame:
        content, at = self._file.content, self._file.directories[page]
        directory = self._file.directory(at)
        layout = tiff.read_layout(self._file, directory)
        if layout.compression == tiff.OLD_JPEG:
            return Frame(tiff_pixels.by_libtiff(content, at, layout), layout.profile)
        layout = located(self._file, directory, layout)
        alpha, white = _ways(layout)[way]
        if tiff_pixels.fits_pillow(layout):
            image = tiff_pixels.by_pillow(content, layout, alpha=alpha)
        else:
            image = tiff_pixels.by_numpy(content, layout, alpha=alpha, white=white)
        # Floats have been given sRGB's curve, so profiles for linear light no longer apply.
        profile = b"" if layout.sample_format == tiff.FLOAT else layout.profile
        if image.mode in ("1", "L", "LA", "I;16") and profile[16:20] == b"RGB ":
            profile = b""  # unlike browsers, TIFF viewers do not apply it to grey
        return Frame(image, profile, layout.orientation, (0.0, 65535.0))

    def _layout(self, page: int) -> TiffLayout:
        directory = self._file.directory(self._file.directories[page])
        return tiff.read_layout(self._file, directory)


def _ways(layout: TiffLayout) -> list[_PageView]:
    """List the ways in which viewers show a page.

    An unspecified extra sample is transparency in libvips and ImageMagick, and ignored by others.
    White in grey floats is 255 in libvips, and 1 in others.
    """
    if layout.alpha is None:
        alphas = [False]
    elif layout.alpha != tiff.UNSPECIFIED:
        alphas = [True]
    else:
        alphas = [True, False]
    grey_floats = layout.sample_format == tiff.FLOAT and layout.photometric == tiff.BLACK_IS_ZERO
    whites = (1.0, 255.0) if grey_floats else (1.0,)
    return [_PageView(alpha, white) for alpha in alphas for white in whites]


def open_tiff(content: bytes) -> Picture:
    """Read the directories of all pages, and check the first page."""
    return _TiffPicture(TiffFile(content))
