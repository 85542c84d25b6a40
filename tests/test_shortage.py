"""Whether a failure may be the machine's fault: what is looked at, and what an answer means."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nsfwscan.media.decode import decode, shortage
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
ASK = (
    "from nsfwscan.media.decode.shortage import *;"
    "print(memory_may_be_short(), is_short_here(1 << 28))"
)


@LINUX
def test_a_container_with_little_room_left_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortage, "_available", lambda: 1 << 40)
    monkeypatch.setattr(shortage, "_CGROUP", str(tmp_path))
    monkeypatch.setattr("resource.getrlimit", lambda _which: (-1, -1))
    assert not shortage.memory_may_be_short(), "no limits, no shortage"
    (tmp_path / "memory.max").write_text(f"{2 << 30}\n")
    (tmp_path / "memory.current").write_text(f"{(2 << 30) - 5}\n")
    (tmp_path / "memory.stat").write_text(f"anon 7\ninactive_file {1900 << 20}\n")
    assert not shortage.memory_may_be_short(), "what is cached makes room"
    (tmp_path / "memory.stat").write_text("anon 7\ninactive_file 1000\n")
    assert shortage.memory_may_be_short()
    (tmp_path / "memory.max").write_text("max\n")
    assert not shortage.memory_may_be_short()


@LINUX
@pytest.mark.parametrize(
    ("limit", "said"),
    [("RLIMIT_AS, (1 << 28,) * 2", "True True"), ("RLIMIT_NOFILE, (4, 4)", "True")],
)
def test_a_limit_of_the_process_is_noticed(limit: str, said: str) -> None:
    begin = "import resource, mmap, nsfwscan.media.decode.shortage"
    code = f"{begin}\nresource.setrlimit(resource.{limit})"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{ASK}"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    assert done.stdout.rstrip().endswith(said)


@pytest.mark.parametrize(
    "error",
    [OSError(24, "Too many open files"), ImportError("no room for a library"), MemoryError()],
)
def test_what_the_system_says_while_a_picture_is_read_is_not_held_against_it(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(decode, "_open", refuse)
    with pytest.raises(DecodeError) as caught:
        decode.decode(b"\x89PNG\r\n\x1a\n" + bytes(40), None)  # type: ignore[arg-type]  # unused
    assert caught.value.transient


@pytest.mark.parametrize("error", [OSError("image file is truncated"), SyntaxError("broken PNG")])
def test_what_a_codec_says_of_a_picture_is_held_against_it(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(decode, "_open", refuse)
    with pytest.raises(DecodeError) as caught:
        decode.decode(b"\x89PNG\r\n\x1a\n" + bytes(40), None)  # type: ignore[arg-type]  # unused
    assert not caught.value.transient
    assert caught.value.reason in {FailReason.CORRUPT, FailReason.TRUNCATED}
