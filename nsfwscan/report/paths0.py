"""Paths, each followed by a NUL byte, for `xargs -0`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from nsfwscan.report.summary import Summary
    from nsfwscan.values.actions import Act
    from nsfwscan.values.results import ScanResult


class Paths0Reporter:
    """Bare paths, byte for byte, each followed by a NUL byte."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def add(self, result: ScanResult) -> None:
        """Write one path."""
        self._stream.write(os.fsencode(result.path) + b"\0")

    def act(self, act: Act, /) -> None:
        """Write nothing: the path would appear twice."""

    def show(self) -> None:
        """Do nothing: a program reads it."""

    def end(self, _summary: Summary, /) -> None:
        """Write nothing."""
