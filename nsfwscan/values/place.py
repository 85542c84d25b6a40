"""Where a picture is: a file, or a part of one, such as a member of an archive.

Nothing produces parts yet. What will: archives (`member`), documents (`page`), films (`at_ms`).
"""

from __future__ import annotations

from typing import NamedTuple


class Part(NamedTuple):
    """Which part of a file. At most one of `page` and `at_ms` is set; `member` may go with each."""

    member: str = ""
    """Path inside an archive, its separator `/`; of an archive in an archive, both, joined by `!/`.
    Empty for what is in no archive."""
    page: int | None = None
    """Of a document, from 1."""
    at_ms: int | None = None
    """Of a film: milliseconds from its start."""

    def __bool__(self) -> bool:
        """Return True unless this is the whole file."""
        return self != WHOLE

    def __str__(self) -> str:
        """Return what a person reads after the path: `!/holiday/1.jpg`, `#page=3`, `#t=12.500`."""
        text = f"!/{self.member}" if self.member else ""
        if self.page is not None:
            text += f"#page={self.page}"
        if self.at_ms is not None:
            text += f"#t={self.at_ms / 1000:.3f}"
        return text


WHOLE = Part()
"""The file itself."""


class Place(NamedTuple):
    """A picture's place: the path of its file, and the part of it that shows the picture."""

    path: str
    part: Part = WHOLE

    def __str__(self) -> str:
        """Return the path, followed by the part where it is not the whole file."""
        return f"{self.path}{self.part}"
