"""The actor collects results and applies the rules once the whole run is known.

In: results, one by one. Out: acts. No action is taken during the scan, because only its end shows
whether the run goes too far (a wrong threshold, a broken model). A picture without a score is never
acted on, whatever the rules say: only `Scanned` has a decision.
"""

from __future__ import annotations

import math
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple, Protocol, assert_never

from nsfwscan.actions import command, notify, tag, trash
from nsfwscan.actions.copy import Copier
from nsfwscan.actions.limit import Budget, Limit
from nsfwscan.actions.quarantine.entries import Reason
from nsfwscan.actions.quarantine.intake import BATCH, Arrival, take_in
from nsfwscan.actions.quarantine.preview import Preview, why_not
from nsfwscan.actions.quarantine.vault import Moved, Vault
from nsfwscan.actions.rules import MOVING, Rule, TagKind, for_picture
from nsfwscan.actions.verified_file import Refused, VerifiedFile
from nsfwscan.judge import NO_RULINGS
from nsfwscan.values.actions import Act, ActionName, Outcome
from nsfwscan.values.errors import NsfwscanError
from nsfwscan.values.results import Scanned, ScanResult

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from nsfwscan.actions.quarantine.held import Quarantines
    from nsfwscan.judge import Rulings
    from nsfwscan.system.json_lines import Json


_TOO_MANY = "the whole run was over the limit"


class _Target(NamedTuple):
    """A picture to act on."""

    result: Scanned
    path: str
    """Absolute, with links in its folders resolved."""
    rules: list[Rule]


class Tells(Protocol):
    """What the user is told by."""

    def say(self, sentence: str) -> None:
        """Print a remark."""

    def warn(self, sentence: str) -> None:
        """Print a warning."""


class ActionRunner:
    """Applies rules: `consider` any number of results, then `carry_out`. May be repeated."""

    def __init__(
        self,
        rules: Sequence[Rule],
        *,
        record: Callable[[ScanResult], Mapping[str, Json]],
        model: str,
        quarantines: Quarantines,
        tells: Tells,
        rulings: Callable[[], Rulings] = lambda: NO_RULINGS,
        dry_run: bool = False,
        again: bool = False,
        limit: Limit | None = None,
        look: Sequence[str] = (),
    ) -> None:
        """`record` makes what a command gets; `model` names the model for journals and sidecars.

        `rulings` returns the current rulings: the latest decision about a content counts. With
        `again`, pictures that were restored from quarantine are moved again. `look` is the command
        by which users look at flagged pictures, for those who click on a notification.
        """
        self._rules = tuple(rules)
        self._record = record
        self._model = model
        self._quarantines = quarantines
        self._say, self._warn = tells.say, tells.warn
        self._rulings = rulings
        self._warned: set[str] = set()
        self._dry_run = dry_run
        self._again = again
        self._look = look
        self._budget = Budget(limit or Limit(), quarantines, tells.warn)
        self._targets: dict[str, _Target] = {}
        self._considered = 0
        self._real: dict[str, str] = {}
        self._copier = Copier()

    def consider(self, result: ScanResult) -> None:
        """Note which rules apply to a result. Touches no file."""
        if not isinstance(result, Scanned):
            return
        self._considered += 1
        verdict = result.verdict
        if not math.isfinite(verdict.score) or not 0 <= verdict.score <= 1:
            self._warn(f"{result.path}: its score is {verdict.score}; no action is taken")
            return
        if not any(verdict.decision in rule.decisions for rule in self._rules):
            return
        path = self._realpath(result.path)
        rules = for_picture(self._rules, path, verdict.decision)
        if rules:
            self._targets[path] = _Target(result, path, rules)  # the latest result counts

    @property
    def waiting(self) -> dict[str, int]:
        """How many acts wait for `carry_out`, by the picture's path as the scan reported it."""
        return {one.result.path: len(one.rules) for one in self._targets.values()}

    def carry_out(
        self, confirm: Callable[[str], bool], *, among: int | None = None
    ) -> Generator[Act]:
        """Take the collected actions, and yield an act for each, whether it was done or not.

        `among` is the number of pictures with a verdict, for the limit's share; by default, those
        considered. Over the limit nothing at all is done unless `confirm(question)` returns True.
        Stop iterating to stop acting: an act that was yielded is finished.
        """
        targets, self._targets = list(self._targets.values()), {}
        self._real.clear()  # links may change before the next results come
        considered, self._considered = self._considered, 0
        preview = Preview(self._quarantines, self._rulings(), self._warn_once, again=self._again)
        question = self._question(targets, considered if among is None else among, preview)
        if question and self._dry_run:
            self._say(f"{question} Without --dry-run, nsfwscan would ask first.")
        elif question and not confirm(question):
            for one in targets:
                for rule in one.rules:
                    yield Act(one.result.path, rule.action, Outcome.HELD_BACK, None, _TOO_MANY)
            return
        if self._dry_run:
            for one in targets:
                ends = preview.outcomes(one.path, one.result, one.rules)
                for rule, end in zip(one.rules, ends, strict=True):
                    yield Act(one.result.path, rule.action, end.outcome, end.target, end.detail)
            return
        moved: set[str] = set()
        for act in self._deeds(targets, preview):
            if act.outcome is Outcome.DONE and act.action in MOVING and act.path not in moved:
                moved.add(act.path)
                self._budget.note(1)
            yield act

    def _question(self, targets: Sequence[_Target], among: int, preview: Preview) -> str:
        """Return the question to ask first; empty if all this is within the limit."""
        moving = [one for one in targets if any(rule.action in MOVING for rule in one.rules)]
        runs = any(rule.action is ActionName.COMMAND for one in moving for rule in one.rules)
        what = "move, or run a command on," if runs else "move"
        if not self._budget.question(what, len(moving), among):
            return ""
        # Only now, because it reads the journals.
        number = sum(1 for one in moving if not _stays(one, preview))
        return self._budget.question(what, number, among)

    # Taking actions

    def _deeds(self, targets: Sequence[_Target], preview: Preview) -> Iterator[Act]:
        yield from self._notify(targets)
        for one in targets:
            yield from self._on_the_spot(one)
        away = [one for one in targets if one.rules[-1].action is ActionName.QUARANTINE]
        yield from self._quarantine(away, preview)

    def _notify(self, targets: Sequence[_Target]) -> Iterator[Act]:
        noted = [
            one for one in targets if any(rule.action is ActionName.NOTIFY for rule in one.rules)
        ]
        if not noted:
            return
        number = len(noted)
        text = "1 picture was flagged." if number == 1 else f"{number:,} pictures were flagged."
        if self._look:
            text += " Look at them: nsfwscan review"
        outcome, detail = notify.show("nsfwscan", text, look=self._look)
        if outcome is Outcome.LEFT:
            self._say(f"No notification: {detail}.")
        for one in noted:
            yield Act(one.result.path, ActionName.NOTIFY, outcome, None, detail)

    def _on_the_spot(self, one: _Target) -> Iterator[Act]:
        """Apply the rules that take one picture at a time, with that file open."""
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
                except Refused as error:
                    moved = why_not(error)
                except OSError as error:  # about the target: `check` found the picture
                    moved = Moved(Outcome.FAILED, None, error.strerror or str(error))
                yield Act(one.result.path, rule.action, moved.outcome, moved.target, moved.detail)

    def _do(self, rule: Rule, one: _Target, picture: VerifiedFile) -> Moved:
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
                if outcome is Outcome.DONE:
                    detail = tag.remove_sidecar(picture.path)
                return Moved(outcome, None, detail)
            case ActionName.QUARANTINE | ActionName.NOTIFY:
                raise AssertionError("these take many pictures at a time")
            case _:
                assert_never(rule.action)

    def _quarantine(self, targets: Sequence[_Target], preview: Preview) -> Iterator[Act]:
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
                yield from self._move(vault, mine[start : start + BATCH], preview)

    def _move(self, vault: Vault, targets: Sequence[_Target], preview: Preview) -> list[Act]:
        acts: list[Act] = []
        with ExitStack() as stack:
            wanted, ready = [], []
            for one in targets:
                opened = self._opened(one)
                if isinstance(opened, Moved):
                    acts.append(self._act(one, opened))
                else:
                    stack.enter_context(opened)
                    words = preview.words(one.result, besides=vault)
                    reason = self._reason(one.result)
                    wanted.append(Arrival(opened, reason, preview.again, words))
                    ready.append(one)
            if not wanted:
                return acts
            try:
                results = take_in(vault, wanted)
            except NsfwscanError as error:
                self._warn(str(error))
                results = [Moved(Outcome.FAILED, None, str(error))] * len(wanted)
            acts += [self._act(one, moved) for one, moved in zip(ready, results, strict=True)]
        return acts

    def _act(self, one: _Target, moved: Moved) -> Act:
        details = [moved.detail]
        if moved.outcome is Outcome.DONE:
            details.append(tag.remove_sidecar(one.path))
        detail = "; ".join(filter(None, details))
        return Act(one.result.path, ActionName.QUARANTINE, moved.outcome, moved.target, detail)

    def _opened(self, one: _Target) -> VerifiedFile | Moved:
        """Open the file if it is the one that was scored; otherwise return why not."""
        folder, name = os.path.split(one.result.path)
        if os.path.join(os.path.realpath(folder or "."), name) != one.path:
            return Moved(Outcome.LEFT, None, "a link in its path now leads elsewhere")
        try:
            if self._quarantines.holds(one.path):
                return Moved(Outcome.LEFT, None, "it is already in quarantine")
            return VerifiedFile(one.path, one.result.sha256)
        except (Refused, OSError) as error:
            return why_not(error)

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self._warned:  # a watcher acts again and again
            self._warned.add(sentence)
            self._warn(sentence)

    def _reason(self, result: Scanned) -> Reason:
        verdict = result.verdict
        return Reason(verdict.decision.value, verdict.score, self._model, self._budget.who)

    def _realpath(self, path: str) -> str:
        folder, name = os.path.split(path)
        real = self._real.get(folder)
        if real is None:
            real = self._real[folder] = os.path.realpath(folder or ".")
        return os.path.join(real, name)


def _stays(one: _Target, preview: Preview) -> bool:
    """Return True if a picture would stay although a rule would quarantine it."""
    others = (rule.action in MOVING for rule in one.rules[:-1])
    last = one.rules[-1].action is ActionName.QUARANTINE
    return last and not any(others) and preview.hindrance(one.path, one.result) is not None
