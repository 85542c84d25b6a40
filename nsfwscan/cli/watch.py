"""`nsfwscan watch`: keep the answer true while pictures come and go."""

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
MANNERS_PANEL = "Manners"
_DAY_S = 86_400.0
_UNASKED = 10
"""Pictures that a watcher may move in a day, whatever share of all they are."""


@dataclass(frozen=True, slots=True)
class WatchFlags:
    """How changes are noticed, and how long things wait."""

    once: Annotated[
        bool,
        typer.Option(
            "--once",
            rich_help_panel=WATCH_PANEL,
            help="Look at everything once, wait for files that are being written, and end.",
        ),
    ] = False
    poll: Annotated[
        bool,
        typer.Option(
            "--poll",
            envvar="NSFWSCAN_POLL",
            rich_help_panel=WATCH_PANEL,
            help="Look for changes every few seconds instead of being told by the system. Network "
            "and FUSE file systems are polled in any case.",
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
            help="How long a file must not have changed before it is read, in milliseconds.",
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
            help="How often everything is compared with what is known, in case the system did not "
            "tell of a change. It takes half a second for 100,000 files.",
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
            help="How long after the last picture the model is unloaded from memory.",
        ),
    ] = 5.0


@dataclass(frozen=True, slots=True)
class MannersFlags:
    """What is left to other programs, and to people who read the log."""

    on_battery: Annotated[
        When,
        typer.Option(
            "--on-battery",
            metavar="run|slow|pause",
            envvar="NSFWSCAN_ON_BATTERY",
            rich_help_panel=MANNERS_PANEL,
            help="On battery: go on, rest as long as each piece of work took, or wait.",
        ),
    ] = When.SLOW
    under_load: Annotated[
        When,
        typer.Option(
            "--under-load",
            metavar="run|slow|pause",
            envvar="NSFWSCAN_UNDER_LOAD",
            rich_help_panel=MANNERS_PANEL,
            help="The same for when other programs keep the cores busy.",
        ),
    ] = When.SLOW
    log_paths: Annotated[
        bool,
        typer.Option(
            "--log-paths/--no-log-paths",
            envvar="NSFWSCAN_LOG_PATHS",
            rich_help_panel=MANNERS_PANEL,
            help="Whether the log, which `nsfwscan service logs` shows, names pictures.",
        ),
    ] = True


@dataclass(frozen=True, slots=True)
class LineFlags:
    """What is written."""

    line_format: Annotated[
        LineFormat,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            envvar="NSFWSCAN_WATCH_FORMAT",
            rich_help_panel=OUTPUT_PANEL,
            help="How changes are written: `lines` for people, or `jsonl`, one object a line.",
        ),
    ] = LineFormat.LINES
    only: Annotated[
        list[Only] | None,
        typer.Option(
            "--only",
            metavar="WHICH",
            envvar="NSFWSCAN_ONLY",
            rich_help_panel=OUTPUT_PANEL,
            help="Only write these changes: `flagged`, `review`, `failed` or `all`. May be given "
            "several times. Without it `lines` shows flagged, review and failed, and `jsonl` all.",
        ),
    ] = None
    quiet: Quiet = False


@dataclass(frozen=True, slots=True)
class WatchActFlags:
    """What is done about pictures."""

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
            help="Move, or run a command on, no more pictures than this within 24 hours.",
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
            help="And no larger share than this of the pictures that are watched, unless it is 10 "
            "or fewer.",
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
        typer.Argument(metavar="PATH", help="Folders to watch, with everything below them."),
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

    It first scans what is not known yet, then goes on until it is stopped. Each change gives one
    line, once: `new`, `changed`, `moved` or `gone`, with the verdict. Lines without findings are
    left out unless `--only all` or `--format jsonl` is given. What is known survives a restart. If
    a folder vanishes, say with an unplugged disk, the watcher waits for it; also at the start, if
    it was watched before. Any other folder that does not exist is an error.

    Actions start after the first look at everything, for the pictures that are reported. Over the
    limit nothing is done, and the watcher says so; `nsfwscan scan --action` makes up for it.

    Ctrl-C and SIGTERM end it with exit code 0 once the pictures in hand are finished; a second
    Ctrl-C ends it at once. SIGHUP makes it read the configuration again.

    With `--once` it exits with 130 if it was interrupted, 6 if an action failed, 5 if the limit
    held actions back, 3 if a picture or a folder could not be read, and 0 otherwise.

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
    """Return what `--once` exits with. Flagged pictures are news, and no failure."""
    reasons = {
        codes.INTERRUPTED: ended.interrupted,
        codes.FAILED: ended.acted.of(Outcome.FAILED),
        codes.NOT_DONE: ended.acted.of(Outcome.HELD_BACK),
        codes.NO_VERDICT: ended.state.failed or ended.state.unread,
    }
    return codes.first(reasons)
