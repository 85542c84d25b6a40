"""Reading the fields of an untrusted table: each is checked, and none may be missing or unknown."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

from nsfwscan.values.errors import ManifestError

if TYPE_CHECKING:
    import re

_E = TypeVar("_E", bound=Enum)


class Fields:
    """Reads the fields of a mapping by name, checks each, and refuses unknown ones in `done`."""

    def __init__(self, document: object, where: str) -> None:
        if not isinstance(document, Mapping):
            raise ManifestError(f"{where} must be a table of fields")
        self.where = where
        self._document: Mapping[str, object] = document
        self._asked: set[str] = set()

    def names(self) -> list[str]:
        """Return the names of all fields."""
        return list(self._document)

    def text(
        self, name: str, pattern: re.Pattern[str] | None = None, *, default: str | None = None
    ) -> str:
        """Return a text, which must match `pattern`."""
        value = self._get(name, default)
        if not isinstance(value, str) or (default is None and not value) or len(value) > 4000:
            raise self._wrong(name, value, "text")
        if not value.isprintable():  # control characters would reach the terminal
            raise self._wrong(name, value, "printable text")
        if pattern is not None and not pattern.match(value):
            raise self._wrong(name, value, f"text that matches {pattern.pattern}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts."""
        value = self._get(name)
        if not isinstance(value, list | tuple) or len(value) > 10_000:
            raise self._wrong(name, value, "a list of strings")
        if not all(isinstance(one, str) and one and one.isprintable() for one in value):
            raise self._wrong(name, value, "a list of printable strings")
        return tuple(value)

    def number(self, name: str, low: float, high: float) -> float:
        """Return a number from `low` to `high`."""
        return self._number(name, self._get(name), low, high)

    def triple(self, name: str, low: float, high: float) -> tuple[float, float, float]:
        """Return three numbers from `low` to `high`."""
        value = self._get(name)
        if not isinstance(value, list | tuple) or len(value) != 3:
            raise self._wrong(name, value, "a list of three numbers")
        red, green, blue = (self._number(name, one, low, high) for one in value)
        return red, green, blue

    def whole(self, name: str, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`."""
        value = self._get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(name, value, f"a whole number from {low} to {high}")
        return value

    def choice(self, name: str, options: type[_E]) -> _E:
        """Return one of `options`."""
        value = self._get(name)
        try:
            return options(value)
        except ValueError:
            words = ", ".join(str(one.value) for one in options)
            raise self._wrong(name, value, f"one of {words}") from None

    def fields(self, name: str, *, default: object = None) -> Fields:
        """Return a table inside this one."""
        return Fields(self._get(name, default), f"{self.where}: {name}")

    def several(self, name: str) -> list[Fields]:
        """Return a list of tables."""
        value = self._get(name, [])
        if not isinstance(value, list | tuple) or len(value) > 1000:
            raise self._wrong(name, value, "a list")
        return [Fields(one, f"{self.where}: {name}[{at}]") for at, one in enumerate(value)]

    def done(self) -> None:
        """Refuse fields that were not read: they might change the meaning."""
        strangers = set(self._document) - self._asked
        if strangers:
            raise ManifestError(f"{self.where} has an unknown field {sorted(strangers)[0]!r}")

    def _get(self, name: str, default: object = None) -> object:
        self._asked.add(name)
        value = self._document.get(name, default)
        if value is None:
            raise ManifestError(f"{self.where} lacks the field {name!r}")
        return value

    def _number(self, name: str, value: object, low: float, high: float) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self._wrong(name, value, "a number")
        if not low <= value <= high:  # also refuses NaN
            raise self._wrong(name, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def _wrong(self, name: str, value: object, wanted: str) -> ManifestError:
        return ManifestError(f"{self.where}: {name} is {str(value)[:60]!r}, not {wanted}")
