"""Pictures about which something may still have to be done: no stop and no kill loses an act.

A scan saves what it finds at once, while acts wait: for the end of a batch, and at the start for a
first look at everything. So the paths of each batch are written down before it is scanned, and
struck out when they need nothing, or when all is done about them. Whoever watches next looks once
more at those that are left. Each is written down with what was told of it, or `NO_PICTURE`: only
other content is news, and of a picture that was never told any, though the cache knows it.

The file has a line for each step, a JSON array: `["owe", {PATH: SHA256, ...}]`, with the content
that was told, or none for a picture that was told and waits for an act, and `["done", PATH, ...]`.
Only the holder of the watcher's lock writes it. It outlives a kill; what is owed outlives a power
cut, too. It is rewritten when it holds twice what is owed, and some more.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING

from nsfwscan.system.atomic_file import replace_file
from nsfwscan.system.json_lines import json_line
from nsfwscan.system.reading import open_bytes
from nsfwscan.system.writing import write_all
from nsfwscan.watch.places import is_below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from nsfwscan.system.json_lines import Json

PART = ".owed-"
"""How files begin that are being written; a killed watcher may leave one."""
_OWE, _DONE = "owe", "done"
_MALFORMED = ValueError, TypeError, AttributeError, IndexError
_SLACK = 10_000
"""Paths in the file beyond twice those that are owed, before it is rewritten."""
_FLAGS = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
# A pipe of that name would block the open for ever.
_FLAGS |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class Owed:
    """The paths that are owed a look or an act, in memory and in a file."""

    def __init__(self, path: str, problem: Callable[[str], None] = lambda _: None) -> None:
        """Read what an earlier watcher left at `path`; nothing where it cannot be read.

        `problem` is told why the file cannot be written, and "" once it can be again.
        """
        self._path = path
        self._problem = problem
        self._owed: dict[str, bytes] = {}
        """Each with the SHA-256 of what was told of it; empty when it is owed an act as it is."""
        self._kept: set[str] = set()
        """Of those, the pictures that wait for an act."""
        self._written = 0
        """Paths in the file."""
        self._size = -1
        """Bytes of the file as this process left it; -1 when it has to be written anew."""
        self._load()

    def __len__(self) -> int:
        return len(self._owed)

    def __contains__(self, path: str) -> bool:
        return path in self._owed

    def below(self, folder: str) -> dict[str, bytes]:
        """Return what is owed at and below `folder`, and the content that was told of each.

        That is empty where an act is owed whatever the file holds.
        """
        return {path: told for path, told in self._owed.items() if is_below(path, folder)}

    def begin(self, paths: Mapping[str, bytes]) -> frozenset[str]:
        """Owe `paths`, about to be scanned, each with what was told of it.

        Return those to which an act was owed before, whatever they hold.
        """
        before = frozenset(path for path in paths if self._owed.get(path) == b"")
        self._owe({path: told for path, told in paths.items() if path not in before})
        return before

    def keep(self, paths: Iterable[str]) -> None:
        """Owe `paths` until they are `done`: they were told, and wait for an act."""
        known = [path for path in paths if path not in self._kept]
        self._kept.update(known)
        self._owe({path: b"" for path in known if self._owed.get(path) != b""})

    def end(self, paths: Iterable[str]) -> None:
        """Strike out `paths`, which were scanned, except those that wait for an act."""
        self.done(path for path in paths if path not in self._kept)

    def done(self, paths: Iterable[str]) -> None:
        """Strike out `paths`: nothing is left to do."""
        known = [path for path in paths if path in self._owed]
        for path in known:
            del self._owed[path]
        self._kept.difference_update(known)
        if known:
            self._write([_DONE, *known], len(known))

    def _load(self) -> None:
        try:
            with open_bytes(os.open(self._path, _FLAGS & ~(os.O_WRONLY | os.O_APPEND))) as file:
                lines = file.read().split(b"\n")
        except OSError:
            return
        for line in lines:
            with contextlib.suppress(*_MALFORMED):  # cut short by a kill, or damaged
                step, *paths = json.loads(line)
                if step == _OWE:
                    told = {path: bytes.fromhex(sha256) for path, sha256 in paths[0].items()}
                    self._owed.update(told)
                elif step == _DONE:
                    for path in paths:
                        self._owed.pop(path, None)

    def _owe(self, paths: dict[str, bytes]) -> None:
        self._owed.update(paths)
        if paths:
            self._write(_owe(paths), len(paths), sync=True)

    def _write(self, step: list[Json], count: int, *, sync: bool = False) -> None:
        try:
            if self._size < 0 or self._written + count > 2 * len(self._owed) + _SLACK:
                self._rewrite()
            else:
                self._append(json_line(step), sync=sync)
                self._written += count
        except OSError as error:
            self._size = -1
            reason = error.strerror or str(error)
            self._problem(f"{self._path} cannot be written ({reason}): a kill may lose actions")
        else:
            self._problem("")

    def _append(self, line: bytes, *, sync: bool) -> None:
        file = os.open(self._path, _FLAGS)
        try:
            if os.fstat(file).st_size != self._size:  # somebody put another file there
                self._size = -1
            else:
                write_all(file, line)
                self._size += len(line)
                if sync:
                    os.fsync(file)
        finally:
            os.close(file)
        if self._size < 0:
            self._rewrite()

    def _rewrite(self) -> None:
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        content = json_line(_owe(self._owed)) if self._owed else b""
        replace_file(self._path, content, prefix=PART, sync=True)
        self._size, self._written = len(content), len(self._owed)


def _owe(paths: Mapping[str, bytes]) -> list[Json]:
    return [_OWE, {path: told.hex() for path, told in paths.items()}]
