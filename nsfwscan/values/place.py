"""Where a picture is: a file, or a part of one, such as a member of an archive.

Nothing produces parts yet. They are meant for archives (`member`), documents (`page`) and films
(`at_ms`).
"""

from __future__ import annotations

from typing import NamedTuple


class Part(NamedTuple):
    """A part of a file. At most one of `page` and `at_ms` is set; `member` may go with either."""

    member: str = ""
    """Path inside an archive, separated by `/`; for an archive in an archive both paths, joined by
    `!/`. Empty if there is no archive."""
    page: int | None = None
    """Page of a document, from 1."""
    at_ms: int | None = None
    """Time in a film: milliseconds from its start."""

    def __bool__(self) -> bool:
        """Return False for the whole file."""
        return self != WHOLE

    def __str__(self) -> str:
        """Return the suffix to show after the path: `!/holiday/1.jpg`, `#page=3`, `#t=12.500`."""
        text = f"!/{self.member}" if self.member else ""
        if self.page is not None:
            text += f"#page={self.page}"
        if self.at_ms is not None:
            text += f"#t={self.at_ms / 1000:.3f}"
        return text


WHOLE = Part()
"""The whole file."""


class Place(NamedTuple):
    """A picture's place: the path of its file, and the part of the file that shows it."""

    path: str
    part: Part = WHOLE

    def __str__(self) -> str:
        """Return the path, followed by the part unless it is the whole file."""
        return f"{self.path}{self.part}"
