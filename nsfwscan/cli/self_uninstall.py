"""`nsfwscan self-uninstall`: shows and removes what nsfwscan wrote on this computer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from nsfwscan.cli.shared.ask import insist
from nsfwscan.cli.shared.tables import print_table
from nsfwscan.cli.shared.talk import fitted
from nsfwscan.values.errors import NsfwscanError, UsageError
from nsfwscan.values.text import count, readable, size

if TYPE_CHECKING:
    from nsfwscan.actions.quarantine.traces import Kept
    from nsfwscan.values.traces import Traces


def self_uninstall(
    purge: Annotated[
        bool,
        typer.Option(
            "--purge",
            help="Remove everything listed: models, cache, rulings, logs, configuration.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Show what nsfwscan has written on this computer, and remove it with `--purge`.

    Without `--purge` nothing is changed. With it, nsfwscan asks and then removes exactly the listed
    files. It never touches pictures, or files that it did not write. A quarantine that holds
    pictures stays, and so do copies and tags made by actions.

    The program cannot remove itself: the last lines say how it was installed and how to remove it.
    Exits with 5 if you answer no, and with 6 if something could not be removed.
    """
    from nsfwscan.service import uninstall

    if yes and not purge:
        raise UsageError("--yes requires --purge", hint="give both, or neither to see the list")
    found = uninstall.find()
    kept = uninstall.kept()
    _print(found)
    _print_kept(kept)
    if purge and any(one.files or one.folders or one.lines for one in found):
        _purge(found, yes=yes)
    elif not purge and found:
        _say("`nsfwscan self-uninstall --purge` removes everything listed.", gap=True)
    _show_program()
    for one in kept if purge else ():
        if one.unknown:
            raise NsfwscanError(
                f"{one.place} was not removed: {one.why}",
                hint="fix that, then run the command again",
            )


def _print(found: list[Traces]) -> None:
    from nsfwscan.system.traces import bytes_of

    if not found:
        typer.echo("nsfwscan has written nothing on this computer for this user.")
        return
    rows = []
    for one in found:
        what = f"{len(one.files):,}" if one.files else "none"
        rows.append((one.kind.value, one.place, what, size(bytes_of(one))))
        rows += [("line for completion", path, line, "") for path, line in one.lines]
    print_table(("what", "where", "files", "size"), rows)
    strangers = [path for one in found for path in one.strangers]
    if strangers:
        _say("These files do not belong to nsfwscan and stay:", gap=True)
        for path in strangers:
            _say(f"  {readable(path)}")


def _print_kept(kept: list[Kept]) -> None:
    if kept:
        _say("These quarantines stay, with everything in them:", gap=True)
        for one in kept:
            _say(f"  {readable(one.place)}: {readable(one.why)}")
        _say(
            "`nsfwscan quarantine restore --all` moves the pictures back, and `nsfwscan quarantine "
            "delete --all` deletes them."
        )


def _purge(found: list[Traces], *, yes: bool) -> None:
    from nsfwscan.service import removal

    if (hindrance := removal.hindrance()) is not None:
        raise hindrance
    if not yes:
        insist(
            "\nRemove everything listed?",
            what="this would remove everything listed",
            otherwise="Nothing was removed.",
        )
        if (hindrance := removal.hindrance()) is not None:  # it may have changed since the question
            raise hindrance
    done = removal.remove(found)
    _say(f"Removed {count(done.files, 'file')}, {size(done.bytes)}.", gap=True)
    for path, why in done.kept:
        _say(f"{readable(path)} was not removed: {readable(why)}.")
    if done.failures:
        path, reason = done.failures[0]
        more = f", and {len(done.failures) - 1} more" if len(done.failures) > 1 else ""
        raise NsfwscanError(
            f"{path} could not be removed: {reason}{more}",
            hint="fix that, then run the command again",
        )


def _show_program() -> None:
    from nsfwscan.system import installation

    program = installation.find()
    _say(f"The program was installed {program.how} in {readable(program.where)}.", gap=True)
    _say(f"To remove it: {readable(program.removal)}")


def _say(sentence: str, *, gap: bool = False) -> None:
    """Print a sentence, broken between words, after a blank line if `gap`."""
    if gap:
        typer.echo()
    typer.echo(fitted(sentence, sys.stdout))
