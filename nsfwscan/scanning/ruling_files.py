"""Deciding: from the paths that a person names to decisions about what the files hold.

In: paths. Out: entries of a `RulingBook`, written once all pictures were read, so that a run that
is interrupted decided nothing. A file that cannot be read is named, and nothing is decided about
it; one that can be read and not decoded has a content like any other, and so has one that is too
large to be decoded: it is hashed piece by piece.
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

from nsfwscan.judge.rule import LATEST_S, Likeness, Ruled
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
"""What a likeness is computed from when there is no model to say. The others give nearly the same:
a bit or two, measured in `benchmarks/likeness.py`."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One picture that a person named, and what is in it."""

    path: str
    sha256: bytes
    bits: int = likeness.UNKNOWN
    """Its likeness, when it was asked for; `NONE` for one that has none."""
    why_not: str = ""
    """Why it has no likeness, for the person."""


@dataclass(slots=True)
class Looked:
    """What became of the files that a person named."""

    seen: list[Seen] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    """Files whose content is no picture."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What a person's word came to."""

    new: list[Ruled]
    """Decisions that did not hold before."""
    turned: list[Ruled]
    """Decisions that held before and that these go against."""
    known: int
    """Contents about which the same had been decided before."""
    failed: list[Failed]
    """Files that could not be read. Nothing is decided about them."""
    strangers: list[str]
    """Files whose content is no picture. Nothing is decided about them."""
    unlike: list[Seen]
    """Pictures without a likeness, when one was asked for: decided about by content alone."""
    paths: list[str]
    """Where the pictures are about which this now holds."""


def decide(
    book: RulingBook,
    found: Iterable[str | Failed],
    ruling: Ruling,
    *,
    within: int | None,
    restored_at: Callable[[bytes], float] = lambda _sha256: 0.0,
) -> Decided:
    """Decide about pictures, and keep it.

    `restored_at` tells when a content was last restored from quarantine, 0 if it was not: what is
    decided now is later, and what was decided before is decided anew.

    `within` is in how many bits the likeness of another picture may differ for it to be meant, too;
    None for the very content alone. Raises `RulingsError`; then nothing was decided.
    """
    before = book.load()  # first: a file that is damaged is no place to add to
    looked = look(found, near=within is not None)
    new = _decisions(looked.seen, ruling, before, within, restored_at)
    book.add(new)
    held = [before.by_content(one.sha256) for one in new]
    return Decided(
        new,
        [one for one in held if one is not None and one.ruling is not ruling],
        len({one.sha256 for one in looked.seen}) - len(new),
        looked.failed,
        looked.strangers,
        [one for one in looked.seen if one.why_not],
        [one.path for one in looked.seen],
    )


def pictures(paths: Iterable[str]) -> Iterator[str | Failed]:
    """Give the files that are meant: those that are named, and every picture below a folder."""
    for listing in discover(paths, WalkOptions(max_bytes=sys.maxsize), WalkTally()):
        yield from (one for one in listing.passed if isinstance(one, Failed))
        yield from (join(listing.folder, name) for name in listing.names)


def look(found: Iterable[str | Failed], *, near: bool, strangers: bool = False) -> Looked:
    """Read pictures, and decode them when `near` is set. What cannot be read is in `failed`.

    One that can be read and not decoded is seen all the same: its content is known. What does not
    even begin like a picture is only seen with `strangers`.
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
    """Return what is in a file; None if it is no picture. Raises `DecodeError`."""
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
    """Return the beginning of a large file and its SHA-256. Raises `DecodeError`."""
    try:
        with open_bytes(open_picture(path, follow=True)) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise DecodeError(FailReason.CHANGED, "it is no file any more")
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
        raise DecodeError(FailReason.CHANGED, "it changed while it was read")
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
        return likeness.NONE, "it has several frames, and one says nothing of the others"
    return likeness.NONE, "it is so plain that it looks like every other plain picture"


def _no_model() -> Classifier:
    raise RuntimeError("a model was asked for, though only facts were wanted")


def _decisions(
    seen: Iterable[Seen],
    ruling: Ruling,
    before: Rulings,
    within: int | None,
    restored_at: Callable[[bytes], float],
) -> list[Ruled]:
    """Return the decisions that are new: one that says no more than what held before is not."""
    now = int(time.time())
    new: dict[bytes, Ruled] = {}
    for one in seen:
        near = None
        if within is not None and likeness.is_comparable(one.bits):
            near = Likeness(one.bits, within)
        held = before.by_content(one.sha256)
        same = held is not None and held.ruling is ruling and near in {None, held.near}
        restored = math.floor(restored_at(one.sha256))
        if held is not None and same and restored <= held.at:
            continue
        at = max(now, min(restored, LATEST_S))  # that clock may have been ahead
        new[one.sha256] = Ruled(one.sha256, ruling, at, printable(os.path.abspath(one.path)), near)
    return list(new.values())
