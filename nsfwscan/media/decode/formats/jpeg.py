"""JPEG, decoded at a reduced scale if that is enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import ImageChops
from PIL.JpegImagePlugin import JpegImageFile

from nsfwscan.media.decode.formats.jpeg_markers import (
    START_OF_SCAN,
    Structure,
    icc_profile,
    orientation,
    segments,
    without_idle_segments,
)
from nsfwscan.media.decode.formats.picture import (
    MAX_PIXELS,
    MEGA,
    Frame,
    PillowPicture,
    check_pixels,
    open_with,
)
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from nsfwscan.values.geometry import Geometry

_MAX_STORED_PIXELS = 400 * MEGA
"""As stored. At a reduced scale, a phone's 200 MP cost 30 MB."""

_BYTES_PER_PIXEL = 4

_MAX_COEFFICIENT_BYTES = 768 * MEGA
"""A progressive JPEG keeps all its coefficients, two bytes each, however much it is reduced."""

_MAX_SCANS = 100
"""Encoders write 10 to 20. Each scan covers the whole picture, so 10,000 scans are a bomb."""

# A JPEG is decoded at the smallest scale that leaves both edges this many times the model's input.
# Measured with OpenNSFW on 262 photographs and crops: the largest change of a score against full
# decoding, and the mean time: 1x 0.015, 19 ms; 2x 0.015, 25 ms; 3x 0.010, 32 ms; full 56 ms. 2x
# improves on 1x at the 99th percentile: 0.005 instead of 0.009.
_OVERSAMPLING = 2

_END_OF_IMAGE = b"\xff\xd9"

_MISSING_PART = 16
"""At most one row in this many may be missing for the rest to be scored."""

_NO_END = "the file ends without its end mark"
_NO_DETAIL = "the file ends early, so fine detail is missing"


class _JpegPicture(PillowPicture[JpegImageFile]):
    def __init__(self, image: JpegImageFile, content: bytes, edge: int | None) -> None:
        super().__init__("JPEG", image, max_pixels=_MAX_STORED_PIXELS)
        self._content = content
        self._edge = edge
        # At once and not in blocks: arithmetic decoding cannot resume when it runs out of data.
        image.decodermaxblock = len(content)

    def show(self, view: int) -> Frame:  # noqa: ARG002 - there is one view
        """Decode the picture, or as much of it as viewers show."""
        applications = self.image.applist
        try:
            self.image.load()
        except OSError as error:
            self._rescue(error)
        return Frame(self.image, icc_profile(applications), orientation(applications))

    def _rescue(self, error: OSError) -> None:
        """Decode a file that is cut off if viewers show nearly all of it, or raise."""
        structure = Structure(self._content)
        if kind := structure.unsupported():
            raise DecodeError(FailReason.UNSUPPORTED, kind) from error
        if structure.ends:
            raise error
        cut = DecodeError(FailReason.TRUNCATED, "more than the last rows are missing")
        if not structure.is_shown_whole:
            raise cut from error
        usable = structure.usable()
        if structure.progressive:
            self.missing = _NO_DETAIL
        else:
            rows = self._missing_rows(usable, structure.next_restart())
            if rows is None:
                raise cut from error
            self.missing = f"the last {rows} rows are missing" if rows else _NO_END
        self.image = self._decoded(usable + _END_OF_IMAGE)

    def _missing_rows(self, usable: bytes, restart: int) -> int | None:
        """Count the rows at the end that are not in the file; None for too many.

        They are the rows that depend on the data appended to the file.
        """
        import random  # rarely needed, and slow to load

        noise = random.Random(0).randbytes(256).replace(b"\xff", b"")  # noqa: S311
        markers = (bytes((0xFF, 0xD0 + (restart + at) % 8)) for at in range(8))
        continued = usable + noise + b"".join(marker + noise for marker in markers)
        # In grey, to use a quarter of the memory.
        cut, filled = (
            self._decoded(data + _END_OF_IMAGE).convert("L") for data in (usable, continued)
        )
        changed = ImageChops.difference(cut, filled).getbbox()
        if changed is None:
            return 0
        rows = cut.height - changed[1]
        scale = -(-self.facts.height // cut.height)
        return rows * scale if rows * _MISSING_PART < cut.height else None

    def _decoded(self, content: bytes) -> JpegImageFile:
        image = open_with(JpegImageFile, content)
        _reduce(image, self._edge)
        image.decodermaxblock = len(content)
        image.load()
        return image


def open_jpeg(content: bytes, geometry: Geometry, *, full: bool) -> PillowPicture[JpegImageFile]:
    """Read the header. An MPO, which many phones write, is read as the JPEG that it begins with.

    Its further pictures are previews, depth and gain maps. `full` decodes at full scale.
    """
    try:
        image = open_with(JpegImageFile, content)
    except DecodeError as error:
        image, content = _opened_without_ballast(content, error)
    # In the shorter direction of the resize, so that it works for either orientation.
    edge = None if full else _OVERSAMPLING * max(geometry.resize_width, geometry.resize_height)
    picture = _JpegPicture(image, content, edge)
    picture.memory = _limit(image, content, edge)
    return picture


def _opened_without_ballast(content: bytes, error: DecodeError) -> tuple[JpegImageFile, bytes]:
    """Read a header that Pillow failed on, or raise with the right reason."""
    if kind := Structure(content).unsupported():
        raise DecodeError(FailReason.UNSUPPORTED, kind) from error
    lighter = without_idle_segments(content)
    try:
        return open_with(JpegImageFile, lighter), lighter
    except DecodeError:
        raise error from None


def _reduce(image: JpegImageFile, edge: int | None) -> None:
    """Choose the decoding scale."""
    if edge is not None:
        image.draft(None, (edge, edge))


def _limit(image: JpegImageFile, content: bytes, edge: int | None) -> int:
    """Choose the decoding scale, refuse bombs, and return the bytes of memory needed."""
    stored = image.width * image.height
    _reduce(image, edge)
    check_pixels(image.width, image.height, MAX_PIXELS)
    memory = _BYTES_PER_PIXEL * image.width * image.height
    if not _has_several_scans(image, content):
        return memory
    scans = sum(segment.marker == START_OF_SCAN for segment in segments(content))
    if scans > _MAX_SCANS:
        raise DecodeError(
            FailReason.UNSUPPORTED, f"a JPEG of {scans} scans; the limit is {_MAX_SCANS}"
        )
    areas = [across * down for _, across, down, _ in image.layer]
    coefficients = 2 * stored * sum(areas) // max(1, *areas)
    if coefficients > _MAX_COEFFICIENT_BYTES:
        raise DecodeError(
            FailReason.TOO_MANY_PIXELS,
            f"a progressive JPEG of {stored / 1e6:.0f} MP takes {coefficients / 1e6:.0f} MB",
        )
    return memory + coefficients


def _has_several_scans(image: JpegImageFile, content: bytes) -> bool:
    """Return True if the first scan is not the whole picture; only then are scans counted.

    Counting them in a file of 4 MB takes 7 ms, a quarter of the time to decode it.
    """
    if image.info.get("progressive") or image.fp is None:
        return True
    first = content.rfind(bytes((0xFF, START_OF_SCAN)), 0, image.fp.tell())
    return content[first + 4] < image.layers
