"""What restoring and deleting share: batches, and earlier decisions about a content."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.actions.quarantine.last_word import word_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nsfwscan.actions.quarantine.entries import Entry, Ledger
    from nsfwscan.actions.quarantine.last_word import Word
    from nsfwscan.actions.quarantine.latest_decisions import LatestDecisions
    from nsfwscan.actions.quarantine.vault import Moved, Vault
    from nsfwscan.judge import Rulings

_MOST, _MOST_BYTES = 512, 64 << 20
"""Pictures and bytes in one batch: few syncs, and the lock is never held for long."""


class GivenBack(NamedTuple):
    """The outcome for one entry."""

    entry: Entry
    moved: Moved
    damaged: bool = False
    """It was restored, but its bytes are not those that were moved in."""


def batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Yield the entries in batches of at least one."""
    batch: list[Entry] = []
    left = _MOST_BYTES
    for one in entries:
        if batch and (len(batch) == _MOST or one.size > left):
            yield batch
            batch, left = [], _MOST_BYTES
        batch.append(one)
        left -= one.size
    if batch:
        yield batch


def words(
    vault: Vault,
    rulings: Rulings,
    said: LatestDecisions | None,
    ledger: Ledger,
    contents: Iterable[str],
) -> Iterator[Word]:
    """Yield the latest decisions about contents: here, in other quarantines, and rulings."""
    for content in filter(None, contents):
        if content in ledger.words:
            yield ledger.words[content]
        if said is not None:
            yield from said.about(content, besides=vault)
        ruled = rulings.by_content(bytes.fromhex(content))
        if ruled is not None:
            yield word_of(ruled)
