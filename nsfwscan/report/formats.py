"""Output formats, and the protocol for writing one."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nsfwscan.system.json_lines import Json
    from nsfwscan.values.actions import Act
    from nsfwscan.values.results import ScanResult


class Format(StrEnum):
    """How results are written."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    PATHS0 = "paths0"


class Reporter(Protocol):
    """Writes the results of one scan, one after the other, to a stream of bytes."""

    def add(self, result: ScanResult, /) -> None:
        """Write one result, or keep it until the end. Raises OSError as the stream does."""

    def act(self, act: Act, /) -> None:
        """Write one act. All acts come after all results."""

    def show(self) -> None:
        """Show the results so far, if the format is for people."""

    def end(self, summary: dict[str, Json], /) -> None:
        """Write the rest, also after an interrupted scan, so that the output is always complete."""
