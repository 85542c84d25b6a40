"""A read that fails is never taken for the end of a file."""

from __future__ import annotations

import ast
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nsfwscan.system import reading

_ROOT = Path(__file__).parents[1]


@pytest.fixture
def slow() -> Iterator[tuple[int, int]]:
    """A file that cannot be read now, as descriptors to read and to write."""
    hear, tell = os.pipe()
    os.set_blocking(hear, False)
    yield hear, tell
    os.close(tell)


def _text(file: io.BufferedReader, way: str) -> None:
    with io.TextIOWrapper(file, "utf-8") as text:
        getattr(text, way)()


@pytest.mark.parametrize(
    "read",
    [
        lambda file: file.read(),
        lambda file: file.read(10),
        lambda file: file.readline(),
        lambda file: file.readinto(bytearray(10)),
        lambda file: list(file),
        lambda file: file.raw.read(),
        lambda file: file.raw.read(10),
        lambda file: hashlib.file_digest(file, "sha256"),
        lambda file: _text(file, "read"),
        lambda file: _text(file, "readlines"),
    ],
)
@pytest.mark.parametrize("begun", [b"", b"a part"])
def test_a_file_that_cannot_be_read_now_has_not_ended(
    slow: tuple[int, int], read: Callable[[io.BufferedReader], object], begun: bytes
) -> None:
    hear, tell = slow
    with reading.open_bytes(hear) as file:
        if begun:
            os.write(tell, begun)
            assert file.raw.read(len(begun)) == begun
        with pytest.raises(BlockingIOError):
            read(file)


def test_a_file_is_read_to_its_end_as_by_any_other_way(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one\r\ntwo\n" * 300_000)
    with reading.open_bytes(os.fspath(path)) as file:
        assert file.read() == path.read_bytes()
        file.seek(0)
        assert sum(map(len, file)) == path.stat().st_size
    with reading.open_text(os.fspath(path)) as text:
        assert text.read() == "one\ntwo\n" * 300_000
    with reading.open_to_change(os.fspath(path), "a+b") as both:
        both.write(b"more")
        both.seek(0)
        assert both.read().endswith(b"two\nmore")


def test_all_files_are_opened_so() -> None:
    """Only to write is `open` of Python itself taken."""
    found = []
    for path in (*_ROOT.glob("nsfwscan/**/*.py"), *_ROOT.glob("quantize/**/*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "open"
            ):
                mode = node.args[1] if len(node.args) > 1 else None
                if not isinstance(mode, ast.Constant) or str(mode.value)[:1] not in "awx":
                    found.append(f"{path.relative_to(_ROOT)}:{node.lineno}")
    # Standard input, and one that is only opened to be synced.
    assert [one.rpartition(":")[0] for one in found] == [
        "nsfwscan/cli/shared/streams.py",
        "quantize/package.py",
    ]
