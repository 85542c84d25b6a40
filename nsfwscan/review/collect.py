"""Which pictures there are to go through, from the cache alone: no picture is read.

In: folders, the judge, and how other installed models would decide. Out: a `ReviewSet`: every
picture that is flagged, to be reviewed, ruled on by a person, or on which models disagree, each
with all places where it is known to be, and the pictures that look like it. Fails with
`CacheUnavailable`.
"""

from __future__ import annotations

import heapq
import math
import os
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.cache.rows import SHA256_BYTES
from nsfwscan.review.alike import Alike
from nsfwscan.values import likeness
from nsfwscan.values.facts import LIKENESS
from nsfwscan.values.outcome import Scored, Unscorable
from nsfwscan.values.results import Decision, Scanned

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nsfwscan.cache.cache import Cache
    from nsfwscan.cache.folder_view import FolderView
    from nsfwscan.judge import Judge, Policy
    from nsfwscan.values.outcome import Scorer

MOST_ALIKE = 24
"""Pictures that look alike and are shown, and so handled, with one picture."""
_DIGESTS = struct.Struct(f"{SHA256_BYTES}s")


class OtherModel(NamedTuple):
    """Another installed model whose scores may be in the cache."""

    name: str
    scorer: Scorer
    policy: Policy


class OtherView(NamedTuple):
    """What another model says of a picture."""

    model: str
    score: float
    decision: Decision


@dataclass(slots=True)
class ReviewPicture:
    """One content, wherever it is."""

    sha256: bytes
    scored: Scored
    decision: Decision
    """By the score, or a ruling about a picture that looks like it; not by one about this very
    content, which may be undone."""
    bits: int
    """Its likeness, or `likeness.UNKNOWN` or `NONE`."""
    near: str = ""
    """Where the picture is, or was, whose ruling decided because this one looks like it."""
    places: list[str] = field(default_factory=list)
    """Every path at which it was when it was last scanned, in order."""
    others: list[OtherView] = field(default_factory=list)
    """What other models say, if they know it."""
    alike: list[ReviewPicture] = field(default_factory=list)
    """Pictures that look like it, the most similar first, at most `MOST_ALIKE`."""
    more_alike: int = 0
    """How many more do."""

    @property
    def is_disputed(self) -> bool:
        """Whether one model calls it safe and another does not."""
        mine = self.decision is Decision.SAFE
        return any((one.decision is Decision.SAFE) is not mine for one in self.others)


@dataclass(slots=True)
class ReviewSet:
    """What there is to go through."""

    pictures: dict[bytes, ReviewPicture]
    """By SHA-256: those to go through, the highest score first."""
    companions: dict[bytes, ReviewPicture]
    """The others that look like one of them."""
    scored: int = 0
    """How many files with a score were looked through."""
    without_verdict: int = 0
    """How many files have no score because they cannot be read or decoded."""

    def find(self, sha256: bytes) -> ReviewPicture | None:
        """Return a picture or a companion; None for anything else."""
        return self.pictures.get(sha256) or self.companions.get(sha256)


class _SeenFolder(NamedTuple):
    path: str
    view: FolderView


def collect(
    cache: Cache, roots: Iterable[str], scorer: Scorer, judge: Judge, others: Sequence[OtherModel]
) -> ReviewSet:
    """Return what there is to go through in `roots`, each as `Cache.folders_below` takes it."""
    found = ReviewSet({}, {})
    folders: list[_SeenFolder] = []
    views: dict[bytes, list[OtherView]] = {}
    for path in dict.fromkeys(path for root in roots for path in cache.folders_below(root)):
        view = cache.folder(path, scorer)
        folders.append(_SeenFolder(path, view))
        disputed = _disputed(cache, path, view, judge.policy, others, views)
        _choose(found, path, view, judge, disputed)
    ordered = sorted(
        found.pictures.values(), key=lambda one: (-one.scored.scores.unsafe, one.sha256)
    )
    found.pictures = {one.sha256: one for one in ordered}
    _find_alike(found, folders, judge.policy)
    for one in folders:
        _find_places(found, one)
    for picture in [*found.pictures.values(), *found.companions.values()]:
        picture.places.sort()
        picture.others = views.get(picture.sha256, [])
    return found


def _choose(
    found: ReviewSet, folder: str, view: FolderView, judge: Judge, disputed: set[bytes]
) -> None:
    """Take the pictures of one folder that there is something to decide about."""
    review_at, rulings = judge.policy.review_at, judge.rulings
    likenesses = likeness.unpack_all(view.column(LIKENESS))
    found.scored += len(view.names)
    each: Iterable[int] = range(len(view.names))
    if not (disputed or len(rulings)):  # most folders of most people; also finds those that are NaN
        each = [index for index, unsafe in enumerate(view.unsafe) if not unsafe < review_at]
    for index in each:
        digest = view.digests[SHA256_BYTES * index : SHA256_BYTES * (index + 1)]
        unsafe = view.unsafe[index]
        if math.isnan(unsafe):
            outcome = view[view.names[index]].outcome
            if not isinstance(outcome, Scored):
                found.scored -= 1
                found.without_verdict += isinstance(outcome, Unscorable)
                continue
            unsafe = outcome.scores.unsafe  # one that does not fit the columns
        wanted = unsafe >= review_at or digest in disputed
        wanted = wanted or rulings.touch(digest, likenesses[index : index + 1])
        if wanted and digest not in found.pictures:
            name = view.names[index]
            outcome = view[name].outcome
            if isinstance(outcome, Scored):
                path = os.path.join(folder, name)
                found.pictures[digest] = _picture(path, digest, outcome, judge, likenesses[index])


def _picture(path: str, digest: bytes, outcome: Scored, judge: Judge, bits: int) -> ReviewPicture:
    result = judge.result(path, digest, outcome, fact=lambda _: likeness.pack(bits))
    if isinstance(result, Scanned) and (match := result.verdict.near) is not None:
        return ReviewPicture(digest, outcome, result.decision, bits, match.path)
    return ReviewPicture(digest, outcome, judge.policy.decide(outcome.scores.unsafe), bits)


def _disputed(
    cache: Cache,
    path: str,
    view: FolderView,
    policy: Policy,
    others: Sequence[OtherModel],
    views: dict[bytes, list[OtherView]],
) -> set[bytes]:
    """Return the contents of a folder that one model calls safe and another does not.

    `views` gets what each other model says of each content.
    """
    disputed: set[bytes] = set()
    if not others:
        return disputed
    mine = {
        digest: unsafe
        for (digest,), unsafe in zip(_DIGESTS.iter_unpack(view.digests), view.unsafe, strict=True)
        if not math.isnan(unsafe)
    }
    for model in others:
        other = cache.folder(path, model.scorer)
        for (digest,), unsafe in zip(
            _DIGESTS.iter_unpack(other.digests), other.unsafe, strict=True
        ):
            if math.isnan(unsafe) or digest not in mine:
                continue
            said = OtherView(model.name, unsafe, model.policy.decide(unsafe))
            known = views.setdefault(digest, [])
            if said not in known:
                known.append(said)
            safe = policy.decide(mine[digest]) is Decision.SAFE
            if (said.decision is Decision.SAFE) is not safe:
                disputed.add(digest)
    return disputed


def _find_alike(found: ReviewSet, folders: Sequence[_SeenFolder], policy: Policy) -> None:
    """Fill in which pictures look alike, and take in companions.

    Pictures are compared by distinct likenesses: thousands may share one, such as a burst's.
    """
    pictures: dict[int, list[ReviewPicture]] = {}
    for picture in found.pictures.values():
        if likeness.is_comparable(picture.bits):
            pictures.setdefault(picture.bits, []).append(picture)
    alike = Alike(pictures)
    near: dict[int, list[tuple[int, int]]] = {bits: [] for bits in pictures}
    """By likeness of such a picture, (distance in bits, likeness) of those near it."""
    contents: dict[int, set[bytes]] = {}
    """By likeness, the contents that have it, if it is near such a picture."""
    far: set[int] = set()
    for folder in folders:
        column = likeness.unpack_all(folder.view.column(LIKENESS))
        for index, bits in alike.touched(column):
            if bits in far:
                continue
            if bits not in contents:
                others = alike.near(bits)
                if not others:
                    far.add(bits)
                    continue
                contents[bits] = set()
                for away, one in others:
                    near[one].append((away, bits))
            digest = folder.view.digests[SHA256_BYTES * index : SHA256_BYTES * (index + 1)]
            if _companion(found, folder, index, digest, bits, policy) is not None:
                contents[bits].add(digest)
    for bits, some in near.items():
        every = [(away, digest) for away, one in some for digest in contents[one]]
        first = heapq.nsmallest(MOST_ALIKE + 1, every)
        for picture in pictures[bits]:
            names = [digest for _, digest in first if digest != picture.sha256][:MOST_ALIKE]
            picture.alike = [one for one in map(found.find, names) if one is not None]
            picture.more_alike = max(0, len(every) - 1 - len(picture.alike))


def _companion(
    found: ReviewSet, folder: _SeenFolder, index: int, digest: bytes, bits: int, policy: Policy
) -> ReviewPicture | None:
    known = found.find(digest)
    if known is None:
        outcome = folder.view[folder.view.names[index]].outcome
        if isinstance(outcome, Scored):
            decision = policy.decide(outcome.scores.unsafe)
            known = found.companions[digest] = ReviewPicture(digest, outcome, decision, bits)
    return known


def _find_places(found: ReviewSet, folder: _SeenFolder) -> None:
    for index, (digest,) in enumerate(_DIGESTS.iter_unpack(folder.view.digests)):
        picture = found.find(digest)
        if picture is not None:
            picture.places.append(os.path.join(folder.path, folder.view.names[index]))
