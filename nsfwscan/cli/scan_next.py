"""What to type after a scan: to look at what it found, move it, undo that, or correct a verdict.

In: a summary, and the command line that led to it. Out: commands that users can copy.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from nsfwscan.cli.shared.lazy import is_command
from nsfwscan.cli.shared.shell_words import quoted, word
from nsfwscan.values.actions import ActionName, Outcome

if TYPE_CHECKING:
    import typer

    from nsfwscan.report.summary import Summary

_LONG = 200
"""Characters of several paths from which a command says PATH instead."""
_ANY = "PATH"
_JUDGING = ("model", "flag_at", "review_at")
"""Parameters that decide which pictures are flagged."""
_SCANNING = frozenset(
    "model include exclude hidden any_name symlinks one_file_system max_size".split()
).union(_JUDGING)
"""Parameters that a scan and other commands share, and that decide what it scans, and how."""
_OUTPUT = frozenset(
    "output_format output only quiet exit_zero rescan retry_failed no_cache dry_run".split()
)
"""Parameters that change what a scan prints or how it gets there, but not what it finds."""


def next_steps(
    context: typer.Context, summary: Summary, roots: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Yield up to three commands worth typing now, each after what it is good for."""
    acts, tally = summary.acts, summary.tally
    paths = _paths(roots)
    # Paths from standard input cannot be read again.
    again = "" if context.params.get("files_from") == "-" else _command(context, "scan", paths)
    if summary.interrupted and again and not acts.of(Outcome.HELD_BACK):
        yield "continue", again
    elif acts.of(Outcome.WOULD) and again:
        yield "do it", again
    if acts.numbers[ActionName.QUARANTINE, Outcome.DONE]:
        which = paths if roots and paths != _ANY else "--all"
        yield "undo", _command(context, "quarantine restore", which, only=("quarantine",))
    if summary.interrupted or acts.numbers:
        return
    if len(roots) == 1 and not os.path.isdir(roots[0]):
        yield "see more", _command(context, "show", paths, only=_JUDGING)
    elif (tally.nsfw or tally.review) and is_command("review") and not context.params["no_cache"]:
        purpose = "look at it" if tally.nsfw + tally.review == 1 else "look at them"
        yield purpose, _command(context, "review", paths if roots else "", only=_JUDGING)
    if tally.nsfw:
        if again:
            move = "move it away" if tally.nsfw == 1 else "move them away"
            yield move, _command(context, "scan --action quarantine", paths)
        one = quoted([summary.flagged_path]) if summary.flagged_path else "PICTURE"
        yield ("correct it" if tally.nsfw == 1 else "correct one"), f"nsfwscan allow {one}"


def scan_command(context: typer.Context, roots: Sequence[str]) -> str:
    """Return the command that scans what another command, that of `context`, was about."""
    return _command(context, "scan", _paths(roots), only=_SCANNING)


def _paths(roots: Sequence[str]) -> str:
    text = quoted(roots)
    return text if len(roots) == 1 or (roots and len(text) <= _LONG) else _ANY


def _command(
    context: typer.Context, command: str, paths: str, *, only: Collection[str] = ()
) -> str:
    """Return a command with the options of this one, or `only` some of them."""
    root = cast("typer.Context", context.find_root())  # typer's annotation is its private base
    words = ["nsfwscan", *_options(root), command, *_options(context, only)]
    if not only and context.params.get("files_from") and not context.params.get("paths"):
        paths = ""
    return " ".join(filter(None, (*words, paths)))


def _options(context: typer.Context, only: Collection[str] = ()) -> Iterator[str]:
    """Yield the options given on the command line, or `only` some of them, as words of a shell."""
    for parameter in context.command.params:
        name = parameter.name or ""
        wanted = name in only if only else name not in _OUTPUT
        if not (wanted and parameter.opts[0].startswith("-") and _is_given(context, name)):
            continue
        value = context.params[name]
        for one in value if isinstance(value, list | tuple) else [value]:
            yield parameter.opts[0] if one is True else f"{parameter.opts[0]} {_value(one)}"


def _value(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    return str(value).removesuffix(".0") if isinstance(value, float) else word(str(value))


def _is_given(context: typer.Context, name: str) -> bool:
    """Return True if an option was given on the command line, not by a variable or a file."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
