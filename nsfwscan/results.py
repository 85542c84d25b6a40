"""The values that a scan is made of: what was looked at, what the model said, what was decided.

Nothing here does I/O or knows a third-party library. All values are immutable. A file that could
not be read is a value (`Failed`), not an exception: one bad picture never ends a scan. There is no
value with which a picture that was not scored could pass for a safe one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias


class Decision(StrEnum):
    """What the policy makes of a score."""

    SAFE = "safe"
    REVIEW = "review"
    NSFW = "nsfw"


class Origin(StrEnum):
    """Where the score of a picture came from."""

    MODEL = "model"
    """The model ran on this picture in this scan."""
    CACHE = "cache"
    """The library knew the content, from this path or from another one."""
    DUPLICATE = "duplicate"
    """Another path of this scan holds the same bytes and was scored for both."""


class SkipReason(StrEnum):
    """Why a path was left out on purpose. A skipped path has no decision."""

    NOT_AN_IMAGE = "not-an-image"
    NOT_REGULAR = "not-regular"
    SYMLINK = "symlink"
    TOO_BIG = "too-big"
    OTHER_FILE_SYSTEM = "other-file-system"


class FailReason(StrEnum):
    """Why a picture has no score although it should have one. The codes are stable."""

    UNREADABLE = "unreadable"
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


class FileKey(NamedTuple):
    """What `stat` tells of a file, enough to know it again without opening it.

    A named tuple and not a dataclass: a re-scan makes and compares one for every file, and a tuple
    costs a fifth of a frozen dataclass there.
    """

    size: int
    """Bytes."""
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int


class Scores(NamedTuple):
    """What the model said of one picture."""

    probabilities: tuple[float, ...]
    """One probability (0 to 1) for each label of the model's manifest, in its order."""
    unsafe: float
    """The probabilities reduced to one, 0 (safe) to 1 (not safe), as the manifest says how."""


class Verdict(NamedTuple):
    """What a policy decided, next to the score and the thresholds that made it so."""

    decision: Decision
    score: float
    review_at: float
    flag_at: float


class ImageFacts(NamedTuple):
    """What decoding found out about a picture besides its pixels."""

    format: str
    """The format by content: `JPEG`, `PNG`, `WEBP`, `GIF`, `BMP`, `TIFF`, `AVIF` or `HEIF`."""
    width: int
    """Pixels, as stored, before any EXIF rotation."""
    height: int
    frames: int
    """How many frames the file holds; 1 for a still picture."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """A picture with a score and a verdict."""

    path: str
    sha256: bytes
    facts: ImageFacts
    scores: Scores
    verdict: Verdict
    origin: Origin


@dataclass(frozen=True, slots=True)
class Skipped:
    """A path that was left out on purpose, and why."""

    path: str
    reason: SkipReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """A picture that could not be scored, and why. Never to be counted as safe."""

    path: str
    reason: FailReason
    detail: str = ""
    """One sentence for a person; may be empty."""
    sha256: bytes | None = None
    """The content that failed, when it could be read at all."""
    origin: Origin = Origin.MODEL
    """`CACHE` when the library remembers the failure from an earlier scan."""


ScanResult: TypeAlias = Scanned | Skipped | Failed
