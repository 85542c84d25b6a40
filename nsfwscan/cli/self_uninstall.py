"""`nsfwscan self-uninstall`: what nsfwscan wrote on this computer, and removing it."""

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
            help="Remove all that is listed: models, cache, decisions, logs, configuration.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Show what nsfwscan has written on this computer, and remove it with `--purge`.

    Without `--purge` nothing is changed. With it, exactly the listed files are removed, after a
    question. Pictures are never touched, and neither is anything that nsfwscan did not write. A
    quarantine that holds pictures stays, and so do copies and tags that it was told to make.

    The program itself stays, because it cannot remove what runs: the last lines say how it was
    installed and what removes it. Exits with 5 when the answer is no, and with 6 when something
    could not be removed.
    """
    from nsfwscan.service import uninstall

    if yes and not purge:
        raise UsageError("--yes goes with --purge", hint="give both, or neither to see a list")
    found = uninstall.find()
    kept = uninstall.kept()
    _print(found)
    _print_kept(kept)
    if purge and any(one.files or one.folders or one.lines for one in found):
        _purge(found, yes=yes)
    elif not purge and found:
        typer.echo("\n`nsfwscan self-uninstall --purge` removes what is listed.")
    _tell_about_program()
    for one in kept if purge else ():
        if one.unknown:
            raise NsfwscanError(
                f"{one.place} stays: {one.why}",
                hint="fix that with the rights it needs, then run the command again",
            )


def _print(found: list[Traces]) -> None:
    from nsfwscan.system.traces import bytes_of

    if not found:
        typer.echo("nsfwscan has written nothing for this user.")
        return
    rows = []
    for one in found:
        what = count(len(one.files), "file") if one.files else "empty"
        rows.append((one.kind.value, one.place, what, size(bytes_of(one))))
        rows += [("line for completion", path, line, "") for path, line in one.lines]
    print_table(("what", "where", "how much", "size"), rows)
    strangers = [path for one in found for path in one.strangers]
    if strangers:
        typer.echo("\nThese are not nsfwscan's, and stay:")
        for path in strangers:
            typer.echo(f"  {readable(path)}")


def _print_kept(kept: list[Kept]) -> None:
    if kept:
        typer.echo("\nThese quarantines stay, with all that is in them:")
        for one in kept:
            typer.echo(f"  {readable(one.place)}: {readable(one.why)}")
        typer.echo(
            "`nsfwscan quarantine restore --all` puts pictures back where they were, and "
            "`nsfwscan quarantine delete --all` deletes them."
        )


def _purge(found: list[Traces], *, yes: bool) -> None:
    from nsfwscan.service import removal

    if (hindrance := removal.hindrance()) is not None:
        raise hindrance
    if not yes:
        insist(
            "\nRemove all that is listed?",
            what="this removes all that is listed",
            otherwise="Nothing was removed.",
        )
        if (hindrance := removal.hindrance()) is not None:  # an answer takes its time
            raise hindrance
    done = removal.remove(found)
    typer.echo(f"\nRemoved {count(done.files, 'file')}, {size(done.bytes)}.")
    for path, why in done.kept:
        typer.echo(f"{readable(path)} stays: {readable(why)}.")
    if done.failures:
        path, reason = done.failures[0]
        more = f", and {len(done.failures) - 1} more" if len(done.failures) > 1 else ""
        raise NsfwscanError(
            f"{path} could not be removed: {reason}{more}",
            hint="fix that and run the command again; it shows what is left",
        )


def _tell_about_program() -> None:
    from nsfwscan.system import installation

    program = installation.find()
    typer.echo(
        f"\nThe program itself was installed {program.how} and is in {readable(program.where)}.\n"
        f"To remove it: {readable(program.removal)}"
    )
