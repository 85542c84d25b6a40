from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nsfwscan.values.file_key import KEY_BYTES, FileKey, pack_key
from nsfwscan.values.results import Failed, Scanned, Skipped

_signed = st.integers(-(1 << 63), (1 << 63) - 1)
_unsigned = st.integers(0, (1 << 64) - 1)
_any = st.integers(-(1 << 130), 1 << 130)


def status(size: int, mtime_ns: int, ctime_ns: int, inode: int) -> Any:
    return SimpleNamespace(st_size=size, st_mtime_ns=mtime_ns, st_ctime_ns=ctime_ns, st_ino=inode)


@given(_signed, _signed, _signed, _unsigned)
def test_a_key_is_read_back_as_it_was_packed(size: int, mtime: int, ctime: int, ino: int) -> None:
    key = FileKey(size, mtime, ctime, ino)
    assert len(key.pack()) == KEY_BYTES
    assert FileKey.unpack(key.pack()) == key
    assert FileKey.of(status(size, mtime, ctime, ino)) == key


@given(_any, _any, _any, _any)
def test_numbers_beyond_64_bits_are_cut_alike_everywhere(
    size: int, mtime: int, ctime: int, ino: int
) -> None:
    found = status(size, mtime, ctime, ino)
    key = FileKey.of(found)
    assert key.pack() == pack_key(found) == FileKey(size, mtime, ctime, ino).pack()
    for cut, whole in zip(key, (size, mtime, ctime, ino), strict=True):
        assert (cut - whole) % (1 << 64) == 0


def test_the_packed_form_is_stored_and_must_stay_as_it_is() -> None:
    key = FileKey(1, -2, 3, (1 << 64) - 1)
    assert key.pack() == struct.pack("<qqqQ", 1, -2, 3, (1 << 64) - 1)


@given(st.lists(st.tuples(_signed, _signed, _signed, _unsigned)))
def test_several_keys_are_read_back_in_order(rows: list[tuple[int, int, int, int]]) -> None:
    keys = [FileKey(*row) for row in rows]
    assert list(FileKey.unpack_all(b"".join(key.pack() for key in keys))) == keys


def test_only_a_scanned_picture_can_have_a_verdict() -> None:
    """No value exists with which an unscored picture could pass for a safe one."""
    assert "verdict" in Scanned.__dataclass_fields__
    for other in (Skipped, Failed):
        assert not {"verdict", "scores", "decision"} & set(other.__dataclass_fields__)
