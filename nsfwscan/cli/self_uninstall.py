"""`nsfwscan self-uninstall`: shows and removes what nsfwscan wrote on this computer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nsfwscan.cli.shared.ask import insist
from nsfwscan.cli.shared.tables import print_table
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
        typer.echo("\n`nsfwscan self-uninstall --purge` removes everything listed.")
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
        typer.echo("\nThese files do not belong to nsfwscan and stay:")
        for path in strangers:
            typer.echo(f"  {readable(path)}")


def _print_kept(kept: list[Kept]) -> None:
    if kept:
        typer.echo("\nThese quarantines stay, with everything in them:")
        for one in kept:
            typer.echo(f"  {readable(one.place)}: {readable(one.why)}")
        typer.echo(
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
    typer.echo(f"\nRemoved {count(done.files, 'file')}, {size(done.bytes)}.")
    for path, why in done.kept:
        typer.echo(f"{readable(path)} was not removed: {readable(why)}.")
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
    typer.echo(
        f"\nThe program itself was installed {program.how} and is in {readable(program.where)}.\n"
        f"To remove it: {readable(program.removal)}"
    )
