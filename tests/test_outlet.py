"""Standard output of a watcher: what becomes of a write that fails."""

from __future__ import annotations

import errno
import os
import select
from pathlib import Path

import pytest

from nsfwscan.cli.shared.outlet import Outlet, OutletFailed
from nsfwscan.cli.shared.streams import ReaderGone

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has no such pipes")


def test_a_reader_that_went_away_is_told_apart_from_other_failures() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as stream, pytest.raises(ReaderGone):
        Outlet(stream).write(b"a line\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EINVAL])
def test_a_failed_write_says_what_failed(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_given: object) -> int:
        raise OSError(number, os.strerror(number))

    with (tmp_path / "out").open("wb", buffering=0) as stream:
        outlet = Outlet(stream)
        monkeypatch.setattr(os, "write", refuse)
        with pytest.raises(OutletFailed) as caught:
            outlet.write(b"a line\n")
    assert caught.value.error.errno == number


def test_a_poll_that_fails_is_a_failed_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Poll:
        def register(self, *_given: object) -> None: ...

        def poll(self, _timeout_ms: float) -> list[tuple[int, int]]:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with (tmp_path / "out").open("wb", buffering=0) as stream:
        outlet = Outlet(stream)
        monkeypatch.setattr(select, "poll", Poll)
        with pytest.raises(OutletFailed):
            outlet.write(b"a line\n")
