"""`nsfwscan watch`: reports pictures as they are added, changed, moved and deleted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from nsfwscan.cli.shared import codes, config
from nsfwscan.cli.shared.commands import RunAgain
from nsfwscan.cli.shared.flags import ModelFlags, SpeedFlags, WalkFlags, act_options, settings
from nsfwscan.cli.shared.groups import grouped
from nsfwscan.cli.shared.options import (
    ACTION_PANEL,
    OUTPUT_PANEL,
    Actions,
    Again,
    DryRun,
    NoRules,
    QuarantineFolder,
    Quiet,
)
from nsfwscan.cli.shared.paths import absolute
from nsfwscan.cli.shared.streams import never_wait_for_stderr
from nsfwscan.cli.shared.talk import Talk
from nsfwscan.cli.watch_lines import DEFAULT_ONLY, LineFormat
from nsfwscan.report.selection import Only
from nsfwscan.scanning.scanner import ScanOptions
from nsfwscan.system import locations
from nsfwscan.values.actions import Outcome
from nsfwscan.watch.manners import PauseOptions, When

if TYPE_CHECKING:
    from nsfwscan.cli.watch_run import WatchEnded

WATCH_PANEL = "Watching"
MANNERS_PANEL = "Background"
_DAY_S = 86_400.0
_UNASKED = 10
"""Pictures that a watcher may move in a day even if they exceed --limit-percent."""


@dataclass(frozen=True, slots=True)
class WatchFlags:
    """How changes are noticed, and how long to wait."""

    once: Annotated[
        bool,
        typer.Option(
            "--once",
            rich_help_panel=WATCH_PANEL,
            help="Scan everything once, wait for files that are still being written, and exit.",
        ),
    ] = False
    poll: Annotated[
        bool,
        typer.Option(
            "--poll",
            envvar="NSFWSCAN_POLL",
            rich_help_panel=WATCH_PANEL,
            help="Look for changes every few seconds instead of using the system's change events. "
            "Network and FUSE file systems are always polled.",
        ),
    ] = False
    settle_ms: Annotated[
        int,
        typer.Option(
            "--settle-ms",
            metavar="MS",
            min=0,
            max=600_000,
            envvar="NSFWSCAN_SETTLE_MS",
            rich_help_panel=WATCH_PANEL,
            help="Scan a file once it has been unchanged for this long, in milliseconds.",
        ),
    ] = 1000
    reconcile_minutes: Annotated[
        float,
        typer.Option(
            "--reconcile-minutes",
            metavar="MIN",
            min=0.05,
            envvar="NSFWSCAN_RECONCILE_MINUTES",
            rich_help_panel=WATCH_PANEL,
            help="How often to list all files to find changes that the system did not report. This "
            "takes half a second for 100,000 files.",
        ),
    ] = 60.0
    idle_unload_minutes: Annotated[
        float,
        typer.Option(
            "--unload-minutes",
            metavar="MIN",
            min=0.0,
            envvar="NSFWSCAN_UNLOAD_MINUTES",
            rich_help_panel=WATCH_PANEL,
            help="Unload the model after this long without a picture, to free memory.",
        ),
    ] = 5.0


@dataclass(frozen=True, slots=True)
class MannersFlags:
    """How the watcher behaves in the background."""

    on_battery: Annotated[
        When,
        typer.Option(
            "--on-battery",
            metavar="run|slow|pause",
            envvar="NSFWSCAN_ON_BATTERY",
            rich_help_panel=MANNERS_PANEL,
            help="What to do on battery: run at full speed, at half speed (`slow`), or pause.",
        ),
    ] = When.SLOW
    under_load: Annotated[
        When,
        typer.Option(
            "--under-load",
            metavar="run|slow|pause",
            envvar="NSFWSCAN_UNDER_LOAD",
            rich_help_panel=MANNERS_PANEL,
            help="What to do while other programs keep the cores busy.",
        ),
    ] = When.SLOW
    log_paths: Annotated[
        bool,
        typer.Option(
            "--log-paths/--no-log-paths",
            envvar="NSFWSCAN_LOG_PATHS",
            rich_help_panel=MANNERS_PANEL,
            help="Include paths of pictures in the log, which `nsfwscan service logs` shows.",
        ),
    ] = True


@dataclass(frozen=True, slots=True)
class LineFlags:
    """What to write."""

    line_format: Annotated[
        LineFormat,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            envvar="NSFWSCAN_WATCH_FORMAT",
            rich_help_panel=OUTPUT_PANEL,
            help="Output format: `lines` for people, or `jsonl`, one object per line.",
        ),
    ] = LineFormat.LINES
    only: Annotated[
        list[Only] | None,
        typer.Option(
            "--only",
            metavar="WHICH",
            envvar="NSFWSCAN_ONLY",
            rich_help_panel=OUTPUT_PANEL,
            help="Only write these changes: `flagged`, `review`, `failed` (no verdict) or `all`. "
            "May be given several times. Without it, `lines` shows the first three, `jsonl` all.",
        ),
    ] = None
    quiet: Quiet = False


@dataclass(frozen=True, slots=True)
class WatchActFlags:
    """What to do with pictures."""

    action: Actions = None
    dry_run: DryRun = False
    limit_files: Annotated[
        int,
        typer.Option(
            "--limit-files",
            metavar="N",
            min=0,
            envvar="NSFWSCAN_LIMIT_FILES",
            rich_help_panel=ACTION_PANEL,
            help="Do not move, or run a command on, more pictures than this in 24 hours.",
        ),
    ] = 200
    limit_percent: Annotated[
        float,
        typer.Option(
            "--limit-percent",
            metavar="P",
            min=0,
            max=100,
            envvar="NSFWSCAN_LIMIT_PERCENT",
            rich_help_panel=ACTION_PANEL,
            help="Nor on more than this percentage of the pictures watched, except for up to 10 "
            "pictures.",
        ),
    ] = 5.0
    again: Again = False
    no_rules: NoRules = False
    quarantine: QuarantineFolder = None


@grouped
def watch(
    context: typer.Context,
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Folders to watch, including subfolders."),
    ],
    watching: WatchFlags,
    walk: WalkFlags,
    model: ModelFlags,
    manners: MannersFlags,
    written: LineFlags,
    acts: WatchActFlags,
    speed: SpeedFlags,
) -> None:
    """Watch folders and report each picture that is new, changed, moved or gone.

    The watcher first scans everything that is new to it, then runs until you stop it. It prints
    each change as one line: `new`, `changed`, `moved` or `gone`, with the verdict. Safe pictures
    are only shown with `--only all` or `--format jsonl`. After a restart, known pictures are not
    reported again. If a watched folder disappears, for example with an unplugged disk, the watcher
    waits for it, also at the next start. Any other folder that does not exist is an error.

    Actions begin after the first full scan, for the pictures that are reported. If they would go
    over the limit, nothing is done, and the watcher says so; use `nsfwscan scan --action` instead.

    Ctrl-C and SIGTERM end the watcher with exit code 0 when the pictures being scored are finished.
    A second Ctrl-C ends it immediately. On SIGHUP it reads the configuration again.

    With `--once`, it exits with 130 if it was interrupted, 6 if an action failed, 5 if a limit held
    actions back, 3 if a picture or a folder could not be read, and 0 otherwise.

    For example:

        nsfwscan watch ~/Pictures ~/Downloads
        nsfwscan watch --format jsonl ~/Pictures
        nsfwscan watch --once ~/Pictures
    """
    from nsfwscan.cli.watch_run import WatchRequest, watch_folders
    from nsfwscan.watch.watcher import WatchOptions

    for path in paths:
        absolute(path)
    own = (locations.models_folder(), locations.state_folder())
    scan = ScanOptions(walk=walk.options(own=own), jobs=speed.jobs)
    options = WatchOptions(
        scan,
        settle_ms=watching.settle_ms,
        reconcile_minutes=watching.reconcile_minutes,
        idle_unload_minutes=watching.idle_unload_minutes,
        poll=watching.poll,
        once=watching.once,
    )
    never_wait_for_stderr()
    talk = Talk(quiet=written.quiet)
    configured = config.rules_in(context, ignored=acts.no_rules)
    request = WatchRequest(
        paths=tuple(paths),
        settings=settings(model, speed, scan),
        options=options,
        pauses=PauseOptions(on_battery=manners.on_battery, under_load=manners.under_load),
        line_format=written.line_format,
        only=frozenset(written.only or DEFAULT_ONLY[written.line_format]),
        acting=act_options(acts, configured, limit_least=_UNASKED, limit_window_s=_DAY_S),
        log_paths=manners.log_paths,
    )
    ended = watch_folders(request, context, talk)
    if ended.reload:
        raise RunAgain
    if watching.once:
        raise typer.Exit(_exit_code(ended))


def _exit_code(ended: WatchEnded) -> int:
    """Return the exit code of `--once`, which does not depend on whether pictures were flagged."""
    reasons = {
        codes.INTERRUPTED: ended.interrupted,
        codes.FAILED: ended.acted.of(Outcome.FAILED),
        codes.NOT_DONE: ended.acted.of(Outcome.HELD_BACK),
        codes.NO_VERDICT: ended.state.failed or ended.state.unread,
    }
    return codes.first(reasons)
