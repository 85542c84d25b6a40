"""A ruling as a value and as a journal record.

`ValueError` is raised for records that are incomplete or malformed: part of a ruling is useless.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from nsfwscan.values import likeness
from nsfwscan.values.results import Ruling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsfwscan.system.json_lines import Json

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FORGOTTEN, _GIVEN_UP = "forgotten", "given-up"
_LIKENESS = re.compile(r"[0-9a-f]{16}")
LATEST_S = 253_402_214_400
"""The end of the year 9999, less a day for time zones; later times cannot be shown as dates."""


class Likeness(NamedTuple):
    """Extends a ruling to pictures that look like the one it is about."""

    bits: int
    """See `nsfwscan.values.likeness`."""
    within: int
    """The ruling applies to likenesses that differ in at most this many bits."""


class Ruled(NamedTuple):
    """A person's ruling about one content."""

    sha256: bytes
    ruling: Ruling
    at: int
    """When it was made, in seconds since the epoch."""
    path: str
    """Where the picture was then, as printable text: for people to read, never to open a file."""
    near: Likeness | None = None
    """None if the ruling applies to this content alone."""


class Forgotten(NamedTuple):
    """Records that a person took a ruling back."""

    sha256: bytes
    at: int


class GivenUp(NamedTuple):
    """Records that a person saw damaged lines of the file and chose to go on without them."""

    lines: tuple[str, ...]
    """The SHA-256 of each line's bytes, in hexadecimal."""
    at: int


Entry: TypeAlias = Ruled | Forgotten | GivenUp


def to_record(entry: Entry) -> dict[str, Json]:
    """Return an entry as a journal record."""
    if isinstance(entry, Forgotten):
        return {"entry": _FORGOTTEN, "sha256": entry.sha256.hex(), "at": entry.at}
    if isinstance(entry, GivenUp):
        return {"entry": _GIVEN_UP, "lines": list(entry.lines), "at": entry.at}
    record: dict[str, Json] = {
        "entry": entry.ruling.value,
        "sha256": entry.sha256.hex(),
        "at": entry.at,
        "path": entry.path,
    }
    if entry.near is not None:
        record["near"] = {
            "algorithm": likeness.ALGORITHM,
            "likeness": f"{entry.near.bits:016x}",
            "within": entry.near.within,
        }
    return record


def from_record(record: Mapping[str, object]) -> Entry:
    """Return the entry in a record. Raises `ValueError`, which says what is wrong with it."""
    kind = record.get("entry")
    if not isinstance(kind, str):
        raise ValueError("`entry` is missing")  # noqa: TRY004  one kind of error for bad records
    at = _number(record, "at")
    if kind == _GIVEN_UP:
        return GivenUp(_lines(record.get("lines")), at)
    sha256 = bytes.fromhex(_matching(record, "sha256", _SHA256))
    if kind == _FORGOTTEN:
        return Forgotten(sha256, at)
    if kind not in set(Ruling):
        raise ValueError(f"{kind!r} is not a ruling")
    path = record.get("path")
    if not isinstance(path, str):
        raise ValueError("`path` is missing")  # noqa: TRY004
    printable = path.encode(errors="backslashreplace").decode()  # JSON may hold half a character
    return Ruled(sha256, Ruling(kind), at, printable, _near(record.get("near")))


def _lines(found: object) -> tuple[str, ...]:
    if not isinstance(found, list):
        raise ValueError("`lines` is missing")  # noqa: TRY004
    return tuple(_matching({"lines": line}, "lines", _SHA256) for line in found)


def _near(found: object) -> Likeness | None:
    if found is None:
        return None
    if not isinstance(found, dict):
        raise ValueError("`near` is not an object")  # noqa: TRY004
    if found.get("algorithm") != likeness.ALGORITHM:
        raise ValueError(f"likenesses of kind {found.get('algorithm')!r} are unknown")
    bits = int(_matching(found, "likeness", _LIKENESS), 16)
    within = _number(found, "within")
    if not likeness.is_sound(bits):
        raise ValueError(f"{bits:016x} is not a likeness")
    if within > likeness.MOST_WITHIN:
        raise ValueError(f"with `within` {within}, any two pictures would look alike")
    return Likeness(bits, within)


def _matching(record: Mapping[str, object], field: str, pattern: re.Pattern[str]) -> str:
    value = record.get(field)
    if not (isinstance(value, str) and pattern.fullmatch(value)):
        raise ValueError(f"`{field}` is {value!r}")
    return value


def _number(record: Mapping[str, object], field: str) -> int:
    value = record.get(field)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"`{field}` is {value!r}")
    return value
