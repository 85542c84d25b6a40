"""The file that a page is written to: never a terminal, and never over something else."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nsfwscan.cli.shared.shell_words import quoted
from nsfwscan.system.reading import open_bytes
from nsfwscan.values.errors import UsageError

if TYPE_CHECKING:
    from nsfwscan.cli.shared.talk import Talk

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
            f"{output} is a folder",
            hint=f"name a file: -o {quoted([os.path.join(output, 'report.html')])}",
        )
    try:
        if not os.path.isfile(output) or not os.path.getsize(output):
            return
        with open_bytes(output) as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:  # just now
        return
    except OSError:  # it may be anything
        head = b""
    if MARK not in head:
        raise UsageError(
            f"{output} exists and is not a report, so it is not overwritten",
            hint="name another file, or delete that one first",
        )


def suggest_page(output: str, talk: Talk) -> None:
    """Say how to open the page in the file `output`, unless it went to a pipe or a device."""
    if output != "-" and os.path.isfile(output):
        talk.say("")
        talk.command("open it", Path(os.path.realpath(output)).as_uri())
