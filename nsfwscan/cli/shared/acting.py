"""Actions on the command line: from options and the configuration to an actor, and how it asks."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsfwscan.actions.act import Actor
from nsfwscan.actions.limit import Limit
from nsfwscan.actions.quarantine.held import Quarantines
from nsfwscan.actions.rules import Rule, rule_of
from nsfwscan.cli.shared.ask import is_sure
from nsfwscan.cli.shared.paths import absolute
from nsfwscan.cli.shared.talk import Talk
from nsfwscan.judge import NO_RULINGS, RulingBook, Rulings
from nsfwscan.report.record import Recorder
from nsfwscan.system import locations
from nsfwscan.values.actions import ActTally
from nsfwscan.values.errors import NsfwscanError

if TYPE_CHECKING:
    from nsfwscan.cli.watch_lines import ChangeLines
    from nsfwscan.models.manifest import ModelManifest
    from nsfwscan.values.changes import Change
    from nsfwscan.values.results import ScanResult
    from nsfwscan.watch.owed import Owed
    from nsfwscan.watch.watcher import Watcher, WatchState


_LAST_ACTS_S = 5.0
"""How long a watcher that was told to stop goes on to act; then it leaves the rest to the next."""


@dataclass(frozen=True, slots=True)
class ActOptions:
    """What is to be done about pictures, and how far it may go."""

    rules: tuple[Rule, ...]
    limit_files: int
    limit_percent: float
    limit_least: int = 10
    limit_window_s: float | None = None
    dry_run: bool = False
    again: bool = False
    quarantine: str | None = None


def rules_of(actions: Iterable[str], configured: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Return the rules to follow, those of `--action` first. Raises `UsageError`."""
    return tuple(map(rule_of, actions)) + configured


def actor_for(options: ActOptions, manifest: ModelManifest, talk: Talk) -> Actor:
    """Return what follows rules with the results of a model. Raises `UsageError`."""
    quarantine = None if options.quarantine is None else absolute(options.quarantine)
    book = RulingBook(locations.rulings_file())
    return Actor(
        options.rules,
        record=Recorder(manifest).record,
        model=f"{manifest.package} {manifest.fingerprint[:12]}",
        quarantines=Quarantines(quarantine, talk.warn),
        say=talk.say,
        warn=talk.warn,
        rulings=lambda: _current(book, talk),
        dry_run=options.dry_run,
        again=options.again,
        limit=Limit(
            options.limit_files,
            options.limit_percent / 100,
            options.limit_least,
            options.limit_window_s,
        ),
    )


def _current(book: RulingBook, talk: Talk) -> Rulings:
    """Return what people decided until now; without it the words of quarantines alone count."""
    try:
        return book.current(talk.warn)
    except NsfwscanError as error:
        talk.warn(str(error))
        return NO_RULINGS


class ActingSink:
    """Stands between a watcher and its lines: passes changes on, and acts on them.

    Not before everything has been looked at and scanned once: until then nobody knows how many
    pictures there are, and what share of them would be moved.
    """

    def __init__(
        self,
        lines: ChangeLines,
        actor: Actor,
        confirm: Confirm,
        beat: Callable[[WatchState], None],
        owed: Owed | None,
    ) -> None:
        """`beat` is told every second or two how the watcher is, also while it acts.

        What is not done when the watcher ends stays in `owed`, for the next one. A dry run has
        none.
        """
        self._lines = lines
        self._actor = actor
        self._confirm = confirm
        self._beat = beat
        self._owed = owed
        self.tally = ActTally()
        self._waiting = False
        self._watcher: Watcher | None = None

    def watch(self, watcher: Watcher) -> None:
        """Take the watcher that is asked how many pictures there are."""
        self._watcher = watcher

    def change(self, change: Change) -> None:
        """Pass a change on, and remember it."""
        self._lines.change(change)
        if change.result is not None:
            self.again(change.result)

    def again(self, result: ScanResult) -> None:
        """Remember a picture, told of now or earlier, for the next acts."""
        self._actor.consider(result)
        self._waiting = True

    def batch_done(self) -> None:
        """Act on what came, once there was a first look at everything."""
        self._lines.batch_done()
        if self._waiting and self._owed is not None:
            self._owed.keep(self._actor.waiting)
        state = self._watcher.state() if self._watcher is not None and self._waiting else None
        if state is not None and state.complete:
            self._act(state)

    def beat(self, state: WatchState) -> None:
        """Pass the state on, and act on what came during the first look when that has ended."""
        self._beat(state)
        if self._waiting and state.complete:
            self._act(state)

    def finish(self) -> None:
        """Act on what is left, when the watcher ended by itself."""
        if self._waiting and self._watcher is not None:
            self._act(self._watcher.state())

    def _act(self, state: WatchState) -> None:
        self._waiting = False
        left = self._actor.waiting
        if self._owed is not None:
            self._owed.keep(left)
        stop_at = math.inf
        for act in self._actor.carry_out(self._confirm, among=state.pictures):
            self.tally.count(act)
            left[act.path] = left.get(act.path, 1) - 1
            if self._owed is not None and not left[act.path]:
                self._owed.done([act.path])
            self._lines.act(act)
            if self._watcher is not None:
                self._beat(self._watcher.state())
                if self._watcher.stopping:
                    stop_at = min(stop_at, time.monotonic() + _LAST_ACTS_S)
            if time.monotonic() > stop_at:
                return  # the rest is owed
        if self._owed is not None:
            self._owed.done(left)


@dataclass(slots=True)
class Confirm:
    """Answers for the user: with --yes, by asking, or with no where nobody can be asked."""

    talk: Talk
    yes: bool
    may_ask: bool
    """False when standard input is taken by something else."""
    way_on: str = "--yes skips the limit, --dry-run shows what would be moved"
    """What to tell somebody who cannot be asked."""

    def __call__(self, question: str) -> bool:
        """Return whether to go on. Raises `typer.Exit` with 130 at Ctrl-C."""
        if self.yes:
            return True
        if not (self.may_ask and sys.stdin.isatty()):
            self.talk.warn(f"{question} Nothing was done; {self.way_on}.")
            return False
        # A scan's own handler lets Ctrl-C end it gently; here it means no.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        sure = False
        try:
            sure = is_sure(f"{question} Go on?")
        finally:
            signal.signal(signal.SIGINT, before)
            if not sure:
                self.talk.say("Nothing was moved.")
        return sure
