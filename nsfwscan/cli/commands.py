"""What all commands have beyond what typer gives: plainer help and a quicker start."""

from __future__ import annotations

import functools
from enum import Enum
from typing import TYPE_CHECKING, Any, get_args

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

if TYPE_CHECKING:
    from typer import Context


class RunAgain(Exception):
    """Raised by a command to be run once more, with what the configuration says now."""


class Command(TyperCommand):
    """A command with plainer help and a quicker start."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters. They share a class that has no public name."""
        return [_adapted(one) for one in super().get_params(ctx)]


class Group(TyperGroup):
    """A group of commands with plainer help and a quicker start."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters. They share a class that has no public name."""
        return [_adapted(one) for one in super().get_params(ctx)]


def _adapted(parameter: Any) -> Any:
    """Adapt one parameter; doing so twice changes nothing."""
    if isinstance(parameter, TyperOption) and parameter.is_flag:
        parameter.metavar = ""  # help would say <bool>, as if a value were expected
    if isinstance(parameter, TyperArgument):
        setattr(parameter, "display_type_rich", _no_type)  # noqa: B010  help: <list[str]>
    setattr(parameter, "process_value", functools.partial(_process, parameter))  # noqa: B010
    return parameter


def _no_type(ctx: Context) -> None:  # noqa: ARG001  typer calls it by keyword
    return None


def _process(parameter: Any, context: Context, value: Any) -> Any:
    """Check and convert a value as typer does, but without pydantic where there is nothing to do.

    typer imports pydantic to look at each parameter, also at one that was not given: 0.1 s of a
    0.3 s start.
    """
    if parameter.required:
        return type(parameter).process_value(parameter, context, value)
    many = parameter.nargs == -1 or getattr(parameter, "multiple", False)
    annotation = parameter.type_descriptor.annotation
    wanted = get_args(annotation)[0] if many else annotation
    try:
        if many:
            ready: Any = tuple(_plain(wanted, one) for one in value or ())
        elif value is None or (value == parameter.default and type(value) is wanted):
            ready = value
        else:
            ready = _plain(wanted, value)
    except ValueError:
        return type(parameter).process_value(parameter, context, value)
    return parameter.callback(context, parameter, ready) if parameter.callback else ready


def _plain(wanted: type, value: Any) -> Any:
    """Convert a value to text or a choice. Raises ValueError for all else, also for no choice."""
    if type(value) is wanted and wanted in {str, bool}:
        return value
    if issubclass(wanted, Enum):
        return wanted(value)
    raise ValueError(value)
