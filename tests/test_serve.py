"""The server's own ways: what it answers, refuses, and never does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import scan_fakes
from serving import BROKEN, NSFW, REVIEW, SAFE, Serving, serving


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> scan_fakes.FakePool:
    return scan_fakes.install_pool(monkeypatch)


@pytest.fixture
def server(pool: scan_fakes.FakePool) -> Iterator[Serving]:
    with serving() as server:
        yield server


def test_a_picture_gets_its_scores_best_first(server: Serving) -> None:
    for picture, best in ((NSFW, "red"), (SAFE, "other"), (REVIEW, "red")):
        found = server.post("/", content=picture)
        assert found.status_code == 200
        assert found.json()[0]["label"] == best
        assert all(set(one) == {"label", "score"} for one in found.json())


def test_one_request_may_hold_many_pictures(server: Serving) -> None:
    names = {"a.png": NSFW, "b.png": SAFE, "c.png": BROKEN}
    files = [("picture", (name, data)) for name, data in names.items()]
    records = server.post("/v1/scan", files=files).json()["results"]
    assert [one["path"] for one in records] == list(names)
    assert [one["decision"] or one["reason"] for one in records] == ["nsfw", "safe", "corrupt"]


def test_a_picture_without_a_verdict_is_an_error(server: Serving) -> None:
    found = server.post("/", content=BROKEN)
    assert found.status_code == 400
    assert found.json()["reason"] == "corrupt"
