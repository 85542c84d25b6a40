"""Runs a scan for the command line: shows progress, writes results, takes actions, ends."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, BinaryIO, Protocol

import typer

from nsfwscan.cli.shared import codes
from nsfwscan.cli.shared.options import OUTPUT_PANEL
from nsfwscan.cli.shared.path_list import PathList
from nsfwscan.cli.shared.stopping import SIGNALS, Stopping
from nsfwscan.cli.shared.streams import DataFile, unwritable
from nsfwscan.cli.shared.talk import STARTED, Counter, Talk, flagged
from nsfwscan.media.discover import count_files, join, root_problem
from nsfwscan.report.formats import Format, Reporter
from nsfwscan.report.selection import Only, default_only, wants
from nsfwscan.report.summary import Summary
from nsfwscan.scanning.scanner import Scanner
from nsfwscan.scanning.session import Session
from nsfwscan.system import interrupts
from nsfwscan.values.actions import Act, ActTally, Outcome
from nsfwscan.values.results import Decision, ScanResult, Skipped

_BAR_EVERY = 64
"""Results between two updates of the bar, so that a scan from the cache does not pay for it."""

_COUNT_S = 1.0
"""How long an interrupted scan may take to count the files that it did not reach."""
_MOST_NAMED = 20
"""Up to this many files named on the command line, each is listed, even if it is safe."""


def _defaults() -> str:
    """Return which results each format writes by default, as help says it."""
    formats: dict[tuple[Only, ...], list[str]] = {}
    for form in Format:
        formats.setdefault(default_only(form), []).append(f"`{form}`")
    return "; ".join(
        f"{_and(names)} {'has' if len(names) == 1 else 'have'} {_and([f'`{one}`' for one in only])}"
        for only, names in formats.items()
    )


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


OnlyThese = Annotated[
    list[Only] | None,
    typer.Option(
        "--only",
        metavar="WHICH",
        envvar="NSFWSCAN_ONLY",
        rich_help_panel=OUTPUT_PANEL,
        help="Only write these results: `flagged`, `review`, `partial` (only part of the file "
        "could be read), `failed` (no verdict) or `all`. May be given several times. Without it, "
        + _defaults()
        + ".",
    ),
]


def exit_code(summary: Summary, *, missing: int, exit_zero: bool) -> int:
    """Return the exit code of a scan."""
    reasons = {
        codes.INTERRUPTED: summary.interrupted,
        codes.WRONG_COMMAND: missing,
        codes.FAILED: summary.acts.of(Outcome.FAILED),
        codes.NOT_DONE: summary.acts.of(Outcome.HELD_BACK),
        codes.FLAGGED: summary.tally.nsfw and not exit_zero,
        codes.NO_VERDICT: summary.tally.failed and not exit_zero,
    }
    return codes.first(reasons)


def reachable(paths: Sequence[str], talk: Talk) -> list[str]:
    """Return the paths that can be scanned; report the others."""
    found = []
    for path in paths:
        problem = root_problem(path)
        if problem is None:
            found.append(path)
        else:
            talk.error(problem)
    return found


def _files_among(roots: Sequence[str]) -> frozenset[str]:
    """Return the roots that are files, spelled as in results; none if there are too many."""
    files = {join(*os.path.split(root)) for root in roots if not os.path.isdir(root)}
    return frozenset(files if len(files) <= _MOST_NAMED else ())


class _PlannedActs(Protocol):
    """`actions.runner.ActionRunner`, which scans without actions do not load."""

    def consider(self, result: ScanResult) -> None: ...

    def carry_out(
        self, confirm: Callable[[str], bool], *, among: int | None = None
    ) -> Generator[Act]: ...


@dataclass(frozen=True, slots=True)
class Acting:
    """The actor, and what asks the user if it would go over a limit."""

    actor: _PlannedActs
    confirm: Callable[[str], bool]


class Run:
    """One scan, from the first result to the summary."""

    def __init__(
        self,
        session: Session,
        scanner: Scanner,
        talk: Talk,
        reporter: Reporter,
        wanted: frozenset[Only],
        listed: PathList | None,
        acting: Acting | None = None,
        *,
        show_named: bool = False,
    ) -> None:
        """With `show_named`, files named on the command line are listed even if not `wanted`."""
        self._scanner = scanner
        self._session = session
        self._talk = talk
        self._reporter = reporter
        self._wanted = wanted
        self._listed = listed
        self._acting = acting
        self._acts = ActTally()
        self._show_named = show_named
        self._named: frozenset[str] = frozenset()
        self._stopping = Stopping(self._stop, self._scanner.abandon, quiet=talk.quiet)
        self._flagged_path = ""
        self._asking_s = 0.0
        """How long the user was asked, which does not count as scanning."""
        self._not_reached: int | None = None

    def go(self, roots: Sequence[str]) -> Summary:
        """Scan `roots`, and the paths in the list if there is one."""
        # Paths in a list cannot be counted in advance.
        countable = roots if self._listed is None else None
        self._named = _files_among(roots) if self._show_named else frozenset()
        results = self._scanner.scan(roots, self._listed or ())
        with interrupts.answered(self._stopping.handle, *SIGNALS):
            for result in self._watched(results, countable):
                if not isinstance(result, Skipped) and result.decision is Decision.NSFW:
                    self._flagged_path = result.path
                if self._acting is not None:
                    self._acting.actor.consider(result)
                if wants(self._wanted, result) or result.path in self._named:
                    self._reporter.add(result)
            if self._acting is not None:
                # An interrupted scan cannot tell whether the limits would be kept.
                if self._stopping.told:
                    self._talk.say("The scan was interrupted, so no action is taken.")
                else:
                    self._act(self._acting)
        summary = Summary(
            self._scanner.tally,
            self._session.manifest,
            self._session.policy,
            time.monotonic() - STARTED - self._asking_s,
            self._stopping.told,
            self._acts,
            self._not_reached,
            self._flagged_path if self._scanner.tally.nsfw == 1 else "",
        )
        self._reporter.end(summary)
        return summary

    def _act(self, acting: Acting) -> None:
        """Take the actions; Ctrl-C ends this after the current one."""
        among = self._scanner.tally.pictures

        def confirm(question: str) -> bool:
            self._reporter.show()  # the user needs to see the pictures to answer
            begun = time.monotonic()
            try:
                return acting.confirm(question)
            except KeyboardInterrupt:  # results and summary are still written
                self._stopping.told = True
                return False
            finally:
                self._asking_s += time.monotonic() - begun

        with contextlib.closing(acting.actor.carry_out(confirm, among=among)) as acts:
            for act in acts:
                self._acts.count(act)
                self._reporter.act(act)
                if self._stopping.told and act.outcome is not Outcome.HELD_BACK:
                    break

    def _watched(
        self, results: Generator[ScanResult], roots: Sequence[str] | None
    ) -> Iterator[ScanResult]:
        """Pass results on and show progress."""
        tally, begun = self._scanner.tally, time.monotonic()
        counter = Counter(lambda: count_files(roots or (), self._scanner.options.walk))
        with self._talk.bar("pictures") as bar, contextlib.closing(results):
            for number, result in enumerate(results, 1):
                yield result
                if number % _BAR_EVERY == 0 or tally.scored < _BAR_EVERY:
                    if roots is not None and bar.due:
                        counter.start()
                    rate = tally.pictures / (time.monotonic() - begun)
                    bar.show(number, counter.total, flagged(tally.nsfw, rate))
        if self._stopping.told and roots is not None:
            total = counter.wait(_COUNT_S)
            self._not_reached = None if total is None else max(0, total - tally.results)

    def _stop(self) -> None:
        self._scanner.stop()
        if self._listed is not None:
            self._listed.interrupt()


@contextlib.contextmanager
def destination(output: str) -> Iterator[BinaryIO]:
    """Yield the stream for results; a file gets its name only when it is complete."""
    if output == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    special = os.path.exists(output) and not os.path.isfile(output)
    target = os.path.realpath(output)  # a link stays a link
    part = output if special else f"{target}.{os.getpid()}.part"
    try:
        raw = DataFile(part, "w" if special else "x", output)
    except OSError as error:
        raise unwritable(output, error) from error
    if special:  # a pipe or a device must not be replaced by a file
        with io.BufferedWriter(raw) as stream:
            yield stream
        return
    try:
        with io.BufferedWriter(raw) as stream:
            yield stream
        try:
            os.replace(part, target)
        except OSError as error:
            raise unwritable(output, error) from error
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
