"""What earlier scans found out about the files that are there now. Opens no file, runs no model.

In: listings, and the models whose scores count. Out: for each file the result that a scan would
give from the cache, or why the cache has none. A file that is gone, or is another one by now, does
not get the verdict of the file that was there: names, sizes and times are compared as in a scan.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from nsfwscan.media.discover import join
from nsfwscan.media.volumes import UNKNOWN as UNKNOWN_VOLUME
from nsfwscan.scanning.scan_cache import absolute_folder
from nsfwscan.values.file_key import FileKey
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
    from collections.abc import Iterable, Iterator, Sequence

    from nsfwscan.cache.cache import Cache
    from nsfwscan.cache.folder_view import FolderView
    from nsfwscan.cache.rows import Known
    from nsfwscan.judge import Judge
    from nsfwscan.media.listing import Listing
    from nsfwscan.models.manifest import ModelManifest
    from nsfwscan.values.facts import FactKind
    from nsfwscan.values.outcome import Scorer

_DAY_S = 86_400
_LOOSE_SECONDS = 30 * _DAY_S
"""Where inode numbers mean nothing (network, FUSE, FAT), a file replaced by another of the same
size and times would be taken for the old file; but for no longer than this."""


def is_current(hit: Known, key: bytes, listing: Listing, now_s: float) -> bool:
    """Return True if a file with this packed `FileKey` is still the one that was read."""
    return (
        hit.key.pack() == key
        and listing.loose != UNKNOWN_VOLUME
        # The clock was wrong when a row from the future was written: its age is unknown.
        and not (listing.loose and not -_DAY_S < now_s - hit.written_at < _LOOSE_SECONDS)
    )


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
        if first is None or not is_current(first, key, listing, now):
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


def _result(path: str, hit: Known, judge: Judge, cache: Cache) -> Scanned | Failed:
    def fact(kind: FactKind) -> bytes | None:
        return hit.facts.get(kind) or cache.fact(hit.sha256, kind)

    if hit.outcome is None:
        raise RuntimeError("a file without an outcome has no result")
    return judge.result(path, hit.sha256, hit.outcome, Origin.CACHE, fact=fact)
