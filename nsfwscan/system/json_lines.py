"""JSON with one value per line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None


def json_line(value: Mapping[str, Json] | list[Json]) -> bytes:
    """Return a value as a line, including the newline.

    It is ASCII, so that no newline or partial character in a path breaks the line. Names that are
    not UTF-8 may be in it as Python's surrogates.
    """
    return json.dumps(value).encode("ascii") + b"\n"
