from __future__ import annotations

import io
import os

import pytest

from nsfwscan.system import cores


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("1000 100000", 1),
        ("9900000 100000", 8),
        ("nonsense", 8),
        ("", 8),
    ],
)
def test_a_containers_quota_counts(
    limit: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "open_text", lambda *_: io.StringIO(limit))
    assert cores.available() == expected


def test_affinity_counts_where_there_is_no_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_file(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(cores, "open_text", no_file)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert cores.available() == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.available() == 1
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cores.available() == 6
