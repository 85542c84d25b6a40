"""The latest decision about a content in every quarantine, from their journals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsfwscan.actions.quarantine.last_word import Said
from nsfwscan.values.errors import NsfwscanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from nsfwscan.actions.quarantine.last_word import Word
    from nsfwscan.actions.quarantine.vault import Vault


class LatestDecisions:
    """The latest decision about each content in every quarantine. Each journal is read once."""

    def __init__(self, vaults: Callable[[], Iterable[Vault]], warn: Callable[[str], None]) -> None:
        """`warn` is called for quarantines that cannot be read; their decisions do not count."""
        self._vaults = vaults
        self._warn = warn
        self._said: dict[str, Mapping[str, Word]] | None = None
        """By the quarantine's folder."""

    def about(self, sha256: str, besides: Vault | None = None) -> list[Word]:
        """Return the decisions about a content in all quarantines except `besides`."""
        if self._said is None:
            self._said = dict(self._read())
        return [
            said[sha256]
            for folder, said in self._said.items()
            if sha256 in said and (besides is None or folder != besides.folder)
        ]

    def restored_at(self, sha256: bytes) -> float:
        """Return when a content was restored, if that is the latest decision anywhere; else 0."""
        words = self.about(sha256.hex())
        return max((one.at for one in words if one.said is Said.RESTORED), default=0.0)

    def _read(self) -> Iterator[tuple[str, Mapping[str, Word]]]:
        for vault in self._vaults():
            try:
                yield vault.folder, vault.peek().words
            except NsfwscanError as error:
                self._warn(str(error))
