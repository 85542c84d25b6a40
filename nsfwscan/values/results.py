"""The values that a scan is made of: what was looked at, what the model said, what was decided.

Nothing here does I/O or knows a third-party library. All values are immutable. A file that could
not be read is a value (`Failed`), not an exception: one bad picture never ends a scan. There is no
value with which a picture that was not scored could pass for a safe one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from nsfwscan.values.place import WHOLE, Part, Place


class Decision(StrEnum):
    """What the policy makes of a score."""

    SAFE = "safe"
    REVIEW = "review"
    NSFW = "nsfw"


class Ruling(StrEnum):
    """What a person decided about a picture, whatever a model says of it."""

    ALLOWED = "allowed"
    """It is safe."""
    DENIED = "denied"
    """It is not safe for work."""

    @property
    def decision(self) -> Decision:
        """What it makes of the picture."""
        return Decision.SAFE if self is Ruling.ALLOWED else Decision.NSFW


class Origin(StrEnum):
    """Where the score of a picture came from."""

    MODEL = "model"
    """The model ran on this picture in this scan."""
    CACHE = "cache"
    """The cache knew the content, from this path or from another one."""
    DUPLICATE = "duplicate"
    """Another path of this scan holds the same bytes and was scored for both."""


class SkipReason(StrEnum):
    """Why a path was left out on purpose. A skipped path has no decision."""

    NOT_AN_IMAGE = "not-an-image"
    NOT_REGULAR = "not-regular"
    SYMLINK = "symlink"
    TOO_BIG = "too-big"
    OTHER_FILE_SYSTEM = "other-file-system"
    QUARANTINED = "quarantined"


class FailReason(StrEnum):
    """Why a picture has no score although it should have one. The codes are stable."""

    UNREADABLE = "unreadable"
    TOO_BIG = "too-big"
    """Of a file that was named. One that is found in a folder is skipped."""
    VANISHED = "vanished"
    CHANGED = "changed-while-reading"
    EMPTY = "empty"
    UNRECOGNISED = "unrecognised"
    UNSUPPORTED = "unsupported-format"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    TOO_MANY_PIXELS = "too-many-pixels"
    DECODER_CRASHED = "decoder-crashed"
    DECODER_TIMEOUT = "decoder-timeout"
    DECODER_MEMORY = "decoder-memory"
    BAD_OUTPUT = "bad-output"


class Scores(NamedTuple):
    """What the model said of one picture."""

    probabilities: tuple[float, ...]
    """One probability (0 to 1) for each label of the model's manifest, in its order."""
    unsafe: float
    """The probabilities reduced to one, 0 (safe) to 1 (not safe), as the manifest says how."""


class NearMatch(NamedTuple):
    """Why a person's decision about one picture holds for another one that looks like it."""

    sha256: bytes
    """The content that the person decided about."""
    distance: int
    """Bits, out of 64, in which the two likenesses differ."""
    path: str = ""
    """Where that picture was when the person decided, as printable text; empty if unknown."""


class Verdict(NamedTuple):
    """What was decided, next to the score and the thresholds of the policy.

    They stand there also when a person's ruling made the decision, whatever they say.
    """

    decision: Decision
    score: float
    review_at: float
    flag_at: float
    ruling: Ruling | None = None
    """What a person decided; None when the model's score decided."""
    near: NearMatch | None = None
    """Set when the person decided about another picture, and this one looks like it."""


class ImageFacts(NamedTuple):
    """What decoding found out about a picture besides its pixels."""

    format: str
    """The format by content: `JPEG`, `PNG`, `WEBP`, `GIF`, `BMP`, `TIFF`, `AVIF` or `HEIF`."""
    width: int
    """Pixels, as stored, before any EXIF rotation."""
    height: int
    frames: int
    """How many frames the file holds; 1 for a still picture."""
    missing: str = ""
    """What of the file cannot be shown although the rest can, for a person; empty when nothing."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """A picture with a score and a verdict."""

    path: str
    sha256: bytes
    facts: ImageFacts
    scores: Scores
    verdict: Verdict
    origin: Origin
    frame: int | None = None
    """The least safe frame of an animation, from 0, which the scores are of; see `Scored`."""
    part: Part = WHOLE
    """The part of the file that this is about."""

    @property
    def place(self) -> Place:
        """Where the picture is: the path, and the part of the file."""
        return Place(self.path, self.part)

    @property
    def score(self) -> float:
        """How likely the picture is not safe for work, 0 to 1, as the model says."""
        return self.verdict.score

    @property
    def decision(self) -> Decision:
        """What was decided: by a person, or from the score and the thresholds."""
        return self.verdict.decision

    @property
    def is_nsfw(self) -> bool:
        """Whether the picture was flagged."""
        return self.verdict.decision is Decision.NSFW

    @property
    def is_partial(self) -> bool:
        """Whether a part of the file could not be shown; `facts.missing` says which."""
        return bool(self.facts.missing)

    @property
    def sha256_hex(self) -> str:
        """The SHA-256 of the content as text, as reports print it."""
        return self.sha256.hex()


@dataclass(frozen=True, slots=True)
class Skipped:
    """A path that was left out on purpose, and why."""

    path: str
    reason: SkipReason
    detail: str = ""
    part: Part = WHOLE
    """The part of the file that this is about."""

    @property
    def place(self) -> Place:
        """Where the picture is: the path, and the part of the file."""
        return Place(self.path, self.part)


@dataclass(frozen=True, slots=True)
class Failed:
    """A picture that could not be scored, and why. Never to be counted as safe by itself.

    A person may have decided about this very content, though, and then that holds.
    """

    path: str
    reason: FailReason
    detail: str = ""
    """One sentence for a person; may be empty."""
    sha256: bytes | None = None
    """The content that failed, when it could be read at all."""
    origin: Origin = Origin.MODEL
    """`CACHE` when the cache remembers the failure from an earlier scan."""
    ruling: Ruling | None = None
    """What a person decided about this content; None when nobody did."""
    passing: bool = False
    """Whether the cause may lie outside the picture: another try may succeed."""
    part: Part = WHOLE
    """The part of the file that this is about."""

    @property
    def place(self) -> Place:
        """Where the picture is: the path, and the part of the file."""
        return Place(self.path, self.part)

    @property
    def decision(self) -> Decision | None:
        """What a person made of it; None, which is not safe, when nobody did."""
        return None if self.ruling is None else self.ruling.decision


ScanResult: TypeAlias = Scanned | Skipped | Failed
