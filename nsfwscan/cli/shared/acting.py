"""Actions on the command line: from options and the configuration to an actor, and how it asks."""

from __future__ import annotations

import sys
from collections.abc import Iterable
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
from nsfwscan.system import interrupts, locations
from nsfwscan.values.errors import NsfwscanError

if TYPE_CHECKING:
    from nsfwscan.models.manifest import ModelManifest


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
        """Return whether to go on. Raises `KeyboardInterrupt`."""
        if self.yes:
            return True
        if not (self.may_ask and sys.stdin.isatty()):
            self.talk.warn(f"{question} Nothing was done; {self.way_on}.")
            return False
        # A scan's own handler lets Ctrl-C end it gently; here it means no.
        sure = False
        try:
            with interrupts.answered(interrupts.interrupt, "SIGINT"):
                sure = is_sure(f"{question} Go on?")
        except KeyboardInterrupt:
            print(file=sys.stderr)  # the terminal has written ^C behind the question
            raise
        finally:
            if not sure:
                self.talk.say("Nothing was moved.")
        return sure
