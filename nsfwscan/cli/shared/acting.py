"""Actions on the command line: makes an actor from options and rules, and asks for consent."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsfwscan.actions.limit import Limit
from nsfwscan.actions.quarantine.held import Quarantines
from nsfwscan.actions.rules import Rule, rule_of
from nsfwscan.actions.runner import ActionRunner
from nsfwscan.cli.shared.ask import is_sure
from nsfwscan.cli.shared.lazy import is_command
from nsfwscan.cli.shared.paths import absolute
from nsfwscan.cli.shared.talk import Talk
from nsfwscan.judge import NO_RULINGS, RulingBook, Rulings
from nsfwscan.report.record import Recorder
from nsfwscan.service.spec import program
from nsfwscan.system import interrupts, locations
from nsfwscan.values.errors import NsfwscanError

if TYPE_CHECKING:
    from nsfwscan.models.manifest import ModelManifest


@dataclass(frozen=True, slots=True)
class ActOptions:
    """The actions to take on pictures, and their limits."""

    rules: tuple[Rule, ...]
    limit_files: int
    limit_percent: float
    limit_least: int = 10
    limit_window_s: float | None = None
    dry_run: bool = False
    again: bool = False
    quarantine: str | None = None


def rules_of(actions: Iterable[str], configured: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Return all rules, those of `--action` first. Raises `UsageError`."""
    return tuple(map(rule_of, actions)) + configured


def actor_for(options: ActOptions, manifest: ModelManifest, talk: Talk) -> ActionRunner:
    """Return an actor that applies rules to results of a model. Raises `UsageError`."""
    quarantine = None if options.quarantine is None else absolute(options.quarantine)
    book = RulingBook(locations.rulings_file())
    return ActionRunner(
        options.rules,
        record=Recorder(manifest).record,
        model=f"{manifest.package} {manifest.fingerprint[:12]}",
        quarantines=Quarantines(quarantine, talk.warn),
        tells=talk,
        rulings=lambda: _current(book, talk),
        dry_run=options.dry_run,
        again=options.again,
        limit=Limit(
            options.limit_files,
            options.limit_percent / 100,
            options.limit_least,
            options.limit_window_s,
        ),
        look=(*program(), "review") if is_command("review") else (),
    )


def _current(book: RulingBook, talk: Talk) -> Rulings:
    """Return the rulings in force. If they cannot be read, warn and return none."""
    try:
        return book.current(talk.warn)
    except NsfwscanError as error:
        talk.warn(str(error))
        return NO_RULINGS


@dataclass(slots=True)
class Confirm:
    """Gets the user's consent: from --yes or a question. Without a terminal, the answer is no."""

    talk: Talk
    yes: bool
    may_ask: bool
    """False if standard input is used for something else."""
    way_on: str = "--yes lifts the limit, --dry-run shows what would be done"
    """The next step to print if the user cannot be asked."""

    def __call__(self, question: str) -> bool:
        """Return True to continue. Raises `KeyboardInterrupt`."""
        if self.yes:
            return True
        if not (self.may_ask and sys.stdin.isatty()):
            self.talk.warn(f"{question} Nothing was done; {self.way_on}.")
            return False
        # During a scan, Ctrl-C ends it gently; here it means no.
        sure = False
        try:
            with interrupts.answered(interrupts.interrupt, "SIGINT"):
                sure = is_sure(f"{question} Continue?")
        except KeyboardInterrupt:
            print(file=sys.stderr)  # the terminal shows ^C after the question
            raise
        finally:
            if not sure:
                self.talk.say("Nothing was moved.")
        return sure
