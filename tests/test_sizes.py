"""Files, functions and lists of parameters stay short, and a class name means one thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
MOST_LINES, MOST_LINES_OF_A_FUNCTION, MOST_PARAMETERS = 450, 80, 12
EXCEPTIONS = {
    "nsfwscan/watch/watcher.py": "is being taken apart",
    "nsfwscan/cli/watch.py:watch": "its options are being gathered in groups",
}
"""File, or file and function -> why it may be larger. At most five."""


def modules(root: Path) -> Iterator[tuple[str, str]]:
    """Yield the name, relative to `root`, and the text of each module that is delivered."""
    for package in ("nsfwscan", "quantize"):
        for path in sorted((root / package).rglob("*.py")):
            yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")


def too_large(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield (what, how large) for a module and for each function in it."""
    lines = text.count("\n")
    if lines > MOST_LINES:
        yield name, f"{lines} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            given = node.args
            parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs]
            parameters += [one for one in (given.vararg, given.kwarg) if one is not None]
            if lines > MOST_LINES_OF_A_FUNCTION:
                yield f"{name}:{node.name}", f"{lines} lines"
            if len(parameters) > MOST_PARAMETERS:
                yield f"{name}:{node.name}", f"{len(parameters)} parameters"


def test_files_functions_and_lists_of_parameters_stay_short() -> None:
    found = [one for name, text in modules(ROOT) for one in too_large(name, text)]
    assert [one for one in found if one[0] not in EXCEPTIONS] == []
    assert set(EXCEPTIONS) <= {what for what, _ in found}, "an exception is not needed any more"
    assert len(EXCEPTIONS) <= 5


def test_what_is_too_large_is_found() -> None:
    body = "    pass\n"
    assert list(too_large("a.py", "pass\n" * MOST_LINES)) == []
    assert list(too_large("a.py", "pass\n" * (MOST_LINES + 1))) == [("a.py", "451 lines")]
    assert list(too_large("a.py", "def f():\n" + body * (MOST_LINES_OF_A_FUNCTION - 1))) == []
    assert list(too_large("a.py", "def f():\n" + body * MOST_LINES_OF_A_FUNCTION)) == [
        ("a.py:f", "81 lines")
    ]
    many = "def f(a, b, c, d, /, e, f, g, h, *i, j, k, l{}):\n" + body
    assert list(too_large("a.py", many.format(""))) == []
    assert list(too_large("a.py", many.format(", **m"))) == [("a.py:f", "13 parameters")]


def test_a_class_name_means_one_thing() -> None:
    places = defaultdict(list)
    for name, text in modules(ROOT):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(name)
    same = {name: found for name, found in places.items() if len(found) > 1}
    assert same == {}
