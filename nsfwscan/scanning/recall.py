"""What earlier scans found out about the files that are there now. Runs no model.

In: listings, and the models whose scores count. Out: for each file the result that a scan would
give from the cache, or why the cache has none. A file that is gone, or is another one by now, does
not get the verdict of the file that was there: names, sizes and times are compared as in a scan.
Content is only read, and compared, where these say nothing: of files that were written moments
before they were scanned, or that are on a volume which cannot be told from others.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from nsfwscan.judge import Judge
from nsfwscan.media.decode.decoded import DECODER_VERSION
from nsfwscan.media.discover import discover_some, join
from nsfwscan.models.select import AUTO
from nsfwscan.scanning.examine import identify
from nsfwscan.scanning.scan_cache import absolute_folder, is_current
from nsfwscan.scanning.session import Settings, policy_of
from nsfwscan.values.errors import DecodeError, ModelNotFound
from nsfwscan.values.file_key import NEVER, UNTRUSTED, FileKey
from nsfwscan.values.outcome import Scorer
from nsfwscan.values.results import (
    Failed,
    FailReason,
    Origin,
    Scanned,
    Skipped,
    Unscanned,
    WhyUnscanned,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from nsfwscan.cache.cache import Cache
    from nsfwscan.cache.folder_view import FolderView
    from nsfwscan.cache.rows import Known
    from nsfwscan.judge import Rulings
    from nsfwscan.media.listing import Listing, WalkOptions
    from nsfwscan.models.manifest import ModelManifest
    from nsfwscan.models.store import ModelStore
    from nsfwscan.values.facts import FactKind


@dataclass(frozen=True, slots=True)
class Opinion:
    """A model, and the judge that makes verdicts of its scores."""

    manifest: ModelManifest
    scorer: Scorer
    judge: Judge


class Recalled(NamedTuple):
    """What is known of one file."""

    result: Scanned | Failed | Skipped | Unscanned
    opinion: int
    """Index of the opinion that the result is from."""


_Views: TypeAlias = "list[FolderView | None]"


def recall(
    listings: Iterable[Listing], cache: Cache, opinions: Sequence[Opinion]
) -> Iterator[Recalled]:
    """Yield what is known of each file in `listings`, in their order.

    Of several opinions about a content the first counts. Raises `CacheUnavailable`.
    """
    for listing in listings:
        for one in listing.not_opened:
            yield Recalled(one, 0)
        if listing.names:
            yield from _known(listing, cache, opinions)


def _known(listing: Listing, cache: Cache, opinions: Sequence[Opinion]) -> Iterator[Recalled]:
    folder, now = absolute_folder(listing.folder), time.time()
    views: _Views = [None] * len(opinions)

    def known(number: int, name: str) -> Known | None:
        """Return what one model knows; its view is loaded when it is first asked."""
        view = views[number]
        if view is None:
            scorer = opinions[number].scorer
            if listing.incomplete:
                view = cache.files(folder, listing.names, scorer)
            else:
                view = cache.folder(folder, scorer)
            views[number] = view
        return view.get(name)

    for name, key in zip(listing.names, listing.keys, strict=True):
        path = join(listing.folder, name)
        first = known(0, name)
        if not FileKey.unpack(key).size:
            yield Recalled(Failed(path, FailReason.EMPTY, "the file is empty"), 0)
            continue
        if first is None or not (is_current(first, key, listing, now) or _is_still(path, first)):
            why = WhyUnscanned.NEW if first is None else WhyUnscanned.CHANGED
            yield Recalled(Unscanned(path, why), 0)
            continue
        for number, opinion in enumerate(opinions):
            hit = first if number == 0 else known(number, name)
            if hit is not None and hit.outcome is not None and hit.sha256 == first.sha256:
                result = _result(path, hit, opinion.judge, cache)
                yield Recalled(result, number)
                break
        else:
            yield Recalled(Unscanned(path, WhyUnscanned.NO_SCORE, first.sha256), 0)


def _is_still(path: str, hit: Known) -> bool:
    """Return True if a file has the content that was read, and only reading it again tells."""
    if hit.key not in {NEVER, UNTRUSTED}:
        return False
    try:
        return identify(path).sha256 == hit.sha256
    except DecodeError:
        return False


def _result(path: str, hit: Known, judge: Judge, cache: Cache) -> Scanned | Failed:
    def fact(kind: FactKind) -> bytes | None:
        return hit.facts.get(kind) or cache.fact(hit.sha256, kind)

    if hit.outcome is None:
        raise RuntimeError("a file without an outcome has no result")
    return judge.result(path, hit.sha256, hit.outcome, Origin.CACHE, fact=fact)


def opinions(
    store: ModelStore,
    wanted: str,
    rulings: Rulings,
    *,
    review_at: float | None = None,
    flag_at: float | None = None,
) -> list[Opinion]:
    """Return the opinions of the installed models: the wanted one first, then the best.

    `wanted` is a name, a package's folder, or `auto`. The thresholds are for the wanted model; the
    others have their own. Raises `ModelNotFound` if that model, or any, is not installed.
    """
    main = store.best() if wanted == AUTO else store.find(wanted)
    if main is None:
        raise ModelNotFound(
            "no model is installed, so nothing has been scanned",
            hint="`nsfwscan scan ~/Pictures` installs one and scans",
        )
    chosen = Settings(review_at=review_at, flag_at=flag_at)
    made = [_opinion(main.manifest, chosen, rulings)]
    for model in store.installed():
        if model.manifest.fingerprint not in {one.scorer.fingerprint for one in made}:
            made.append(_opinion(model.manifest, Settings(), rulings))
    return made


def _opinion(manifest: ModelManifest, settings: Settings, rulings: Rulings) -> Opinion:
    judge = Judge(policy_of(settings, manifest), rulings)
    return Opinion(manifest, Scorer(manifest.fingerprint, DECODER_VERSION), judge)


def known_files(
    cache: Cache, options: WalkOptions, *, away: Callable[[str], None]
) -> Iterator[Listing]:
    """List the files that the cache knows and that are still there.

    Calls `away` with each folder that is not there: deleted, or on a disk that is not plugged in.
    Raises `CacheUnavailable`.
    """
    for folder in cache.folders():
        if not os.path.isdir(folder):
            away(folder)
            continue
        wanted = {folder: cache.names(folder)}
        # All that is known is listed, so looking up each name by itself would be slow.
        for listing in discover_some(folder, wanted, options):
            yield replace(listing, incomplete=False)
