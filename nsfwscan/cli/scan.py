"""`nsfwscan scan`: look at every picture and say which are not safe for work."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from nsfwscan.cli.scan_run import Acting, OnlyThese, Run, destination, exit_code, reachable
from nsfwscan.cli.shared.codes import WRONG_COMMAND
from nsfwscan.cli.shared.config import rules_in
from nsfwscan.cli.shared.flags import ModelFlags, SpeedFlags, WalkFlags, act_options, settings
from nsfwscan.cli.shared.groups import grouped
from nsfwscan.cli.shared.options import (
    ACTION_PANEL,
    MEMORY_PANEL,
    OUTPUT_PANEL,
    WALK_PANEL,
    Actions,
    Again,
    DryRun,
    LimitFiles,
    LimitPercent,
    NoRules,
    QuarantineFolder,
    Quiet,
)
from nsfwscan.cli.shared.path_list import PathList
from nsfwscan.cli.shared.talk import Talk
from nsfwscan.report.formats import Format, reporter_for
from nsfwscan.report.record import Recorder
from nsfwscan.report.selection import Only, default_only
from nsfwscan.report.summary import Summary
from nsfwscan.scanning.scanner import ScanOptions
from nsfwscan.scanning.session import Settings, open_session
from nsfwscan.values.errors import UsageError

if TYPE_CHECKING:
    from nsfwscan.cli.shared.acting import ActOptions


@dataclass(frozen=True, slots=True)
class Sources:
    """What is scanned."""

    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH",
            help="Folders, with everything below them, and files.",
            show_default=False,
        ),
    ] = None
    files_from: Annotated[
        str | None,
        typer.Option(
            "--files-from",
            metavar="FILE",
            rich_help_panel=WALK_PANEL,
            help="Also scan the paths that FILE names, one a line. `-` reads them from standard "
            "input. Folders are scanned with all they hold; a file whose name does not end like a "
            "picture's is left out, unless --any-name is given.",
        ),
    ] = None
    null: Annotated[
        bool,
        typer.Option(
            "--null",
            "-0",
            rich_help_panel=WALK_PANEL,
            help="The paths of --files-from end with a NUL byte, as `find -print0` writes them.",
        ),
    ] = False


@dataclass(frozen=True, slots=True)
class OutputFlags:
    """What is written, and where to."""

    output_format: Annotated[
        Format,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            envvar="NSFWSCAN_FORMAT",
            rich_help_panel=OUTPUT_PANEL,
            help="How results are written: as a `table` for people, as `json`, `jsonl` (one object "
            "a line) or `csv` for programs, or as `paths0`, bare paths that each end with a NUL "
            "byte, for `xargs -0`.",
        ),
    ] = Format.TABLE
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            rich_help_panel=OUTPUT_PANEL,
            help="Write results to FILE, which appears once complete; `-` is standard output.",
        ),
    ] = "-"
    only: OnlyThese = None
    quiet: Quiet = False
    exit_zero: Annotated[
        bool,
        typer.Option(
            "--exit-zero",
            envvar="NSFWSCAN_EXIT_ZERO",
            rich_help_panel=OUTPUT_PANEL,
            help="Exit with 0 also when something was flagged (1) or could not be read (3).",
        ),
    ] = False


@dataclass(frozen=True, slots=True)
class ScanActFlags:
    """What is done about pictures."""

    action: Actions = None
    dry_run: DryRun = False
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            "-y",
            rich_help_panel=ACTION_PANEL,
            help="Do not ask when a run is over the limit.",
        ),
    ] = False
    limit_files: LimitFiles = 200
    limit_percent: LimitPercent = 5.0
    again: Again = False
    no_rules: NoRules = False
    quarantine: QuarantineFolder = None


@dataclass(frozen=True, slots=True)
class CacheFlags:
    """What is recalled of earlier scans."""

    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache",
            envvar="NSFWSCAN_NO_CACHE",
            rich_help_panel=MEMORY_PANEL,
            help="Use no results of earlier scans, and remember none.",
        ),
    ] = False
    rescan: Annotated[
        bool,
        typer.Option(
            "--rescan",
            rich_help_panel=MEMORY_PANEL,
            help="Read and score every picture again, and remember the new scores.",
        ),
    ] = False
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            rich_help_panel=MEMORY_PANEL,
            help="Retry pictures that are remembered as broken.",
        ),
    ] = False


@grouped
def scan(
    context: typer.Context,
    sources: Sources,
    walk: WalkFlags,
    model: ModelFlags,
    written: OutputFlags,
    acts: ScanActFlags,
    recalled: CacheFlags,
    speed: SpeedFlags,
) -> None:
    """Score every picture in the given folders and list those that are not safe for work.

    Every picture gets a score from 0 (safe) to 1. At or above one threshold it is flagged, at or
    above a lower one it is listed for review. Scores are kept by content: a second scan opens only
    what is new or changed, and a renamed, moved or copied picture is not scored again. Pictures
    are only ever read, unless you ask for an action. A picture that cannot be read is listed as
    failed, never counted as safe, and never acted on.

    Press Ctrl-C once, and the scan finishes the pictures in hand and writes its results; press it
    twice, and it ends at once. What was scored is kept in either case.

    For example:

        nsfwscan scan ~/Pictures
        nsfwscan scan --flag-at 0.9 -f csv -o result.csv ~/Pictures /media
        nsfwscan scan --action quarantine --dry-run ~/Downloads
        nsfwscan scan --format paths0 ~/Pictures | xargs -0 ls -l
        find . -type f -newer last -print0 | nsfwscan scan --files-from - -0
    """
    given = list(sources.paths or [])
    if not given and sources.files_from is None:
        raise UsageError("nothing to scan", hint="name a folder: nsfwscan scan ~/Pictures")
    talk = Talk(quiet=written.quiet)
    roots = reachable(given, talk)
    if given and not roots and sources.files_from is None:
        raise typer.Exit(WRONG_COMMAND)
    wanted = frozenset(written.only or default_only(written.output_format))
    options = ScanOptions(
        walk=walk.options(),
        jobs=speed.jobs,
        rescan=recalled.rescan,
        retry_failed=recalled.retry_failed,
        count_known_safe=Only.ALL not in wanted,
    )
    chosen = settings(model, speed, options, use_cache=not recalled.no_cache)
    acting = act_options(acts, rules_in(context, ignored=acts.no_rules))
    summary = _run(roots, sources, chosen, written, wanted, acting, talk, yes=acts.yes)
    for line in summary.lines():
        talk.say(line)
    if summary.tally.nsfw and acting is None and written.output_format is Format.TABLE:
        talk.say(f"  move them away: nsfwscan scan --action quarantine {_again(model, roots)}")
        talk.say("  wrong verdict?  nsfwscan allow FILE")
    missing = len(given) - len(roots)
    raise typer.Exit(exit_code(summary, missing=missing, exit_zero=written.exit_zero))


def _run(
    roots: list[str],
    sources: Sources,
    chosen: Settings,
    written: OutputFlags,
    wanted: frozenset[Only],
    acting: ActOptions | None,
    talk: Talk,
    *,
    yes: bool,
) -> Summary:
    listed = None
    if sources.files_from is not None:
        listed = PathList(sources.files_from, null=sources.null)
    with (
        talk,
        # First of all, so that nobody waits for a scan whose results have no place to go.
        destination(written.output) as stream,
        open_session(
            chosen,
            roots if listed is None else [],
            say=talk.say,
            warn=talk.warn,
            progress=talk.download,
        ) as session,
    ):
        talk.end_bar()
        reporter = reporter_for(written.output_format, stream, Recorder(session.manifest))
        acts = None
        if acting is not None:
            from nsfwscan.cli.shared.acting import Confirm, actor_for

            ask = Confirm(talk, yes=yes, may_ask=sources.files_from != "-")
            acts = Acting(actor_for(acting, session.manifest, talk), ask)
        show_named = not written.only and written.output_format is Format.TABLE
        return Run(session, talk, reporter, wanted, listed, acts, show_named=show_named).go(roots)


def _again(model: ModelFlags, roots: list[str]) -> str:
    """Return thresholds and paths of a command as a shell takes them, if the paths are few."""
    given = [] if model.model == "auto" else [f"--model {shlex.quote(model.model)}"]
    scores = (("flag-at", model.flag_at), ("review-at", model.review_at))
    given += [f"--{name} {str(at).removesuffix('.0')}" for name, at in scores if at is not None]
    text = shlex.join(roots)
    return " ".join([*given, text if roots and len(text) <= _SHORT else "PATH"])


_SHORT = 60
"""Characters of paths that a hint may repeat."""
