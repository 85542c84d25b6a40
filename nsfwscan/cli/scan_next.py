"""What to type after a scan: to look at what it found, move it, undo that, or correct a verdict.

In: a summary, and the command line that led to it. Out: commands that users can copy.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from nsfwscan.cli.shared.lazy import is_command
from nsfwscan.cli.shared.shell_words import quoted
from nsfwscan.values.actions import ActionName, Outcome

if TYPE_CHECKING:
    import typer

    from nsfwscan.report.summary import Summary

_LONG = 200
"""Characters of several paths from which a command says PATH instead."""
_ANY = "PATH"
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
    if summary.interrupted:
        yield from _again(context, paths, "continue")
    elif acts.of(Outcome.WOULD):
        yield from _again(context, paths, "do it")
    if acts.numbers[ActionName.QUARANTINE, Outcome.DONE]:
        place = context.params["quarantine"] if _is_given(context, "quarantine") else None
        where = "" if place is None else f" --quarantine {quoted([place])}"
        which = paths if roots and paths != _ANY else "--all"
        yield "undo", f"nsfwscan quarantine restore{where} {which}"
    if summary.interrupted or acts.numbers:
        return
    if len(roots) == 1 and not os.path.isdir(roots[0]):
        yield "see more", f"nsfwscan show {paths}"
    elif (tally.nsfw or tally.review) and is_command("review"):
        yield "look at them", f"nsfwscan review {paths}"
    if tally.nsfw:
        move = "move it away" if tally.nsfw == 1 else "move them away"
        yield from _again(context, paths, move, "--action quarantine ")
        one = quoted([summary.flagged_path]) if summary.flagged_path else "PICTURE"
        yield ("correct it" if tally.nsfw == 1 else "correct one"), f"nsfwscan allow {one}"


def _paths(roots: Sequence[str]) -> str:
    text = quoted(roots)
    return text if len(roots) == 1 or (roots and len(text) <= _LONG) else _ANY


def _again(
    context: typer.Context, paths: str, purpose: str, extra: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield the command that finds the same, with `extra` options.

    None if paths came from standard input, which cannot be read again.
    """
    root = cast("typer.Context", context.find_root())  # typer's annotation is its private base
    if context.params.get("files_from") == "-":
        return
    before = "".join(f"{word} " for word in _options(root))
    options = "".join(f"{word} " for word in _options(context))
    if context.params.get("files_from") and not context.params.get("paths"):
        paths = ""
    yield purpose, f"nsfwscan {before}scan {extra}{options}{paths}".rstrip()


def _options(context: typer.Context) -> Iterator[str]:
    """Yield the options given on the command line, as words of a shell."""
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in _OUTPUT or not parameter.opts[0].startswith("-") or not _is_given(context, name):
            continue
        value = context.params[name]
        for one in value if isinstance(value, list | tuple) else [value]:
            yield parameter.opts[0] if one is True else f"{parameter.opts[0]} {_value(one)}"


def _value(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    return str(value).removesuffix(".0") if isinstance(value, float) else shlex.quote(str(value))


def _is_given(context: typer.Context, name: str) -> bool:
    """Return True if an option was given on the command line, not by a variable or a file."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
