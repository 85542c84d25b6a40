"""Groups of options: a command takes a dataclass, and typer sees each of its fields.

`scan` and `watch` share thirty options. A group defines them once, with their defaults, and is
passed as one value.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


def grouped(command: Callable[..., _T]) -> Callable[..., _T]:
    """Return `command` with every dataclass parameter replaced by the fields of the dataclass.

    The fields are annotated like parameters of typer commands, and all have defaults.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for one in inspect.signature(command).parameters.values():
        kind = hints[one.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            groups[one.name] = kind
            parameters += _parameters(kind)
        else:
            parameters.append(one.replace(annotation=kind))

    @functools.wraps(command)
    def with_groups(**given: Any) -> _T:
        for name, kind in groups.items():
            fields = {field.name: given.pop(field.name) for field in dataclasses.fields(kind)}
            given[name] = kind(**fields)
        return command(**given)

    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    setattr(with_groups, "__signature__", inspect.Signature(parameters))  # noqa: B010  typer reads it
    with_groups.__annotations__ = {one.name: one.annotation for one in parameters}
    return with_groups


def _parameters(kind: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(kind)
    ]
