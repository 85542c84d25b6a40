"""What keeps the watcher from doing as it should, said when it begins and when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Conditions:
    """Reasons why the watcher is degraded, each below a key that names what it is about."""

    def __init__(self, say: Callable[[str], None], warn: Callable[[str], None]) -> None:
        """`warn` hears of what begins, `say` of what is over."""
        self._say, self._warn = say, warn
        self._reasons: dict[str, str] = {}

    @property
    def reasons(self) -> tuple[str, ...]:
        """A sentence for each."""
        return tuple(self._reasons.values())

    def note(self, key: str, reason: str) -> None:
        """Let `reason` be what is wrong with `key`; empty when nothing is, or no longer."""
        before = self._reasons.get(key, "")
        if reason:
            self._reasons[key] = reason
            if not before:
                self._warn(f"degraded: {reason}")
        elif before:
            del self._reasons[key]
            self._say(f"no longer so: {before}")

    def any_of(self, *kinds: str) -> bool:
        """Tell whether something is wrong whose key begins with one of these."""
        return any(key.startswith(kinds) for key in self._reasons)
