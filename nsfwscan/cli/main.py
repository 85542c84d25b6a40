"""The entry point, where every error becomes a sentence and an exit code."""

from __future__ import annotations

import os
import sys

from nsfwscan.errors import NsfwscanError
from nsfwscan.report.text import readable

_EX_PIPE = 141
"""What a shell reports of a program that SIGPIPE ended: the reader had seen enough."""
_EX_INTERRUPTED = 130


def run() -> None:
    """Run the command line and exit."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run the command that `arguments` name and return its exit code."""
    try:
        from nsfwscan.cli.app import app

        app(arguments, prog_name="nsfwscan")
    except SystemExit as end:
        return _code_of(end)
    except NsfwscanError as error:
        complain(error)
        return error.exit_code
    except BrokenPipeError:
        _forget_stdout()
        return _EX_PIPE
    except KeyboardInterrupt:
        return _EX_INTERRUPTED
    return 0


def complain(error: NsfwscanError) -> None:
    """Print an error and its next step to stderr."""
    print(f"nsfwscan: {readable(str(error))}", file=sys.stderr)
    if error.hint:
        print(f"  {readable(error.hint)}", file=sys.stderr)


def _code_of(end: SystemExit) -> int:
    if end.code is None:
        return 0
    return end.code if isinstance(end.code, int) else 2


def _forget_stdout() -> None:
    """Give stdout away, so that Python's last flush does not complain about the closed pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
