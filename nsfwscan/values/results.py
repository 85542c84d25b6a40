"""The values that a scan is made of: what was looked at, what the model said, what was decided.

Nothing here does I/O or knows a third-party library. All values are immutable. A file that could
not be read is a value (`Failed`), not an exception: one bad picture never ends a scan. There is no
value with which a picture that was not scored could pass for a safe one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator


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


_KEY = struct.Struct("<qqqQ")
_PACK = _KEY.pack
KEY_BYTES = _KEY.size
_INODE_BYTES = 8
_HALF, _FULL = 1 << 63, 1 << 64


class FileKey(NamedTuple):
    """What `stat` tells of a file, enough to know it again, by its path, without opening it.

    There is no device: its number changes when a disk is plugged in elsewhere, and every picture
    on it would be read again.
    """

    size: int
    """Bytes."""
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> FileKey:
        """Return the key of a file; numbers beyond 64 bits (ReFS inodes have 128) are cut."""
        return cls.unpack(pack_key(found))

    @classmethod
    def unpack(cls, packed: bytes) -> FileKey:
        """Return the key that `pack` or `pack_key` gave."""
        return cls._make(_KEY.unpack(packed))

    @classmethod
    def unpack_all(cls, packed: bytes) -> Iterator[FileKey]:
        """Return the keys of several packed ones, joined."""
        return map(cls._make, _KEY.iter_unpack(packed))

    def pack(self) -> bytes:
        """Return the key as `KEY_BYTES` bytes, to be stored and compared."""
        return _pack(*self)


def pack_key(found: os.stat_result) -> bytes:
    """Return `FileKey.of(found).pack()` without making a key: a re-scan does this for each file."""
    try:
        return _PACK(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    except struct.error:
        return _pack(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def stamped(packed: bytes, stamp: int) -> bytes:
    """Return a packed key with a file system's stamp (see `images.volumes`) for the inode."""
    return packed[:-_INODE_BYTES] + stamp.to_bytes(_INODE_BYTES, "little")


def _pack(size: int, mtime_ns: int, ctime_ns: int, inode: int) -> bytes:
    try:
        return _KEY.pack(size, mtime_ns, ctime_ns, inode)
    except struct.error:
        signed = ((number + _HALF) % _FULL - _HALF for number in (size, mtime_ns, ctime_ns))
        return _KEY.pack(*signed, inode % _FULL)


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
    """`CACHE` when the library remembers the failure from an earlier scan."""
    ruling: Ruling | None = None
    """What a person decided about this content; None when nobody did."""

    @property
    def decision(self) -> Decision | None:
        """What a person made of it; None, which is not safe, when nobody did."""
        return None if self.ruling is None else self.ruling.decision


ScanResult: TypeAlias = Scanned | Skipped | Failed
