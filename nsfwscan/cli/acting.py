"""Actions on the command line: from options and the configuration to an actor, and how it asks."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass

import typer

from nsfwscan.actions.act import Actor, Limit
from nsfwscan.actions.quarantine import Quarantines
from nsfwscan.actions.rules import Rule, rule_of
from nsfwscan.cli.talk import Talk
from nsfwscan.report.record import Recorder
from nsfwscan.session import Session


@dataclass(frozen=True, slots=True)
class ActOptions:
    """What the command line says about actions."""

    actions: tuple[str, ...] = ()
    """As `--action` takes them: `NAME` or `NAME=VALUE`."""
    dry_run: bool = False
    yes: bool = False
    again: bool = False
    limit_files: int = 200
    limit_percent: float = 5.0
    quarantine: str | None = None


def rules_of(options: ActOptions, configured: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Return the rules to follow, those of the command line first. Raises `UsageError`."""
    return tuple(map(rule_of, options.actions)) + configured


def actor_for(options: ActOptions, rules: tuple[Rule, ...], session: Session, talk: Talk) -> Actor:
    """Return what follows `rules` with the results of a session."""
    manifest = session.manifest
    return Actor(
        rules,
        record=Recorder(manifest).record,
        model=f"{manifest.package} {manifest.fingerprint[:12]}",
        quarantines=Quarantines(options.quarantine, talk.warn),
        say=talk.say,
        warn=talk.warn,
        dry_run=options.dry_run,
        again=options.again,
        limit=Limit(options.limit_files, options.limit_percent / 100),
    )


@dataclass(slots=True)
class Confirm:
    """Answers for the user: with --yes, by asking, or with no where nobody can be asked."""

    talk: Talk
    yes: bool
    may_ask: bool
    """False when standard input is taken by something else."""

    def __call__(self, question: str) -> bool:
        """Return whether to go on. Raises `typer.Exit` with 130 at Ctrl-C."""
        if self.yes:
            return True
        if not (self.may_ask and sys.stdin.isatty()):
            self.talk.warn(f"{question} Nothing was done; --yes goes on, --dry-run shows what.")
            return False
        # A scan's own handler lets Ctrl-C end it gently; here it means no.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            sure = typer.confirm(f"{question} Go on?", err=True)
        except typer.Abort:
            raise typer.Exit(130) from None
        finally:
            signal.signal(signal.SIGINT, before)
        if not sure:
            self.talk.say("Nothing was done.")
        return sure
