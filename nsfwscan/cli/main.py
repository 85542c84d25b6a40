"""The entry point, where every error becomes a sentence and an exit code."""

from __future__ import annotations

import sys

from nsfwscan import bundled
from nsfwscan._version import __version__
from nsfwscan.cli import streams
from nsfwscan.cli.codes import INTERRUPTED
from nsfwscan.errors import ModelError, NsfwscanError
from nsfwscan.report.text import readable

_EX_PIPE = 141
"""What a shell reports of a program that SIGPIPE ended: the reader had seen enough."""


def run() -> None:
    """Run the command line and exit."""
    streams.prepare()
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run the command that `arguments` name and return its exit code."""
    try:
        code = _run(arguments)
        sys.stdout.flush()  # a full disk may show itself only now
    except NsfwscanError as error:
        cause = _cause(error)
        complain(cause)
        return cause.exit_code
    except streams.ReaderGone:
        return _EX_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except ImportError:
        bundle = bundled.folder()
        if bundle is None:
            raise
        damaged = bundled.refuse(bundle)
        complain(damaged)
        return damaged.exit_code
    return code


def _cause(error: NsfwscanError) -> NsfwscanError:
    """Return what to say: of an error about a model, that the bundle it came in is damaged."""
    bundle = bundled.folder()
    if bundle is None or not isinstance(error, ModelError):
        return error
    _, problems = bundled.look_over(bundle)
    return bundled.refuse(bundle, problems[0]) if problems else error


def complain(error: NsfwscanError) -> None:
    """Print an error and its next step to stderr."""
    print(f"nsfwscan: {readable(str(error))}", file=sys.stderr)
    if error.hint:
        print(f"  {readable(error.hint)}", file=sys.stderr)


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:  # the program's pulse, which need not wait for every command
        print(f"nsfwscan {__version__}")
        return 0
    from nsfwscan.cli.app import app
    from nsfwscan.cli.commands import RunAgain

    while True:
        try:
            app(arguments, prog_name="nsfwscan")
        except RunAgain:
            continue
        except SystemExit as end:  # typer ends every command so
            if end.code is None:
                return 0
            return end.code if isinstance(end.code, int) else 2
        return 0
