"""The values that jobs are made of. Nothing here does I/O."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsfwscan.system.json_lines import Json


class JobState(StrEnum):
    """How far a job is."""

    LISTING = "listing"
    """Its folder is still to be listed."""
    RUNNING = "running"
    """Pictures wait, or are being scored."""
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"
    """Its folder could not be listed."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will be scored."""
        return self not in {JobState.LISTING, JobState.RUNNING}


FAILED_PICTURE = "failed"
"""The kind of a result without a verdict; the others are decisions. Never counted as safe."""
KINDS = ("safe", "review", "nsfw", FAILED_PICTURE)


class JobStatus(NamedTuple):
    """A job as clients see it."""

    job: str
    """Its id."""
    state: JobState
    created_at: float
    """Seconds since 1970, like all times here."""
    ended_at: float | None
    folder: str | None
    """The folder it scans; None for uploads."""
    total: int
    """How many pictures it has; 0 while they are listed."""
    counts: Mapping[str, int]
    """Results so far, by kind."""
    problem: str
    """What keeps it from going on, or why it ended; empty if nothing."""
    owner: str
    """The name of the token that created it; empty without tokens."""

    @property
    def done(self) -> int:
        """How many pictures have a result."""
        return sum(self.counts.values())

    def record(self, keep_s: float) -> dict[str, Json]:
        """Return the status as JSON; a job is forgotten `keep_s` after it ended."""
        return {
            "id": self.job,
            "state": self.state.value,
            "folder": self.folder,
            "total": self.total,
            "done": self.done,
            "counts": {kind: self.counts.get(kind, 0) for kind in KINDS},
            "problem": self.problem or None,
            "created_at": round(self.created_at, 3),
            "ended_at": None if self.ended_at is None else round(self.ended_at, 3),
            "expires_at": None if self.ended_at is None else round(self.ended_at + keep_s, 3),
        }


class Spooled(NamedTuple):
    """Where an uploaded picture is in its job's file."""

    start: int
    length: int
    sha256: bytes


class JobPicture(NamedTuple):
    """One picture of a job."""

    job: str
    number: int
    """From 0, in the order of the upload or of the folder's listing."""
    name: str
    """Its path, or the name that came with the upload. Not necessarily valid Unicode."""
    spooled: Spooled | None = None
    """None for a picture in a folder."""


class PictureResult(NamedTuple):
    """What became of one picture."""

    job: str
    number: int
    kind: str
    """One of `KINDS`."""
    record: str
    """Its record as JSON."""
    sha256: bytes = b""
    """Its content; empty if it could not be read."""
    scored: bool = False
    """Whether it was decoded and scored, so that losing the result costs that again."""


class ResultPage(NamedTuple):
    """Results in the order in which they came."""

    rows: list[tuple[int, int, str]]
    """(position, number, record): positions count from 1 without gaps."""
    state: JobState


class Callback(NamedTuple):
    """Somebody to tell about the end of a job."""

    job: str
    url: str
    tries: int
