"""Let one system call of a command fail, any of them, as a disk or an administrator might."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CALLS = (
    "open", "read", "write", "fsync", "fstat", "stat", "lstat", "ftruncate", "lseek", "mkdir",
    "rmdir", "unlink", "rename", "replace", "scandir", "listdir", "chmod", "close", "readlink",
)  # fmt: skip
ERRNOS = (
    errno.EIO, errno.EACCES, errno.ENOSPC, errno.ENOENT, errno.ESTALE, errno.EROFS, errno.EMFILE,
)  # fmt: skip


class Failing:
    """Counts calls, and lets one of them fail."""

    def __init__(self, at: int = -1, number: int = 0) -> None:
        """The call `at`, counted from 0 over all functions, fails with the error `number`."""
        self.count = 0
        self.failed = ""
        self._at = at
        self._number = number

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Count, and fail, while the block runs."""
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, self._wrapped(name, getattr(os, name)))
            patch.setattr(fcntl, "flock", self._wrapped("flock", fcntl.flock))
            yield

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            at = self.count
            self.count += 1
            if at != self._at:
                return real(*arguments, **options)
            self.failed = f"{name}{arguments[:1]}"
            if name == "close":  # Linux closes the descriptor all the same
                real(*arguments)
            raise OSError(self._number, os.strerror(self._number), *arguments[:1])

        return call
