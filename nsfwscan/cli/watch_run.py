"""One run of `watch`: a watcher and the consumers of its reports.

In: a `WatchRequest`. Out: lines on standard output, log, status, actions, and how the run ended.
Raises `UsageError` for folders that cannot be watched, `AlreadyRunning`, `ModelError`, what opening
the session raises, and an error if standard output cannot be written.
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
from nsfwscan.scanning.session import open_session
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
    from nsfwscan.scanning.session import Session, Settings
    from nsfwscan.values.changes import Told
    from nsfwscan.watch.manners import PauseOptions
    from nsfwscan.watch.watcher import WatchOptions

_WAY_ON = "use `nsfwscan scan --action`, or raise --limit-files or --limit-percent"


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """What `watch` has to do."""

    paths: tuple[str, ...]
    """As the user gave them."""
    settings: Settings
    options: WatchOptions
    pauses: PauseOptions
    line_format: LineFormat
    only: frozenset[Only]
    acting: ActOptions | None
    """None for no actions."""
    log_paths: bool
    """Whether the log names pictures."""

    @property
    def owed_file(self) -> str | None:
        """The file that lists pictures with owed actions; None in a dry run."""
        acts = self.acting is not None and not self.acting.dry_run
        return locations.owed_file() if acts else None


@dataclass(frozen=True, slots=True)
class WatchEnded:
    """How a run ended."""

    state: WatchState
    acted: ActTally
    interrupted: bool
    reload: bool
    """Whether to run again with the current configuration."""


def watch_folders(request: WatchRequest, context: typer.Context, talk: Talk) -> WatchEnded:
    """Watch until a signal arrives, or with `once` until all files are settled."""
    once = request.options.once
    with (
        talk,
        interruptible(),
        Lifecycle(talk, with_paths=request.log_paths, gentle=not once) as life,
        open_session(
            request.settings, [], say=life.say, warn=life.warn, progress=talk.download
        ) as session,
        Heartbeat(session) as heart,
    ):
        talk.end_bar()
        _check(request.paths, session.cache.places() if session.cache else {})
        watcher = Watcher(
            session,
            request.paths,
            request.options,
            say=life.say,
            warn=life.warn,
            pace=Pauses(request.pauses).pace,
            owed_file=request.owed_file,
        )
        signals = WatchSignals(watcher, context, talk)
        consumers = _Consumers(request, watcher, session, life, heart, talk)
        if not once:
            life.say(f"Watching {', '.join(request.paths)} with {session.manifest.package}.")
        try:
            with contextlib.suppress(ReaderStalled):  # stopped; the next watcher reports the rest
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
    """Passes the watcher's reports to log, lines, actions and status."""

    def __init__(
        self,
        request: WatchRequest,
        watcher: Watcher,
        session: Session,
        life: Lifecycle,
        heart: Heartbeat,
        talk: Talk,
    ) -> None:
        self._watcher, self._life, self._heart = watcher, life, heart
        outlet = Outlet(sys.stdout.buffer, self._wait)
        recorder = Recorder(session.manifest)
        self._lines = ChangeLines(request.line_format, outlet, recorder, request.only)
        self._acts: WatchActs | None = None
        if request.acting is not None:
            from nsfwscan.cli.shared.acting import Confirm, actor_for
            from nsfwscan.cli.watch_acts import WatchActs

            actor = actor_for(request.acting, session.manifest, talk)
            ask = Confirm(talk, yes=False, may_ask=False, way_on=_WAY_ON)
            self._acts = WatchActs(watcher, self._lines, actor, ask, heart.beat)

    @property
    def acted(self) -> ActTally:
        """The actions taken so far."""
        return ActTally() if self._acts is None else self._acts.tally

    def take(self, told: Told) -> None:
        """Pass on one report of the watcher. Raises what the outlet raises."""
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
        """Act on waiting pictures, if the watcher ended without a signal."""
        if self._acts is not None:
            self._acts.finish()

    def _wait(self, reason: str) -> bool:
        """Report the state while the output is not being read. Return True to give up."""
        self._watcher.note_output(reason)
        for state in self._watcher.beat():
            self._heart.beat(state)
        return self._watcher.stopping


def _check(paths: Iterable[str], places: Mapping[str, str]) -> None:
    """Refuse paths that cannot be watched; folders watched before may be unplugged now."""
    for path in paths:
        if absolute(path) in places:
            continue
        try:
            is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        except FileNotFoundError:
            what = "is a broken link" if os.path.islink(path) else "does not exist"
            raise UsageError(
                f"{readable(path)} {what}", hint="check the spelling of the path"
            ) from None
        except OSError as error:
            raise UsageError(
                f"{readable(path)} cannot be reached: {error.strerror or error}",
                hint="check its disk and the permissions of the folders above it",
            ) from error
        if not is_folder:
            raise UsageError(
                f"{readable(path)} is not a folder", hint="watch the folder that contains it"
            )
