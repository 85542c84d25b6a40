"""The actor: collects results, and does what the rules say once the whole run is known.

In: results, one by one. Out: acts. Nothing is done about a picture while it is scanned, because
whether a run goes too far, a wrong threshold or a model gone wrong, shows only at its end. A
picture without a score leads to nothing, whatever the rules say: only `Scanned` has a decision.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, assert_never

from nsfwscan.actions import command, notify, tag, trash
from nsfwscan.actions.copy import Copier
from nsfwscan.actions.ledger import Reason
from nsfwscan.actions.rules import MOVING, Rule, TagKind, for_picture
from nsfwscan.actions.scored_file import ScoredFile, Unwilling
from nsfwscan.actions.vault import BATCH, Moved, Vault, Wanted
from nsfwscan.acts import Act, ActionName, Outcome
from nsfwscan.errors import NsfwscanError
from nsfwscan.results import Ruling, Scanned, ScanResult

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from nsfwscan.actions.quarantine import Quarantines
    from nsfwscan.journal import Json


@dataclass(frozen=True, slots=True)
class Limit:
    """How many pictures may be moved before a person is asked; either number alone stops."""

    files: int = 200
    share: float = 0.05
    """Of the pictures that the run has a verdict for, 0 to 1."""
    least: int = 0
    """So many may be moved whatever share they are: a watcher of 15 pictures has nobody to ask."""
    window_s: float | None = None
    """None: the limit is for one run. Seconds: for all that was moved in the last so many."""


class _Target(NamedTuple):
    """A picture about which something is to be done."""

    result: Scanned
    path: str
    """Absolute, with links in its folders followed."""
    rules: list[Rule]


class Actor:
    """Carries out rules. `consider` any number of results, then `carry_out`; again and again."""

    def __init__(
        self,
        rules: Sequence[Rule],
        *,
        record: Callable[[ScanResult], Mapping[str, Json]],
        model: str,
        quarantines: Quarantines,
        say: Callable[[str], None],
        warn: Callable[[str], None],
        dry_run: bool = False,
        again: bool = False,
        limit: Limit | None = None,
    ) -> None:
        """`record` makes what a command gets; `model` names the model for journals and sidecars.

        With `again` pictures that somebody restored from quarantine are moved again.
        """
        self._rules = tuple(rules)
        self._record = record
        self._model = model
        self._quarantines = quarantines
        self._say = say
        self._warn = warn
        self._dry_run = dry_run
        self._again = again
        self._limit = limit or Limit()
        self._targets: list[_Target] = []
        self._considered = 0
        self._real: dict[str, str] = {}
        self._copier = Copier()
        self._moved: deque[tuple[float, int]] | None = None
        """When how many pictures were moved, for a limit with a window."""

    def consider(self, result: ScanResult) -> None:
        """Remember what is to be done about a result, if anything. Touches no file."""
        if not isinstance(result, Scanned):
            return
        self._considered += 1
        verdict = result.verdict
        if not math.isfinite(verdict.score) or not 0 <= verdict.score <= 1:
            self._warn(f"{result.path}: its score is {verdict.score}; nothing is done about it")
            return
        if not any(verdict.decision in rule.decisions for rule in self._rules):
            return
        path = self._realpath(result.path)
        rules = for_picture(self._rules, path, verdict.decision)
        if rules:
            self._targets.append(_Target(result, path, rules))

    def carry_out(
        self, confirm: Callable[[str], bool], *, among: int | None = None
    ) -> Generator[Act]:
        """Do what was collected, and yield an act for each deed, done or not.

        `among` is the number of pictures with a verdict, for the limit's share; without it those
        that were considered. Over the limit nothing at all is done unless `confirm`, which gets
        the question, says yes. Stop iterating to stop acting: what is yielded is finished.
        """
        targets, self._targets = self._targets, []
        considered, self._considered = self._considered, 0
        moving = sum(any(rule.action in MOVING for rule in one.rules) for one in targets)
        runs = any(rule.action is ActionName.COMMAND for one in targets for rule in one.rules)
        what = "move, or run a command on," if runs else "move"
        question = self._question(what, moving, considered if among is None else among)
        if question and self._dry_run:
            self._say(f"{question} A run that is not dry stops here and asks.")
        elif question and not confirm(question):
            for one in targets:
                for rule in one.rules:
                    yield Act(one.result.path, rule.action, Outcome.HELD_BACK, None, question)
            return
        if self._dry_run:
            for one in targets:
                for rule in one.rules:
                    yield Act(one.result.path, rule.action, Outcome.WOULD, rule.to or None)
            return
        self._remember(moving)
        yield from self._notify(targets)
        for one in targets:
            yield from self._on_the_spot(one)
        away = [one for one in targets if one.rules[-1].action is ActionName.QUARANTINE]
        yield from self._quarantine(away)

    # The limit

    def _question(self, what: str, moving: int, among: int) -> str:
        """Return what to ask before so many are moved; empty when it is within the limit."""
        limit = self._limit
        before = 0
        if limit.window_s is not None:
            since = time.time() - limit.window_s
            before = sum(number for at, number in self._history(limit.window_s) if at >= since)
        total = before + moving
        share_is_fine = total <= limit.share * among or total <= limit.least
        if not moving or (total <= limit.files and share_is_fine):
            return ""
        share = f" ({total / among:.1%})" if among else ""
        when = "" if limit.window_s is None else f" within {limit.window_s / 3600:g} hours"
        return (
            f"This would {what} {total:,} of {among:,} pictures{share}{when}. "
            f"The limit is {limit.files:,} or {limit.share * 100:g} % of them."
        )

    def _history(self, window_s: float) -> deque[tuple[float, int]]:
        """Return what was moved lately; after a restart the journals tell."""
        if self._moved is None:
            self._moved = deque()
            for vault in self._quarantines.existing():
                entries = vault.peek().entries.values()
                self._moved.extend((one.at, 1) for one in entries)
        since = time.time() - window_s
        kept = ((at, number) for at, number in self._moved if at >= since)
        self._moved = deque(kept)
        return self._moved

    def _remember(self, moving: int) -> None:
        if self._moved is not None and moving:
            self._moved.append((time.time(), moving))

    # The deeds

    def _notify(self, targets: Sequence[_Target]) -> Iterator[Act]:
        noted = [
            one for one in targets if any(rule.action is ActionName.NOTIFY for rule in one.rules)
        ]
        if not noted:
            return
        number = len(noted)
        text = "1 picture was flagged." if number == 1 else f"{number:,} pictures were flagged."
        outcome, detail = notify.show("nsfwscan", text)
        if outcome is Outcome.LEFT:
            self._say(f"No notification: {detail}.")
        for one in noted:
            yield Act(one.result.path, ActionName.NOTIFY, outcome, None, detail)

    def _on_the_spot(self, one: _Target) -> Iterator[Act]:
        """Follow the rules that take one picture at a time, each with the very file in hand."""
        later = {ActionName.NOTIFY, ActionName.QUARANTINE}
        rules = [rule for rule in one.rules if rule.action not in later]
        if not rules:
            return
        with ExitStack() as stack:
            opened = self._opened(one)
            if isinstance(opened, Moved):
                for rule in rules:
                    yield Act(one.result.path, rule.action, opened.outcome, None, opened.detail)
                return
            stack.enter_context(opened)
            for rule in rules:
                try:
                    opened.check()
                    moved = self._do(rule, one, opened)
                except (Unwilling, OSError) as error:
                    moved = _why_not(error)
                yield Act(one.result.path, rule.action, moved.outcome, moved.target, moved.detail)

    def _do(self, rule: Rule, one: _Target, picture: ScoredFile) -> Moved:
        match rule.action:
            case ActionName.COPY:
                return Moved(*self._copier.copy(picture, rule.to))
            case ActionName.TAG:
                reason = self._reason(one.result)
                match rule.tag:
                    case TagKind.SIDECAR:
                        return Moved(*tag.write_sidecar(picture, reason))
                    case TagKind.XATTR:
                        return Moved(*tag.set_attributes(picture, reason))
                    case _:
                        assert_never(rule.tag)
            case ActionName.COMMAND:
                outcome, detail = command.run(
                    rule.command, picture.path, self._record(one.result), rule.time_limit_s
                )
                return Moved(outcome, None, detail)
            case ActionName.TRASH:
                outcome, detail = trash.put_in_trash(picture)
                return Moved(outcome, None, detail)
            case ActionName.QUARANTINE | ActionName.NOTIFY:
                raise AssertionError("these take many pictures at a time")
            case _:
                assert_never(rule.action)

    def _quarantine(self, targets: Sequence[_Target]) -> Iterator[Act]:
        by_vault: dict[str, tuple[Vault, list[_Target]]] = {}
        for one in targets:
            try:
                vault = self._quarantines.for_picture(one.path)
            except NsfwscanError as error:
                yield self._act(one, Moved(Outcome.FAILED, None, str(error)))
            else:
                by_vault.setdefault(vault.folder, (vault, []))[1].append(one)
        for vault, mine in by_vault.values():
            for start in range(0, len(mine), BATCH):
                yield from self._move(vault, mine[start : start + BATCH])

    def _move(self, vault: Vault, targets: Sequence[_Target]) -> list[Act]:
        acts: list[Act] = []
        with ExitStack() as stack:
            wanted, ready = [], []
            for one in targets:
                opened = self._opened(one)
                if isinstance(opened, Moved):
                    acts.append(self._act(one, opened))
                else:
                    stack.enter_context(opened)
                    # Who denies a picture after having restored it has changed their mind.
                    again = self._again or one.result.verdict.ruling is Ruling.DENIED
                    wanted.append(Wanted(opened, self._reason(one.result), again))
                    ready.append(one)
            if not wanted:
                return acts
            try:
                results = vault.take(wanted)
            except NsfwscanError as error:
                self._warn(str(error))
                results = [Moved(Outcome.FAILED, None, str(error))] * len(wanted)
            acts += [self._act(one, moved) for one, moved in zip(ready, results, strict=True)]
        return acts

    def _act(self, one: _Target, moved: Moved) -> Act:
        return Act(
            one.result.path, ActionName.QUARANTINE, moved.outcome, moved.target, moved.detail
        )

    def _opened(self, one: _Target) -> ScoredFile | Moved:
        """Open the very file that was scored, or say why not."""
        try:
            return ScoredFile(one.path, one.result.sha256)
        except (Unwilling, OSError) as error:
            return _why_not(error)

    def _reason(self, result: Scanned) -> Reason:
        return Reason(result.verdict.decision.value, result.verdict.score, self._model)

    def _realpath(self, path: str) -> str:
        folder, name = os.path.split(path)
        real = self._real.get(folder)
        if real is None:
            real = self._real[folder] = os.path.realpath(folder or ".")
        return os.path.join(real, name)


def _why_not(error: Unwilling | OSError) -> Moved:
    if isinstance(error, Unwilling):
        return Moved(Outcome.LEFT, None, str(error))
    if isinstance(error, FileNotFoundError):
        return Moved(Outcome.LEFT, None, "it is gone")
    return Moved(Outcome.FAILED, None, error.strerror or str(error))
