"""`nsfwscan quarantine`: what was moved away, and how it comes back."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, NamedTuple, assert_never

import typer

from nsfwscan.cli.ask import insist
from nsfwscan.cli.commands import Command, Group
from nsfwscan.cli.options import QuarantineFolder
from nsfwscan.cli.tables import print_table
from nsfwscan.cli.talk import Talk
from nsfwscan.errors import UsageError
from nsfwscan.report.text import count, plain_json, readable, size, utf8

if TYPE_CHECKING:
    from nsfwscan.actions.giveback import GivenBack
    from nsfwscan.actions.ledger import Entry
    from nsfwscan.actions.vault import Vault

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="List, restore or delete the pictures that a scan moved to quarantine.",
    epilog="Pictures come here by `nsfwscan scan --action quarantine` or by a rule in the "
    "configuration. Each volume has a quarantine of its own; a scan never looks into one.",
)

Paths = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH",
        help="Where pictures were: files, or folders with all that came from there. An id from "
        "`--format jsonl` will do, too.",
        show_default=False,
    ),
]


class Form(StrEnum):
    """How the list is written."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


class _Held(NamedTuple):
    vault: Vault
    entry: Entry


@app.command("list", cls=Command)
def list_(
    paths: Paths = None,
    output_format: Annotated[
        Form,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help="How to write it: `table` for people; `json`, or `jsonl` with one object a line, "
            "for programs.",
        ),
    ] = Form.TABLE,
    quarantine: QuarantineFolder = None,
) -> None:
    """Print what is in quarantine: when it came there, its score, and where it was."""
    talk = Talk(quiet=False)
    held = [
        _Held(vault, entry)
        for vault in _vaults(quarantine, talk, paths or ())
        for entry in _chosen(vault.peek().held, paths)
    ]
    match output_format:
        case Form.TABLE:
            rows = [
                (
                    _time(one.entry.at),
                    "" if one.entry.score is None else f"{one.entry.score:.9f}"[:-6],
                    size(one.entry.size),
                    one.entry.path or f"unknown; it is {one.vault.file_of(one.entry.id)}",
                )
                for one in held
            ]
            if rows:
                print_table(("moved", "score", "size", "from"), rows)
            talk.say(f"{count(len(held), 'picture')} in quarantine.")
        case Form.JSON:
            _print_json([_record(one) for one in held])
        case Form.JSONL:
            for one in held:
                _print_json(_record(one))
        case _:
            assert_never(output_format)


@app.command(cls=Command)
def restore(
    paths: Paths = None,
    every: Annotated[bool, typer.Option("--all", help="Restore everything.")] = False,
    quarantine: QuarantineFolder = None,
) -> None:
    """Put pictures back where they were, with their times and attributes.

    If the name is taken by now, a picture is put beside it, as `NAME (restored).jpg`, and that is
    said; a folder that is gone is made again. Nothing is overwritten. A picture that was restored
    is not moved to quarantine again, unless a scan says `--again`. Exits with 2 when one could not
    be restored, or is damaged.
    """
    from nsfwscan.actions.giveback import Restorer

    talk = Talk(quiet=False)
    restored = failed = 0
    for vault, entries in _wanted(paths, quarantine, talk, every=every):
        for one in Restorer(vault).restore(entries):
            restored, failed = _tell(one, talk, restored, failed)
    typer.echo(f"Restored {count(restored, 'picture')}.")
    raise typer.Exit(2 if failed else 0)


@app.command(cls=Command)
def delete(
    paths: Paths = None,
    every: Annotated[bool, typer.Option("--all", help="Delete everything.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    quarantine: QuarantineFolder = None,
) -> None:
    """Delete pictures that are in quarantine, for good.

    Asks first. Exits with 2 when the answer is no, or when one could not be deleted.
    """
    from nsfwscan.actions.giveback import delete as delete_from

    talk = Talk(quiet=False)
    wanted = _wanted(paths, quarantine, talk, every=every)
    number = sum(len(entries) for _, entries in wanted)
    if not yes and number:
        insist(
            f"Delete {count(number, 'picture')} for good?",
            what="this deletes pictures for good",
            otherwise="Nothing was deleted.",
        )
    deleted = failed = 0
    for vault, entries in wanted:
        for one in delete_from(vault, entries):
            deleted, failed = _tell(one, talk, deleted, failed)
    typer.echo(f"Deleted {count(deleted, 'picture')}.")
    raise typer.Exit(2 if failed else 0)


@app.command(cls=Command)
def verify(quarantine: QuarantineFolder = None) -> None:
    """Read every picture in quarantine and compare it with what was moved in.

    Also ends what a crash or a power cut left half done. Exits with 2 when something is damaged,
    missing, or unknown to the journal.
    """
    from nsfwscan.actions.giveback import verify as verify_vault

    talk = Talk(quiet=False)
    problems: list[tuple[str, str]] = []
    pictures = 0
    for vault in _vaults(quarantine, talk, ()):
        with talk.bar("pictures") as bar:
            problems += [(one.path, one.problem) for one in verify_vault(vault, bar.show)]
        pictures += len(vault.peek().held)
    if problems:
        print_table(("what", "problem"), problems)
    typer.echo(f"Checked {count(pictures, 'picture')}, found {count(len(problems), 'problem')}.")
    raise typer.Exit(2 if problems else 0)


def _vaults(quarantine: str | None, talk: Talk, near: Iterable[str]) -> list[Vault]:
    from nsfwscan.actions.quarantine import Quarantines

    quarantines = Quarantines(quarantine, talk.warn)
    found = quarantines.existing(os.path.dirname(os.path.abspath(path)) for path in near)
    for missing in quarantines.missing():
        talk.warn(f"{missing} is not there now; is its disk plugged in?")
    return found


def _wanted(
    paths: Sequence[str] | None, quarantine: str | None, talk: Talk, *, every: bool
) -> list[tuple[Vault, list[Entry]]]:
    """Find the entries that a command is about. Raises `UsageError` when there are none."""
    if bool(paths) == every:
        raise UsageError(
            "it is not clear which pictures" if every else "no picture is named",
            hint="name paths, or say --all; `nsfwscan quarantine list` shows what there is",
        )
    found = []
    seen: set[str] = set()
    for vault in _vaults(quarantine, talk, paths or ()):
        with vault.locked() as ledger:  # ends what an earlier run left half done
            held = ledger.held
        found.append((vault, _chosen(held, paths, seen)))
    for path in paths or ():
        if seen.isdisjoint(_spellings(path)):
            raise UsageError(
                f"nothing from {readable(path)} is in quarantine",
                hint="`nsfwscan quarantine list` shows what there is",
            )
    return found


def _chosen(
    entries: Iterable[Entry], paths: Sequence[str] | None, seen: set[str] | None = None
) -> list[Entry]:
    """Return the entries that came from one of `paths` or below it; all when there are none.

    `seen` is given the spellings of paths for which there was something.
    """
    from nsfwscan.actions.quarantine import above

    if not paths:
        return list(entries)
    places = {real for path in paths for real in _spellings(path)}
    chosen = []
    for one in entries:
        matching = places.intersection((one.id, *above(one.path)) if one.path else (one.id,))
        if matching:
            chosen.append(one)
            if seen is not None:
                seen |= matching
    return chosen


def _spellings(path: str) -> tuple[str, ...]:
    """Return a path as given, absolute, and with links followed as the journal has it."""
    absolute = os.path.abspath(os.path.expanduser(path))
    folder, name = os.path.split(absolute)
    spellings = path, absolute, os.path.join(os.path.realpath(folder), name)
    return (*spellings, os.path.realpath(absolute)) if os.path.isdir(absolute) else spellings


def _tell(one: GivenBack, talk: Talk, done: int, failed: int) -> tuple[int, int]:
    """Say what is worth saying of one picture and count it."""
    from nsfwscan.acts import Outcome

    moved = one.moved
    if one.damaged:
        talk.warn(f"{moved.target}: {moved.detail}")
        return done + 1, failed + 1
    if moved.outcome is Outcome.DONE:
        if moved.detail:
            talk.say(f"{moved.target or one.entry.path}: {moved.detail}")
        return done + 1, failed
    talk.warn(f"{one.entry.path or one.entry.id}: {moved.detail}")
    return done, failed + 1


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M") if at else ""


def _record(one: _Held) -> dict[str, object]:
    entry, path = one.entry, utf8(one.entry.path)
    exact = entry.path.encode("utf-8", "surrogateescape")
    return {
        "id": entry.id,
        "path": path,
        "path_base64": None if path == entry.path else base64.b64encode(exact).decode("ascii"),
        "file": utf8(one.vault.file_of(entry.id)),
        "quarantine": utf8(one.vault.folder),
        "moved_at": entry.at,
        "sha256": entry.sha256,
        "size": entry.size,
        "decision": entry.decision,
        "nsfw_score": entry.score,
        "model": entry.model,
    }


def _print_json(value: object) -> None:
    typer.echo(plain_json(json.dumps(value, ensure_ascii=False)))
