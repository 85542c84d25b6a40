"""AVIF and HEIC files that are well formed, but look different in different viewers.

Chromium, libavif and libheif were compared. If they differ, and one of the results cannot be
rendered as a view, the file is refused.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from nsfwscan.media.decode.formats.bmff import profile_of, size_of
from nsfwscan.media.decode.formats.tracks import READ
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from nsfwscan.media.decode.formats.bmff import Bmff, Item, Meta

_TRANSFORMS = (b"clap", b"imir", b"irot")


def refuse_disputed(file: Bmff) -> None:
    """Raise `DecodeError` if viewers show different pictures."""
    if sum(track.kind in READ and not track.auxiliary for track in file.tracks) > 1:
        raise _disputed("several sequences")
    meta = file.meta
    if meta is None:
        return
    for shown in (meta.primary, *meta.others()):
        for number in meta.parts_of(shown):
            if number in meta.items:
                _check_alpha(file, meta, number)
                _check_grid(file, meta, number)
        _check_gain_map(file, meta, shown)


def grid_size(head: bytes) -> tuple[int, int] | None:
    """Return width and height from the data of a grid item (ISO/IEC 23008-12, 6.6.2.3)."""
    layout = ">II" if head[1:2] and head[1] & 1 else ">HH"
    if len(head) < 4 + struct.calcsize(layout):
        return None
    return struct.unpack_from(layout, head, 4)


def _check_alpha(file: Bmff, meta: Meta, number: int) -> None:
    item, alphas = meta.items[number], meta.alphas_of(number)
    if len(alphas) > 1:
        raise _disputed("several alpha pictures")
    for alpha in alphas:
        # Chromium turns alpha like its picture, ignoring alpha's own properties; libheif does not.
        if _transforms(file, meta.items[alpha]) != _transforms(file, item):
            raise _disputed("alpha that is turned or cropped differently from its picture")
        sizes = [size_of(file.data, part.properties) for part in (item, meta.items[alpha])]
        if item.kind == b"av01" and None not in sizes and sizes[0] != sizes[1]:
            raise _disputed("alpha of another size than its picture")  # some decoders fail


def _check_grid(file: Bmff, meta: Meta, number: int) -> None:
    item = meta.items[number]
    if item.kind != b"grid":
        return
    stated = size_of(file.data, item.properties)
    size = grid_size(file.bytes_of(item.extents, 12))
    if None not in (stated, size) and stated != size:
        raise _disputed("a grid of two sizes")
    # libheif turns the tiles of an AVIF, libavif does not. For HEVC there is only libheif.
    parts = [meta.items[part] for part in meta.parts_of(number)[1:] if part in meta.items]
    if any(part.kind == b"av01" and _transforms(file, part) for part in parts):
        raise _disputed("tiles that are turned or cropped")
    if not profile_of(file.data, item.properties):
        colours = {tuple(_boxes(file, part, b"colr")) for part in parts}
        if len(colours) > 1:
            raise _disputed("tiles of different colour spaces")


def _check_gain_map(file: Bmff, meta: Meta, number: int) -> None:
    """Refuse a picture for HDR displays that a gain map turns into a different SDR picture.

    Chromium shows the SDR picture on ordinary displays (ISO 21496-1, C.2). Gain maps of pictures
    for ordinary displays change nothing there.
    """
    for item in meta.derived_from(number, b"tmap"):
        head = file.bytes_of(item.extents, 14)
        if len(head) == 14 and int.from_bytes(head[6:10], "big"):  # numerator of the base headroom
            raise DecodeError(
                FailReason.UNSUPPORTED,
                "a picture that its gain map turns into another is not supported",
            )


def _transforms(file: Bmff, item: Item) -> list[bytes]:
    """Return the properties that turn and crop an item, in order."""
    return _boxes(file, item, *_TRANSFORMS)


def _boxes(file: Bmff, item: Item, *kinds: bytes) -> list[bytes]:
    return [file.data[box.start : box.end] for box in item.properties if box.kind in kinds]


def _disputed(what: str) -> DecodeError:
    return DecodeError(FailReason.UNSUPPORTED, f"{what}, which viewers show differently")
