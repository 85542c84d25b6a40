"""The values a scan is made of: what was scanned, the model's scores, what was decided.

Nothing here does I/O or uses a third-party library. All values are immutable. A file that cannot
be read is a value (`Failed`), not an exception: one bad picture never ends a scan. A picture that
was not scored never has a value that could pass for safe.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from nsfwscan.values.place import WHOLE, Part, Place


class Decision(StrEnum):
    """The decision on a picture, by the policy or a ruling."""

    SAFE = "safe"
    REVIEW = "review"
    NSFW = "nsfw"


class Ruling(StrEnum):
    """What a person decided about a picture. It overrides the model."""

    ALLOWED = "allowed"
    """It is safe."""
    DENIED = "denied"
    """It is not safe for work."""

    @property
    def decision(self) -> Decision:
        """The decision that follows from the ruling."""
        return Decision.SAFE if self is Ruling.ALLOWED else Decision.NSFW


class Origin(StrEnum):
    """Where the score of a picture came from."""

    MODEL = "model"
    """The model ran on this picture in this scan."""
    CACHE = "cache"
    """The content was in the cache, from this path or another."""
    DUPLICATE = "duplicate"
    """Another path in this scan has the same bytes; they were scored once."""


class SkipReason(StrEnum):
    """Why a path was left out on purpose. Skipped paths have no decision."""

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
    """Only for a file that the user named. A file found in a folder is skipped instead."""
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
    """The model's scores for one picture."""

    probabilities: tuple[float, ...]
    """A probability (0 to 1) for each label in the model's manifest, in its order."""
    unsafe: float
    """The probabilities reduced to one, 0 (safe) to 1 (not safe), in the manifest's way."""


class NearMatch(NamedTuple):
    """Why a ruling on one picture applies to another: they look alike."""

    sha256: bytes
    """The content that the ruling is about."""
    distance: int
    """Bits, out of 64, in which the two likenesses differ."""
    path: str = ""
    """Where that picture was when the ruling was made, as printable text; empty if unknown."""


class Verdict(NamedTuple):
    """The decision, with the score and the policy's thresholds.

    Score and thresholds are kept even if a ruling made the decision and they disagree with it.
    """

    decision: Decision
    score: float
    review_at: float
    flag_at: float
    ruling: Ruling | None = None
    """The ruling that decided; None if the model's score did."""
    near: NearMatch | None = None
    """Set if the ruling is about another picture that looks like this one."""


class ImageFacts(NamedTuple):
    """What decoding finds out about a picture besides its pixels."""

    format: str
    """The format by content: one of `media.sniff.READABLE`."""
    width: int
    """In pixels, as stored, before any EXIF rotation."""
    height: int
    frames: int
    """How many frames the file holds; 1 for a still picture."""
    missing: str = ""
    """What cannot be shown although the rest can, in words for the user; empty if nothing."""


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
    """Index of the scored frame of an animation, from 0; see `Scored`."""
    part: Part = WHOLE
    """The part of the file that the result is about."""

    @property
    def place(self) -> Place:
        """The path, and the part of the file."""
        return Place(self.path, self.part)

    @property
    def score(self) -> float:
        """How likely the picture is not safe for work, 0 to 1, according to the model."""
        return self.verdict.score

    @property
    def decision(self) -> Decision:
        """The decision, by a ruling or from the score and the thresholds."""
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
        """The SHA-256 of the content in hexadecimal, as in reports."""
        return self.sha256.hex()


@dataclass(frozen=True, slots=True)
class Skipped:
    """A path that was left out on purpose, and why."""

    path: str
    reason: SkipReason
    detail: str = ""
    part: Part = WHOLE
    """The part of the file that the result is about."""

    @property
    def place(self) -> Place:
        """The path, and the part of the file."""
        return Place(self.path, self.part)


@dataclass(frozen=True, slots=True)
class Failed:
    """A picture that could not be scored, and why. Never counts as safe by itself.

    Only a ruling on this very content can give it a decision.
    """

    path: str
    reason: FailReason
    detail: str = ""
    """One sentence for the user; may be empty."""
    sha256: bytes | None = None
    """The content that failed, if it could be read at all."""
    origin: Origin = Origin.MODEL
    """`CACHE` if the failure is remembered from an earlier scan."""
    ruling: Ruling | None = None
    """The ruling on this content; None if there is none."""
    transient: bool = False
    """Whether the cause may lie outside the picture, so that a retry may succeed."""
    part: Part = WHOLE
    """The part of the file that the result is about."""

    @property
    def place(self) -> Place:
        """The path, and the part of the file."""
        return Place(self.path, self.part)

    @property
    def decision(self) -> Decision | None:
        """The decision by a ruling; None, which is not safe, without one."""
        return None if self.ruling is None else self.ruling.decision


class WhyUnscanned(StrEnum):
    """Why nothing is known of a picture without opening it."""

    NEW = "new"
    """No scan has seen it."""
    CHANGED = "changed"
    """It is another file than the one that was scanned."""
    NO_SCORE = "no-score"
    """It was read, but has no score from any model in question, and no lasting reason why not."""


@dataclass(frozen=True, slots=True)
class Unscanned:
    """A picture that the cache cannot tell anything of. Not a `ScanResult`: no scan yields it."""

    path: str
    why: WhyUnscanned
    sha256: bytes | None = None
    """Its content, if that is known."""


ScanResult: TypeAlias = Scanned | Skipped | Failed
