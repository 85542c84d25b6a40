"""`nsfwscan review`: a local page to go through flagged and borderline pictures."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from nsfwscan.cli.shared.codes import FAILED, OK
from nsfwscan.cli.shared.options import (
    MODEL_PANEL,
    OUTPUT_PANEL,
    FlagAt,
    QuarantineFolder,
    Quiet,
    ReviewAt,
    model_names,
)
from nsfwscan.cli.shared.paths import absolute
from nsfwscan.cli.shared.streams import whisper
from nsfwscan.cli.shared.talk import Talk
from nsfwscan.models.select import AUTO
from nsfwscan.scanning.session import Settings
from nsfwscan.system import interrupts, locations
from nsfwscan.values.errors import ModelNotFound, NsfwscanError, OfflineError, UsageError
from nsfwscan.values.text import count, readable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from nsfwscan.cache.cache import Cache
    from nsfwscan.media.decode.pool import DecodePool
    from nsfwscan.models.package import InstalledModel
    from nsfwscan.models.store import ModelStore
    from nsfwscan.review.collect import OtherModel
    from nsfwscan.review.review import Made, Review, ReviewServer

_EVERYWHERE = ""
"""Stands for all folders in the cache."""
_DECODERS = 2
"""Processes that make pictures: one for the picture wanted now, one for those that come next."""


def review(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FOLDER",
            help="Only go through pictures in these folders and below.",
            show_default=False,
        ),
    ] = None,
    no_browser: Annotated[
        bool,
        typer.Option(
            "--no-browser",
            rich_help_panel=OUTPUT_PANEL,
            help="Only print the address of the page, and do not open it in the browser.",
        ),
    ] = False,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            envvar="NSFWSCAN_MODEL",
            autocompletion=model_names,
            rich_help_panel=MODEL_PANEL,
            help="The model whose scores to show. `auto` is the best installed one.",
        ),
    ] = AUTO,
    flag_at: FlagAt = None,
    review_at: ReviewAt = None,
    quarantine: QuarantineFolder = None,
    quiet: Quiet = False,
) -> None:
    """Go through flagged and borderline pictures in the browser, and decide about each.

    Shows what earlier scans found; no picture is scored again. Pictures are blurred until you
    reveal them. What you decide is stored at once, like the rulings of `allow` and `deny`, and can
    be undone. The page is only reachable from this computer, by the address that is opened or
    printed, which works once. The command ends when you close the page, or with Ctrl-C.

    Exits with 6 if something that you decided could not be stored or moved.
    """
    from nsfwscan.cache.cache import Cache
    from nsfwscan.media.decode.pool import DecodePool

    talk = Talk(quiet=quiet)
    roots = _roots(paths or ())
    with ExitStack() as stack:
        cache = stack.enter_context(Cache.open(locations.cache_file(), warn=talk.warn))
        pool = DecodePool(_DECODERS)
        settings = Settings(model=model, review_at=review_at, flag_at=flag_at)
        made = _prepare(cache, pool, roots, settings, quarantine, talk)
        if not made.pictures.pictures:
            talk.say(_nothing(made))
            return
        stack.enter_context(pool)
        server = _server(made)
        try:
            _serve(made, server, talk, browser=not no_browser)
            made.desk.close()
        finally:
            _tell(made.made(), talk)  # also after an error: what was decided is stored
    raise typer.Exit(FAILED if made.desk.failures else OK)


def _roots(paths: Sequence[str]) -> list[str]:
    """Return the folders to go through; all if none is named. Raises `UsageError`."""
    from nsfwscan.media.roots import check_roots

    roots = [absolute(path) for path in paths]
    check_roots(roots)
    for root in roots:
        if not os.path.isdir(root):
            raise UsageError(
                f"{readable(root)} is not a folder",
                hint="`nsfwscan review` goes through folders",
            )
    return roots or [_EVERYWHERE]


def _prepare(
    cache: Cache,
    pool: DecodePool,
    roots: Sequence[str],
    settings: Settings,
    quarantine: str | None,
    talk: Talk,
) -> Review:
    from nsfwscan.actions.quarantine.held import Quarantines
    from nsfwscan.judge import Judge, RulingBook
    from nsfwscan.media.decode.decoded import DECODER_VERSION
    from nsfwscan.models.store import ModelStore
    from nsfwscan.review.review import prepare
    from nsfwscan.scanning.session import policy_of
    from nsfwscan.values.outcome import Scorer

    book = RulingBook(locations.rulings_file())
    rulings = book.current(talk.warn)
    store = ModelStore(locations.models_folder(), offline=True, say=talk.say)
    model = _installed(store, settings.model)
    policy = policy_of(settings, model.manifest)
    made = prepare(
        cache,
        roots,
        scorer=Scorer(model.manifest.fingerprint, DECODER_VERSION),
        manifest=model.manifest,
        judge=Judge(policy, rulings),
        book=book,
        others=_other_models(store, model),
        quarantines=Quarantines(None if quarantine is None else absolute(quarantine), talk.warn),
        thumbnail=pool.thumbnail,
        warn=talk.warn,
    )
    if not made.pictures.scored and not made.pictures.without_verdict:
        raise UsageError(
            f"no picture there has been scanned with {model.manifest.package}",
            hint=_how_to_scan(cache, model, roots),
        )
    return made


def _installed(store: ModelStore, wanted: str) -> InstalledModel:
    """Return the model. Raises `ModelNotFound` if it would have to be downloaded."""
    from nsfwscan.models.select import resolve_model

    try:
        return resolve_model(store, wanted)
    except OfflineError as error:
        what = "no model is installed" if wanted == AUTO else f"{wanted} is not installed"
        raise ModelNotFound(
            f"{what}, so there are no scores to show",
            hint="`nsfwscan scan FOLDER` gets a model and scores your pictures",
        ) from error


def _other_models(store: ModelStore, model: InstalledModel) -> list[OtherModel]:
    """Return the other installed models, whose scores may be in the cache."""
    from nsfwscan.judge import Policy
    from nsfwscan.media.decode.decoded import DECODER_VERSION
    from nsfwscan.models.select import thresholds_of
    from nsfwscan.review.collect import OtherModel
    from nsfwscan.values.outcome import Scorer

    found = []
    for one in store.installed():
        manifest = one.manifest
        if manifest.fingerprint != model.manifest.fingerprint:
            own = thresholds_of(manifest)
            scorer = Scorer(manifest.fingerprint, DECODER_VERSION)
            found.append(OtherModel(manifest.package, scorer, Policy(own.review_at, own.flag_at)))
    return found


def _how_to_scan(cache: Cache, model: InstalledModel, roots: Sequence[str]) -> str:
    """Return the next step if this model has scored nothing there."""
    known = [one.name for one in cache.stats().models if one.name]
    others = [one for one in known if one != model.manifest.package]
    if others:
        return f"the cache has scores of {', '.join(others)}: choose it with --model, or scan"
    folder = readable(roots[0]) if roots != [_EVERYWHERE] else "FOLDER"
    return f"`nsfwscan scan {folder}` scores the pictures"


def _nothing(made: Review) -> str:
    found = made.pictures
    text = f"Nothing to review: no picture of {found.scored:,} is flagged, or close to it."
    if found.without_verdict:
        text += f" {count(found.without_verdict, 'file')} without a verdict cannot be shown."
    return text


def _server(made: Review) -> ReviewServer:
    from nsfwscan.review.review import ReviewServer

    try:
        return ReviewServer(made)
    except OSError as error:
        raise NsfwscanError(f"the page cannot be served: {error.strerror or error}") from error


def _serve(made: Review, server: ReviewServer, talk: Talk, *, browser: bool) -> None:
    """Serve the page until it is closed, or until Ctrl-C, SIGTERM, or the end of the terminal."""

    def stop(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and not talk.quiet:
            whisper(b"\n")  # the line shows ^C
        server.stop()

    hang_up = [] if interrupts.is_ignored("SIGHUP") else ["SIGHUP"]
    with interrupts.answered(stop, "SIGINT", "SIGTERM", *hang_up):
        _announce(made, server, talk, browser=browser)
        server.run()


def _announce(made: Review, server: ReviewServer, talk: Talk, *, browser: bool) -> None:
    from nsfwscan.review.browser import is_there, open_soon

    number = made.open_number()
    before = len(made.pictures.pictures) - number
    text = f"{count(number, 'picture')} to decide about" + (f", {before:,} decided" * bool(before))
    if browser and is_there():
        talk.say(
            f"{text}. The page opens in your browser. If it does not, open this address there; "
            "it works once:"
        )
        open_soon(server.address)
    else:
        talk.say(f"{text}. Open this address in a browser of this computer; it works once:")
    typer.echo(server.address)
    talk.say("Close the page to finish, or press Ctrl-C here. Decisions are stored at once.")


def _tell(made: Made, talk: Talk) -> None:
    """Say what was decided, and how to undo it."""
    decided = made.allowed + made.denied
    if decided:
        talk.say(
            f"Decided about {count(decided, 'picture')}: {made.allowed:,} safe, "
            f"{made.denied:,} not safe."
        )
        talk.say("  undo: nsfwscan rulings forget PATH (`nsfwscan rulings list` shows all)")
    if made.quarantined:
        talk.say(f"Moved {count(made.quarantined, 'file')} to quarantine.")
        talk.say("  undo: nsfwscan quarantine restore PATH (`nsfwscan quarantine list` shows all)")
    if not decided and not made.quarantined:
        talk.say("Nothing was decided.")
    if made.failures:
        talk.warn(f"{count(made.failures, 'decision')} could not be carried out; the page said why")
