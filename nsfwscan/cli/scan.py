"""`nsfwscan scan`: scores pictures and lists those that are not safe for work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from nsfwscan.cli.scan_next import next_steps
from nsfwscan.cli.scan_run import Acting, OnlyThese, Run, destination, exit_code, reachable
from nsfwscan.cli.shared.codes import WRONG_COMMAND
from nsfwscan.cli.shared.config import rules_in
from nsfwscan.cli.shared.flags import ModelFlags, SpeedFlags, WalkFlags, act_options, settings
from nsfwscan.cli.shared.groups import grouped
from nsfwscan.cli.shared.options import (
    ACTION_PANEL,
    CACHE_PANEL,
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
from nsfwscan.cli.shared.page_file import check_page_file, suggest_page
from nsfwscan.cli.shared.path_list import PathList
from nsfwscan.cli.shared.talk import Talk
from nsfwscan.cli.shared.thumbnails import ThumbnailMaker
from nsfwscan.report.formats import PURPOSES, Format, reporter_for
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
    """What to scan."""

    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH",
            help="Files and folders to scan, with everything below them.",
            show_default=False,
        ),
    ] = None
    files_from: Annotated[
        str | None,
        typer.Option(
            "--files-from",
            metavar="FILE",
            rich_help_panel=WALK_PANEL,
            help="Also scan the paths listed in FILE, one per line; `-` is standard input. Folders "
            "are scanned with everything below them. Files without a picture's extension are "
            "skipped unless you use --any-name.",
        ),
    ] = None
    null: Annotated[
        bool,
        typer.Option(
            "--null",
            "-0",
            rich_help_panel=WALK_PANEL,
            help="Paths in --files-from end with a NUL byte, as written by `find -print0`.",
        ),
    ] = False


@dataclass(frozen=True, slots=True)
class OutputFlags:
    """What to write, and where."""

    output_format: Annotated[
        Format,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            envvar="NSFWSCAN_FORMAT",
            rich_help_panel=OUTPUT_PANEL,
            help="Output format: "
            + ", ".join(f"`{form}` ({purpose})" for form, purpose in PURPOSES.items())
            + ".",
        ),
    ] = Format.TABLE
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            rich_help_panel=OUTPUT_PANEL,
            help="Write results to FILE, which appears when complete; `-` is standard output.",
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
            help="Exit with 0 even if pictures were flagged (1) or could not be read (3).",
        ),
    ] = False


@dataclass(frozen=True, slots=True)
class ScanActFlags:
    """What to do with pictures."""

    action: Actions = None
    dry_run: DryRun = False
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            "-y",
            rich_help_panel=ACTION_PANEL,
            help="Do not ask if a run is over the limit.",
        ),
    ] = False
    limit_files: LimitFiles = 200
    limit_percent: LimitPercent = 5.0
    again: Again = False
    no_rules: NoRules = False
    quarantine: QuarantineFolder = None


@dataclass(frozen=True, slots=True)
class CacheFlags:
    """How to use results of earlier scans."""

    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache",
            envvar="NSFWSCAN_NO_CACHE",
            rich_help_panel=CACHE_PANEL,
            help="Neither use nor update the cache.",
        ),
    ] = False
    rescan: Annotated[
        bool,
        typer.Option(
            "--rescan",
            rich_help_panel=CACHE_PANEL,
            help="Score every picture again, and update the cache.",
        ),
    ] = False
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            rich_help_panel=CACHE_PANEL,
            help="Retry pictures that failed in an earlier scan.",
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

    Every picture gets a score from 0 (safe) to 1. It is flagged at or above one threshold, and
    listed for review at or above a lower one. Scores are cached by content: a second scan opens
    only new and changed files, and renamed, moved or copied pictures are not scored again.
    Pictures are never changed, and are moved only if you ask for an action. A picture that cannot
    be read gets no verdict: it is listed as failed, never counts as safe, and no action is taken.

    Press Ctrl-C once to finish the pictures being scored and write the results. Press it twice to
    stop immediately. Scores are kept in both cases.

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
    if written.output_format is Format.HTML:
        check_page_file(written.output)
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
    table = written.output_format is Format.TABLE
    if summary.listed and written.output == "-":
        talk.gap()
    for line in summary.lines():
        talk.say(line)
    if table:
        for number, (purpose, command) in enumerate(next_steps(context, summary, roots)):
            if not number:
                talk.say("")
            talk.command(purpose, command)
    if written.output_format is Format.HTML:
        suggest_page(written.output, talk)
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
        # First, so that a scan does not start if its results cannot be written.
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
        reporter = reporter_for(
            written.output_format,
            stream,
            Recorder(session.manifest),
            ThumbnailMaker(session.engine, talk),
        )
        acts = None
        if acting is not None:
            from nsfwscan.cli.shared.acting import Confirm, actor_for

            ask = Confirm(talk, yes=yes, may_ask=sources.files_from != "-")
            acts = Acting(actor_for(acting, session.manifest, talk), ask)
        show_named = not written.only and written.output_format is Format.TABLE
        scanner = session.scanner(chosen.scan, talk.warn)
        return Run(
            session, scanner, talk, reporter, wanted, listed, acts, show_named=show_named
        ).go(roots)
