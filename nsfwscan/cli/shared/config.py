"""The configuration file: defaults for options, in TOML.

    [scan]
    flag-at = 0.9
    exclude = ["*.tmp", "Trash/"]

    [[rule]]
    folder = "~/Downloads"
    action = "quarantine"

`[[rule]]` tables set actions for pictures (`actions.rules`). Every other table has the name of a
command, and its keys are options of that command. Command-line options override `NSFWSCAN_*`
variables, which override this file, which overrides the built-in defaults.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup, TyperOption

from nsfwscan.system import locations
from nsfwscan.system.reading import open_text
from nsfwscan.values.errors import ConfigError
from nsfwscan.values.text import readable

if TYPE_CHECKING:
    from nsfwscan.actions.rules import Rule


@dataclass(frozen=True, slots=True)
class Configuration:
    """The contents of the configuration file."""

    defaults: dict[str, Any] = field(default_factory=dict)
    """In the shape of `typer.Context.default_map`."""
    rules: tuple[Rule, ...] = ()


def rules_in(context: typer.Context, *, ignored: bool) -> tuple[Rule, ...]:
    """Return the rules in the configuration of a command; none if `ignored`."""
    found = context.obj
    return found.rules if isinstance(found, Configuration) and not ignored else ()


def read(context: typer.Context, given: str | None) -> Configuration:
    """Read the configuration file.

    `given` must exist; if it is None, the default file is read if it exists. Raises `ConfigError`,
    which names the file and the key.
    """
    path = given or locations.config_file()
    try:
        with open_text(path, "utf-8-sig", newline="") as file:  # Notepad writes a BOM
            document = tomllib.loads(file.read())
    except FileNotFoundError as error:
        if given is None:
            return Configuration()
        raise ConfigError(f"the configuration file {readable(path)} does not exist") from error
    except OSError as error:
        raise ConfigError(
            f"the configuration file {readable(path)} cannot be read: {error.strerror}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the configuration file {readable(path)} is not valid TOML: {error}"
        ) from error
    except RecursionError as error:
        raise ConfigError(
            f"the configuration file {readable(path)} is nested too deeply"
        ) from error
    rules: tuple[Rule, ...] = ()
    if "rule" in document:
        from nsfwscan.actions.rules import load_rules

        rules = load_rules(document.pop("rule"), readable(path))
    return Configuration(_tables(context, context.command, document, readable(path)), rules)


def _tables(
    context: typer.Context, group: Any, document: dict[str, Any], where: str
) -> dict[str, Any]:
    """Check the tables for a group of commands; typer's `Command` is not a public type."""
    found: dict[str, Any] = {}
    for name, table in document.items():
        command = group.commands.get(name)
        inner = f"{where}: [{name}]"
        if command is None:
            known = ", ".join(f"[{one}]" for one in group.commands)
            known += ", [[rule]]" if group is context.command else ""
            raise ConfigError(f"{inner} is not a command", hint=f"known tables: {known}")
        if not isinstance(table, dict):
            raise ConfigError(
                f"{where}: {name} is a command, not an option",
                hint=f"write [{name}] on its own line, and its options below",
            )
        if isinstance(command, TyperGroup):
            found[name] = _tables(context, command, table, inner)
        else:
            found[name] = _options(context, command.get_params(context), table, inner)
    return found


def _options(
    context: typer.Context, parameters: list[Any], table: dict[str, Any], where: str
) -> dict[str, Any]:
    options = {
        flag.removeprefix("--"): option
        for option in parameters
        if isinstance(option, TyperOption) and not option.is_eager  # as --help is
        for flag in option.opts
        if flag.startswith("--")
    }
    values: dict[str, Any] = {}
    for key, value in table.items():
        option = options.get(key)
        if option is None or option.name is None:
            known = ", ".join(sorted(options))
            raise ConfigError(f"{where} has no option {key!r}", hint=f"known options: {known}")
        problem = _problem(context, option, value)
        if problem:
            raise ConfigError(
                f"{where} {key} = {json.dumps(value, default=str)}: {problem}",
                hint=f"the command's --help explains --{key}",
            )
        values[option.name] = value
    return values


def _problem(context: typer.Context, option: TyperOption, value: Any) -> str:
    """Return what is wrong with the value of an option; empty if nothing is."""
    if option.is_flag != isinstance(value, bool):
        return "it must be true or false" if option.is_flag else "it needs a value"
    if option.multiple and not isinstance(value, list):
        return f"it must be a list, [{json.dumps(value, default=str)}]"
    try:
        option.process_value(context, value)
    except typer.BadParameter as error:
        return error.message
    return ""
