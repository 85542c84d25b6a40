"""Imports commands only when they are used.

Starting a command then costs typer and that command, not a dozen others, most of which import the
scanner. Only help and completion, which list all commands, import all of them.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

import typer
from typer.main import get_command_from_info, get_group_from_info
from typer.models import CommandInfo, TyperInfo

from nsfwscan.cli.shared.commands import Command, Group

MARKUP: Final = "markdown"
_PLACES = {
    "scan": "scan:scan",
    "report": "report:report",
    "show": "show:show",
    "watch": "watch:watch",
    "review": "review:review",
    "serve": "serve:serve",
    "allow": "rulings:allow",
    "deny": "rulings:deny",
    "rulings": "rulings:app",
    "models": "models:app",
    "cache": "cache:app",
    "status": "status:status",
    "service": "service:app",
    "quarantine": "quarantine:app",
    "doctor": "doctor:doctor",
    "selftest": "selftest:selftest",
    "self-uninstall": "self_uninstall:self_uninstall",
}
"""The commands in the order of the help, each with its module and its function or group."""


def is_command(name: str) -> bool:
    """Return True if there is such a command or group."""
    return name in _PLACES


class Commands(Mapping[str, Any]):
    """Maps names to commands; typer's command classes are not public."""

    def __init__(self) -> None:
        self._ready: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """Return a command, importing it on first use."""
        command = self._ready.get(name)
        if command is None:
            command = self._ready[name] = _load(name, _PLACES[name])
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


class Root(Group):
    """The group of all commands."""

    def __init__(self, **attributes: Any) -> None:
        """`attributes` are those of a typer group, except its commands."""
        super().__init__(**{**attributes, "commands": Commands()})

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  typer's signature
        """Return the names, without importing the commands."""
        return list(_PLACES)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Return a command's name, the command, and its arguments.

        `nsfwscan PATH` means `nsfwscan scan PATH`.
        """
        if args[0] not in _PLACES and _means_path(args[0]):
            args = ["scan", *args]
        return super().resolve_command(ctx, args)


def _means_path(word: str) -> bool:
    """Return True if `word` is a path, not a mistyped command."""
    return os.path.lexists(word) or word.startswith(("~", ".")) or os.sep in word


def _load(name: str, place: str) -> Any:
    module, _, attribute = place.partition(":")
    found = getattr(importlib.import_module(f"nsfwscan.cli.{module}"), attribute)
    if isinstance(found, typer.Typer):
        return get_group_from_info(
            TyperInfo(found, name=name),
            pretty_exceptions_short=False,
            suggest_commands=True,
            rich_markup_mode=MARKUP,
        )
    return get_command_from_info(
        CommandInfo(name, cls=Command, callback=found),
        pretty_exceptions_short=False,
        rich_markup_mode=MARKUP,
    )
