"""The table for people. One of the modules that may import rich."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TextIO, assert_never

from nsfwscan.report.layout import TableLine, print_lines
from nsfwscan.report.record import MODEL
from nsfwscan.values.actions import Act, ActionName, Outcome
from nsfwscan.values.results import Decision, Failed, Scanned, ScanResult, Skipped, Verdict
from nsfwscan.values.text import count, readable

if TYPE_CHECKING:
    from rich.console import Console

    from nsfwscan.report.summary import Summary

_MOST_FAILED = _MOST_ACTS = 20
"""A broken disk fails for thousands of files: the table names the first and counts the rest."""
_STYLES = {Decision.NSFW: "bold red", Decision.REVIEW: "yellow", Decision.SAFE: "green"}
_PIPE_WIDTH = 100_000
"""Width to assume if the output is not a terminal, so that no path is cut or folded."""


class _Row(NamedTuple):
    """A picture with a decision, by the model or a person."""

    decision: Decision
    score: float | None
    by: str
    path: str
    remark: str = ""


class TableReporter:
    """Collects results and writes them as one table, highest scores first."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decided: list[_Row] = []
        self._others: list[Failed | Skipped] = []
        self._more = 0
        """Number of failures that are not shown: a list may name millions of missing paths."""
        self._acts: list[Act] = []

    def add(self, result: ScanResult) -> None:
        """Keep one result for the table."""
        match result:
            case Scanned():
                verdict = result.verdict
                self._decided.append(
                    _Row(
                        verdict.decision,
                        verdict.score,
                        _decided_by(verdict),
                        str(result.place),
                        f"partial: {result.facts.missing}" if result.is_partial else "",
                    )
                )
            case Failed() if result.decision is not None:
                by = f"a person (no score: {result.reason})"
                self._decided.append(_Row(result.decision, None, by, str(result.place)))
            case Failed() | Skipped() if len(self._others) < _MOST_FAILED:
                self._others.append(result)
            case Failed() | Skipped():
                self._more += 1
            case _:
                assert_never(result)

    def act(self, act: Act) -> None:
        """Keep an act unless it was simply done; those are only counted."""
        quiet = act.outcome is Outcome.HELD_BACK or act.action is ActionName.NOTIFY
        if not quiet and (act.outcome is not Outcome.DONE or act.detail):
            self._acts.append(act)

    def show(self) -> None:
        """Write the tables so far; `end` writes what comes later."""
        self._write()
        self._stream.flush()
        self._decided, self._others, self._acts = [], [], []
        self._more = 0

    def end(self, _summary: Summary, /) -> None:
        """Write the tables, if there is anything to show."""
        self._write()

    def _write(self) -> None:
        if not self._decided and not self._others and not self._acts:
            return
        if not self._stream.isatty():
            plain = io.StringIO()
            self._print(plain, _PIPE_WIDTH)
            # rich pads all lines with spaces.
            lines = (line.rstrip() for line in plain.getvalue().split("\n"))
            self._stream.write("\n".join(lines).encode())
            return
        text = io.TextIOWrapper(self._stream, encoding="utf-8", write_through=True)
        try:
            self._print(text, None)
        finally:
            text.detach()

    def _print(self, text: TextIO, width: int | None) -> None:
        from rich.console import Console  # takes 60 ms, which a scan without findings saves

        console = Console(file=text, width=width, highlight=False)
        for number, part in enumerate(filter(None, (self._decided, self._others, self._acts))):
            if number:
                console.print()
            if part is self._decided:
                self._print_decided(console)
            elif part is self._others:
                self._print_others(console)
            else:
                self._print_acts(console)

    def _print_decided(self, console: Console) -> None:
        # The column is only needed if a person decided something.
        ruled = any(one.by != MODEL for one in self._decided)
        remarked = any(one.remark for one in self._decided)
        lines = []
        for one in sorted(self._decided, key=_by_score):
            by, path, remark = map(readable, (one.by, one.path, one.remark))
            lines.append(
                TableLine(
                    (one.decision, "-" if one.score is None else cut(one.score)),
                    (*([by] if ruled else []), path, *([remark] if remarked else [])),
                    (path, "" if by == MODEL else f"decided by {by}", remark),
                    _STYLES[one.decision],
                )
            )
        texts = [*(["decided by"] if ruled else []), "picture", *(["remark"] if remarked else [])]
        print_lines(console, ("decision", "score"), texts, "picture", lines)

    def _print_others(self, console: Console) -> None:
        lines = []
        for one in self._others:
            texts = readable(str(one.place)), readable(one.detail)
            lines.append(TableLine((one.reason.value,), texts, texts))
        print_lines(console, ("no verdict",), ("file", "why"), "file", lines)
        if self._more:
            more = count(self._more, "more file")
            console.print(f"and {more}: --only failed --format jsonl names all")

    def _print_acts(self, console: Console) -> None:
        dry = self._acts[0].outcome is Outcome.WOULD
        shown = self._acts if dry else self._acts[:_MOST_ACTS]
        remarked = any(one.detail for one in shown)
        lines = []
        for one in shown:
            texts = [readable(one.path), *([readable(one.detail)] if remarked else [])]
            lines.append(TableLine((one.action, one.outcome), texts, texts))
        headings = ["picture", *(["remark"] if remarked else [])]
        print_lines(console, ("action", "outcome"), headings, "picture", lines)
        more = len(self._acts) - len(shown)
        if more:
            console.print(f"and {count(more, 'more act')}: --format jsonl names all")


def _decided_by(verdict: Verdict) -> str:
    if verdict.ruling is None:
        return MODEL
    if verdict.near is None:
        return "a person"
    return (
        f"a person, for a similar picture ({verdict.near.path or verdict.near.sha256.hex()[:12]})"
    )


def _by_score(row: _Row) -> tuple[float, str]:
    return -2.0 if row.score is None else -row.score, row.path


def cut(score: float) -> str:
    """Return three decimals, cut and not rounded: 0.7999 is below 0.8 and must not look like it."""
    return f"{score:.9f}"[:-6]
