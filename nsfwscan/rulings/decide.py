"""Deciding: from the paths that a person names to decisions about what the files hold.

Two steps, so that nothing is decided by halves: `look` reads every picture and says what could not
be read, `RulingBook.add` keeps what came of it.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nsfwscan import likeness
from nsfwscan.errors import DecodeError
from nsfwscan.geometry import Geometry, Resample, Resize
from nsfwscan.images.decode_pool import DecodePool
from nsfwscan.images.discover import (
    DEFAULT_MAX_BYTES,
    WalkOptions,
    WalkTally,
    discover,
    join,
    printable,
)
from nsfwscan.images.read import read_picture
from nsfwscan.results import Failed, Ruling
from nsfwscan.rulings.rule import Likeness, Ruled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nsfwscan.rulings.rulings import Rulings

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


def pictures(paths: Iterable[str]) -> Iterator[str | Failed]:
    """Give the files that are meant: those that are named, and every picture below a folder."""
    for listing in discover(paths, WalkOptions(), WalkTally()):
        yield from (one for one in listing.passed if isinstance(one, Failed))
        yield from (join(listing.folder, name) for name in listing.names)


def look(found: Iterable[str | Failed], *, near: bool) -> Looked:
    """Read pictures, and decode them when `near` is set. What cannot be read is in `failed`.

    One that can be read and not decoded is seen all the same: its content is known.
    """
    looked = Looked()
    with ExitStack() as stack:
        pool = stack.enter_context(DecodePool(1)) if near else None
        for path in found:
            if isinstance(path, Failed):
                looked.failed.append(path)
                continue
            try:
                data = read_picture(path, follow=True, max_bytes=DEFAULT_MAX_BYTES).data
            except DecodeError as error:
                looked.failed.append(Failed(path, error.reason, error.detail))
                continue
            sha256 = hashlib.sha256(data).digest()
            bits, why_not = (likeness.UNKNOWN, "") if pool is None else _likeness(pool, data)
            looked.seen.append(Seen(path, sha256, bits, why_not))
    return looked


def _likeness(pool: DecodePool, data: bytes) -> tuple[int, str]:
    try:
        decoded = pool.decode(data, _GEOMETRY)
    except DecodeError as error:
        return likeness.NONE, f"it cannot be decoded ({error.reason})"
    if likeness.is_comparable(decoded.likeness):
        return decoded.likeness, ""
    if decoded.facts.frames > 1:
        return likeness.NONE, "it has several frames, and one says nothing of the others"
    return likeness.NONE, "it is so plain that it looks like every other plain picture"


def decisions(
    seen: Iterable[Seen], ruling: Ruling, before: Rulings, *, within: int | None
) -> list[Ruled]:
    """Return the decisions that are new, given those that held before.

    `within` is how many bits a picture may differ in and still be meant, None for the very content
    alone. A decision that says less than one which holds already is not new.
    """
    now = int(time.time())
    new: dict[bytes, Ruled] = {}
    for one in seen:
        near = None
        if within is not None and likeness.is_comparable(one.bits):
            near = Likeness(one.bits, within)
        held = before.by_content(one.sha256)
        if held is not None and held.ruling is ruling and near in {None, held.near}:
            continue
        new[one.sha256] = Ruled(one.sha256, ruling, now, printable(os.path.abspath(one.path)), near)
    return list(new.values())
