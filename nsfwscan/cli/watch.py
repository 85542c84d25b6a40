"""`nsfwscan watch`: keep the answer true while pictures come and go."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Annotated, cast

import typer

from nsfwscan.cli.shared import config
from nsfwscan.cli.shared.codes import COULD_NOT, INTERRUPTED, NO_VERDICT, NOT_DONE, OK
from nsfwscan.cli.shared.commands import RunAgain
from nsfwscan.cli.shared.options import (
    ACTION_PANEL,
    OUTPUT_PANEL,
    Actions,
    Again,
    AnyName,
    DryRun,
    Exclude,
    FlagAt,
    Hidden,
    Include,
    Jobs,
    MaxSize,
    ModelName,
    NoRules,
    Offline,
    OneFileSystem,
    ProviderName,
    QuarantineFolder,
    Quiet,
    ReviewAt,
    SymlinksChoice,
    Threads,
    bytes_of,
)
from nsfwscan.cli.shared.outlet import Outlet, OutletFailed, ReaderStalled
from nsfwscan.cli.shared.paths import absolute
from nsfwscan.cli.shared.streams import never_wait_for_stderr, unwritable, whisper
from nsfwscan.cli.shared.talk import Talk
from nsfwscan.cli.watch_lines import DEFAULT_ONLY, ChangeLines, LineFormat
from nsfwscan.media.discover import Symlinks, WalkOptions
from nsfwscan.models.provider import Provider
from nsfwscan.report.record import Recorder
from nsfwscan.report.selection import Only
from nsfwscan.scanning.scanner import ScanOptions
from nsfwscan.scanning.session import Settings, open_workshop
from nsfwscan.system import locations
from nsfwscan.values.actions import ActTally, Outcome
from nsfwscan.values.errors import ConfigError, UsageError
from nsfwscan.values.text import readable
from nsfwscan.watch.manners import PauseOptions, Pauses, When

if TYPE_CHECKING:
    from nsfwscan.watch.changes import Sink
    from nsfwscan.watch.watcher import Watcher, WatchState

WATCH_PANEL = "Watching"
MANNERS_PANEL = "Manners"
_DAY_S = 86_400.0
_UNASKED = 10
"""Pictures that a watcher may move in a day, whatever share of all they are."""
_WAY_ON = "`nsfwscan scan --action` makes up for it, --limit-files and --limit-percent allow more"


def watch(
    context: typer.Context,
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Folders to watch, with everything below them."),
    ],
    once: Annotated[
        bool,
        typer.Option(
            "--once",
            rich_help_panel=WATCH_PANEL,
            help="Look at everything once, wait for files that are being written, and end.",
        ),
    ] = False,
    poll: Annotated[
        bool,
        typer.Option(
            "--poll",
            envvar="NSFWSCAN_POLL",
            rich_help_panel=WATCH_PANEL,
            help="Look for changes every few seconds instead of being told by the system. Network "
            "and FUSE file systems are polled in any case.",
        ),
    ] = False,
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
    ] = 1000,
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
    ] = 60.0,
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
    ] = 5.0,
    include: Include = None,
    exclude: Exclude = None,
    hidden: Hidden = False,
    any_name: AnyName = False,
    symlinks: SymlinksChoice = Symlinks.SKIP,
    one_file_system: OneFileSystem = False,
    max_size: MaxSize = "512M",
    model: ModelName = "auto",
    flag_at: FlagAt = None,
    review_at: ReviewAt = None,
    offline: Offline = False,
    on_battery: Annotated[
        When,
        typer.Option(
            "--on-battery",
            metavar="run|slow|pause",
            envvar="NSFWSCAN_ON_BATTERY",
            rich_help_panel=MANNERS_PANEL,
            help="On battery: go on, rest as long as each piece of work took, or wait.",
        ),
    ] = When.SLOW,
    under_load: Annotated[
        When,
        typer.Option(
            "--under-load",
            metavar="run|slow|pause",
            envvar="NSFWSCAN_UNDER_LOAD",
            rich_help_panel=MANNERS_PANEL,
            help="The same for when other programs keep the cores busy.",
        ),
    ] = When.SLOW,
    log_paths: Annotated[
        bool,
        typer.Option(
            "--log-paths/--no-log-paths",
            envvar="NSFWSCAN_LOG_PATHS",
            rich_help_panel=MANNERS_PANEL,
            help="Whether the log, which `nsfwscan service logs` shows, names pictures.",
        ),
    ] = True,
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
    ] = LineFormat.LINES,
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
    ] = None,
    action: Actions = None,
    dry_run: DryRun = False,
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
    ] = 200,
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
    ] = 5.0,
    again: Again = False,
    no_rules: NoRules = False,
    quarantine: QuarantineFolder = None,
    quiet: Quiet = False,
    jobs: Jobs = 0,
    threads: Threads = 0,
    provider: ProviderName = Provider.AUTO,
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

    With `--once` it exits with 130 if it was interrupted, 2 if an action failed, 5 if the limit
    held actions back, 3 if a picture or a folder could not be read, and 0 otherwise.

    For example:

        nsfwscan watch ~/Pictures ~/Downloads
        nsfwscan watch --format jsonl ~/Pictures
        nsfwscan watch --once ~/Pictures
    """
    from nsfwscan.cli.watch_run import Companions
    from nsfwscan.watch.owed import Owed
    from nsfwscan.watch.watcher import Watcher, WatchOptions

    for path in paths:
        absolute(path)
    scan = ScanOptions(
        walk=WalkOptions(
            include=tuple(include or ()),
            exclude=tuple(exclude or ()),
            hidden=hidden,
            any_name=any_name,
            symlinks=symlinks,
            one_file_system=one_file_system,
            own=(locations.models_folder(), locations.state_folder()),
            max_bytes=bytes_of(max_size),
        ),
        jobs=jobs,
    )
    settings = Settings(
        model=model,
        review_at=review_at,
        flag_at=flag_at,
        offline=offline,
        provider=provider,
        threads=threads,
        scan=scan,
    )
    options = WatchOptions(
        scan,
        settle_ms=settle_ms,
        reconcile_minutes=reconcile_minutes,
        idle_unload_minutes=idle_unload_minutes,
        poll=poll,
        once=once,
    )
    never_wait_for_stderr()
    talk = Talk(quiet=quiet)
    configured = config.rules_in(context, ignored=no_rules)
    acting: ActOptions | None = None
    if action or configured:
        from nsfwscan.cli.shared.acting import ActingSink, ActOptions, Confirm, actor_for, rules_of

        acting = ActOptions(
            rules_of(action or (), configured),
            limit_files=limit_files,
            limit_percent=limit_percent,
            limit_least=_UNASKED,
            limit_window_s=_DAY_S,
            dry_run=dry_run,
            again=again,
            quarantine=quarantine,
        )
    signals = _Signals(context, talk)
    with (
        signals.handled(),
        Companions(talk, with_paths=log_paths, gentle=not once) as companions,
        open_workshop(
            settings, [], say=companions.say, warn=companions.warn, progress=talk.download
        ) as workshop,
    ):
        talk.end_bar()
        _check(paths, workshop.cache.places() if workshop.cache else {})
        recorder = Recorder(workshop.manifest)
        wanted = frozenset(only or DEFAULT_ONLY[line_format])
        outlet = Outlet(sys.stdout.buffer)
        lines = ChangeLines(line_format, outlet, recorder, wanted)
        sink: Sink = lines
        acts: ActingSink | None = None
        owed: Owed | None = None
        if acting is not None:
            ask = Confirm(talk, yes=False, may_ask=False, way_on=_WAY_ON)
            actor = actor_for(acting, workshop.manifest, talk)
            owed = None if dry_run else Owed(locations.owed_file())
            sink = acts = ActingSink(lines, actor, ask, companions.beat, owed)
        companions.follow(sink, workshop)
        watcher = Watcher(
            workshop,
            paths,
            options,
            companions,
            say=companions.say,
            warn=companions.warn,
            beat=companions.beat if acts is None else acts.beat,
            pace=Pauses(PauseOptions(on_battery=on_battery, under_load=under_load)).pace,
            owed=owed,
        )
        if acts is not None:
            acts.watch(watcher)
        signals.watcher = watcher
        outlet.waits = watcher.wait_for_reader
        if not once:
            companions.say(f"Watching {', '.join(paths)} with {workshop.manifest.package}.")
        with contextlib.suppress(ReaderStalled):  # it was told to stop; the rest is told next time
            try:
                watcher.run()
            except OutletFailed as failed:
                raise unwritable("standard output", failed.error) from failed
        if acts is not None and once and not signals.interrupted:
            acts.finish()
        if signals.reload:
            companions.reloading()
        state = watcher.state()
    if signals.reload:
        raise RunAgain
    if once:
        acted = ActTally() if acts is None else acts.tally
        raise typer.Exit(_exit_code(state, acted, interrupted=signals.interrupted))


def _exit_code(state: WatchState, acted: ActTally, *, interrupted: bool) -> int:
    """Return what `--once` exits with. Flagged pictures are news, and no failure."""
    if interrupted:
        return INTERRUPTED
    if acted.of(Outcome.FAILED):
        return COULD_NOT
    if acted.of(Outcome.HELD_BACK):
        return NOT_DONE
    return NO_VERDICT if state.failed or state.unread else OK


def _check(paths: list[str], places: dict[str, str]) -> None:
    """Refuse what cannot be watched; a folder that was watched before may be unplugged now."""
    for path in paths:
        if absolute(path) in places:
            continue
        try:
            is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        except FileNotFoundError:
            what = "leads nowhere" if os.path.islink(path) else "does not exist"
            raise UsageError(
                f"{readable(path)} {what}", hint="check the spelling of the path"
            ) from None
        except OSError as error:
            raise UsageError(
                f"{readable(path)} cannot be reached: {error.strerror or error}",
                hint="check the permissions of the folders above it, or its disk",
            ) from error
        if not is_folder:
            raise UsageError(
                f"{readable(path)} is not a folder", hint="watch the folder that holds it"
            )


class _Signals:
    """Ends the watcher gently, at once, or to begin again."""

    def __init__(self, context: typer.Context, talk: Talk) -> None:
        self.watcher: Watcher | None = None
        self.reload = False
        self._context = context
        self._talk = talk
        self.interrupted = False

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Handle signals while the block runs."""
        handlers: dict[int, Callable[[int, FrameType | None], None]] = {
            signal.SIGINT: self._end,
            signal.SIGTERM: self._end,
        }
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = self._reload
        before = {one: signal.signal(one, handler) for one, handler in handlers.items()}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        if self.watcher is None:
            raise KeyboardInterrupt
        if self.interrupted and number == signal.SIGINT:
            self.watcher.abandon()
            os._exit(INTERRUPTED)  # threads are at work; nothing else ends them at once
        self.interrupted = True
        self.reload = False
        said = b"\n"
        if self.watcher.is_busy:
            said = b"\nFinishing the pictures in hand; Ctrl-C again stops at once.\n"
        self.watcher.stop()
        if not self._talk.quiet:
            # No print: the signal may have come in the middle of one.
            whisper(said)

    def _reload(self, number: int, _frame: FrameType | None) -> None:  # noqa: ARG002  a handler
        if self.watcher is None or self.interrupted:
            return
        group = self._context.parent
        if group is not None:
            try:
                config.read(cast("typer.Context", group), group.params.get("config_file"))
            except ConfigError as error:
                text = f"\nnsfwscan: {readable(str(error))}; the old settings stay\n"
                whisper(text.encode(errors="backslashreplace"))
                return
        self.reload = True
        self.watcher.stop()
