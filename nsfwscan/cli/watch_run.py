"""One run of `watch`: a watcher, and the consumers of what it tells.

In: a `WatchRequest`. Out: lines on standard output, the log, the status, actions; and how it ended.
What can fail: `UsageError` for folders that cannot be watched, `AlreadyRunning`, what opening the
workshop raises, `ModelError`, and standard output that cannot be written.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from nsfwscan.cli.shared.outlet import Outlet, OutletFailed, ReaderStalled
from nsfwscan.cli.shared.paths import absolute
from nsfwscan.cli.shared.streams import unwritable
from nsfwscan.cli.watch_life import Heartbeat, Lifecycle
from nsfwscan.cli.watch_lines import ChangeLines
from nsfwscan.cli.watch_signals import WatchSignals, interruptible
from nsfwscan.report.record import Recorder
from nsfwscan.scanning.session import open_workshop
from nsfwscan.system import locations
from nsfwscan.values.actions import ActTally
from nsfwscan.values.changes import Again, BatchDone, Change, WatchState
from nsfwscan.values.errors import UsageError
from nsfwscan.values.text import readable
from nsfwscan.watch.consume import hand_on
from nsfwscan.watch.manners import Pauses
from nsfwscan.watch.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import typer

    from nsfwscan.cli.shared.acting import ActOptions
    from nsfwscan.cli.shared.talk import Talk
    from nsfwscan.cli.watch_acts import WatchActs
    from nsfwscan.cli.watch_lines import LineFormat
    from nsfwscan.report.selection import Only
    from nsfwscan.scanning.session import Settings, Workshop
    from nsfwscan.values.changes import Told
    from nsfwscan.watch.manners import PauseOptions
    from nsfwscan.watch.watcher import WatchOptions

_WAY_ON = "`nsfwscan scan --action` makes up for it, --limit-files and --limit-percent allow more"


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """What `watch` is to do."""

    paths: tuple[str, ...]
    """As they were given."""
    settings: Settings
    options: WatchOptions
    pauses: PauseOptions
    line_format: LineFormat
    only: frozenset[Only]
    acting: ActOptions | None
    """None to act on nothing."""
    log_paths: bool
    """Whether the log names pictures."""

    @property
    def owed_file(self) -> str | None:
        """Where pictures are noted to which actions are owed; a dry run owes none."""
        acts = self.acting is not None and not self.acting.dry_run
        return locations.owed_file() if acts else None


@dataclass(frozen=True, slots=True)
class WatchEnded:
    """How a run ended."""

    state: WatchState
    acted: ActTally
    interrupted: bool
    reload: bool
    """It is to begin again, with the configuration of now."""


def watch_folders(request: WatchRequest, context: typer.Context, talk: Talk) -> WatchEnded:
    """Watch until a signal ends it, or with `once` until everything is settled."""
    once = request.options.once
    with (
        talk,
        interruptible(),
        Lifecycle(talk, with_paths=request.log_paths, gentle=not once) as life,
        open_workshop(
            request.settings, [], say=life.say, warn=life.warn, progress=talk.download
        ) as workshop,
        Heartbeat(workshop) as heart,
    ):
        talk.end_bar()
        _check(request.paths, workshop.cache.places() if workshop.cache else {})
        watcher = Watcher(
            workshop,
            request.paths,
            request.options,
            say=life.say,
            warn=life.warn,
            pace=Pauses(request.pauses).pace,
            owed_file=request.owed_file,
        )
        signals = WatchSignals(watcher, context, talk)
        consumers = _Consumers(request, watcher, workshop, life, heart, talk)
        if not once:
            life.say(f"Watching {', '.join(request.paths)} with {workshop.manifest.package}.")
        try:
            with contextlib.suppress(ReaderStalled):  # told to stop; the rest is told next time
                hand_on(watcher.run(), consumers.take)
        except OutletFailed as failed:
            raise unwritable("standard output", failed.error) from failed
        finally:
            heart.beat(watcher.state())
        if once and not signals.interrupted:
            consumers.finish()
        if signals.reload:
            life.reloading()
        state = watcher.state()
    return WatchEnded(state, consumers.acted, signals.interrupted, signals.reload)


class _Consumers:
    """Log, lines, actions and status: each takes what it needs of what a watcher tells."""

    def __init__(
        self,
        request: WatchRequest,
        watcher: Watcher,
        workshop: Workshop,
        life: Lifecycle,
        heart: Heartbeat,
        talk: Talk,
    ) -> None:
        self._watcher, self._life, self._heart = watcher, life, heart
        outlet = Outlet(sys.stdout.buffer, self._wait)
        recorder = Recorder(workshop.manifest)
        self._lines = ChangeLines(request.line_format, outlet, recorder, request.only)
        self._acts: WatchActs | None = None
        if request.acting is not None:
            from nsfwscan.cli.shared.acting import Confirm, actor_for
            from nsfwscan.cli.watch_acts import WatchActs

            actor = actor_for(request.acting, workshop.manifest, talk)
            ask = Confirm(talk, yes=False, may_ask=False, way_on=_WAY_ON)
            self._acts = WatchActs(watcher, self._lines, actor, ask, heart.beat)

    @property
    def acted(self) -> ActTally:
        """What was done so far."""
        return ActTally() if self._acts is None else self._acts.tally

    def take(self, told: Told) -> None:
        """Hand on what the watcher tells. Raises what the outlet raises."""
        acts = self._acts
        match told:
            case Change():
                self._life.log(told)
                self._lines.change(told)
                if acts is not None and told.result is not None:
                    acts.consider(told.result)
            case Again():
                if acts is not None:
                    acts.consider(told.result)
            case BatchDone():
                if acts is not None:
                    acts.batch_done()
            case WatchState():
                self._heart.beat(told)
                if acts is not None:
                    acts.act_if_complete(told)
            case _:
                assert_never(told)

    def finish(self) -> None:
        """Act on what is left, when the watcher ended by itself."""
        if self._acts is not None:
            self._acts.finish()

    def _wait(self, reason: str) -> bool:
        """Go on making the state known while the output's reader takes nothing; True to give up."""
        self._watcher.note_output(reason)
        for state in self._watcher.beat():
            self._heart.beat(state)
        return self._watcher.stopping


def _check(paths: Iterable[str], places: Mapping[str, str]) -> None:
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
