"""`nsfwscan cache`: what is remembered of earlier scans."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer

from nsfwscan.cache.cache import Cache
from nsfwscan.cli.shared.ask import insist
from nsfwscan.cli.shared.codes import OK, UNSOUND
from nsfwscan.cli.shared.commands import Command, Group
from nsfwscan.cli.shared.tables import print_table
from nsfwscan.cli.shared.talk import Talk
from nsfwscan.system import locations
from nsfwscan.values.outcome import Scored, Unscorable
from nsfwscan.values.text import count, plain_json, printable, readable, size

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Manage what is remembered from earlier scans.",
    epilog="The cache holds paths, checksums and scores, no pictures. It can be deleted at any "
    "time: the next scan then takes as long as the first.",
)


def _open() -> Cache:
    return Cache.open(locations.cache_file(), warn=Talk(quiet=False).warn)


@app.command(cls=Command)
def path() -> None:
    """Print where the cache is."""
    typer.echo(os.fsencode(locations.cache_file()))


@app.command(cls=Command)
def stats() -> None:
    """Print how much is remembered, and for which models."""
    with _open() as cache:
        found = cache.stats()
    rows = [
        ("file", found.path),
        ("size", size(found.bytes)),
        ("journal", found.journal_mode),
        ("schema", str(found.schema)),
        ("files", f"{found.files:,} in {count(found.folders, 'folder')}"),
        ("contents", f"{found.contents:,}"),
    ]
    rows += [
        (f"scored by {one.name or one.scorer.fingerprint[:12]}", f"{one.outcomes:,}")
        for one in found.models
    ]
    rows += [("damaged, set aside", one) for one in found.set_aside]
    print_table(("what", "value"), rows)


@app.command(cls=Command)
def prune(
    older_than_days: Annotated[
        float,
        typer.Option(
            "--older-than-days",
            metavar="DAYS",
            min=0,
            help="Keep for this long what cannot be checked now: a disk that is not plugged in "
            "looks like a folder that was deleted or emptied.",
        ),
    ] = 90,
) -> None:
    """Forget files that no longer exist, and scores that no file needs any more."""
    with _open() as cache:
        pruned = cache.prune(older_than_days=older_than_days)
    typer.echo(f"Forgot {count(pruned.files, 'file')} and {count(pruned.outcomes, 'score')}.")


@app.command(cls=Command)
def verify() -> None:
    """Check every remembered row against its checksum and drop those that are damaged.

    Damaged rows are never used in any case; this gives their space back. Exits with 7 when there
    were any.
    """
    with _open() as cache:
        result = cache.verify()
    typer.echo(f"Checked {count(result.checked, 'row')}, dropped {result.deleted:,}.")
    if result.set_aside:
        typer.echo("The file itself was damaged; it was set aside and a new one begun.")
    raise typer.Exit(UNSOUND if result.deleted or result.set_aside else OK)


@app.command(cls=Command)
def clear(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget everything. Pictures and models are not touched.

    Asks first. Exits with 5 when the answer is no.
    """
    if not yes:
        where = readable(locations.cache_file())
        insist(
            f"Delete all remembered scores in {where}?",
            what="this deletes all remembered scores",
            otherwise="Nothing was deleted.",
        )
    with _open() as cache:
        cache.clear()
    typer.echo("Everything is forgotten.")


@app.command(cls=Command)
def export() -> None:
    """Print everything remembered as JSON Lines: one line for each file and model."""
    out = sys.stdout.buffer
    with _open() as cache:
        for row in cache.export():
            record: dict[str, object] = {
                "path": None if row.path is None else printable(row.path),
                "sha256": row.sha256.hex(),
                "model": row.model or None,
                "fingerprint": None if row.scorer is None else row.scorer.fingerprint,
            }
            if isinstance(row.outcome, Scored):
                record["nsfw_score"] = row.outcome.scores.unsafe
                record["labels"] = [
                    {"label": label, "score": score}
                    for label, score in zip(
                        row.labels, row.outcome.scores.probabilities, strict=False
                    )
                ]
            elif isinstance(row.outcome, Unscorable):
                record["failed"] = row.outcome.reason.value
            out.write(plain_json(json.dumps(record, ensure_ascii=False)).encode() + b"\n")
    out.flush()
