"""Reads a checkpoint's JSON files, field by field.

A field that is neither read nor listed as harmless in `fields.toml` is refused by name, because it
might change what the network computes.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import tomllib
from typing import TYPE_CHECKING, Any

from nsfwscan.system.reading import open_bytes
from nsfwscan.values.errors import ModelTampered, ModelUnusable
from quantize.tensors import unfetched

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_CONFIG_BYTES = 1 << 20


class Config:
    """An untrusted JSON object. `path` names it in errors."""

    def __init__(self, path: str, fields: Mapping[str, Any]) -> None:
        self.path = path
        self._fields = fields
        self._asked: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def get(self, name: str, default: object = None) -> Any:
        """Return a field's value, and mark the field as read."""
        self._asked.add(name)
        return self._fields.get(name, default)

    def only(self, name: str, wanted: object, *, default: object) -> None:
        """Refuse any value but `wanted`, because it would change what the network computes."""
        found = self.get(name, default)
        if found != wanted or type(found) is not type(wanted):
            raise ModelUnusable(f"{self.path}: {name} is {str(found)[:40]!r}, not {wanted!r}")

    def off(self, *names: str) -> None:
        """Refuse fields that would change scores, unless absent, null, false, zero or empty."""
        for name in names:
            if found := self.get(name):
                raise ModelUnusable(
                    f"{self.path}: {name} is {found!r:.60}, which is not supported",
                    hint="ignoring it would give other scores than the publisher's",
                )

    def whole(self, name: str, low: int, high: int) -> int:
        """Return a whole number in this range. Raises `ModelTampered`."""
        return self.checked(name, self.get(name), low, high)

    def checked(self, name: str, value: object, low: int, high: int) -> int:
        """Return `value` if it is a whole number in this range. Raises `ModelTampered`."""
        if type(value) is not int or not low <= value <= high:
            raise ModelTampered(
                f"{self.path}: {name} is {value!r:.40}, not a whole number {low} to {high}"
            )
        return value

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        """Return a number in this range. Raises `ModelTampered`."""
        return self._number(name, self.get(name, default), low, high)

    def triple(self, name: str) -> tuple[float, float, float]:
        """Return three numbers from 0 to 10, one for each channel. Raises `ModelTampered`."""
        value = self.get(name)
        if not isinstance(value, list) or len(value) != 3:
            raise ModelTampered(f"{self.path}: {name} is {value!r:.40}, not three numbers")
        red, green, blue = (self._number(name, one, 0, 10) for one in value)
        if "std" in name and min(red, green, blue) <= 0:
            raise ModelTampered(f"{self.path}: {name} has a zero")
        return red, green, blue

    def done(self, kind: str) -> None:
        """Refuse the rest, except what `fields.toml` lists under `kind`."""
        strangers = set(self._fields) - self._asked - harmless(kind)
        if strangers:
            raise ModelUnusable(
                f"{self.path} has an unknown field: {min(strangers)[:80]!r}",
                hint="it might change the scores; remove it if you know that it does not",
            )

    def _number(self, name: str, value: object, low: float, high: float) -> float:
        if type(value) not in (int, float) or not low <= value <= high:  # type: ignore[operator]
            raise ModelTampered(
                f"{self.path}: {name} is {value!r:.40}, not a number from {low:g} to {high:g}"
            )
        return float(value)  # type: ignore[arg-type]


def read(path: str, missing: str) -> Config:
    """Read a JSON file. `missing` is the hint if it does not exist. Raises `ModelTampered`."""
    try:
        with open_bytes(path) as stream:
            text = stream.read(_MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ModelTampered(f"{path} cannot be read: {error.strerror}", hint=missing) from error
    if len(text) > _MAX_CONFIG_BYTES:
        raise ModelTampered(f"{path} is too large for a configuration")
    if other := unfetched(path, text):
        raise other
    try:
        document = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ModelTampered(f"{path} is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise ModelTampered(f"{path} is not a table of fields")
    return Config(path, document)


@functools.cache
def harmless(kind: str) -> frozenset[str]:
    """Return the fields that `fields.toml` lists under `kind`."""
    text = (importlib.resources.files(__package__) / "fields.toml").read_text("utf-8")
    return frozenset(name for table in tomllib.loads(text)[kind] for name in table["fields"])


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name appears twice")  # parsers differ in which one they take
    return table
