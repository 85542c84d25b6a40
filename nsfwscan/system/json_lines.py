"""JSON with one value a line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None


def json_line(value: Mapping[str, Json] | list[Json]) -> bytes:
    """Return a value as a line, the newline included.

    It is ASCII, so that a newline or half a character in a path never breaks the line. Names that
    are no UTF-8 may stand in it as Python's surrogates; they come back equal.
    """
    return json.dumps(value).encode("ascii") + b"\n"
