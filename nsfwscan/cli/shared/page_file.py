"""The file that a page is written to: never a terminal, and never over something else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nsfwscan.system.reading import open_bytes
from nsfwscan.values.errors import UsageError

MARK = b'<meta name="generator" content="nsfwscan '
"""Stands near the beginning of each page; `shell.html` has it."""
_HEAD_BYTES = 4096


def check_page_file(output: str) -> None:
    """Raise `UsageError` if a report must not be written there."""
    if output == "-":
        if sys.stdout.isatty():
            raise UsageError(
                "a report is for a browser, not for a terminal", hint="name a file: -o report.html"
            )
        return
    if os.path.isdir(output):
        raise UsageError(
            f"{output} is a folder", hint=f"name a file: -o {os.path.join(output, 'report.html')}"
        )
    try:
        if not os.path.isfile(output) or not os.path.getsize(output):
            return
        with open_bytes(output) as file:
            head = file.read(_HEAD_BYTES)
    except OSError:  # writing will say what is wrong
        return
    if MARK not in head:
        raise UsageError(
            f"{output} exists and is not a report, so it is not overwritten",
            hint="name another file, or delete that one first",
        )


def page_address(output: str) -> str:
    """Return the address of a page in the file `output`, for a browser."""
    return Path(os.path.realpath(output)).as_uri()
