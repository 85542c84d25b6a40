"""`nsfwscan quarantine`: lists, restores and deletes pictures that were moved there."""

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
from nsfwscan.cli.shared.options import QuarantineFolder, ShownAs, TableFormat
from nsfwscan.cli.shared.paths import absolute
from nsfwscan.cli.shared.tables import print_rows, print_table
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
    epilog="`nsfwscan scan --action quarantine` and rules in the configuration move pictures to "
    "quarantine. Each volume has its own quarantine, which is never scanned.",
)

Paths = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH",
        help="Where pictures were: files, or folders for everything that was below them. Ids from "
        "`--format jsonl` also work.",
        show_default=False,
    ),
]


class Form(StrEnum):
    """The format of the list."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


_LOST = "lost: its file is missing from the quarantine"
_ID = re.compile("[0-9a-f]{32}")


class _Held(NamedTuple):
    vault: Vault
    entry: Entry
    place: Destination
    """Where it would be restored to."""
    problem: str
    """Why it cannot be restored now; empty if it can, as far as is known."""


@app.command("list", cls=Command)
def list_(
    paths: Paths = None,
    output_format: Annotated[
        Form,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help="`table`, `json`, or `jsonl` with one object per line.",
        ),
    ] = Form.TABLE,
    quarantine: QuarantineFolder = None,
) -> None:
    """List pictures in quarantine: when they were moved, their scores and where they came from.

    A remark says if a picture cannot be restored now because its volume is not mounted, or if it is
    lost. Exits with 6 if a quarantine cannot be read; the others are listed.
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
                    one.entry.path or f"unknown (now {one.vault.file_of(one.entry.id)})",
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
    """Find where each picture would be restored to, and check that it exists. Raises OSError."""
    from nsfwscan.actions.quarantine.places import Places

    places, files = Places(vault.folder), vault.names()
    for entry in entries:
        place = places.of(entry)
        lost = entry.id not in files and entry.under_way is None
        yield _Held(vault, entry, place, _LOST if lost else place.why_not)


def _remark(one: _Held) -> str:
    if one.problem or not one.entry.path:
        return one.problem
    return "" if one.place.path == one.entry.path else f"would be restored to {one.place.path}"


def _summary(held: Sequence[_Held]) -> str:
    lost = sum(1 for one in held if one.problem == _LOST)
    away = sum(1 for one in held if one.problem) - lost
    text = f"{count(len(held), 'picture')} in quarantine"
    if away:
        text += f", {away:,} from a volume that is not mounted"
    if lost:
        text += f", {lost:,} lost"
    return f"{text}."


@app.command(cls=Command)
def restore(
    paths: Paths = None,
    every: Annotated[bool, typer.Option("--all", help="Restore all pictures.")] = False,
    quarantine: QuarantineFolder = None,
) -> None:
    """Move pictures back to where they were, with their times and attributes.

    Nothing is overwritten: if the name is taken, the picture becomes `NAME (restored).jpg`, and the
    output says so. Missing folders are created. If a volume is mounted at another place, its
    pictures are restored there; if it is not mounted, they stay in quarantine. Scans do not move a
    restored picture again unless you deny it later or use `--again`.

    Exits with 6 if a picture is damaged or could not be restored.
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
    every: Annotated[bool, typer.Option("--all", help="Delete all pictures.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    quarantine: QuarantineFolder = None,
) -> None:
    """Delete pictures from quarantine permanently.

    Asks first. Exits with 5 if you answer no, and with 6 if a picture could not be deleted.
    """
    from nsfwscan.actions.quarantine.deletion import delete as delete_from

    opened = _Opened(quarantine, paths or ())
    wanted = _wanted(paths, opened, every=every)
    number = sum(len(entries) for _, entries in wanted)
    if not yes and number:
        insist(
            f"Delete {count(number, 'picture')} permanently?",
            what="this would delete pictures permanently",
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
def verify(quarantine: QuarantineFolder = None, output_format: ShownAs = TableFormat.TABLE) -> None:
    """Check every picture in quarantine against its checksum.

    Also completes moves that a crash or a power cut interrupted. Exits with 7 if a file is damaged,
    missing, or not in the journal, and with 6 if a quarantine cannot be read.
    """
    from nsfwscan.actions.quarantine.verification import verify as verify_vault

    opened = _Opened(quarantine, ())
    problems: list[tuple[str, str]] = []
    pictures = 0
    for vault in opened.vaults:
        with opened.going_on(vault), opened.talk.bar("pictures") as bar:
            problems += [(one.path, one.problem) for one in verify_vault(vault, bar.show)]
            pictures += len(vault.peek().held)
    document = {
        "checked": pictures,
        "problems": [{"what": printable(what), "problem": why} for what, why in problems],
    }
    if problems or output_format is TableFormat.JSON:
        print_rows(output_format, ("what", "problem"), problems, document)
    if output_format is TableFormat.TABLE:
        told = f"Checked {count(pictures, 'picture')}, found {count(len(problems), 'problem')}."
        typer.echo(told)
    opened.end(UNSOUND if problems else OK)


def _rulings(talk: Talk) -> Rulings:
    """Return the rulings; if they cannot be read, warn and return none."""
    from nsfwscan.judge import NO_RULINGS, RulingBook
    from nsfwscan.system import locations

    try:
        return RulingBook(locations.rulings_file()).load()
    except NsfwscanError as error:
        talk.warn(str(error))
        return NO_RULINGS


def _is_missing(path: str) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:  # opening the quarantine will say what is wrong
        pass
    return False


class _Opened:
    """The quarantines that a command works on. A problem with one does not stop the others."""

    def __init__(self, quarantine: str | None, near: Sequence[str]) -> None:
        """Find the quarantines, also those above the paths `near`. Raises `UsageError`."""
        from nsfwscan.actions.quarantine.held import Quarantines
        from nsfwscan.actions.quarantine.latest_decisions import LatestDecisions

        self.talk = Talk(quiet=False)
        self.failed = False
        """Whether part of the command failed."""
        chosen = None if quarantine is None else absolute(quarantine)
        if chosen is not None and _is_missing(chosen):
            raise UsageError(
                f"there is no folder {readable(chosen)}",
                hint="--quarantine takes the quarantine's folder; is its disk plugged in?",
            )
        quarantines = Quarantines(chosen, self.talk.warn)
        folders = [os.path.dirname(_absolute(path)) for path in near]
        self.vaults = quarantines.existing(folders)
        for one in quarantines.away(folders):
            self.talk.warn(one.sentence)
            self.failed |= bool(one.why)
        self.failed |= quarantines.incomplete
        self.said = LatestDecisions(quarantines.everywhere, self.talk.warn)

    def tell_of_strangers(self, vault: Vault) -> None:
        """Warn about files that are not in the journal. Raises OSError."""
        from nsfwscan.actions.quarantine.verification import strangers

        found = strangers(vault)
        if found:
            self.talk.warn(
                f"{vault.folder} contains {count(len(found), 'file')} not in its journal; "
                "`nsfwscan quarantine verify` lists them"
            )
            self.failed = True

    @contextlib.contextmanager
    def going_on(self, vault: Vault) -> Iterator[None]:
        """Turn an error about one quarantine into a warning."""
        from nsfwscan.actions.quarantine.vault import unusable

        try:
            yield
        except (NsfwscanError, OSError) as error:
            known = unusable(vault.folder, error) if isinstance(error, OSError) else error
            self.talk.warn(str(known))
            self.failed = True

    def end(self, code: int = OK) -> NoReturn:
        """Exit, with `code` unless something failed."""
        raise typer.Exit(FAILED if self.failed else code)


def _wanted(
    paths: Sequence[str] | None, opened: _Opened, *, every: bool
) -> list[tuple[Vault, list[Entry]]]:
    """Return the entries that a command applies to. Raises `UsageError` if there are none."""
    if bool(paths) == every:
        raise UsageError(
            "paths and --all exclude each other" if every else "no pictures are named",
            hint="give either paths or --all; `nsfwscan quarantine list` shows the pictures",
        )
    found = []
    seen: set[str] = set()
    for vault in opened.vaults:
        with opened.going_on(vault):
            with vault.locked() as ledger:  # completes what an earlier run left unfinished
                held = ledger.held
                opened.failed |= every and bool(ledger.under_way)  # a warning said why
            found.append((vault, _chosen(held, paths, seen)))
            if every:
                opened.tell_of_strangers(vault)
    for path in paths or ():
        if seen.isdisjoint(_spellings(path)):
            raise UsageError(
                f"nothing from {readable(path)} is in quarantine",
                hint="`nsfwscan quarantine list` shows what is there",
            )
    return found


def _chosen(
    entries: Iterable[Entry], paths: Sequence[str] | None, seen: set[str] | None = None
) -> list[Entry]:
    """Return the entries that came from `paths` or below; all entries if there are no paths.

    The spellings of paths that matched are added to `seen`.
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
    """Return a path as given, as an absolute path, and with links resolved as in the journal."""
    whole = _absolute(path)
    folder, name = os.path.split(whole)
    spellings = path, whole, os.path.join(os.path.realpath(folder), name)
    return (*spellings, os.path.realpath(whole)) if os.path.isdir(whole) else spellings


def _absolute(path: str) -> str:
    """Return the absolute path, or an id unchanged. Raises `UsageError`."""
    return path if _ID.fullmatch(path) else absolute(path)


def _tell(one: GivenBack, opened: _Opened) -> bool:
    """Report a picture if there is something to report; return True if it was moved or deleted."""
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
