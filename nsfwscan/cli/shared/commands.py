"""Base classes of all commands, which add to typer: plainer help and errors, and a faster start.

Options and arguments check their values here. typer's own check imports pydantic, even for options
that were not given: 0.16 s of processor time for a command that otherwise takes 0.09 s. It reports
"Value error, 'xml' is not one of ...", and accepts an empty model name or folder. Its help shows a
type beside flags and paths.

typer cannot be told which class to use for a parameter, so the class is changed afterwards. If a
later typer did not call `process_value` or `display_type_rich`, only the faults above would return;
tests/test_help.py and tests/test_cli_config.py would notice.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, Any, get_args

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from nsfwscan.cli.shared.codes import WRONG_COMMAND
from nsfwscan.values.errors import UsageError

if TYPE_CHECKING:
    from typer import Context
    from typer.exceptions import TyperException

_YES, _NO = (
    frozenset({"1", "true", "yes", "on", "t", "y"}),
    frozenset({"0", "false", "no", "off", "f", "n"}),
)
_MOST = 2**31 - 1
"""The largest number that an option accepts; larger ones would fail in C code."""


class RunAgain(Exception):
    """Raised by a command to run again with the current configuration."""


class Option(TyperOption):
    """An option that checks its own value."""

    def process_value(self, ctx: Any, value: Any) -> Any:
        """Check and convert a value. Raises `typer.BadParameter` and `UsageError`."""
        return _processed(self, ctx, value)


class Argument(TyperArgument):
    """An argument that checks its own value."""

    def process_value(self, ctx: Any, value: Any) -> Any:
        """Check and convert a value. Raises `typer.BadParameter` and `UsageError`."""
        return _processed(self, ctx, value)

    def display_type_rich(self, ctx: Any) -> None:
        """Show no type: help would show `<list[str]>` beside PATH."""


class Command(TyperCommand):
    """A command with plainer help and a faster start."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options and arguments, as ours."""
        return [_ours(one) for one in super().get_params(ctx)]


class Group(TyperGroup):
    """A group of commands with plainer help and a faster start."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options and arguments, as ours."""
        return [_ours(one) for one in super().get_params(ctx)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Print the help if no command is given, which is an error."""
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            ctx.get_help()  # typer prints it
            ctx.exit(WRONG_COMMAND)
        return super().parse_args(ctx, args)


def usage_error(error: TyperException) -> UsageError:
    """Turn an error of typer's about the arguments into one in nsfwscan's style."""
    sentence = error.format_message().rstrip(".")
    return UsageError(
        sentence[:1].lower() + sentence[1:], hint=_see_help(getattr(error, "ctx", None))
    )


def _see_help(context: Context | None) -> str:
    return f"see `{context.command_path} --help`" if context is not None else ""


def _ours(parameter: Any) -> Any:
    """Give a parameter made by typer the class from this module, unless it already has it."""
    if type(parameter) is TyperOption:
        parameter.__class__ = Option
        if parameter.is_flag:
            parameter.metavar = ""  # help would show <bool>, as if it took a value
    elif type(parameter) is TyperArgument:
        parameter.__class__ = Argument
    return parameter


def _processed(parameter: Option | Argument, context: Context, value: Any) -> Any:
    many = parameter.nargs == -1 or getattr(parameter, "multiple", False)
    annotation: Any = parameter.type_descriptor.annotation
    wanted = get_args(annotation)[0] if many else annotation
    try:
        if many:
            ready: Any = tuple(_converted(parameter, wanted, one) for one in value or ())
        elif value is None or (value == parameter.default and type(value) is wanted):
            ready = value
        else:
            ready = _converted(parameter, wanted, value)
    except ValueError as error:
        raise typer.BadParameter(str(error), ctx=context, param=parameter) from None
    if parameter.required and parameter.value_is_missing(ready):
        missing = f"missing {parameter.param_type_name} {parameter.get_error_hint()}"
        raise UsageError(missing, hint=_see_help(context))
    return parameter.callback(context, parameter, ready) if parameter.callback else ready


def _converted(parameter: Any, wanted: type, value: Any) -> Any:
    """Convert one value. Raises ValueError with a message for the user."""
    if issubclass(wanted, Enum):
        return _choice(wanted, value)
    if wanted is bool:
        return value if isinstance(value, bool) else _yes_or_no(value)
    if wanted in {int, float}:
        return _number(parameter, wanted, value)
    if parameter.metavar == "SIZE" and type(value) in {int, float}:
        return str(value)  # as in `max-size = 100000` in the configuration
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a string")  # noqa: TRY004
    if isinstance(parameter, TyperOption):
        # Arguments are paths, which `cli.shared.paths` checks.
        if not value:
            raise ValueError("it is empty (is a variable in your script not set?)")
        if "\0" in value:
            raise ValueError(f"{value!r} contains a NUL character")
    return value


def _choice(wanted: type[Enum], value: Any) -> Enum:
    try:
        return wanted(value)
    except ValueError:
        choices = ", ".join(repr(one.value) for one in wanted)
        raise ValueError(f"{value!r} is not one of {choices}") from None


def _yes_or_no(value: Any) -> bool:
    word = str(value).strip().lower()
    if word not in _YES | _NO:
        raise ValueError(f"{value!r} is neither true nor false")
    return word in _YES


def _number(parameter: Any, wanted: type, value: Any) -> int | float:
    kind = "a whole number" if wanted is int else "a number"
    fits = isinstance(value, str | int | wanted) and not isinstance(value, bool)
    try:
        number: int | float = wanted(value) if fits else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not {kind}")
    least, most = parameter.min, _MOST if parameter.max is None else parameter.max
    if least is not None and number < least:
        raise ValueError(f"{number} is less than {least}")
    if number > most:
        raise ValueError(f"{number} is more than {most}")
    return number
