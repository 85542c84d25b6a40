"""Running the user's program for a picture: no shell, and with a time limit.

In: the picture's record as one line of JSON on standard input. What can fail: no such program, an
exit code other than 0, the time limit; each becomes a sentence with the program's last line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from typing import IO, TYPE_CHECKING

from nsfwscan.system.json_lines import json_line
from nsfwscan.values.actions import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nsfwscan.system.json_lines import Json

_TAIL_BYTES = 4096


def run(
    command: Sequence[str], path: str, record: Mapping[str, Json], time_limit_s: float
) -> tuple[Outcome, str]:
    """Run `command` for the picture at the absolute path `path`; return outcome and detail.

    `{path}` in an argument becomes the path, which begins with a separator and so never looks like
    an option. The program's standard output is discarded, because ours carries data.
    """
    arguments = [command[0], *(one.replace("{path}", path) for one in command[1:])]
    line = json_line(record)
    # Files, not pipes: otherwise a program that reads nothing, or whose child keeps the streams
    # open, would block us.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(line)
        given.seek(0)
        try:
            process = subprocess.Popen(
                arguments,
                stdin=given,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=sys.platform != "win32",
            )
        except (OSError, ValueError) as error:
            return Outcome.FAILED, f"{arguments[0]} cannot be started: {_reason(error)}"
        try:
            code = process.wait(time_limit_s)
        except subprocess.TimeoutExpired:
            _kill(process)
            return (
                Outcome.FAILED,
                f"{arguments[0]} was stopped after {time_limit_s:g} seconds{_last_line(said)}",
            )
        except BaseException:
            _kill(process)
            raise
        if code != 0:
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            return Outcome.FAILED, f"{arguments[0]} ended with {how}{_last_line(said)}"
    return Outcome.DONE, ""


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the program and its children."""
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(said: IO[bytes]) -> str:
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - _TAIL_BYTES))
    lines = said.read().decode("utf-8", "backslashreplace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {last[:300]}" if last else ""


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
