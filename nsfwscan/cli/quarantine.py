"""`nsfwscan quarantine`: what was moved away, and how it comes back."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, NamedTuple, NoReturn, assert_never

import typer

from nsfwscan.cli.shared.ask import insist
from nsfwscan.cli.shared.codes import FAILED, OK, UNSOUND
from nsfwscan.cli.shared.commands import Command, Group
from nsfwscan.cli.shared.options import QuarantineFolder
from nsfwscan.cli.shared.paths import absolute
from nsfwscan.cli.shared.tables import print_table
from nsfwscan.cli.shared.talk import Talk
from nsfwscan.values.errors import NsfwscanError, UsageError
from nsfwscan.values.text import count, plain_json, printable, readable, size

if TYPE_CHECKING:
    from nsfwscan.actions.quarantine.entries import Entry
    from nsfwscan.actions.quarantine.giveback import GivenBack
    from nsfwscan.actions.quarantine.places import Destination
    from nsfwscan.actions.quarantine.vault import Vault
    from nsfwscan.judge import Rulings

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


_LOST = "lost: its file is gone from the quarantine"
_ID = re.compile("[0-9a-f]{32}")


class _Held(NamedTuple):
    vault: Vault
    entry: Entry
    place: Destination
    """Where it goes back to."""
    problem: str
    """Why it does not; empty when nothing is known against it."""


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
    """Print what is in quarantine: when it was moved, its score, and where it goes back to.

    Also says which pictures cannot go back now, because their volume is away, and which are lost.
    Exits with 6 when a quarantine cannot be read; the others are listed.
    """
    opened = _Opened(quarantine, paths or ())
    held: list[_Held] = []
    for vault in opened.vaults:
        with opened.going_on(vault):
            held += _looked_at(vault, _chosen(vault.peek().held, paths))
            if not paths:
                opened.tell_of_strangers(vault)
    match output_format:
        case Form.TABLE:
            rows = [
                (
                    _time(one.entry.at),
                    "" if one.entry.score is None else f"{one.entry.score:.9f}"[:-6],
                    size(one.entry.size),
                    one.entry.path or f"unknown; it is {one.vault.file_of(one.entry.id)}",
                    _remark(one),
                )
                for one in held
            ]
            if any(row[-1] for row in rows):
                print_table(("moved", "score", "size", "from", "remark"), rows)
            elif rows:
                print_table(("moved", "score", "size", "from"), [row[:-1] for row in rows])
            opened.talk.say(_summary(held))
        case Form.JSON:
            _print_json([_record(one) for one in held])
        case Form.JSONL:
            for one in held:
                _print_json(_record(one))
        case _:
            assert_never(output_format)
    opened.end()


def _looked_at(vault: Vault, entries: Iterable[Entry]) -> Iterator[_Held]:
    """Look where each picture goes back to, and whether it is there. Raises OSError."""
    from nsfwscan.actions.quarantine.places import Places

    places, files = Places(vault.folder), vault.names()
    for entry in entries:
        place = places.of(entry)
        lost = entry.id not in files and entry.under_way is None
        yield _Held(vault, entry, place, _LOST if lost else place.why_not)


def _remark(one: _Held) -> str:
    if one.problem or not one.entry.path:
        return one.problem
    return "" if one.place.path == one.entry.path else f"goes back to {one.place.path}"


def _summary(held: Sequence[_Held]) -> str:
    lost = sum(1 for one in held if one.problem == _LOST)
    away = sum(1 for one in held if one.problem) - lost
    text = f"{count(len(held), 'picture')} in quarantine"
    if away:
        text += f", {away:,} of a volume that is away"
    if lost:
        text += f", {lost:,} lost"
    return f"{text}."


@app.command(cls=Command)
def restore(
    paths: Paths = None,
    every: Annotated[bool, typer.Option("--all", help="Restore everything.")] = False,
    quarantine: QuarantineFolder = None,
) -> None:
    """Put pictures back where they were, with their times and attributes.

    If the name is taken by now, a picture is put beside it, as `NAME (restored).jpg`, and that is
    said; a folder that is gone is made again. Nothing is overwritten. A picture whose volume is
    away stays in quarantine; one whose volume is mounted elsewhere goes back there. A picture that
    was restored is not moved to quarantine again, unless it is denied later or a scan says
    `--again`. Exits with 6 when one could not be restored, or is damaged.
    """
    from nsfwscan.actions.quarantine.restore import Restorer

    opened = _Opened(quarantine, paths or ())
    rulings = _rulings(opened.talk)
    restored = 0
    for vault, entries in _wanted(paths, opened, every=every):
        with opened.going_on(vault):
            for one in Restorer(vault, rulings, opened.said).restore(entries):
                restored += _tell(one, opened)
    typer.echo(f"Restored {count(restored, 'picture')}.")
    opened.end()


@app.command(cls=Command)
def delete(
    paths: Paths = None,
    every: Annotated[bool, typer.Option("--all", help="Delete everything.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    quarantine: QuarantineFolder = None,
) -> None:
    """Delete pictures that are in quarantine, for good.

    Asks first. Exits with 5 when the answer is no, and with 6 when one could not be deleted.
    """
    from nsfwscan.actions.quarantine.deletion import delete as delete_from

    opened = _Opened(quarantine, paths or ())
    wanted = _wanted(paths, opened, every=every)
    number = sum(len(entries) for _, entries in wanted)
    if not yes and number:
        insist(
            f"Delete {count(number, 'picture')} for good?",
            what="this deletes pictures for good",
            otherwise="Nothing was deleted.",
        )
    rulings = _rulings(opened.talk)
    deleted = 0
    for vault, entries in wanted:
        with opened.going_on(vault):
            for one in delete_from(vault, entries, rulings, opened.said):
                deleted += _tell(one, opened)
    typer.echo(f"Deleted {count(deleted, 'picture')}.")
    opened.end()


@app.command(cls=Command)
def verify(quarantine: QuarantineFolder = None) -> None:
    """Read every picture in quarantine and compare it with what was moved in.

    Also ends what a crash or a power cut left half done. Exits with 7 when something is damaged,
    missing, or unknown to the journal, and with 6 when a quarantine cannot be read.
    """
    from nsfwscan.actions.quarantine.verification import verify as verify_vault

    opened = _Opened(quarantine, ())
    problems: list[tuple[str, str]] = []
    pictures = 0
    for vault in opened.vaults:
        with opened.going_on(vault), opened.talk.bar("pictures") as bar:
            problems += [(one.path, one.problem) for one in verify_vault(vault, bar.show)]
            pictures += len(vault.peek().held)
    if problems:
        print_table(("what", "problem"), problems)
    typer.echo(f"Checked {count(pictures, 'picture')}, found {count(len(problems), 'problem')}.")
    opened.end(UNSOUND if problems else OK)


def _rulings(talk: Talk) -> Rulings:
    """Return what people decided; nothing, and a warning, when that cannot be read."""
    from nsfwscan.judge import NO_RULINGS, RulingBook
    from nsfwscan.system import locations

    try:
        return RulingBook(locations.rulings_file()).load()
    except NsfwscanError as error:
        talk.warn(str(error))
        return NO_RULINGS


class _Opened:
    """The quarantines that a command is about. What is wrong with one does not stop the others."""

    def __init__(self, quarantine: str | None, near: Sequence[str]) -> None:
        """Look for them, also above the paths `near`. Raises `UsageError`."""
        from nsfwscan.actions.quarantine.all_words import LastWords
        from nsfwscan.actions.quarantine.held import Quarantines

        self.talk = Talk(quiet=False)
        self.failed = False
        """Whether something was left undone that the command should have done."""
        chosen = None if quarantine is None else absolute(quarantine)
        quarantines = Quarantines(chosen, self.talk.warn)
        folders = [os.path.dirname(_absolute(path)) for path in near]
        self.vaults = quarantines.existing(folders)
        for one in quarantines.away(folders):
            self.talk.warn(one.sentence)
            self.failed |= bool(one.why)
        self.failed |= quarantines.incomplete
        self.said = LastWords(quarantines.everywhere, self.talk.warn)

    def tell_of_strangers(self, vault: Vault) -> None:
        """Say that there are files of which the journal does not know. Raises OSError."""
        from nsfwscan.actions.quarantine.verification import strangers

        found = strangers(vault)
        if found:
            self.talk.warn(
                f"{vault.folder} holds {count(len(found), 'file')} that its journal does not know; "
                "`nsfwscan quarantine verify` names them"
            )
            self.failed = True

    @contextlib.contextmanager
    def going_on(self, vault: Vault) -> Iterator[None]:
        """Turn what goes wrong with one quarantine into a warning."""
        from nsfwscan.actions.quarantine.vault import unusable

        try:
            yield
        except (NsfwscanError, OSError) as error:
            known = unusable(vault.folder, error) if isinstance(error, OSError) else error
            self.talk.warn(str(known))
            self.failed = True

    def end(self, code: int = OK) -> NoReturn:
        """End the command, with `code` if all was done."""
        raise typer.Exit(FAILED if self.failed else code)


def _wanted(
    paths: Sequence[str] | None, opened: _Opened, *, every: bool
) -> list[tuple[Vault, list[Entry]]]:
    """Find the entries that a command is about. Raises `UsageError` when there are none."""
    if bool(paths) == every:
        raise UsageError(
            "it is not clear which pictures" if every else "no picture is named",
            hint="name paths, or give --all; `nsfwscan quarantine list` shows what there is",
        )
    found = []
    seen: set[str] = set()
    for vault in opened.vaults:
        with opened.going_on(vault):
            with vault.locked() as ledger:  # ends what an earlier run left half done
                held = ledger.held
                opened.failed |= every and bool(ledger.under_way)  # of which it was told why
            found.append((vault, _chosen(held, paths, seen)))
            if every:
                opened.tell_of_strangers(vault)
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
    from nsfwscan.actions.quarantine.held import above

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
    whole = _absolute(path)
    folder, name = os.path.split(whole)
    spellings = path, whole, os.path.join(os.path.realpath(folder), name)
    return (*spellings, os.path.realpath(whole)) if os.path.isdir(whole) else spellings


def _absolute(path: str) -> str:
    """Return a path as an absolute one; an id, which is none, as it is. Raises `UsageError`."""
    return path if _ID.fullmatch(path) else absolute(path)


def _tell(one: GivenBack, opened: _Opened) -> bool:
    """Say what is worth saying of one picture; return True if it was done."""
    from nsfwscan.values.actions import Outcome

    moved = one.moved
    done = moved.outcome is Outcome.DONE
    sentence = f"{moved.target or one.entry.path or one.entry.id}: {moved.detail}"
    if one.damaged or not done:
        opened.talk.warn(sentence)
        opened.failed = True
    elif moved.detail:
        opened.talk.say(sentence)
    return done


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M") if at else ""


def _record(one: _Held) -> dict[str, object]:
    entry, path = one.entry, printable(one.entry.path)
    exact = entry.path.encode("utf-8", "surrogateescape")
    return {
        "id": entry.id,
        "path": path,
        "path_base64": None if path == entry.path else base64.b64encode(exact).decode("ascii"),
        "restores_to": printable(one.place.path) if entry.path else None,
        "problem": one.problem or None,
        "file": printable(one.vault.file_of(entry.id)),
        "quarantine": printable(one.vault.folder),
        "moved_at": entry.at,
        "sha256": entry.sha256,
        "size": entry.size,
        "decision": entry.decision,
        "nsfw_score": entry.score,
        "model": entry.model,
    }


def _print_json(value: object) -> None:
    typer.echo(plain_json(json.dumps(value, ensure_ascii=False)))
