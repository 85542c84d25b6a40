"""The one way to examine a picture: read it, decode it, run the model.

In: a path, bytes, or a `Content` read before, and what is `Wanted`. Out: a `Finding`. This module
uses no cache, verdicts or processes: the caller passes in the functions that decode and score, and
stores the finding. A path that cannot be read raises `DecodeError`; content that cannot be decoded
gives a finding.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from nsfwscan.media.discover import DEFAULT_MAX_BYTES
from nsfwscan.media.read import read_picture
from nsfwscan.values.errors import DecodeError, ModelUnusable
from nsfwscan.values.facts import KINDS, NO_FACTS, ContentFacts
from nsfwscan.values.outcome import Outcome, Reading, Scored, Unscorable
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsfwscan.media.decode.decoded import Decoded
    from nsfwscan.models.classifier import Classifier
    from nsfwscan.values.file_key import FileKey
    from nsfwscan.values.geometry import Geometry


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a picture file, and what identifies them."""

    data: bytes
    sha256: bytes
    key: FileKey | None = None
    """`stat` of the file, the same before and after it was read; None for bytes without a file."""


Source: TypeAlias = str | bytes | Content
"""A path, the bytes of a picture file, or content read before."""


class Wanted(NamedTuple):
    """What to find out. Facts come with every decoded picture."""

    outcome: bool = True
    """Scores; they need the model."""
    embedding: bool = False
    attention: bool = False
    pixels: Geometry | None = None
    """The picture in another geometry."""


ALL = Wanted()
FACTS = Wanted(outcome=False)
"""Facts alone; no model is loaded."""


class Finding(NamedTuple):
    """What was found out about a content."""

    sha256: bytes
    key: FileKey | None
    """See `Content.key`."""
    outcome: Outcome | None
    """None if not wanted, except that undecodable content always gives `Unscorable`."""
    facts: ContentFacts = NO_FACTS
    decoded: Decoded | None = None
    """The picture in the wanted geometry, or else the model's; None if it cannot be decoded."""
    reading: Reading | None = None
    """The model's output; None if it was not run or failed."""

    def expect_outcome(self) -> Outcome:
        """Return the outcome of a finding that was to have one."""
        if self.outcome is None:
            raise RuntimeError("there is no outcome, because none was wanted")
        return self.outcome


class Decode(Protocol):
    """A function that decodes, such as `DecodePool.decode`."""

    def __call__(self, data: bytes, geometry: Geometry) -> Decoded:
        """Decode the bytes of one picture file. Raises `DecodeError`."""


class Read(Protocol):
    """A function that reads a path, such as `identify`."""

    def __call__(self, source: str, *, follow: bool, max_bytes: int) -> Content:
        """Read a file. Raises `DecodeError`."""


def identify(source: Source, *, follow: bool = True, max_bytes: int = DEFAULT_MAX_BYTES) -> Content:
    """Return the content of `source`. A path is read once, in full, and hashed.

    `follow` allows the path to be a symbolic link. Raises `DecodeError` for a path that cannot be
    read, has more than `max_bytes`, or changes while it is read.
    """
    if isinstance(source, Content):
        return source
    if isinstance(source, bytes):
        return Content(source, hashlib.sha256(source).digest())
    read = read_picture(source, follow=follow, max_bytes=max_bytes)
    return Content(read.data, hashlib.sha256(read.data).digest(), read.key)


def examine(
    source: Source,
    wanted: Wanted,
    *,
    decode: Decode,
    geometry: Geometry,
    classifier: Callable[[], Classifier],
) -> Finding:
    """Find out what is `wanted` about one picture.

    `geometry` is the model's. `classifier` returns the model, and is only called for a decoded
    picture that is to be scored. Raises `DecodeError` as `identify` does, and whatever `decode` and
    `classifier` raise if there are no processes or no model.
    """
    content = identify(source)
    sha256, key = content.sha256, content.key
    try:
        decoded = decode(content.data, geometry)
        pixels = decode(content.data, wanted.pixels) if wanted.pixels else decoded
    except DecodeError as error:
        unscorable = Unscorable(error.reason, error.detail, error.transient)
        # Store that there are no facts, or every scan would try again and find the same.
        unknown = wanted.outcome or error.transient
        facts = NO_FACTS if unknown else {kind: kind.absent for kind in KINDS}
        return Finding(sha256, key, unscorable, facts)
    facts = decoded.content_facts
    if not wanted.outcome:
        return Finding(sha256, key, None, facts, pixels)
    model = classifier()  # an error raised here is not the picture's fault
    try:
        reading = model.read(
            decoded.pixels,
            decoded.views,
            embedding=wanted.embedding,
            attention=wanted.attention,
        )
    except ModelUnusable as error:
        return Finding(sha256, key, Unscorable(FailReason.BAD_OUTPUT, str(error)), facts, pixels)
    frame = decoded.shown[reading.view] if decoded.facts.frames > 1 else None
    return Finding(
        sha256, key, Scored(decoded.facts, reading.scores, frame), facts, pixels, reading
    )
