"""The entry point: turns every error into a message and an exit code.

Modules that may fail to import are imported inside functions. A failed import must not end with
Python's exit code 1, which means "something was flagged".
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from nsfwscan.cli.shared import crash
from nsfwscan.cli.shared.codes import (
    FAILED,
    INTERNAL,
    INTERRUPTED,
    OK,
    READER_GONE,
    WRONG_COMMAND,
    code_of,
)

if TYPE_CHECKING:
    from nsfwscan.values.errors import NsfwscanError


_VERSION = (["--version"], ["-V"], ["version"])


def run() -> None:
    """Run the command line and exit."""
    try:
        code = _answered()
        _end_at_interrupts(code)
    except KeyboardInterrupt:  # before or after the handlers in `main`
        code = INTERRUPTED
        _end_at_interrupts(code)
    sys.exit(code)


def _answered() -> int:
    """Run the command line and return the exit code. Raises nothing but `KeyboardInterrupt`."""
    try:
        _answer_interrupts()
        with crash.undisguised():
            from nsfwscan.cli.shared import streams

            streams.prepare()
        return main(sys.argv[1:])
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  no error may exit with 1
        return _not_imported(error)


def _answer_interrupts() -> None:
    """Let Ctrl-C raise `KeyboardInterrupt`, unless it is ignored or already handled."""
    import signal

    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end_at_interrupts(code: int) -> None:
    """Let Ctrl-C end Python's own shutdown at once, with the command's exit code."""
    import os
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(code))


def main(arguments: list[str]) -> int:
    """Run the command that `arguments` name and return its exit code."""
    try:
        with crash.undisguised():
            from nsfwscan.cli.shared.streams import ReaderGone
            from nsfwscan.values.errors import NsfwscanError
    except Exception as error:  # noqa: BLE001  an import runs any code
        return _not_imported(error)
    threads = crash.Threads()  # before anything that Ctrl-C may cut short
    try:
        with crash.in_threads(threads), crash.undisguised():
            code = _run(arguments)
            sys.stdout.flush()  # a full disk may be noticed only here
    except NsfwscanError as error:
        cause = _cause(error)
        complain(cause)
        code = code_of(cause)
    except ReaderGone:
        code = READER_GONE
    except BlockingIOError as error:  # for example, a full pipe in non-blocking mode
        complain(NsfwscanError(f"a file or stream cannot be read or written now: {error.strerror}"))
        code = FAILED
    except KeyboardInterrupt:
        print("\nnsfwscan: interrupted", file=sys.stderr)
        code = INTERRUPTED
    except ImportError as error:
        return _not_imported(error)
    except FileNotFoundError as error:
        code = _without_folder(error)
    except Exception as error:  # noqa: BLE001  anything else is a bug
        return crash.tell(error)
    return INTERNAL if threads.crashed else code


def _without_folder(error: FileNotFoundError) -> int:
    """Report that the current folder was deleted, if that is the cause."""
    import os

    try:
        os.getcwd()
    except FileNotFoundError:
        from nsfwscan.values.errors import UsageError

        gone = "the current folder no longer exists"
        complain(UsageError(gone, hint="change to another folder"))
        return WRONG_COMMAND
    return crash.tell(error)


def _not_imported(error: BaseException) -> int:
    """Report a module that cannot be imported; in a bundle, report that the bundle is damaged."""
    try:
        from nsfwscan.system import bundled
        from nsfwscan.values.errors import BundleDamaged

        bundle = bundled.folder()
        if isinstance(error, ImportError) and bundle is not None:
            error = bundled.refuse(bundle)
        if isinstance(error, BundleDamaged):
            complain(error)
            return code_of(error)
    except Exception:  # noqa: BLE001  the first error is the one to report
        return crash.tell(error)
    return crash.tell(error)


def _cause(error: NsfwscanError) -> NsfwscanError:
    """Return the error to report. If the model's bundle is damaged, that is the cause."""
    from nsfwscan.system import bundled
    from nsfwscan.values.errors import ModelError

    bundle = bundled.folder()
    if bundle is None or not isinstance(error, ModelError):
        return error
    _, problems = bundled.look_over(bundle)
    return bundled.refuse(bundle, problems[0]) if problems else error


def complain(error: NsfwscanError) -> None:
    """Print an error and its next step to stderr."""
    from nsfwscan.cli.shared.talk import fitted
    from nsfwscan.values.text import readable

    print(fitted(f"nsfwscan: {readable(str(error))}", sys.stderr), file=sys.stderr)
    if error.hint:
        print(fitted(f"  {readable(error.hint)}", sys.stderr), file=sys.stderr)


def _run(arguments: list[str]) -> int:
    if arguments in _VERSION:  # often used as a health check, so load no command
        from nsfwscan._version import __version__

        print(f"nsfwscan {__version__}")
        return OK
    import os

    from typer import Exit
    from typer.exceptions import TyperException
    from typer.main import get_command

    from nsfwscan.cli.app import app
    from nsfwscan.cli.shared.commands import RunAgain, usage_error

    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]

    while True:
        try:
            if os.environ.get("_NSFWSCAN_COMPLETE"):  # a shell asks for completions
                app(arguments, prog_name="nsfwscan", standalone_mode=False)
            # Not `app()`, which turns interrupts and broken pipes into exit codes of its own.
            command = get_command(app)
            with command.make_context("nsfwscan", arguments) as context:
                command.invoke(context)
        except RunAgain:
            continue
        except Exit as end:
            return end.exit_code
        except TyperException as error:
            complain(usage_error(error))
            return WRONG_COMMAND
        except SystemExit as end:
            # rich exits with 1 for any broken pipe.
            if isinstance(end.__context__, OSError):
                raise end.__context__ from None
            return end.code if isinstance(end.code, int) else FAILED
        return OK
