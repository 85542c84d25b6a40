"""What restoring and deleting have in common: batches, and what was said about a content before."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.actions.quarantine.last_word import word_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nsfwscan.actions.quarantine.all_words import LastWords
    from nsfwscan.actions.quarantine.entries import Entry, Ledger
    from nsfwscan.actions.quarantine.last_word import Word
    from nsfwscan.actions.quarantine.vault import Moved, Vault
    from nsfwscan.judge import Rulings

_MOST, _MOST_BYTES = 512, 64 << 20
"""Pictures, and bytes of them, that leave in one batch: few syncs, and no lock held for long."""


class GivenBack(NamedTuple):
    """What became of one entry."""

    entry: Entry
    moved: Moved
    damaged: bool = False
    """It is back, and its bytes are not those that were moved in."""


def batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Yield entries in the batches in which they leave; each holds one at least."""
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
    said: LastWords | None,
    ledger: Ledger,
    contents: Iterable[str],
) -> Iterator[Word]:
    """Yield the last words about contents: in this quarantine, in others, and by people."""
    for content in filter(None, contents):
        if content in ledger.words:
            yield ledger.words[content]
        if said is not None:
            yield from said.about(content, besides=vault)
        ruled = rulings.by_content(bytes.fromhex(content))
        if ruled is not None:
            yield word_of(ruled)
