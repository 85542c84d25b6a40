"""`nsfwscan show`: everything nsfwscan knows about a few pictures."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from nsfwscan.cli.shared import codes
from nsfwscan.cli.shared.flags import ModelFlags, SpeedFlags, settings
from nsfwscan.cli.shared.groups import grouped
from nsfwscan.cli.shared.options import OUTPUT_PANEL, Quiet, ShownAs, TableFormat
from nsfwscan.cli.shared.paths import absolute
from nsfwscan.cli.shared.shell_words import quoted
from nsfwscan.cli.shared.tables import print_json, print_table
from nsfwscan.cli.shared.talk import Talk
from nsfwscan.media.discover import root_problem
from nsfwscan.report.details import Details
from nsfwscan.report.record import Recorder
from nsfwscan.scanning.scanner import ScanOptions
from nsfwscan.scanning.session import Session, open_session
from nsfwscan.values import likeness
from nsfwscan.values.errors import CacheError, DecodeError, UsageError
from nsfwscan.values.facts import LIKENESS
from nsfwscan.values.results import Decision, Failed, FailReason, Scanned, ScanResult, Skipped
from nsfwscan.values.text import readable

if TYPE_CHECKING:
    from nsfwscan.judge import Rulings
    from nsfwscan.media.decode.thumbnail import Thumbnail, ThumbnailForm


@dataclass(frozen=True, slots=True)
class ShowFlags:
    """What to show, and how."""

    output_format: ShownAs = TableFormat.TABLE
    picture: Annotated[
        bool,
        typer.Option(
            "--picture",
            "-p",
            rich_help_panel=OUTPUT_PANEL,
            help="Also draw a thumbnail in the terminal, pixelated to at most 12 x 12 pixels.",
        ),
    ] = False
    clear: Annotated[
        bool,
        typer.Option(
            "--clear", rich_help_panel=OUTPUT_PANEL, help="Draw the thumbnail in full detail."
        ),
    ] = False
    quiet: Quiet = False


@grouped
def show(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PICTURE", help="Picture files.", show_default=False),
    ],
    model: ModelFlags,
    speed: SpeedFlags,
    shown: ShowFlags,
) -> None:
    """Show the verdict on single pictures, and everything that led to it.

    This is the score with its thresholds, the score of each label, who decided (the model, or your
    ruling about this picture or a similar one), and where else the cache knows the same or a
    similar picture. A picture that is not in the cache is scored first.

    With --picture, a thumbnail is drawn in the terminal: as a real picture in kitty, Ghostty,
    iTerm2 and WezTerm, by the program `chafa` if it is installed (which also knows Sixel), and
    otherwise in coloured blocks.

    Exits with 1 if a picture is flagged, and with 3 if one has no verdict.
    """
    talk = Talk(quiet=shown.quiet)
    named = [path for path in paths if _is_file(path, talk)]
    missing = len(paths) - len(named)
    if not named:
        raise typer.Exit(codes.WRONG_COMMAND)
    chosen = settings(model, speed, ScanOptions())
    with (
        talk,
        open_session(
            chosen, named, say=talk.say, warn=talk.warn, progress=talk.download
        ) as session,
    ):
        talk.end_bar()
        results = list(session.scanner(chosen.scan, talk.warn).scan(named))
        rulings = session.rulings()
        known = [_details(result, session, rulings, talk) for result in results]
        if shown.output_format is TableFormat.JSON:
            recorder = Recorder(session.manifest)
            print_json([one.record(recorder) for one in known])
        else:
            for number, one in enumerate(known):
                if number:
                    typer.echo()
                print_table(("", ""), one.rows(session.manifest, session.policy))
                if shown.picture or shown.clear:
                    _draw(one.result, session, talk, clear=shown.clear)
        _suggest(results, talk)
    raise typer.Exit(_exit_code(results, missing=missing))


def _is_file(path: str, talk: Talk) -> bool:
    problem = root_problem(path)
    if problem is None and os.path.isdir(path):
        problem = UsageError(
            f"{readable(path)} is a folder",
            hint=f"list its pictures with: nsfwscan scan {quoted([path])}",
        )
    if problem is not None:
        talk.error(problem)
    return problem is None


def _exit_code(results: Sequence[ScanResult], *, missing: int) -> int:
    decisions = [one.verdict.decision for one in results if isinstance(one, Scanned)]
    decisions += [one.decision for one in results if isinstance(one, Failed) and one.decision]
    reasons = {
        codes.WRONG_COMMAND: missing,
        codes.FLAGGED: Decision.NSFW in decisions,
        codes.NO_VERDICT: len(decisions) < len(results),
    }
    return codes.first(reasons)


def _details(result: ScanResult, session: Session, rulings: Rulings, talk: Talk) -> Details:
    """Add to a result what the rulings and the cache know about its content."""
    sha256 = None if isinstance(result, Skipped) else result.sha256
    if sha256 is None:
        return Details(result)
    ruled = rulings.by_content(sha256)
    if isinstance(result, Scanned) and result.verdict.near is not None:
        ruled = rulings.by_content(result.verdict.near.sha256)
    if session.cache is None:
        return Details(result, ruled)
    try:
        here = absolute(result.path)
        copies = [path for path in session.cache.copies(sha256) if path != here]
        bits = likeness.unpack(session.cache.fact(sha256, LIKENESS))
        alike = session.cache.lookalikes(sha256, bits, likeness.DEFAULT_WITHIN)
    except CacheError as error:
        talk.warn(f"{error}; copies and look-alikes are not shown")
        return Details(result, ruled)
    return Details(result, ruled, copies, alike)


def _draw(result: ScanResult, session: Session, talk: Talk, *, clear: bool) -> None:
    """Draw a thumbnail, or say why not."""
    from nsfwscan.cli.shared.terminal_picture import draw

    def make(longest: int, form: ThumbnailForm) -> Thumbnail:
        frame = (result.frame or 0) if isinstance(result, Scanned) else 0
        made = session.engine.thumbnail(
            result.path, longest, pixelated=not clear, frame=frame, form=form
        )
        if not isinstance(result, Skipped) and made.sha256 != result.sha256:
            raise DecodeError(FailReason.CHANGED, "the file has just changed")
        return made.thumbnail

    if not sys.stdout.isatty():
        talk.warn("no picture: standard output is not a terminal")
        return
    try:
        why_not = draw(make, os.environ)
    except DecodeError as error:
        why_not = error.detail or error.reason
    if why_not:
        talk.warn(f"no picture: {why_not}")


def _suggest(results: Sequence[ScanResult], talk: Talk) -> None:
    """Say how to correct a verdict, for the usual case of one picture."""
    if len(results) != 1 or not isinstance(result := results[0], Scanned):
        return
    path = quoted([result.path])
    talk.gap()
    if result.verdict.ruling is not None and result.verdict.near is None:
        talk.command("undo the ruling", f"nsfwscan rulings forget {path}")
    elif result.verdict.decision is Decision.SAFE:
        talk.command("correct it", f"nsfwscan deny {path}")
    else:
        talk.command("correct it", f"nsfwscan allow {path}")
