"""Facts about a content that its bytes alone decide, besides its outcome: its likeness, say.

A kind of fact has a name and a version, and (content, kind) -> bytes never changes, so the cache
keeps it for good. To add a kind, name it here and compute it in `media.decode.facts` (from pixels)
or in `scanning.examine` (from what the model says); everything between passes it on unseen.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from nsfwscan.values import likeness

MOST_BYTES = 1 << 16
"""No fact is longer."""


class FactKind(NamedTuple):
    """A kind of fact. Another way to compute it, or another model, is another version."""

    name: str
    version: str
    width: int = 0
    """Bytes of each fact of this kind, of which one is not zero; 0 where their lengths differ."""
    absent: bytes = b""
    """What stands for a content that has no such fact: one that cannot be decoded, say."""

    def takes(self, body: bytes) -> bool:
        """Return True if a fact of this kind can have these bytes."""
        return len(body) == self.width if self.width else len(body) <= MOST_BYTES


LIKENESS = FactKind(
    "likeness", likeness.ALGORITHM, likeness.BYTES, absent=likeness.pack(likeness.NONE)
)
"""See `nsfwscan.values.likeness`; its bytes are those of `likeness.pack`."""

KINDS: tuple[FactKind, ...] = (LIKENESS,)
"""All kinds, in the order in which they were added."""

IN_COLUMNS: tuple[FactKind, ...] = tuple(kind for kind in KINDS if kind.width)
"""Those that a folder's snapshot holds, so that a re-scan has them without a query a picture."""

ContentFacts: TypeAlias = Mapping[FactKind, bytes]
"""The facts that are known of one content."""

NO_FACTS: ContentFacts = MappingProxyType({})
