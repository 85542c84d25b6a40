"""`nsfwscan scan`: look at every picture and say which are not safe for work."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from nsfwscan.cli.scan_run import Acting, OnlyThese, Run, destination, exit_code, reachable
from nsfwscan.cli.shared.codes import COULD_NOT
from nsfwscan.cli.shared.config import rules_in
from nsfwscan.cli.shared.options import (
    ACTION_PANEL,
    MEMORY_PANEL,
    OUTPUT_PANEL,
    WALK_PANEL,
    Actions,
    Again,
    AnyName,
    DryRun,
    Exclude,
    FlagAt,
    Hidden,
    Include,
    Jobs,
    LimitFiles,
    LimitPercent,
    MaxSize,
    ModelName,
    NoRules,
    Offline,
    OneFileSystem,
    ProviderName,
    QuarantineFolder,
    Quiet,
    ReviewAt,
    SymlinksChoice,
    Threads,
    bytes_of,
)
from nsfwscan.cli.shared.path_list import PathList
from nsfwscan.cli.shared.talk import Talk
from nsfwscan.media.discover import Symlinks, WalkOptions
from nsfwscan.models.provider import Provider
from nsfwscan.report.formats import Format
from nsfwscan.report.record import Recorder
from nsfwscan.report.reporters import reporter_for
from nsfwscan.report.selection import Only, default_only
from nsfwscan.scanning.scanner import ScanOptions
from nsfwscan.scanning.session import Settings, open_session
from nsfwscan.values.errors import UsageError


def scan(
    context: typer.Context,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH",
            help="Folders, with everything below them, and files.",
            show_default=False,
        ),
    ] = None,
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
    ] = None,
    null: Annotated[
        bool,
        typer.Option(
            "--null",
            "-0",
            rich_help_panel=WALK_PANEL,
            help="The paths of --files-from end with a NUL byte, as `find -print0` writes them.",
        ),
    ] = False,
    include: Include = None,
    exclude: Exclude = None,
    hidden: Hidden = False,
    any_name: AnyName = False,
    symlinks: SymlinksChoice = Symlinks.SKIP,
    one_file_system: OneFileSystem = False,
    max_size: MaxSize = "512M",
    model: ModelName = "auto",
    flag_at: FlagAt = None,
    review_at: ReviewAt = None,
    offline: Offline = False,
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
    ] = Format.TABLE,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            rich_help_panel=OUTPUT_PANEL,
            help="Write results to FILE, which appears once complete; `-` is standard output.",
        ),
    ] = "-",
    only: OnlyThese = None,
    quiet: Quiet = False,
    exit_zero: Annotated[
        bool,
        typer.Option(
            "--exit-zero",
            envvar="NSFWSCAN_EXIT_ZERO",
            rich_help_panel=OUTPUT_PANEL,
            help="Exit with 0 also when something was flagged (1) or could not be read (3).",
        ),
    ] = False,
    action: Actions = None,
    dry_run: DryRun = False,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            "-y",
            rich_help_panel=ACTION_PANEL,
            help="Do not ask when a run is over the limit.",
        ),
    ] = False,
    limit_files: LimitFiles = 200,
    limit_percent: LimitPercent = 5.0,
    again: Again = False,
    no_rules: NoRules = False,
    quarantine: QuarantineFolder = None,
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache",
            envvar="NSFWSCAN_NO_CACHE",
            rich_help_panel=MEMORY_PANEL,
            help="Use no results of earlier scans, and remember none.",
        ),
    ] = False,
    rescan: Annotated[
        bool,
        typer.Option(
            "--rescan",
            rich_help_panel=MEMORY_PANEL,
            help="Read and score every picture again, and remember the new scores.",
        ),
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            rich_help_panel=MEMORY_PANEL,
            help="Retry pictures that are remembered as broken.",
        ),
    ] = False,
    jobs: Jobs = 0,
    threads: Threads = 0,
    provider: ProviderName = Provider.AUTO,
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
    given = list(paths or [])
    if not given and files_from is None:
        raise UsageError("nothing to scan", hint="name a folder: nsfwscan scan ~/Pictures")
    talk = Talk(quiet=quiet)
    roots = reachable(given, talk)
    if given and not roots and files_from is None:
        raise typer.Exit(COULD_NOT)
    wanted = frozenset(only or default_only(output_format))
    settings = Settings(
        model=model,
        review_at=review_at,
        flag_at=flag_at,
        offline=offline,
        provider=provider,
        threads=threads,
        use_cache=not no_cache,
        scan=ScanOptions(
            walk=WalkOptions(
                include=tuple(include or ()),
                exclude=tuple(exclude or ()),
                hidden=hidden,
                any_name=any_name,
                symlinks=symlinks,
                one_file_system=one_file_system,
                max_bytes=bytes_of(max_size),
            ),
            jobs=jobs,
            rescan=rescan,
            retry_failed=retry_failed,
            count_known_safe=Only.ALL not in wanted,
        ),
    )
    configured = rules_in(context, ignored=no_rules)
    acting: ActOptions | None = None
    if action or configured:
        from nsfwscan.cli.shared.acting import ActOptions, Confirm, actor_for, rules_of

        acting = ActOptions(
            rules_of(action or (), configured),
            limit_files=limit_files,
            limit_percent=limit_percent,
            dry_run=dry_run,
            again=again,
            quarantine=quarantine,
        )
    listed = None if files_from is None else PathList(files_from, null=null)
    with (
        talk,
        # First of all, so that nobody waits for a scan whose results have no place to go.
        destination(output) as stream,
        open_session(
            settings,
            roots if listed is None else [],
            say=talk.say,
            warn=talk.warn,
            progress=talk.download,
        ) as session,
    ):
        talk.end_bar()
        reporter = reporter_for(output_format, stream, Recorder(session.manifest))
        acts = None
        if acting is not None:
            ask = Confirm(talk, yes=yes, may_ask=files_from != "-")
            acts = Acting(actor_for(acting, session.manifest, talk), ask)
        show_named = not only and output_format is Format.TABLE
        run = Run(session, talk, reporter, wanted, listed, acts, show_named=show_named)
        summary = run.go(roots)
    for line in summary.lines():
        talk.say(line)
    if summary.tally.nsfw and acts is None and output_format is Format.TABLE:
        talk.say(f"  move them away: nsfwscan scan --action quarantine {_again(roots)}")
        talk.say("  wrong verdict?  nsfwscan allow FILE")
    missing = len(given) - len(roots)
    raise typer.Exit(exit_code(summary, missing=missing, exit_zero=exit_zero))


def _again(roots: list[str]) -> str:
    """Return the paths of a command as a shell takes them, if they are few."""
    text = shlex.join(roots)
    return text if roots and len(text) <= _SHORT else "PATH"


_SHORT = 60
"""Characters of paths that a hint may repeat."""
