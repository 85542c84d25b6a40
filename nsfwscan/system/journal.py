"""An append-only file of records that must not be lost: rulings, and what was moved where.

In: records, JSON objects. Out: the same records, in order, and the numbers of damaged lines. A line
is `{"crc32":"9ae0daaf","record":{...}}`; the checksum covers the record's bytes as they are in the
line. It protects against damage, not against deliberate edits.

Once `append` has returned, the records are on the disk. Several processes may append at a time. The
incomplete last line that an interrupted append left behind is cut off by the next append and
ignored by `read`. Any other damaged line is kept, reported and never used.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nsfwscan.system.atomic_file import replace_file
from nsfwscan.system.locks import Lock
from nsfwscan.system.writing import sync_folder, write_all
from nsfwscan.values.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from nsfwscan.system.json_lines import Json

_HEAD = b'{"crc32":"%08x","record":'
_HEAD_BYTES = len(_HEAD % 0)
_MOST_REPLACED = 10
"""How often another process may replace the file, to compact it, while we wait for its lock."""
_PATIENCE_S = 30.0
"""An append takes milliseconds. A process that holds the lock for this long has been stopped."""
_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
# Otherwise a pipe of that name would block the open forever.
_FLAGS |= getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True, slots=True)
class JournalContents:
    """The valid records of a journal, and the numbers of its damaged lines."""

    records: list[dict[str, Any]]
    """In the order in which they were appended."""
    damaged: tuple[int, ...]
    """Numbers of the lines that are not a complete record; the first line is 1."""


class Journal:
    """The journal in the file `path`, which the first append creates for its owner only."""

    def __init__(self, path: str, *, remember: bool = False) -> None:
        """Open nothing yet. The folder of `path` must exist when something is appended.

        Names that are not UTF-8 may be in records as Python's surrogates. With `remember`, what was
        read stays in memory, and the next time only what was appended since is parsed: for those
        who read a journal again and again.
        """
        self.path = path
        self._remember = remember
        self._known = (b"", JournalContents([], ()))
        """Complete lines as read last, and what they hold."""

    def append(self, *records: Mapping[str, Json]) -> None:
        """Write `records`, which are on the disk when this returns. All share one fsync.

        Raises `JournalError` if they are not; then, if the disk allows it, none of them is in the
        file. Raises ValueError for a number that JSON does not have (NaN).
        """
        lines = b"".join(map(_line, records))
        try:
            with self._opened(os.O_RDWR | os.O_CREAT) as file:
                self._add(file, lines)
        except OSError as error:
            raise self._failure("written", error) from error

    def extend(self, make: Callable[[JournalContents], Sequence[Mapping[str, Json]]]) -> None:
        """Append the records that `make(contents)` returns, without another append in between.

        Raises as `append` does, and what `make` raises: then nothing is written.
        """
        try:
            with self._opened(os.O_RDWR | os.O_CREAT) as file:
                _repair(file)
                os.lseek(file, 0, os.SEEK_SET)
                self._add(file, b"".join(map(_line, make(self._parse(_read_all(file))))))
        except OSError as error:
            raise self._failure("written", error) from error

    def _add(self, file: int, lines: bytes) -> None:
        before = _repair(file)
        if not lines:
            return
        try:
            _write(file, lines)
            os.fsync(file)
            if before == 0:
                sync_folder(os.path.dirname(self.path))  # for the file's name
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(file, before)
            raise

    def read(self) -> JournalContents:
        """Return the journal's contents; empty if there is no file.

        Raises `JournalError` if the file exists but cannot be read.
        """
        try:
            with self._opened(os.O_RDONLY, shared=True) as file:
                data = _read_all(file)
        except FileNotFoundError:
            return JournalContents([], ())
        except OSError as error:
            raise self._failure("read", error) from error
        return self._parse(data)

    def compact(self, keep: Callable[[list[dict[str, Any]]], Sequence[Mapping[str, Json]]]) -> bool:
        """Replace the records by those that `keep(records)` returns; return True if done.

        A file with damaged lines, or one that cannot be replaced, is left as it is.
        """
        try:
            with self._opened(os.O_RDWR) as file:
                _repair(file)
                os.lseek(file, 0, os.SEEK_SET)
                contents = _parse(_read_all(file))
                if contents.damaged:
                    return False
                lines = b"".join(map(_line, keep(contents.records)))
                replace_file(self.path, lines, mode=0o600, sync=True)
        except (OSError, JournalError):
            return False
        return True

    def delete(self, unless: Callable[[JournalContents], bool]) -> bool:
        """Delete the file, unless `unless(contents)` is True under the lock.

        Returns True if it is gone. Raises `JournalError`.
        """
        try:
            with self._opened(os.O_RDWR) as file:
                if unless(_parse(_read_all(file))):
                    return False
                os.unlink(self.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._failure("deleted", error) from error
        return True

    def _parse(self, data: bytes) -> JournalContents:
        before, known = self._known
        if not self._remember or not data.startswith(before):
            before, known = b"", JournalContents([], ())
        added = _parse(data[len(before) :])
        past = before.count(b"\n") if added.damaged else 0
        damaged = known.damaged + tuple(past + number for number in added.damaged)
        contents = JournalContents(known.records + added.records, damaged)
        if self._remember and data.endswith(b"\n"):
            self._known = data, contents
        return contents

    @contextlib.contextmanager
    def _opened(self, flags: int, *, shared: bool = False) -> Iterator[int]:
        """Open the file and hold its lock, also for reading, so that no append is seen half."""
        for left in reversed(range(_MOST_REPLACED)):
            file = os.open(self.path, flags | _FLAGS, 0o600)
            lock = Lock(file, self.path)
            try:
                self._check(os.fstat(file))
                if not lock.wait(_PATIENCE_S, shared=shared):
                    raise JournalError(
                        f"another process has kept {self.path} locked for {_PATIENCE_S:.0f} "
                        "seconds",
                        hint="stop the nsfwscan that hangs, and try again",
                    )
                # After the last try: a file system whose inode numbers are unreliable.
                if lock.is_current() or not left:
                    yield file
                    return
            finally:
                lock.release()

    def _check(self, found: os.stat_result) -> None:
        """Raise `JournalError` unless it is a file of this user: others are not trusted."""
        if not stat.S_ISREG(found.st_mode):
            raise JournalError(f"{self.path} is not a regular file", hint="move it away")
        # Root may read everything anyway, and sudo keeps the user's home.
        if sys.platform != "win32" and os.geteuid() not in {0, found.st_uid} and found.st_uid:
            raise JournalError(
                f"{self.path} belongs to another user",
                hint="move it away, or take ownership of it if you trust its content",
            )

    def _failure(self, done: str, error: OSError) -> JournalError:
        return JournalError(
            f"{self.path} cannot be {done}: {error.strerror or error}",
            hint="check whether the disk is full, or the folder belongs to another user",
        )


def _parse(data: bytes) -> JournalContents:
    *lines, last = data.split(b"\n")
    # The last line lacks its newline, because an editor removed it or damage changed that byte. The
    # first is a record; the second is reported, because its append had returned.
    if _is_whole(last) or _is_whole(last[:-1]):
        lines.append(last)
    records, damaged = [], []
    for number, line in enumerate(lines, 1):
        record = _record(line)
        if record is None:
            damaged.append(number)
        else:
            records.append(record)
    return JournalContents(records, tuple(damaged))


def _line(record: Mapping[str, Json]) -> bytes:
    # ASCII, so that no newline or partial character in a path breaks the line.
    body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode("ascii")
    return _HEAD % zlib.crc32(body) + body + b"}\n"


def _is_whole(line: bytes) -> bool:
    body = line[_HEAD_BYTES:-1]
    return line[-1:] == b"}" and line[:_HEAD_BYTES] == _HEAD % zlib.crc32(body)


def _record(line: bytes) -> dict[str, Any] | None:
    if not _is_whole(line):
        return None
    try:
        record = json.loads(line[_HEAD_BYTES:-1])
    except (ValueError, RecursionError):  # the checksum is right, so another program wrote the line
        return None
    return record if isinstance(record, dict) else None


def _repair(file: int) -> int:
    """Make the file end with a complete line, and return its size in bytes."""
    size = os.fstat(file).st_size
    if size == 0:
        return 0
    os.lseek(file, size - 1, os.SEEK_SET)
    if os.read(file, 1) == b"\n":
        return size
    os.lseek(file, 0, os.SEEK_SET)
    data = _read_all(file)
    start = data.rfind(b"\n") + 1
    last = data[start:]
    # The append of a complete record had returned, even if its newline is missing or changed.
    # Anything else is left from an interrupted append.
    if _is_whole(last) or _is_whole(last[:-1]):
        _write(file, b"\n")
        return size + 1
    os.ftruncate(file, start)
    return start


def _write(file: int, data: bytes) -> None:
    os.lseek(file, 0, os.SEEK_END)
    write_all(file, data)


def _read_all(file: int) -> bytes:
    """Read up to the current size: a program that takes no lock may make the file grow."""
    left = os.fstat(file).st_size
    parts = []
    while left > 0 and (part := os.read(file, min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
