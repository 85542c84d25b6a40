"""Rules: which decision about which picture leads to which action.

They are data, given as `[[rule]]` in the configuration or as `--action NAME` on a command line:

    [[rule]]
    decision = "nsfw"               # or "review", or both in a list
    folder = "~/Downloads"          # only below it; without this key, everywhere
    action = "quarantine"

In: parsed TOML, or the value of an option. Out: `Rule`s. What can fail: `ConfigError` that names
the rule and the key, `UsageError` for an option.
"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, assert_never

from nsfwscan.values.actions import ActionName
from nsfwscan.values.errors import ConfigError, UsageError
from nsfwscan.values.results import Decision

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DEFAULT_TIME_LIMIT_S = 60.0


class TagKind(StrEnum):
    """Where a tag is written: never into the picture's bytes."""

    SIDECAR = "sidecar"
    XATTR = "xattr"


MOVING = frozenset({ActionName.QUARANTINE, ActionName.TRASH, ActionName.COMMAND})
"""Actions that the limit counts: they take pictures away, or may, like any command."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. It applies to scored pictures with one of its decisions, below its folder."""

    action: ActionName
    decisions: frozenset[Decision] = frozenset({Decision.NSFW})
    folder: str | None = None
    """Absolute, with links resolved; None for everywhere."""
    to: str = ""
    """`copy`: the folder, absolute."""
    command: tuple[str, ...] = ()
    """`command`: program and arguments; `{path}` stands for the picture's path. `notify`: what a
    click on the notification runs; empty for nothing."""
    time_limit_s: float = DEFAULT_TIME_LIMIT_S
    tag: TagKind = TagKind.SIDECAR
    inside: str = field(init=False, default="")
    """The folder, ending with a separator."""

    def __post_init__(self) -> None:
        if self.folder is not None:
            object.__setattr__(self, "inside", os.path.join(self.folder, ""))

    def covers(self, path: str, decision: Decision) -> bool:
        """Return True if the rule applies to the picture at an absolute path."""
        return decision in self.decisions and path.startswith(self.inside)


_WANTED = {ActionName.COPY: "to", ActionName.COMMAND: "command"}
"""The key that an action requires."""
_MEANT_FOR = {
    "to": ActionName.COPY,
    "command": ActionName.COMMAND,
    "time-limit": ActionName.COMMAND,
    "tag": ActionName.TAG,
}
_KEYS = ("decision", "folder", "action", *_MEANT_FOR)


def load_rules(tables: object, where: str) -> tuple[Rule, ...]:
    """Read the `[[rule]]` tables of the configuration named `where`.

    Raises `ConfigError` that names the rule, by its number, and the key.
    """
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise ConfigError(
            f"{where}: rule is not a list of tables",
            hint="write [[rule]], with two brackets, on a line of its own",
        )
    return tuple(_rule(one, f"{where}: [[rule]] {n}") for n, one in enumerate(tables, 1))


def _rule(table: Mapping[str, Any], where: str) -> Rule:
    def wrong(key: str, problem: str, hint: str) -> ConfigError:
        return ConfigError(
            f"{where} {key} = {json.dumps(table[key], default=str)}: {problem}", hint=hint
        )

    for key in table:
        if key not in _KEYS:
            raise ConfigError(
                f"{where}: unknown key {key!r}", hint=f"known keys are {', '.join(sorted(_KEYS))}"
            )
    names = ", ".join(ActionName)
    if "action" not in table:
        raise ConfigError(f"{where} has no action", hint=f"known actions are {names}")
    if table["action"] not in list(ActionName):
        raise wrong("action", "unknown action", f"known actions are {names}")
    action = ActionName(table["action"])
    for key, meant_for in _MEANT_FOR.items():
        if key in table and action is not meant_for:
            raise wrong(key, f"{action} does not take it", f"it belongs to {meant_for}")
    for key in ("folder", "to"):
        if key in table and not (isinstance(table[key], str) and _can_be(table[key])):
            raise wrong(key, "must be the path of a folder", f'write {key} = "~/Downloads"')
    needed = _WANTED.get(action)
    if needed is not None and needed not in table:
        raise ConfigError(f"{where} {action} needs {needed}", hint=_example(action))
    command = table.get("command", [])
    are_words = isinstance(command, list) and all(
        isinstance(one, str) and "\0" not in one for one in command
    )
    if not are_words or ("command" in table and not command):
        raise wrong("command", "must be a list of words", _example(ActionName.COMMAND))
    limit = table.get("time-limit", DEFAULT_TIME_LIMIT_S)
    if not isinstance(limit, int | float) or isinstance(limit, bool) or not 0 < limit <= 86_400:
        raise wrong("time-limit", "must be a number of seconds above 0", "write time-limit = 60")
    tag = table.get("tag", TagKind.SIDECAR)
    if tag not in list(TagKind):
        raise wrong("tag", "unknown kind of tag", f"known kinds are {', '.join(TagKind)}")
    return Rule(
        action,
        _decisions(table, wrong) if "decision" in table else frozenset({Decision.NSFW}),
        folder=_real(table["folder"]) if "folder" in table else None,
        to=_real(table["to"]) if "to" in table else "",
        command=tuple(command),
        time_limit_s=float(limit),
        tag=TagKind(tag),
    )


def _decisions(table: Mapping[str, Any], wrong: Any) -> frozenset[Decision]:
    given = table["decision"]
    words = given if isinstance(given, list) else [given]
    # No rule can act on safe pictures: a mistake there would hit nearly everything.
    allowed = [Decision.NSFW, Decision.REVIEW]
    if not words or any(one not in allowed for one in words):
        raise wrong(
            "decision", "not possible in a rule", 'write "nsfw", "review", or a list of them'
        )
    return frozenset(map(Decision, words))


def rule_of(option: str) -> Rule:
    """Parse the value of `--action`: `NAME` or `NAME=VALUE`. Raises `UsageError`."""
    word, equals, value = option.partition("=")
    if word not in list(ActionName):
        raise UsageError(
            f"unknown action {word!r}", hint=f"known actions are {', '.join(ActionName)}"
        )
    if "\0" in value:
        raise UsageError(f"{option!r} holds a NUL byte", hint="check what made the option")
    action = ActionName(word)
    match action:
        case ActionName.COPY:
            if value:
                return Rule(action, to=_real(value))
        case ActionName.COMMAND:
            try:
                words = tuple(shlex.split(value))
            except ValueError as error:  # an unmatched quotation mark
                raise UsageError(f"{option!r} is not a valid command: {error}") from error
            if words:
                return Rule(action, command=words)
        case ActionName.TAG:
            if not equals or value in list(TagKind):
                return Rule(action, tag=TagKind(value or TagKind.SIDECAR))
            raise UsageError(
                f"unknown kind of tag {value!r}", hint=f"known kinds are {', '.join(TagKind)}"
            )
        case ActionName.QUARANTINE | ActionName.TRASH | ActionName.NOTIFY:
            if not equals:
                return Rule(action)
            raise UsageError(f"{action} takes no value", hint=f"write --action {action}")
        case _:
            assert_never(action)
    raise UsageError(f"{action} needs a value", hint=_example(action, option=True))


def for_picture(rules: Iterable[Rule], path: str, decision: Decision) -> list[Rule]:
    """Return the rules that apply to the picture at an absolute path, in the order to follow.

    Rules that may take the picture away come last; of quarantine and trash, only the first counts.
    """
    found = [one for one in dict.fromkeys(rules) if one.covers(path, decision)]
    away = [one for one in found if one.action in {ActionName.QUARANTINE, ActionName.TRASH}]
    staying = [one for one in found if one not in away]
    staying.sort(key=lambda one: one.action is ActionName.COMMAND)
    return staying + away[:1]


def _can_be(path: str) -> bool:
    """Return False if no file system accepts the path."""
    return bool(path) and "\0" not in path


def _real(path: str) -> str:
    try:
        return os.path.realpath(os.path.expanduser(path))
    except OSError as error:  # from getcwd
        raise UsageError(
            f"the current folder no longer exists, so {path} cannot be resolved",
            hint="change to another folder, or give an absolute path",
        ) from error


def _example(action: ActionName, *, option: bool = False) -> str:
    if action is ActionName.COPY:
        return "write --action copy=FOLDER" if option else 'write to = "~/flagged"'
    if option:
        return "write --action command='PROGRAM {path}'"
    return 'write command = ["PROGRAM", "{path}"]'
