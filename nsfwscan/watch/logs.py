"""The watcher's log: bounded, private, and without the names of pictures where that is wanted.

A log call hands a path over as `LoggedPath`; whether its name is written is decided here, once:

    log.info("flagged %s", LoggedPath(path))
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import logging
import logging.handlers
import os
import re
import secrets

from nsfwscan.system.locations import make_private
from nsfwscan.values.errors import NsfwscanError
from nsfwscan.values.text import readable

LOGGER = "nsfwscan.watch"
_BYTES = 1 << 20
_OLD_FILES = 3
_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class LoggedPath:
    """A path in a log call."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def __str__(self) -> str:
        return readable(self.path)


class _WithoutPaths(logging.Formatter):
    """Puts a mark in the place of each path.

    The same picture has the same mark as long as the process runs, so that lines can be told to
    belong together; without the key, which is nowhere written, no name can be found from it.
    """

    def __init__(self) -> None:
        super().__init__(_FORMAT)
        self._key = secrets.token_bytes(16)
        home = os.path.expanduser("~").rstrip("/\\")
        # Whole names only: /home/ann is not the beginning of /home/anna.
        self._home = re.compile(rf"{re.escape(home)}(?![^/\\\s:;,'\"])") if home else None

    def format(self, record: logging.LogRecord) -> str:
        record = copy.copy(record)  # other handlers have their own view of it
        if isinstance(record.args, tuple):
            record.args = tuple(self._hidden(one) for one in record.args)
        if isinstance(record.exc_info, tuple):
            # A traceback ends with the error's own words, which name the file it is about.
            record.msg = f"{record.getMessage()} ({_plain(record.exc_info[1])})"
            record.args = record.exc_info = record.exc_text = None
        # Messages of other parts may name folders: at least not whose they are.
        line = super().format(record)
        return self._home.sub("~", line) if self._home else line

    def _hidden(self, argument: object) -> object:
        if isinstance(argument, OSError):  # its words name its file
            return _plain(argument)
        if not isinstance(argument, LoggedPath):
            return argument
        path = os.fsencode(argument.path)
        return f"<{hashlib.blake2b(path, key=self._key, digest_size=4).hexdigest()}>"


def _plain(error: BaseException | None) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or type(error).__name__


class _Handler(logging.handlers.RotatingFileHandler):
    def _open(self) -> io.TextIOWrapper:
        def private(path: str, flags: int) -> int:
            return os.open(path, flags, 0o600)

        return io.TextIOWrapper(
            open(self.baseFilename, "ab", opener=private),
            encoding=self.encoding,
            errors="replace",
        )

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Drop a line that cannot be written: a full disk is no reason to stop or to complain."""

    def close(self) -> None:
        """Close the file; what a full disk does not take is dropped here, too."""
        with contextlib.suppress(OSError):
            super().close()


def open_log(path: str, *, with_paths: bool) -> logging.Handler:
    """Send what `LOGGER` and its children say to the file at `path`, and return the handler.

    Four files of a megabyte at the most are kept, readable by their owner only. The caller closes
    with `close_log`. Raises `NsfwscanError` when the file cannot be opened.
    """
    try:
        make_private(os.path.dirname(path))
        handler = _Handler(path, maxBytes=_BYTES, backupCount=_OLD_FILES, encoding="utf-8")
    except OSError as error:
        raise NsfwscanError(
            f"the log {path} cannot be written: {error.strerror}",
            hint="make its folder writable, or set NSFWSCAN_HOME to a folder that is",
        ) from error
    handler.setFormatter(logging.Formatter(_FORMAT) if with_paths else _WithoutPaths())
    logger = logging.getLogger(LOGGER)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    return handler


def close_log(handler: logging.Handler) -> None:
    """Take the handler away and close its file."""
    logging.getLogger(LOGGER).removeHandler(handler)
    handler.close()
