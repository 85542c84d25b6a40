"""`nsfwscan allow`, `nsfwscan deny` and `nsfwscan rulings`: rulings that people make."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated

import typer

from nsfwscan.cli.shared.ask import insist
from nsfwscan.cli.shared.codes import NO_VERDICT, WRONG_COMMAND, first
from nsfwscan.cli.shared.commands import Command, Group
from nsfwscan.cli.shared.options import Quiet, ShownAs, TableFormat
from nsfwscan.cli.shared.paths import absolute
from nsfwscan.cli.shared.tables import print_rows
from nsfwscan.cli.shared.talk import Talk
from nsfwscan.judge import RulingBook, Rulings
from nsfwscan.judge.ruled import LATEST_S, Ruled, from_record, to_record
from nsfwscan.media.discover import check_roots, printable
from nsfwscan.system import locations
from nsfwscan.system.reading import open_bytes
from nsfwscan.values import likeness
from nsfwscan.values.errors import UsageError
from nsfwscan.values.results import Ruling
from nsfwscan.values.text import count, plain_json, readable

_ASK_ABOVE = 20
"""Pictures. A folder named by mistake easily holds hundreds."""
_NAMED = 20
"""Reversed rulings that are listed; if there are more, the rest is counted."""
_DIGITS = re.compile(r"[0-9a-f]{8,64}")

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH",
        help="Pictures, or folders with everything below them.",
        show_default=False,
    ),
]
Near = Annotated[
    bool,
    typer.Option(
        "--near",
        help="Include pictures that look the same: this one in another size, format or quality. "
        "The output of scans then names the picture that the ruling is about.",
    ),
]
Within = Annotated[
    int,
    typer.Option(
        "--within",
        metavar="BITS",
        min=0,
        max=likeness.MOST_WITHIN,
        help="With --near: pictures look the same if their perceptual hashes differ in at most "
        "this many of 64 bits.",
    ),
]
Yes = Annotated[
    bool,
    typer.Option("--yes", "-y", help=f"Do not ask, even for more than {_ASK_ABOVE} pictures."),
]

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Manage the rulings that you made with `nsfwscan allow` and `nsfwscan deny`.",
    epilog="Rulings are kept by content, in their own file. A new model does not affect them, nor "
    "does `nsfwscan cache clear`.",
)


def allow(
    paths: Paths,
    near: Near = False,
    within: Within = likeness.DEFAULT_WITHIN,
    yes: Yes = False,
    quiet: Quiet = False,
) -> None:
    """Rule that pictures are safe, whatever the model says.

    A ruling is about the content of a file: it covers copies, survives renames and moves, and
    applies to every model and threshold until you withdraw it. Scans show the picture as safe,
    decided by a person, together with its score.

    If you denied one of the pictures earlier, the later ruling counts, and the output names the
    picture. Files that are not pictures or cannot be read get no ruling. Exits with 2 if you named
    a file that is not a picture, and with 3 if a picture could not be read.
    """
    _decide(Ruling.ALLOWED, paths, within if near else None, yes=yes, quiet=quiet)


def deny(
    paths: Paths,
    near: Near = False,
    within: Within = likeness.DEFAULT_WITHIN,
    yes: Yes = False,
    quiet: Quiet = False,
) -> None:
    """Rule that pictures are not safe for work, whatever the model says.

    A ruling is about the content of a file: it covers copies, survives renames and moves, and
    applies to every model and threshold until you withdraw it. Scans flag the picture, decided by a
    person, and show its score.

    If you allowed one of the pictures earlier, the later ruling counts, and the output names the
    picture. Files that are not pictures or cannot be read get no ruling. Exits with 2 if you named
    a file that is not a picture, and with 3 if a picture could not be read.
    """
    _decide(Ruling.DENIED, paths, within if near else None, yes=yes, quiet=quiet)


def _decide(
    ruling: Ruling, paths: Sequence[str], within: int | None, *, yes: bool, quiet: bool
) -> None:
    from nsfwscan.scanning.ruling_files import decide, pictures

    talk = Talk(quiet=quiet)
    named = {absolute(path) for path in paths}
    check_roots(paths)
    found = list(pictures(paths))
    if len(found) > _ASK_ABOVE and not yes:
        verb = "allow" if ruling is Ruling.ALLOWED else "deny"
        _ask(verb, count(len(found), "picture"))
    decided = decide(_book(), found, ruling, within=within, restored_at=_restored_at(talk))
    for failed in decided.failed:
        why = f" ({failed.detail})" if failed.detail else ""
        talk.warn(f"no ruling about {failed.path}: {failed.reason}{why}")
    refused = [one for one in decided.strangers if os.path.abspath(one) in named]
    for path in refused:
        talk.warn(f"no ruling about {path}: it is not a picture")
    if others := len(decided.strangers) - len(refused):
        talk.say(f"Left out: {count(others, 'file')} with a picture's name but no picture inside.")
    for one in decided.unlike:
        talk.warn(f"the ruling about {one.path} covers its exact content only: {one.why_not}")
    _show_reversed(decided.turned, ruling, talk)
    if ruling is Ruling.ALLOWED:
        _untag(decided.paths, talk)
    sentence = f"{count(len(decided.new), 'picture')} {ruling}"
    if any(one.near for one in decided.new):
        sentence += f", and any that look the same (within {within} bits)"
    if decided.turned:
        other = Ruling.DENIED if ruling is Ruling.ALLOWED else Ruling.ALLOWED
        sentence += f"; {len(decided.turned):,} previously {other}"
    if decided.known:
        sentence += f"; {decided.known:,} already {ruling}"
    typer.echo(f"{sentence}.")
    raise typer.Exit(first({WRONG_COMMAND: refused, NO_VERDICT: decided.failed}))


def _untag(paths: Iterable[str], talk: Talk) -> None:
    """Remove the tags that an earlier scan gave to pictures that are now safe."""
    from nsfwscan.actions.tag import remove_marks

    for path in paths:
        if why := remove_marks(os.path.realpath(path)):
            talk.warn(why)


def _restored_at(talk: Talk) -> Callable[[bytes], float]:
    """Return a function that says when a content was last restored from quarantine."""
    from nsfwscan.actions.quarantine.held import Quarantines
    from nsfwscan.actions.quarantine.latest_decisions import LatestDecisions

    return LatestDecisions(Quarantines(None, talk.warn).everywhere, talk.warn).restored_at


def _show_reversed(turned: Sequence[Ruled], ruling: Ruling, talk: Talk) -> None:
    """List the pictures whose earlier ruling was the opposite: the later ruling counts."""
    for one in turned[:_NAMED]:
        when = _date(one.at, "%Y-%m-%d")
        talk.say(f"{one.path} was {one.ruling} on {when} and is now {ruling}.")
    if len(turned) > _NAMED:
        talk.say(f"And {len(turned) - _NAMED:,} more.")


def _date(at: int, form: str) -> str:
    """Format a time in seconds since the epoch; "?" if it is too large to be a date."""
    return time.strftime(form, time.localtime(at)) if at <= LATEST_S else "?"


@app.command("list", cls=Command)
def list_(output_format: ShownAs = TableFormat.TABLE) -> None:
    """List all rulings in force, the latest last.

    PICTURE is where the picture was when you made the ruling. The ruling is about its content.
    """
    book = list(_book().load())
    rows = [
        (
            one.ruling.value,
            _date(one.at, "%Y-%m-%d %H:%M"),
            "-" if one.near is None else f"{one.near.within} bits",
            one.sha256.hex()[:12],
            one.path,
        )
        for one in book
    ]
    document = [
        {
            "ruling": one.ruling.value,
            "at": one.at,
            "near_bits": None if one.near is None else one.near.within,
            "sha256": one.sha256.hex(),
            "path": one.path,
        }
        for one in book
    ]
    print_rows(output_format, ("ruling", "when", "near", "content", "picture"), rows, document)


@app.command(cls=Command)
def forget(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT",
            help="Pictures, or folders with everything below them, as they are now or were when "
            "you made the ruling; or the first digits, at least 8, of CONTENT in `list`.",
            show_default=False,
        ),
    ],
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help=f"Do not ask, even for more than {_ASK_ABOVE} rulings."),
    ] = False,
) -> None:
    """Withdraw rulings, so that the model decides again.

    If there is no ruling about any one WHAT, nothing is withdrawn. Exits with 5 if you answer no.
    """
    book = _book()
    rulings = book.load()
    chosen: dict[bytes, Ruled] = {}
    for one in what:
        found = _meant(one, rulings)
        if not found:
            raise UsageError(
                f"there is no ruling about {printable(one)}",
                hint="`nsfwscan rulings list` shows all rulings",
            )
        chosen |= {ruled.sha256: ruled for ruled in found}
    if len(chosen) > _ASK_ABOVE and not yes:
        _ask("withdraw", count(len(chosen), "ruling"))
    book.forget(chosen)
    typer.echo(f"{count(len(chosen), 'ruling')} withdrawn.")


def _meant(what: str, rulings: Rulings) -> list[Ruled]:
    """Return the rulings that one argument stands for."""
    from nsfwscan.scanning.ruling_files import look, pictures

    place = absolute(what)
    found: list[Ruled] = []
    if os.path.lexists(what):
        looked = look(pictures([what]), near=False, strangers=True)
        contents = {one.sha256 for one in looked.seen}
        found = [one for one in rulings if one.sha256 in contents]
        if found and not os.path.isdir(what):
            return found
    folder = printable(os.path.join(place, ""))
    was_there = {printable(what), printable(place)}
    found += [
        one
        for one in rulings
        if one not in found and (one.path in was_there or one.path.startswith(folder))
    ]
    if not found and _DIGITS.fullmatch(what.lower()):
        found = [one for one in rulings if one.sha256.hex().startswith(what.lower())]
    return found


@app.command(cls=Command)
def export() -> None:
    """Print all rulings in force as JSON Lines, for `nsfwscan rulings import`.

    Each line has the path and the checksum of a picture, but not the picture.
    """
    out = sys.stdout.buffer
    for one in _book().load():
        out.write(plain_json(json.dumps(to_record(one), ensure_ascii=False)).encode() + b"\n")
    out.flush()


@app.command("import", cls=Command)
def import_(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="The output of `export`; `-` is standard input.",
            show_default=False,
        ),
    ],
) -> None:
    """Import rulings that were made elsewhere.

    They keep their dates. If you made or withdrew a ruling about the same picture later, yours
    counts. If a line cannot be read, nothing is imported.
    """
    book = _book()
    book.load()  # raises if the file is damaged: nothing is added to it then
    given = [
        _imported(line, f"line {number} of {readable(file)}")
        for number, line in enumerate(_lines(file), 1)
        if line.strip()
    ]
    new = book.take_over(given)
    typer.echo(
        f"{count(len(new), 'ruling')} imported, {len(given) - len(new):,} skipped (already known "
        "or older than yours)."
    )


def _whole(file: int) -> bytes:
    """Read an open file to its end. Raises OSError, also for a non-blocking stream without data.

    `read` of a Python stream would return a part, or None, as if that were all.
    """
    parts = []
    while part := os.read(file, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def _lines(file: str) -> Iterable[bytes]:
    try:
        if file == "-":
            return _whole(sys.stdin.fileno()).splitlines()
        with open_bytes(file) as stream:
            return _whole(stream.fileno()).splitlines()
    except OSError as error:
        raise UsageError(
            f"cannot read {printable(file)}: {error.strerror or error}",
            hint="give the output of `nsfwscan rulings export`, or - for standard input",
        ) from error


def _imported(line: bytes, where: str) -> Ruled:
    entry, problem = None, "it is not a ruling"
    try:
        record = json.loads(line)
        entry = from_record(record) if isinstance(record, dict) else None
    except ValueError as error:
        problem = str(error)
    except RecursionError:
        problem = "it is nested too deeply"
    if isinstance(entry, Ruled) and entry.at > LATEST_S:
        problem = f"{entry.at} seconds since 1970 is not a date"
        entry = None
    if not isinstance(entry, Ruled):
        raise UsageError(
            f"{where} cannot be read: {problem}",
            hint="nothing was imported; give the output of `nsfwscan rulings export`",
        )
    return entry


@app.command(cls=Command)
def repair(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Show the damaged lines of the rulings file, and ask to continue without them.

    Until then nothing is scanned, because a lost ruling may have denied a picture. A damaged line
    often still shows which picture it was about, so that you can make the ruling again. The lines
    stay in the file.

    Exits with 5 if you answer no.
    """
    book = _book()
    contents = book.read()
    for line in contents.damaged:
        typer.echo(f"line {line.number}: {readable(os.fsdecode(line.data))}")
    if not contents.damaged:
        typer.echo("No line is damaged, except those given up earlier.")
        return
    if not yes:
        _ask("give up", count(len(contents.damaged), "damaged line"))
    book.give_up(contents.damaged)
    typer.echo(f"{count(len(contents.damaged), 'line')} given up.")


@app.command(cls=Command)
def path() -> None:
    """Print the path of the rulings file, to include it in a backup."""
    typer.echo(os.fsencode(locations.rulings_file()))


def _book() -> RulingBook:
    return RulingBook(locations.rulings_file())


def _ask(verb: str, what: str) -> None:
    """Return only if the answer is yes; exit with 5 if it is no."""
    question = f"{verb[0].upper()}{verb[1:]} {what}?"
    insist(question, what=f"this would {verb} {what}", otherwise="Nothing was changed.")
