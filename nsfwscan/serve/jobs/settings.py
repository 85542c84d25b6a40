"""What the person who runs the server allows jobs to do."""

from __future__ import annotations

from dataclasses import dataclass

_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class JobSettings:
    """Where jobs are kept, and their bounds."""

    home: str
    """The folder of the job file and of uploaded pictures. Only its owner may read it."""
    folders: tuple[str, ...] = ()
    """Folders of this computer that a job may name, with all below them."""
    bytes_each: int = 4 << 30
    """The longest upload of one job."""
    bytes_all: int = 32 << 30
    """Uploaded pictures of all jobs together that wait to be scored."""
    pictures_each: int = 1_000_000
    jobs_unfinished: int = 100
    keep_s: float = 24 * _HOUR_S
    """How long a job and its results are kept after it ended."""
    give_up_s: float = 7 * 24 * _HOUR_S
    """How long after its beginning a job is cancelled if it has not ended."""
    callback_hosts: frozenset[str] = frozenset()
    """`HOST` or `HOST:PORT` that may be told about the end of jobs; none by default."""
    callback_secret: bytes = b""
    """Signs what is sent to them."""
