"""HEIC and HEIF, with the optional extra `heic`. The only module that uses pillow-heif.

The codec applies crop, rotation and mirroring in order, and EXIF does not turn a HEIC. Every
top-level picture in the file counts: some viewers show them as pages.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from nsfwscan.media.decode.decoded import MAX_SAMPLED_FRAMES, spread
from nsfwscan.media.decode.formats.bmff import Bmff, size_of
from nsfwscan.media.decode.formats.disputed import refuse_disputed
from nsfwscan.media.decode.formats.heif_codec import colour_of, opened, prepare
from nsfwscan.media.decode.formats.heif_grid import GridPicture, large_grid
from nsfwscan.media.decode.formats.picture import MAX_PIXELS, Picture, check_pixels
from nsfwscan.media.decode.formats.remade import (
    RemadePart,
    box,
    picture_of,
    with_alpha_sizes,
    without_apertures,
)
from nsfwscan.media.decode.formats.tracks import HEVC, samples_of
from nsfwscan.media.decode.formats.transforms import cuts
from nsfwscan.media.decode.formats.views import Source, ViewsPicture
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from nsfwscan.media.decode.formats.tracks import Track

_VIDEO_BRANDS = (b"isom", b"mp41", b"mp42", b"msf1")
"""libheif refuses files with these brands that have no track."""

_KEPT = (b"clap", b"clli", b"colr", b"hvcC", b"imir", b"irot")
"""Properties that both a sample entry and an item can have."""


def heif_picture(file: Bmff) -> Picture:
    """Open the top-level pictures of the file, and its sequence.

    Raises `DecodeError` if pillow-heif is not installed.
    """
    refuse_disputed(file)
    prepare()
    grid = large_grid(file, MAX_PIXELS)
    if grid is not None:
        return GridPicture(file, grid)
    sources: list[Source] = []
    stills = moving = lost = 0
    with file.truncation_named():
        if file.primary is not None:
            plain = _plain(file)
            sources.append(_source(plain))
            sources += _uncropped(plain, sources[0])
            stills = len(sources[0].frames)
        if file.sequence is not None:
            frames, moving, lost = _frames(file, file.sequence)
            sources += frames
    if not sources:
        raise DecodeError(FailReason.UNSUPPORTED, "no frame of the sequence can be decoded alone")
    picture = ViewsPicture("HEIF", file, sources, stills + moving)
    if lost:
        told = f"{lost} of {moving} frames of its sequence could not be read"
        picture.missing = f"{picture.missing}; {told}" if picture.missing else told
    return picture


def _plain(file: Bmff) -> Bmff:
    """Return a file that libheif treats as still pictures only, with all sizes given."""
    with_sizes = with_alpha_sizes(file, file.data)
    if with_sizes is not file.data:
        file = Bmff(with_sizes)
    if file.moov is None and not any(brand in _VIDEO_BRANDS for brand in file.brands()):
        return file
    changed = bytearray(file.with_brand(b"heic", b"hevc", b"hevx", *_VIDEO_BRANDS))
    if file.moov is not None:
        changed[file.moov.start + 4 : file.moov.start + 8] = b"free"
    return Bmff(bytes(changed))


def _source(file: Bmff) -> Source:
    image = opened(file.data)
    check_pixels(*image.size, MAX_PIXELS)
    if not image.info.get("primary"):  # pillow-heif omits pictures that libheif cannot open
        raise DecodeError(FailReason.CORRUPT, "the main picture of the file cannot be opened")
    frames: int = getattr(image, "n_frames", 1)
    return Source(image, range(frames), colour_of)


def _uncropped(file: Bmff, source: Source) -> list[Source]:
    """Return the main picture uncropped, if its clean aperture leaves out much of it."""
    properties = file.primary.properties if file.primary else []
    size = size_of(file.data, properties)
    if size is None or not cuts(file.data, properties, size):
        return []
    image = opened(without_apertures(file, size))
    check_pixels(*image.size, MAX_PIXELS)
    return [Source(image, [source.image.tell()], colour_of)]


def _frames(file: Bmff, track: Track) -> tuple[list[Source], int, int]:
    """Return the independently coded frames of a sequence, each as a still picture.

    Also returns the number of frames, and how many of them cannot be shown.
    """
    samples, alone = samples_of(file.data, track.table)
    if track.kind not in HEVC:
        return [], len(samples), len(samples)
    sources = []
    size = box(b"ispe", struct.pack(">III", 0, *track.size))
    properties = [file.data[box.start : box.end] for box in track.properties if box.kind in _KEPT]
    for at in spread(len(alone), MAX_SAMPLED_FRAMES - 2):
        part = RemadePart(b"hvc1", file.bytes_of([samples[alone[at]]]), [size, *properties])
        image = opened(picture_of(part))
        check_pixels(*image.size, MAX_PIXELS)
        sources.append(Source(image, [0], colour_of))
    return sources, len(samples), len(samples) - len(alone)
