"""`nsfwscan report`: what earlier scans found, as one page for a browser."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from nsfwscan.cache.cache import Cache
from nsfwscan.cli.scan_next import scan_command
from nsfwscan.cli.scan_run import destination, reachable
from nsfwscan.cli.shared.codes import NOT_DONE, OK, WRONG_COMMAND
from nsfwscan.cli.shared.flags import WalkFlags
from nsfwscan.cli.shared.groups import grouped
from nsfwscan.cli.shared.options import (
    MODEL_PANEL,
    OUTPUT_PANEL,
    FlagAt,
    Quiet,
    ReviewAt,
    model_names,
)
from nsfwscan.cli.shared.page_file import check_page_file, suggest_page
from nsfwscan.cli.shared.talk import STARTED, Talk
from nsfwscan.cli.shared.thumbnails import ThumbnailMaker
from nsfwscan.judge import RulingBook
from nsfwscan.media.discover import discover
from nsfwscan.models.store import ModelStore
from nsfwscan.report.html.columns import UNSCANNED, ReportRow, row_of
from nsfwscan.report.html.page import MOST_BYTES, Model, PageLook, Pictured, Report
from nsfwscan.report.record import Recorder
from nsfwscan.report.summary import Summary
from nsfwscan.scanning.engine import Engine
from nsfwscan.scanning.recall import Opinion, known_files, opinions, recall
from nsfwscan.scanning.scan_cache import absolute_folder
from nsfwscan.system import locations
from nsfwscan.values.results import Skipped, Unscanned
from nsfwscan.values.tally import ScanTally
from nsfwscan.values.text import count, readable, size

if TYPE_CHECKING:
    from nsfwscan.models.classifier import Classifier

_BAR_EVERY = 256


@dataclass(frozen=True, slots=True)
class PageFlags:
    """What to write, and where."""

    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            rich_help_panel=OUTPUT_PANEL,
            help="Write the report to FILE, which appears when complete; `-` is standard output. "
            "Only an earlier report is overwritten.",
        ),
    ] = "nsfwscan-report.html"
    pictured: Annotated[
        Pictured,
        typer.Option(
            "--thumbnails",
            metavar="some|all|none",
            rich_help_panel=OUTPUT_PANEL,
            help="Which pictures have a thumbnail: `some` (those flagged or to review), `all`, "
            "or `none`.",
        ),
    ] = Pictured.SOME
    clear: Annotated[
        bool,
        typer.Option(
            "--clear-thumbnails",
            rich_help_panel=OUTPUT_PANEL,
            help="Make thumbnails that show the pictures clearly. Without it they have at most 12 "
            "pixels a side, so that nobody who gets the file can see more.",
        ),
    ] = False
    no_paths: Annotated[
        bool,
        typer.Option(
            "--no-paths",
            rich_help_panel=OUTPUT_PANEL,
            help="Leave out names, folders and checksums, for a report that you pass on.",
        ),
    ] = False
    large: Annotated[
        bool,
        typer.Option(
            "--large",
            rich_help_panel=OUTPUT_PANEL,
            help=f"Write the report even if it has more than {size(MOST_BYTES)}.",
        ),
    ] = False
    quiet: Quiet = False


KnownModel = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        envvar="NSFWSCAN_MODEL",
        autocompletion=model_names,
        rich_help_panel=MODEL_PANEL,
        help="The model whose scores to show: the name of an installed one, or the folder of a "
        "model package. `auto` is the best installed model. A picture that only another installed "
        "model has scored is shown with that score.",
    ),
]


@grouped
def report(
    context: typer.Context,
    folders: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FOLDER",
            help="Folders to report on, with everything below them. Without one, the report has "
            "all pictures that earlier scans found and that are still there.",
            show_default=False,
        ),
    ] = None,
    *,
    walk: WalkFlags,
    model: KnownModel = "auto",
    flag_at: FlagAt = None,
    review_at: ReviewAt = None,
    written: PageFlags,
) -> None:
    """Write what earlier scans found as one HTML file, to look at in a browser.

    The report has every picture with its verdict and score, and every file without a verdict with
    the reason. It lists, sorts and filters them, and shows how scores are distributed and what
    other thresholds would change. It needs no network, and nothing leaves it.

    No picture is scored: names, sizes and dates of the files are compared with the cache. What is
    new or has changed is listed as not scanned yet.

    Exits with 5, and writes nothing, if the report would be too large.

    For example:

        nsfwscan report ~/Pictures
        nsfwscan report --no-paths --output for-support.html
    """
    given, talk = list(folders or []), Talk(quiet=written.quiet)
    roots = [absolute_folder(root) for root in reachable(given, talk)]
    if given and not roots:
        raise typer.Exit(WRONG_COMMAND)
    check_page_file(written.output)
    with talk, destination(written.output) as stream:
        views = opinions(
            ModelStore(locations.models_folder(), offline=True),
            model,
            RulingBook(locations.rulings_file()).current(talk.warn),
            review_at=review_at,
            flag_at=flag_at,
        )
        found = _Found(views, PageLook(not written.no_paths, written.pictured, written.clear))
        with Cache.open(locations.cache_file(), warn=talk.warn) as cache:
            found.collect(cache, roots if given else None, walk, talk)
        with Engine(_no_model, views[0].manifest.input.geometry) as engine:
            page = found.report(roots).page(ThumbnailMaker(engine, talk, written.clear))
        if len(page) > MOST_BYTES and not written.large:
            talk.warn(
                f"the report would have {size(len(page))}, which browsers open slowly; nothing was "
                "written"
            )
            talk.say(
                "  leave out thumbnails (--thumbnails none), name fewer folders, or use --large"
            )
            raise typer.Exit(NOT_DONE)
        stream.write(page)
    for line in found.lines():
        talk.say(line)
    if written.output != "-":
        talk.say(f"Wrote {readable(written.output)}, {size(len(page))}.")
        suggest_page(written.output, talk)
    if found.unscanned:
        talk.command("scan the rest", scan_command(context, roots))
    raise typer.Exit(WRONG_COMMAND if len(roots) < len(given) else OK)


class _Found:
    """What earlier scans found, on its way from the cache to the page."""

    def __init__(self, views: Sequence[Opinion], look: PageLook) -> None:
        self._views = views
        self._look = look
        self._rows: list[ReportRow] = []
        self._tally = ScanTally()
        self._away = 0
        """Known folders that are not there."""

    def collect(
        self, cache: Cache, roots: Sequence[str] | None, walk: WalkFlags, talk: Talk
    ) -> None:
        """Collect the files below `roots`, or all known ones. Raises `CacheUnavailable`."""
        recorders = [Recorder(view.manifest) for view in self._views]
        options = walk.options()
        if roots is None:
            listings = known_files(cache, options, away=self._is_away)
        else:
            listings = discover(roots, options, self._tally.walk)
        with talk.bar("pictures") as bar:
            for number, (result, view) in enumerate(recall(listings, cache, self._views), 1):
                recorder = recorders[view]
                if isinstance(result, Unscanned):
                    self._rows.append(row_of(recorder.unscanned(result), result.path))
                else:
                    self._tally.count(result)
                    if not isinstance(result, Skipped):
                        record = recorder.record(result)
                        self._rows.append(row_of(record, result.path, model=view))
                if number % _BAR_EVERY == 0:
                    bar.show(number, None)

    def _is_away(self, _folder: str) -> None:
        self._away += 1

    def report(self, roots: Sequence[str]) -> Report:
        """Return the report."""
        models = [
            Model(
                view.manifest.package,
                view.manifest.fingerprint,
                view.judge.policy.review_at,
                view.judge.policy.flag_at,
            )
            for view in self._views
        ]
        return Report(
            self._rows,
            models,
            self._summary,
            roots,
            self._look,
            time.time(),
            count(self._away, "folder") if self._away else "",
        )

    @property
    def _summary(self) -> Summary:
        main, seconds = self._views[0], time.monotonic() - STARTED
        return Summary(self._tally, main.manifest, main.judge.policy, seconds, interrupted=False)

    @property
    def unscanned(self) -> int:
        """How many pictures are new or have changed."""
        return sum(1 for row in self._rows if row.state == UNSCANNED)

    def lines(self) -> Iterator[str]:
        """Yield what to say at the end."""
        if len(self._rows) > self.unscanned or not self.unscanned:
            yield from self._summary.found()
        if self.unscanned:
            are = "is" if self.unscanned == 1 else "are"
            yield f"{count(self.unscanned, 'picture')} {are} new or changed: not scanned yet."
        if self._away:
            are = "is" if self._away == 1 else "are"
            yield f"{count(self._away, 'folder')} of earlier scans {are} not there now."


def _no_model() -> Classifier:
    raise RuntimeError("a report needs no model")
