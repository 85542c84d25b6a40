"""Facts: what a content's bytes decide besides its outcome, for example its likeness.

A kind of fact has a name and a version. The bytes for a (content, kind) never change, so the cache
keeps them for good. To add a kind, name it here and compute it in `media.decode.facts` (from
pixels) or in `scanning.examine` (from the model's output); the code between needs no change.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from nsfwscan.values import likeness

MOST_BYTES = 1 << 16
"""The longest a fact may be."""


class FactKind(NamedTuple):
    """A kind of fact. Another algorithm or another model needs another version."""

    name: str
    version: str
    width: int = 0
    """Bytes of each fact of this kind; 0 if lengths vary. In columns, zeros stand for "unknown", so
    no fact with a width may be all zeros."""
    absent: bytes = b""
    """Stored for content that has no such fact, for example because it cannot be decoded."""

    def takes(self, body: bytes) -> bool:
        """Return True if `body` can be a fact of this kind."""
        if self.width:
            return len(body) == self.width and any(body)
        return len(body) <= MOST_BYTES


LIKENESS = FactKind(
    "likeness", likeness.ALGORITHM, likeness.BYTES, absent=likeness.pack(likeness.NONE)
)
"""See `nsfwscan.values.likeness`; the bytes are those of `likeness.pack`."""

KINDS: tuple[FactKind, ...] = (LIKENESS,)
"""All kinds, in the order in which they were added."""

IN_COLUMNS: tuple[FactKind, ...] = tuple(kind for kind in KINDS if kind.width)
"""Kinds kept in a folder's snapshot, so that a re-scan needs no query for each picture."""

ContentFacts: TypeAlias = Mapping[FactKind, bytes]
"""The known facts of one content."""

NO_FACTS: ContentFacts = MappingProxyType({})
