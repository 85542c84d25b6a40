"""Reports unexpected errors: bugs, or a system without memory or other resources.

Python would print a traceback and exit with 1, which means "something was flagged". Only the
standard library is imported here, as late as possible, because the error may be a failed import.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import TYPE_CHECKING

from nsfwscan.cli.shared.codes import INTERNAL

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

ISSUES = "https://github.com/nsfwscan/nsfwscan/issues"
"""Where to report bugs; the same page as in `[project.urls]` of the package."""
_MOST_CHARACTERS = 500
"""Longer messages of exceptions are cut: they may quote a whole file."""


def tell(error: BaseException) -> int:
    """Print what happened and where to report it to stderr; return the exit code.

    The traceback goes to a file that can be attached to a report, or to stderr if the file cannot
    be written. Never raises.
    """
    try:
        return _tell(error)
    except BaseException:  # noqa: BLE001  without memory, even this may fail
        with contextlib.suppress(OSError):
            os.write(2, f"nsfwscan: internal error\n  please report it at {ISSUES}\n".encode())
    return INTERNAL


def _tell(error: BaseException) -> int:
    import traceback

    from nsfwscan.values.text import readable

    words = "".join(traceback.format_exception_only(error)).strip()
    trace = "".join(traceback.format_exception(error))
    sentence = f"nsfwscan: internal error: {readable(words)[:_MOST_CHARACTERS]}"
    path = _kept(trace)
    if _is_shortage(error):
        hint = f"free memory or raise the limits (ulimit -a); otherwise report it at {ISSUES} "
    else:
        hint = f"please report it at {ISSUES} "
    hint += f"and attach {readable(path)} (it may name files)" if path else "with these lines:"
    print(f"{sentence}\n  {hint}", file=sys.stderr, flush=True)
    if not path:
        print(trace, file=sys.stderr, end="", flush=True)
    return INTERNAL


def is_interrupt(error: BaseException | None) -> bool:
    """Return True for Ctrl-C, also if another exception hides it.

    C++ libraries raise `ImportError` when they are interrupted, and Python before 3.12 raises
    `RuntimeError` during the creation of a class.
    """
    seen = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def undisguised() -> Iterator[None]:
    """Raise `KeyboardInterrupt` instead of an exception that hides it."""
    try:
        yield
    except Exception as error:
        if is_interrupt(error):
            raise KeyboardInterrupt from None
        raise


def _is_shortage(error: BaseException) -> bool:
    """Return True if the system refused memory, a file, a process or a thread."""
    if isinstance(error, OSError):
        return error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
    return isinstance(error, MemoryError) or "can't start new thread" in str(error)


def _kept(trace: str) -> str:
    """Write the traceback to a file, replacing the last one; return its path, or "" on failure."""
    try:
        import platform

        from nsfwscan._version import __version__
        from nsfwscan.system import locations

        versions = f"nsfwscan {__version__}, Python {platform.python_version()}"
        path = locations.crash_file()
        locations.make_private(os.path.dirname(path))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # also a link, which must not be followed
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(file, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(f"{versions}, {platform.platform()}\n{trace}")
    except Exception:  # noqa: BLE001  the first error is the one to report
        return ""
    return path


class Threads:
    """Whether an unexpected error ended a thread, which also ends the command."""

    crashed = False

    def hook(self, ended: threading.ExceptHookArgs) -> None:
        """Report the error, and end the main thread as SIGTERM would."""
        import _thread
        import signal

        if ended.exc_value is None or isinstance(ended.exc_value, SystemExit):
            return
        self.crashed = True
        tell(ended.exc_value)
        _thread.interrupt_main(signal.SIGTERM)  # does nothing without a handler


@contextlib.contextmanager
def in_threads(threads: Threads) -> Iterator[None]:
    """Watch for errors that end threads while the block runs."""
    import threading

    before = threading.excepthook
    threading.excepthook = threads.hook
    try:
        yield
    finally:
        threading.excepthook = before
