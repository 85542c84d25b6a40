"""Pictures that viewers show differently: each version is a view, and the worst one counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.media.decode.decoded import MAX_SAMPLED_FRAMES, spread
from nsfwscan.media.decode.formats import transfer
from nsfwscan.media.decode.formats.picture import Frame, Picture
from nsfwscan.media.decode.formats.transforms import Shown, differs
from nsfwscan.values.results import ImageFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL import Image, ImageFile

    from nsfwscan.media.decode.formats.bmff import Bmff

_UNSPECIFIED = 2
_SRGB_PRIMARIES, _SRGB_CURVE = 1, 13
_SHOWN_AS_SRGB = (_UNSPECIFIED, 1, 6, 14, 15)
"""In an AVIF, Chromium shows the curve of BT.709 and similar ones as sRGB's, unlike in a PNG."""

_BYTES_PER_PIXEL = 12
"""The codecs keep whole frames of their own."""


class Colour(NamedTuple):
    """What the samples mean without an ICC profile, by the code points of ITU-T H.273."""

    primaries: int = 2
    transfer: int = 2
    peak_nits: int = 0
    """0 if not given."""

    def to_srgb(self) -> Callable[[Image.Image], Image.Image] | None:
        """Return the conversion; None for sRGB."""
        space = transfer.of_code_points(
            _SRGB_PRIMARIES if self.primaries == _UNSPECIFIED else self.primaries,
            _SRGB_CURVE if self.transfer in _SHOWN_AS_SRGB else self.transfer,
            self.peak_nits or transfer.DEFAULT_PEAK_NITS,
        )
        return None if space is None else space.to_srgb


@dataclass(slots=True)
class Source:
    """An opened picture whose frames are to be shown."""

    image: ImageFile.ImageFile
    frames: Sequence[int]
    """The numbers of the frames that count."""
    colour: Callable[[Image.Image], Colour]
    """Called after a frame has been loaded."""
    shown: list[Shown] = field(default_factory=list)
    """How viewers show each frame; empty if the codec does what all of them do."""
    times: Sequence[float] = ()
    """How long each frame is shown, in any unit; empty if unknown."""


class _View(NamedTuple):
    source: Source
    frame: int
    shown: Shown | None


class ViewsPicture(Picture):
    """A picture with one or more sources; at most `MAX_SAMPLED_FRAMES` views."""

    def __init__(self, name: str, file: Bmff, sources: Sequence[Source], frames: int) -> None:
        self._file = file
        self._sources = sources
        image = sources[0].image
        self.facts = ImageFacts(name, image.width, image.height, frames)
        area = max(source.image.width * source.image.height for source in sources)
        # While a source is being decoded, the last frame of the one before is still in memory.
        self.memory = (_BYTES_PER_PIXEL + (4 if len(sources) > 1 else 0)) * area
        self.missing = file.shortage()
        self._views = _plan(sources)
        self.views = len(self._views)

    def show(self, view: int) -> Frame:
        """Decode one view; the next view of the same frame only costs a crop."""
        source, number, shown = self._views[view]
        if self._views[view - 1].source is not source and view:
            self._views[view - 1].source.image.close()
        image = source.image
        try:
            with self._file.truncation_named():
                image.seek(number)
                image.load()
        except Exception as error:
            self.missing = self.missing or f"frame {number + 1} of {self.facts.frames}: {error}"
            raise
        profile = image.info.get("icc_profile") or b""
        to_srgb = None if profile else source.colour(image).to_srgb()
        if shown is None or shown.edges == (0, 0, *image.size):
            part: Image.Image = image
        else:
            part = image.crop(shown.edges)
        return Frame(part, profile, shown.orientation if shown else 1, to_srgb=to_srgb)

    def close(self) -> None:
        """Release the file."""
        for source in self._sources:
            source.image.close()


def what_viewers_show(*shown: Shown) -> list[Shown]:
    """Return those that look different to a person."""
    found = [shown[0]]
    for candidate in shown[1:]:
        if all(differs(candidate, other) for other in found):
            found.append(candidate)
    return found


def _plan(sources: Sequence[Source]) -> list[_View]:
    """Choose views of all sources; the first has the most frames, and makes room for the others."""
    plan: list[_View] = []
    room = MAX_SAMPLED_FRAMES
    for source in reversed(sources):
        ways: list[Shown] | list[None] = source.shown or [None]
        most = max(2, room // len(ways))
        chosen = [source.frames[at] for at in spread(len(source.frames), most, source.times)]
        views = [_View(source, frame, shown) for frame in chosen for shown in ways]
        plan = views + plan
        room -= len(views)
    return plan
