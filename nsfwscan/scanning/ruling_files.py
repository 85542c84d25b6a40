"""From the paths that a user names to rulings about their contents.

In: paths. Out: entries of a `RulingBook`, written once all pictures have been read, so that an
interrupted run changes nothing. A file that cannot be read is reported and gets no ruling. A file
that can be read but not decoded still has content to rule on, and so does one too large to decode,
which is hashed in pieces.
"""

from __future__ import annotations

import math
import os
import stat
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nsfwscan.judge.ruled import LATEST_S, Likeness, Ruled
from nsfwscan.media.decode.pool import DecodePool
from nsfwscan.media.discover import (
    DEFAULT_MAX_BYTES,
    WalkOptions,
    WalkTally,
    discover,
    join,
    printable,
)
from nsfwscan.media.read import open_picture
from nsfwscan.media.sniff import HEAD_BYTES, sniff
from nsfwscan.scanning.examine import FACTS, Content, examine, identify
from nsfwscan.system.hashing import Sha256, pieces
from nsfwscan.system.reading import open_bytes
from nsfwscan.values import likeness
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.facts import LIKENESS
from nsfwscan.values.file_key import FileKey
from nsfwscan.values.geometry import Geometry, Resample, Resize
from nsfwscan.values.outcome import Unscorable
from nsfwscan.values.results import Failed, FailReason, Ruling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nsfwscan.judge.book import RulingBook
    from nsfwscan.judge.rulings import Rulings
    from nsfwscan.models.classifier import Classifier

_GEOMETRY = Geometry(Resize.STRETCH, 224, 224, Resample.BILINEAR, 224, 224)
"""The geometry for likenesses when there is no model to give one. Other geometries change a bit or
two, as measured in `benchmarks/likeness.py`."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture that the user named, and its content."""

    path: str
    sha256: bytes
    bits: int = likeness.UNKNOWN
    """Its likeness, if asked for; `NONE` if it has none."""
    why_not: str = ""
    """Why it has no likeness, for the user."""


@dataclass(slots=True)
class Looked:
    """What was found in the files that the user named."""

    seen: list[Seen] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    """Files that are not pictures."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What `decide` did."""

    new: list[Ruled]
    """Rulings that were added."""
    turned: list[Ruled]
    """Earlier rulings that the new ones contradict."""
    known: int
    """How many contents already had this ruling."""
    failed: list[Failed]
    """Files that could not be read; no ruling was made about them."""
    strangers: list[str]
    """Files that are not pictures; no ruling was made about them."""
    unlike: list[Seen]
    """Pictures without a likeness although one was asked for; ruled on by content alone."""
    paths: list[str]
    """Paths of the pictures to which the ruling now applies."""


def decide(
    book: RulingBook,
    found: Iterable[str | Failed],
    ruling: Ruling,
    *,
    within: int | None,
    restored_at: Callable[[bytes], float] = lambda _sha256: 0.0,
) -> Decided:
    """Make a ruling about pictures and store it.

    `restored_at` returns when a content was last restored from quarantine, or 0 if it was not: the
    ruling is dated later, and an earlier one is made again.

    `within` is the number of bits in which the likeness of another picture may differ for the
    ruling to apply to it, too; None for this content alone. Raises `RulingsError`; then no ruling
    was made.
    """
    before = book.load()  # first, because nothing may be added to a damaged file
    looked = look(found, near=within is not None)
    new = rulings_about(looked.seen, ruling, before, within, restored_at)
    book.add(new)
    held = [before.by_content(ruled.sha256) for ruled in new]
    return Decided(
        new,
        [old for old in held if old is not None and old.ruling is not ruling],
        len({seen.sha256 for seen in looked.seen}) - len(new),
        looked.failed,
        looked.strangers,
        [seen for seen in looked.seen if seen.why_not],
        [seen.path for seen in looked.seen],
    )


def pictures(paths: Iterable[str]) -> Iterator[str | Failed]:
    """Yield the files that `paths` stand for: named files, and every picture below a folder."""
    for listing in discover(paths, WalkOptions(max_bytes=sys.maxsize), WalkTally()):
        yield from (result for result in listing.not_opened if isinstance(result, Failed))
        yield from (join(listing.folder, name) for name in listing.names)


def look(found: Iterable[str | Failed], *, near: bool, strangers: bool = False) -> Looked:
    """Read pictures, and decode them if `near` is set. Unreadable files go to `failed`.

    A file that can be read but not decoded counts as seen: its content is known. Files that do not
    begin like a picture only count as seen with `strangers`.
    """
    looked = Looked()
    with ExitStack() as stack:
        pool = stack.enter_context(DecodePool(1)) if near else None
        for path in found:
            if isinstance(path, Failed):
                looked.failed.append(path)
                continue
            try:
                seen = _look_at(path, pool, strangers=strangers)
            except DecodeError as error:
                looked.failed.append(Failed(path, error.reason, error.detail))
            else:
                if seen is None:
                    looked.strangers.append(path)
                else:
                    looked.seen.append(seen)
    return looked


def _look_at(path: str, pool: DecodePool | None, *, strangers: bool) -> Seen | None:
    """Return what is in a file; None if it is not a picture. Raises `DecodeError`."""
    try:
        content = identify(path, max_bytes=DEFAULT_MAX_BYTES)
    except DecodeError as error:
        if error.reason is not FailReason.TOO_BIG:
            raise
        head, sha256 = _hash(path)
        if not strangers and sniff(head) is None:
            return None
        if pool is None:
            return Seen(path, sha256)
        return Seen(path, sha256, likeness.NONE, "it is too large to be decoded")
    if not strangers and sniff(content.data[:HEAD_BYTES]) is None:
        return None
    bits, why_not = (likeness.UNKNOWN, "") if pool is None else _likeness(pool, content)
    return Seen(path, content.sha256, bits, why_not)


def _hash(path: str) -> tuple[bytes, bytes]:
    """Return the beginning of a large file, and its SHA-256. Raises `DecodeError`."""
    try:
        with open_bytes(open_picture(path, follow=True)) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise DecodeError(FailReason.CHANGED, "it is no longer a file")
            head = file.read(HEAD_BYTES)
            file.seek(0)
            sha256 = Sha256().take(pieces(file)).digest()
            after = os.fstat(file.fileno())
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        raise DecodeError(
            FailReason.VANISHED if gone else FailReason.UNREADABLE, error.strerror or str(error)
        ) from error
    if FileKey.of(before) != FileKey.of(after):
        raise DecodeError(FailReason.CHANGED, "it changed while it was being read")
    return head, sha256


def _likeness(pool: DecodePool, content: Content) -> tuple[int, str]:
    """Return a picture's likeness, and why it has none."""
    found = examine(content, FACTS, decode=pool.decode, geometry=_GEOMETRY, classifier=_no_model)
    if isinstance(found.outcome, Unscorable):
        return likeness.NONE, f"it cannot be decoded ({found.outcome.reason})"
    bits = likeness.unpack(found.facts.get(LIKENESS))
    if likeness.is_comparable(bits):
        return bits, ""
    if found.decoded is not None and found.decoded.facts.frames > 1:
        return likeness.NONE, "it has several frames, and one frame does not stand for the others"
    return likeness.NONE, "it is so plain that it looks like any other plain picture"


def _no_model() -> Classifier:
    raise RuntimeError("a model was requested, but only facts were wanted")


def rulings_about(
    seen: Iterable[Seen],
    ruling: Ruling,
    before: Rulings,
    within: int | None = None,
    restored_at: Callable[[bytes], float] = lambda _sha256: 0.0,
) -> list[Ruled]:
    """Return the rulings about these pictures that add something to those in force (`before`).

    See `decide` for the other arguments. Nothing is stored.
    """
    now = int(time.time())
    new: dict[bytes, Ruled] = {}
    for picture in seen:
        sha256, bits = picture.sha256, picture.bits
        near = None
        if within is not None and likeness.is_comparable(bits):
            near = Likeness(bits, within)
        held = before.by_content(sha256)
        same = held is not None and held.ruling is ruling and near in {None, held.near}
        restored = math.floor(restored_at(sha256))
        if held is not None and same and restored <= held.at:
            continue
        at = max(now, min(restored, LATEST_S))  # the clock may have been ahead then
        path = printable(os.path.abspath(picture.path))
        new[sha256] = Ruled(sha256, ruling, at, path, near)
    return list(new.values())
