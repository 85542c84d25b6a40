"""AVIF, still and moving.

A file may have a still picture and a sequence, of which a viewer shows one, and a clean aperture
that only some viewers apply: all of these are views. EXIF and XMP do not turn an AVIF; `irot` and
`imir` do (ISO/IEC 23000-22, 7.3.6.7).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from PIL import AvifImagePlugin

from nsfwscan.media.decode.decoded import MAX_SAMPLED_FRAMES
from nsfwscan.media.decode.formats import av1
from nsfwscan.media.decode.formats.bmff import Bmff, nclx, peak_nits, profile_of
from nsfwscan.media.decode.formats.boxes import broken
from nsfwscan.media.decode.formats.disputed import refuse_disputed
from nsfwscan.media.decode.formats.picture import MAX_PIXELS, Picture, check_pixels, open_with
from nsfwscan.media.decode.formats.remade import with_alpha_sizes
from nsfwscan.media.decode.formats.tracks import times_of
from nsfwscan.media.decode.formats.transforms import in_order, in_usual_order
from nsfwscan.media.decode.formats.views import Colour, Source, ViewsPicture, what_viewers_show
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nsfwscan.media.decode.formats.boxes import Box, Extent
    from nsfwscan.media.decode.formats.tracks import Track


_MOST_OTHERS = MAX_SAMPLED_FRAMES - 4


def avif_picture(file: Bmff) -> Picture:
    """Open the sequence, the still picture (unless it is the same), and further pages."""
    refuse_disputed(file)
    # Pictures already run in parallel; threads of the codec would only take cores from them.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    sequence, still, others = file.sequence, file.primary, []
    sources: list[Source] = []
    problems: list[Exception] = []
    lost = []
    with file.truncation_named():
        if sequence is not None and not _opened(
            sources, problems, partial(_sequence, file, sequence)
        ):
            lost.append("its sequence could not be read")
        same = bool(sources) and _is_first_frame(file)
        if still is not None and not same and not _opened(sources, problems, partial(_still, file)):
            lost.append("its still picture could not be read")
        if not sources:
            raise problems[0] if problems else broken("no picture")
        if file.meta is not None:
            others = file.meta.others()
        pages = [partial(_still, file.with_primary(number)) for number in others[:_MOST_OTHERS]]
        tried = [_opened(sources, problems, page) for page in pages]
        if not all(tried):
            lost.append("a picture beside the main one could not be read")
    frames = len(sources[0].frames) + len(others)
    picture = ViewsPicture("AVIF", file, sources, frames)
    picture.missing = "; ".join(lost) or picture.missing
    return picture


def _opened(sources: list[Source], problems: list[Exception], build: Callable[[], Source]) -> bool:
    """Append the source that `build` opens, or its error. Return True if it opened."""
    try:
        sources.append(build())
    except (RuntimeError, SyntaxError, ValueError, DecodeError) as error:
        if isinstance(error, DecodeError) and error.reason is FailReason.TOO_MANY_PIXELS:
            raise
        problems.append(error)
        return False
    return True


def _sequence(file: Bmff, track: Track) -> Source:
    if track.kind != b"av01":
        raise broken("the sequence has another coding")
    content = file.with_brand(b"avis", b"avif") if file.primary is not None else file.data
    source = _source(file, content, track.properties, [track.first])
    source.times = times_of(file.data, track.table)
    return source


def _still(file: Bmff) -> Source:
    content = file.data
    brands = file.brands()
    if brands[0] != b"avif" or b"avis" in brands:
        content = file.with_brand(b"avif", b"avis")
    if file.meta is None or file.primary is None:
        raise broken("no picture")
    content = with_alpha_sizes(file, content)
    first = next(iter(file.meta.coded_parts(file.meta.primary)), file.primary)
    properties = file.primary.properties
    inherited = [box for box in first.properties if box.kind in (b"colr", b"clli")]
    return _source(file, content, [*properties, *inherited], first.extents)


def _source(
    file: Bmff, content: bytes, properties: Sequence[Box], extents: Sequence[Extent]
) -> Source:
    try:
        image = open_with(AvifImagePlugin.AvifImageFile, content)
    except RuntimeError as error:
        if "Missing or empty image item" not in str(error) or not file.bytes_of(extents, 1):
            raise
        # It is there, but libavif ignores items with essential properties that it does not know.
        raise DecodeError(
            FailReason.UNSUPPORTED, "the picture is derived in an unknown way"
        ) from error
    check_pixels(*image.size, MAX_PIXELS)
    if not image.info.get("icc_profile"):  # the codec does not report that of a grid's tiles
        image.info["icc_profile"] = profile_of(file.data, properties)
    points = nclx(file.data, properties)
    if points is None:
        points = av1.colour_points(file.bytes_of(extents, av1.HEAD_BYTES))
    colour = Colour(*points, peak_nits(file.data, properties))
    shown = what_viewers_show(
        in_usual_order(file.data, properties, image.size, crop=False),
        in_usual_order(file.data, properties, image.size, crop=True),
        in_order(file.data, properties, image.size),
    )
    return Source(image, range(image.n_frames), lambda _: colour, shown)


def _is_first_frame(file: Bmff) -> bool:
    """Return True if the still picture is the sequence's first frame, shown the same way."""
    still, sequence = file.primary, file.sequence
    if file.meta is None or still is None or sequence is None:
        return False
    alpha = file.meta.items.get(file.meta.alpha_of(file.meta.primary) or 0)
    other = next((track for track in file.tracks if track.auxiliary), None)
    if (alpha is None) != (other is None):
        return False
    if alpha is not None and other is not None and alpha.extents != [other.first]:
        return False
    kinds = (b"a1op", b"clap", b"colr", b"imir", b"irot", b"lsel")
    here, there = (
        [file.data[box.start : box.end] for box in properties if box.kind in kinds]
        for properties in (still.properties, sequence.properties)
    )
    return still.extents == [sequence.first] and here == there
