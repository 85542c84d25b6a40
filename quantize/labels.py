"""Which labels of a classifier mean that a picture is not safe: data from `labels.toml`.

Nothing is guessed: labels of an unknown family are refused until the user says which are unsafe.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nsfwscan.values.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SHOWN = 20
"""Most labels in a message."""
_BETWEEN_WORDS = re.compile(r"[\s_-]+")


@dataclass(frozen=True, slots=True)
class Family:
    """A set of labels with a published meaning, in normal form."""

    labels: tuple[str, ...]
    unsafe: tuple[str, ...]
    source: str
    debatable: tuple[str, ...] = ()
    """Unsafe labels that some people consider safe."""
    why: str = ""
    """Why they are debatable."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The labels that count as unsafe, in the checkpoint's spelling, and the reason."""

    unsafe: tuple[str, ...]
    reason: str
    """Sentences for the user."""


@functools.cache
def families() -> tuple[Family, ...]:
    """Return the families of `labels.toml`."""
    return tuple(
        Family(
            labels=tuple(table["labels"]),
            unsafe=tuple(table["unsafe"]),
            source=table["source"],
            debatable=tuple(table.get("debatable", ())),
            why=table.get("why", ""),
        )
        for table in _document()["family"]
    )


def choose(labels: Sequence[str], wanted: Sequence[str]) -> Choice:
    """Decide which of `labels` count as unsafe.

    `wanted` are the user's choices, or empty. Raises `UsageError` if they are not among the labels
    or are all of them, or if they are empty and the labels are not a known family.
    """
    if wanted:
        unsafe = {_find(labels, one) for one in wanted}
        if len(unsafe) == len(labels):
            raise _unclear(labels, "with --unsafe-label for all of them, no picture can be safe")
        return Choice(_in_order(labels, unsafe), "--unsafe-label says so.")
    normal = {one: _normal(one) for one in labels}
    for family in families():
        if sorted(family.labels) != sorted(normal.values()):
            continue
        reason = f"Same labels as {family.source}."
        if family.debatable:
            rest = [
                one for one in labels if normal[one] in set(family.unsafe) - {*family.debatable}
            ]
            options = " ".join(f"--unsafe-label {_quoted(one)}" for one in rest)
            reason += f" Debatable: {family.why}. To leave that out: {options}"
        return Choice(
            _in_order(labels, {k for k, v in normal.items() if v in family.unsafe}), reason
        )
    raise _unclear(labels, "these labels are not a set whose meaning is known")


def shown(labels: Sequence[str]) -> str:
    """Return the first labels for a message, and the number of others."""
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return ", ".join(labels[:_SHOWN]) + more


def _unclear(labels: Sequence[str], why: str) -> UsageError:
    numbered = all(re.fullmatch(r"(?i)(label|class)[ _-]?\d+", one) for one in labels)
    return UsageError(
        f"which of the labels {shown(labels)} mean that a picture is not safe? ({why})",
        hint="name each with --unsafe-label LABEL"
        + ("; the model's card says what the numbers mean" if numbered else ""),
    )


def _find(labels: Sequence[str], wanted: str) -> str:
    if wanted in labels:
        return wanted
    alike = [one for one in labels if _normal(one) == _normal(wanted)]
    if len(alike) != 1:
        raise _unclear(labels, f"--unsafe-label names {wanted[:80]!r}, which is not one of them")
    return alike[0]


def _in_order(labels: Sequence[str], chosen: set[str]) -> tuple[str, ...]:
    return tuple(one for one in labels if one in chosen)


def _normal(label: str) -> str:
    words = _BETWEEN_WORDS.sub(" ", label.casefold()).strip()
    synonyms: Mapping[str, str] = _document()["synonyms"]
    return synonyms.get(words, words)


def _quoted(label: str) -> str:
    return f"'{label}'" if " " in label else label


@functools.cache
def _document() -> Mapping[str, Any]:
    text = (importlib.resources.files(__package__) / "labels.toml").read_text("utf-8")
    return tomllib.loads(text)
