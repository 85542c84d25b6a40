"""`nsfwscan cache`: results of earlier scans."""

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
from nsfwscan.cli.shared.options import ShownAs, TableFormat
from nsfwscan.cli.shared.tables import print_rows
from nsfwscan.cli.shared.talk import Talk
from nsfwscan.system import locations
from nsfwscan.values.outcome import Scored, Unscorable
from nsfwscan.values.text import count, plain_json, printable, readable, size

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Manage the cache, which keeps results of earlier scans.",
    epilog="The cache holds paths, checksums and scores, but no pictures. You can delete it at any "
    "time; the next scan then takes as long as the first.",
)


def _open() -> Cache:
    return Cache.open(locations.cache_file(), warn=Talk(quiet=False).warn)


@app.command(cls=Command)
def path() -> None:
    """Print the path of the cache."""
    typer.echo(os.fsencode(locations.cache_file()))


@app.command(cls=Command)
def stats(output_format: ShownAs = TableFormat.TABLE) -> None:
    """Print the size of the cache, and the number of scores from each model."""
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
    document = {
        "file": printable(found.path),
        "bytes": found.bytes,
        "journal": found.journal_mode,
        "schema": found.schema,
        "read_only": found.read_only,
        "files": found.files,
        "folders": found.folders,
        "contents": found.contents,
        "models": [
            {
                "name": one.name,
                "fingerprint": one.scorer.fingerprint,
                "decoder": one.scorer.decoder,
                "contents": one.outcomes,
            }
            for one in found.models
        ],
        "set_aside": [printable(one) for one in found.set_aside],
    }
    print_rows(output_format, ("what", "value"), rows, document)


@app.command(cls=Command)
def prune(
    older_than_days: Annotated[
        float,
        typer.Option(
            "--older-than-days",
            metavar="DAYS",
            min=0,
            help="Keep missing files for this many days: they may be on a disk that is not plugged "
            "in.",
        ),
    ] = 90,
) -> None:
    """Remove cache entries of files that no longer exist, and scores that no file uses."""
    with _open() as cache:
        pruned = cache.prune(older_than_days=older_than_days)
    removed = f"{count(pruned.files, 'file')} and {count(pruned.outcomes, 'score')}"
    typer.echo(f"Removed {removed} from the cache.")


@app.command(cls=Command)
def verify() -> None:
    """Check every row of the cache against its checksum, and delete damaged rows.

    Scans never use damaged rows; deleting them frees space. Exits with 7 if there were any.
    """
    with _open() as cache:
        result = cache.verify()
    typer.echo(f"Checked {count(result.checked, 'row')}, deleted {result.deleted:,}.")
    if result.set_aside:
        typer.echo("The file itself was damaged. It was set aside, and a new one was created.")
    raise typer.Exit(UNSOUND if result.deleted or result.set_aside else OK)


@app.command(cls=Command)
def clear(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete all cached results. Pictures, models and rulings are not touched.

    Asks first. Exits with 5 if you answer no.
    """
    if not yes:
        where = readable(locations.cache_file())
        insist(
            f"Delete all cached results in {where}?",
            what="this would delete all cached results",
            otherwise="Nothing was deleted.",
        )
    with _open() as cache:
        cache.clear()
    typer.echo("The cache is empty.")


@app.command(cls=Command)
def export() -> None:
    """Print the cache as JSON Lines, one line for each file and model."""
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
