"""`nsfwscan status`: what the watcher is doing."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

import typer

from nsfwscan.cli.shared.codes import NOT_RUNNING, OK
from nsfwscan.cli.shared.options import ShownAs, TableFormat
from nsfwscan.cli.shared.tables import print_rows
from nsfwscan.system import locations
from nsfwscan.values.text import count, duration, printable
from nsfwscan.watch import instance
from nsfwscan.watch import status as watch_status
from nsfwscan.watch.status import Status


def status(output_format: ShownAs = TableFormat.TABLE) -> None:
    """Show what the watcher is doing, what it found, and whether there are problems.

    Exits with 0 if a watcher is running. If none is, exits with 8 and shows the state in which the
    last watcher ended.
    """
    running = instance.is_held(locations.watch_lock())
    found = watch_status.read(locations.status_file())
    rows = _rows(found, running=running)
    print_rows(output_format, ("what", "value"), rows, _document(found, running=running))
    raise typer.Exit(OK if running else NOT_RUNNING)


def _rows(found: Status | None, *, running: bool) -> Iterator[tuple[str, str]]:
    if found is None:
        # A watcher that has just started holds the lock before it writes its status.
        yield "watcher", "starting" if running else "not running (nsfwscan watch ~/Pictures)"
        return
    if running:
        since = f"since {_moment(found.running_since)} (process {found.pid})"
        yield "watcher", f"running {since}"
    else:
        yield "watcher", "not running; this is how the last one ended"
    if found.paused:
        yield "paused", found.paused
    for sentence in found.degraded:
        yield "degraded", sentence
    for root in found.roots:
        yield "watching", root
    yield "folders", f"{found.watched:,} of {found.directories:,} watched"
    yield "waiting", count(found.queue, "path")
    yield "scanned", count(found.scanned, "picture")
    yield "flagged", f"{found.flagged:,}"
    yield "no verdict", f"{found.failed:,}"
    if found.last_reconcile is None:
        yield "last reconciled", "not yet"
    else:
        ago = max(0.0, time.time() - found.last_reconcile)
        yield "last reconciled", f"{duration(ago)} ago"
    yield "model", found.model
    yield "nsfwscan", found.version


def _document(found: Status | None, *, running: bool) -> dict[str, object]:
    document: dict[str, object] = {"running": running}
    if found is not None:
        document |= dataclasses.asdict(found)
        document["roots"] = [printable(root) for root in found.roots]
    return document


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
