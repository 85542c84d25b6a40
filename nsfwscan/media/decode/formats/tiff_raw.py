"""Camera raw files that look like TIFF: NEF, ARW, DNG and others.

Their first page is a small preview, which is not what viewers of such files show.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from nsfwscan.media.decode.formats.tiff_tags import TiffFile

_RAW_PHOTOMETRICS = (32803, 34892)
"""Colour filter array; linear raw. From TIFF/EP and DNG."""
_RAW_COMPRESSIONS = (32767, 32769, 32770, 34713, 65000, 65535)
"""Sony, Epson, Samsung, Nikon, Kodak, Pentax."""
_RAW_TAGS = (33422, 50706, 50740)
"""CFAPattern, DNGVersion, DNGPrivateData."""


def refuse_raw(file: TiffFile) -> None:
    """Raise `DecodeError` for a camera raw file, in which the first page is a small preview."""
    first = file.directory(file.directories[0])
    found, elsewhere = [first], file.directories[1:8]
    with contextlib.suppress(DecodeError):
        elsewhere.extend(first.integers(330, 8))  # SubIFDs
    for at in elsewhere:
        with contextlib.suppress(DecodeError):
            found.append(file.directory(at))
    for directory in found:
        if (
            any(tag in directory for tag in _RAW_TAGS)
            or directory.lenient(262) in _RAW_PHOTOMETRICS
            or directory.lenient(259) in _RAW_COMPRESSIONS
        ):
            raise DecodeError(FailReason.UNSUPPORTED, "a camera raw file is not supported")
