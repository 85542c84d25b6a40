"""Hashing what comes in pieces: all of it, a part of it, and while it is copied."""

from __future__ import annotations

import hashlib
import io

import pytest

from nsfwscan.system.hashing import Sha256, pieces

DATA = bytes(range(256)) * 10_000
"""More than two pieces."""


@pytest.mark.parametrize("most", [None, 0, 1, 1 << 20, (1 << 20) + 1, len(DATA), len(DATA) + 1])
def test_the_checksum_is_of_at_most_so_many_bytes(most: int | None) -> None:
    found = Sha256().take(pieces(io.BytesIO(DATA), most))
    wanted = DATA if most is None else DATA[:most]
    assert found.bytes == len(wanted)
    assert found.digest() == hashlib.sha256(wanted).digest()
    assert found.hexdigest() == hashlib.sha256(wanted).hexdigest()


def test_a_copy_gets_what_is_hashed_and_a_checksum_goes_on() -> None:
    copy = io.BytesIO()
    found = Sha256().take(pieces(io.BytesIO(DATA)), copy.write).take([b"end"], copy.write)
    assert copy.getvalue() == DATA + b"end"
    assert found.bytes == len(DATA) + 3
    assert found.digest() == hashlib.sha256(DATA + b"end").digest()


def test_what_could_not_be_copied_is_not_hashed() -> None:
    def full(_piece: bytes) -> None:
        raise OSError("full")

    found = Sha256()
    with pytest.raises(OSError, match="full"):
        found.take([b"a"], full)
    assert (found.bytes, found.digest()) == (0, hashlib.sha256().digest())
