"""`nsfwscan allow`, `nsfwscan deny` and `nsfwscan rulings`: what a person decided."""

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
from nsfwscan.cli.shared.options import Quiet
from nsfwscan.cli.shared.paths import absolute
from nsfwscan.cli.shared.tables import print_table
from nsfwscan.cli.shared.talk import Talk
from nsfwscan.judge import RulingBook, Rulings
from nsfwscan.judge.rule import LATEST_S, Ruled, from_record, to_record
from nsfwscan.media.discover import check_roots, printable
from nsfwscan.system import locations
from nsfwscan.system.reading import open_bytes
from nsfwscan.values import likeness
from nsfwscan.values.errors import UsageError
from nsfwscan.values.results import Ruling
from nsfwscan.values.text import count, plain_json, readable

_ASK_ABOVE = 20
"""Pictures. A folder named by mistake is easily hundreds; a handful was meant."""
_NAMED = 20
"""Pictures that are named when a decision about them is turned; of more the rest is counted."""
_DIGITS = re.compile(r"[0-9a-f]{8,64}")

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH", help="Pictures, and folders with every picture below.", show_default=False
    ),
]
Near = Annotated[
    bool,
    typer.Option(
        "--near",
        help="Decide about pictures that look the same, too: this one in another size, format or "
        "quality. Wherever that happens, the output says from which picture the decision comes.",
    ),
]
Within = Annotated[
    int,
    typer.Option(
        "--within",
        metavar="BITS",
        min=0,
        max=likeness.MOST_WITHIN,
        help="With --near: in how many of 64 bits the likenesses of two pictures may differ for "
        "them to look the same.",
    ),
]
Yes = Annotated[
    bool,
    typer.Option("--yes", "-y", help=f"Do not ask about more than {_ASK_ABOVE} pictures."),
]

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Manage what you decided with `nsfwscan allow` and `nsfwscan deny`.",
    epilog="Decisions are kept by content, in a file of their own among your data: neither a new "
    "model nor `nsfwscan cache clear` touches them.",
)


def allow(
    paths: Paths,
    near: Near = False,
    within: Within = likeness.DEFAULT_WITHIN,
    yes: Yes = False,
    quiet: Quiet = False,
) -> None:
    """Decide that pictures are safe, whatever the model says.

    The decision is about the content of the files, not where they are: it covers copies, survives
    a rename or a move, and applies to every model and threshold until you take it back or decide
    otherwise. Scans show such a picture as safe, decided by a person, with its score beside it.

    If you decided otherwise before, even about a single picture in a folder, the later decision
    counts, and the output names the picture. Nothing is decided about files that are not pictures
    or cannot be read: exits with 2 if you named one that is not a picture, and with 3 if one could
    not be read.
    """
    _decide(Ruling.ALLOWED, paths, within if near else None, yes=yes, quiet=quiet)


def deny(
    paths: Paths,
    near: Near = False,
    within: Within = likeness.DEFAULT_WITHIN,
    yes: Yes = False,
    quiet: Quiet = False,
) -> None:
    """Decide that pictures are not safe for work, whatever the model says.

    The decision is about the content of the files, not where they are: it covers copies, survives
    a rename or a move, and applies to every model and threshold until you take it back or decide
    otherwise. Scans flag such a picture, decided by a person, with its score beside it.

    If you decided otherwise before, even about a single picture in a folder, the later decision
    counts, and the output names the picture. Nothing is decided about files that are not pictures
    or cannot be read: exits with 2 if you named one that is not a picture, and with 3 if one could
    not be read.
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
        _ask(f"Decide that {count(len(found), 'picture')} are {ruling}?")
    decided = decide(_book(), found, ruling, within=within, restored_at=_restored_at(talk))
    for failed in decided.failed:
        why = f" ({failed.detail})" if failed.detail else ""
        talk.warn(f"nothing is decided about {failed.path}: {failed.reason}{why}")
    refused = [one for one in decided.strangers if os.path.abspath(one) in named]
    for path in refused:
        talk.warn(f"nothing is decided about {path}: it is not a picture")
    if others := len(decided.strangers) - len(refused):
        talk.say(f"Left out: {count(others, 'file')} with a picture's name and no picture inside.")
    for one in decided.unlike:
        talk.warn(f"{one.path} is known by its content only: {one.why_not}")
    _tell_turned(decided.turned, ruling, talk)
    if ruling is Ruling.ALLOWED:
        _untag(decided.paths, talk)
    sentence = f"{count(len(decided.new), 'picture')} {ruling}"
    if any(one.near for one in decided.new):
        sentence += f", and what looks the same within {within} bits"
    if decided.turned:
        other = Ruling.DENIED if ruling is Ruling.ALLOWED else Ruling.ALLOWED
        sentence += f"; {len(decided.turned):,} of them had been {other} before"
    if decided.known:
        sentence += f"; {decided.known:,} had been {ruling} before"
    typer.echo(f"{sentence}.")
    raise typer.Exit(first({WRONG_COMMAND: refused, NO_VERDICT: decided.failed}))


def _untag(paths: Iterable[str], talk: Talk) -> None:
    """Remove what an earlier scan told other programs of pictures that are safe now."""
    from nsfwscan.actions.tag import remove_marks

    for path in paths:
        if why := remove_marks(os.path.realpath(path)):
            talk.warn(why)


def _restored_at(talk: Talk) -> Callable[[bytes], float]:
    """Return what tells when a content was restored from quarantine."""
    from nsfwscan.actions.quarantine.all_words import LastWords
    from nsfwscan.actions.quarantine.held import Quarantines

    return LastWords(Quarantines(None, talk.warn).everywhere, talk.warn).restored_at


def _tell_turned(turned: Sequence[Ruled], ruling: Ruling, talk: Talk) -> None:
    """Name the pictures about which the opposite was decided before: the later decision holds."""
    for one in turned[:_NAMED]:
        when = _date(one.at, "%Y-%m-%d")
        talk.say(f"{one.path} was {one.ruling} on {when} and is now {ruling}.")
    if len(turned) > _NAMED:
        talk.say(f"And {len(turned) - _NAMED:,} more.")


def _date(at: int, form: str) -> str:
    """Return a moment, in seconds since the epoch, for a person; "?" for one without a date."""
    return time.strftime(form, time.localtime(at)) if at <= LATEST_S else "?"


@app.command("list", cls=Command)
def list_() -> None:
    """Print every decision in force, the latest last.

    PICTURE is where the picture was when you decided; what counts is its content.
    """
    rows = [
        (
            one.ruling.value,
            _date(one.at, "%Y-%m-%d %H:%M"),
            "-" if one.near is None else f"{one.near.within} bits",
            one.sha256.hex()[:12],
            one.path,
        )
        for one in _book().load()
    ]
    print_table(("decision", "when", "near", "content", "picture"), rows)


@app.command(cls=Command)
def forget(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT",
            help="A picture; a folder with all that is or was below it; the place where one was "
            "when you decided; or the first digits, at least 8, of a content, as `list` prints it.",
            show_default=False,
        ),
    ],
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help=f"Do not ask about more than {_ASK_ABOVE} decisions."),
    ] = False,
) -> None:
    """Take decisions back, so that the model decides again.

    If any WHAT fits no decision, nothing is taken back. Exits with 5 when the answer is no.
    """
    book = _book()
    rulings = book.load()
    chosen: dict[bytes, Ruled] = {}
    for one in what:
        found = _meant(one, rulings)
        if not found:
            raise UsageError(
                f"there is no decision about {printable(one)}",
                hint="`nsfwscan rulings list` prints all of them",
            )
        chosen |= {ruled.sha256: ruled for ruled in found}
    if len(chosen) > _ASK_ABOVE and not yes:
        _ask(f"Take {count(len(chosen), 'decision')} back?")
    book.forget(chosen)
    typer.echo(f"{count(len(chosen), 'decision')} taken back.")


def _meant(what: str, rulings: Rulings) -> list[Ruled]:
    """Return the decisions that a word of the command line is about."""
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
    """Print every decision in force as JSON Lines, for `nsfwscan rulings import`.

    The lines hold where the pictures were and checksums of what they held, no pictures.
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
            help="What `export` printed; `-` reads standard input.",
            show_default=False,
        ),
    ],
) -> None:
    """Import decisions that were made elsewhere.

    They keep their dates. Where you decided about the same picture later than that, or took a
    decision about it back, that holds. If a line cannot be understood, nothing is imported.
    """
    book = _book()
    book.load()  # a file that is damaged is no place to add to
    given = [
        _imported(line, f"line {number} of {readable(file)}")
        for number, line in enumerate(_lines(file), 1)
        if line.strip()
    ]
    new = book.take_over(given)
    typer.echo(
        f"{count(len(new), 'decision')} imported; {len(given) - len(new):,} already known or "
        "older than yours."
    )


def _whole(file: int) -> bytes:
    """Read an open file to its end. Raises OSError, also where nothing may be waited for.

    There `read` of a Python stream returns a part, or None, as if that were all.
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
            hint="give a file that `nsfwscan rulings export` printed, or - for standard input",
        ) from error


def _imported(line: bytes, where: str) -> Ruled:
    entry, problem = None, "it is no decision"
    try:
        record = json.loads(line)
        entry = from_record(record) if isinstance(record, dict) else None
    except ValueError as error:
        problem = str(error)
    except RecursionError:
        problem = "it is nested too deeply"
    if isinstance(entry, Ruled) and entry.at > LATEST_S:
        problem = f"{entry.at} seconds since 1970 is no date"
        entry = None
    if not isinstance(entry, Ruled):
        raise UsageError(
            f"{where} cannot be understood: {problem}",
            hint="nothing was imported; give what `nsfwscan rulings export` printed",
        )
    return entry


@app.command(cls=Command)
def repair(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Show the damaged lines of the file, and go on without them if you agree.

    Until then nothing is scanned: what is lost may have denied a picture, and a scan would call it
    safe. Often a line still tells which picture it was about, so that you can decide again. The
    lines stay in the file.

    Exits with 5 when the answer is no.
    """
    book = _book()
    contents = book.read()
    for line in contents.damaged:
        typer.echo(f"line {line.number}: {readable(os.fsdecode(line.data))}")
    if not contents.damaged:
        typer.echo("Every line can be read, or was given up before.")
        return
    if not yes:
        _ask(f"Go on without {count(len(contents.damaged), 'line')}?")
    book.give_up(contents.damaged)
    typer.echo(f"{count(len(contents.damaged), 'line')} given up.")


@app.command(cls=Command)
def path() -> None:
    """Print where the decisions are kept: a file to put into your backup."""
    typer.echo(os.fsencode(locations.rulings_file()))


def _book() -> RulingBook:
    return RulingBook(locations.rulings_file())


def _ask(question: str) -> None:
    """Go on only when the answer is yes; exit with 5 when it is no."""
    insist(question, what=f"this needs an answer: {question}", otherwise="Nothing was changed.")
