"""The exit codes, each with one meaning. docs/exit-codes.md and `nsfwscan --help` list them."""

from __future__ import annotations

from collections.abc import Mapping

OK = 0
"""Done; a scan flagged nothing."""
FLAGGED = 1
"""A scan flagged something. Nothing else ever exits with 1."""
WRONG_COMMAND = 2
"""The command is wrong: an option, a setting, or something it names that does not exist."""
NO_VERDICT = 3
"""Some files could not be read and have no verdict."""
NO_MODEL = 4
"""No model to score with: it is missing, damaged, or could not be fetched or installed."""
NOT_DONE = 5
"""Nothing was done: the user answered no, or a limit held an action back."""
FAILED = 6
"""The command, or part of it, failed for an outside reason: a full disk, missing rights, another
process. The message says what; the rest was done."""
UNSOUND = 7
"""A check found a problem: `doctor`, `selftest`, `verify`, or a bundle that checks itself."""
NOT_RUNNING = 8
"""No watcher is running: `status` and `service status`."""
INTERNAL = 70
"""A bug in nsfwscan. sysexits.h calls it EX_SOFTWARE."""
INTERRUPTED = 130
READER_GONE = 141
"""What a shell reports for a program ended by SIGPIPE: the reader closed the pipe."""

ORDER = (
    *(INTERRUPTED, INTERNAL, WRONG_COMMAND, NO_MODEL, FAILED, UNSOUND, NOT_DONE),
    *(FLAGGED, NO_VERDICT, OK),
)
"""If several codes apply, the first of these is used. Other codes never apply together."""


def first(reasons: Mapping[int, object]) -> int:
    """Return the first code in `ORDER` whose reason is true; `OK` if none is."""
    applying = (code for code, reason in reasons.items() if reason)
    return min(applying, key=ORDER.index, default=OK)


def code_of(error: BaseException) -> int:
    """Return the exit code for an `NsfwscanError`."""
    from nsfwscan.values import errors

    match error:
        case errors.UsageError() | errors.ConfigError():
            return WRONG_COMMAND
        case errors.ModelError():
            return NO_MODEL
        case errors.BundleDamaged():
            return UNSOUND
        case _:
            return FAILED
