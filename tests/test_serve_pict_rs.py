"""pict-rs' external validation: a 2xx accepts an upload, everything else rejects it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import scan_fakes
from serve_clients import ALMOST_NSFW, JUST_NSFW
from serving import BROKEN, NSFW, REVIEW, SAFE, Serving, no_model, serving

from nsfwscan.serve.adapters.options import AdapterSettings
from nsfwscan.serve.settings import Limits, ServeSettings
from nsfwscan.serve.tokens import parse


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> scan_fakes.FakePool:
    return scan_fakes.install_pool(monkeypatch)


@pytest.fixture
def server() -> Iterator[Serving]:
    with serving() as server:
        yield server


def accepted(server: Serving, picture: bytes, url: str = "/validate") -> bool:
    """Upload as pict-rs does: in chunks, without a length, with a type."""

    def chunks() -> Iterator[bytes]:
        for at in range(0, len(picture), 1000):
            yield picture[at : at + 1000]

    found = server.post(url, content=chunks(), headers={"Content-Type": "image/webp"})
    assert "transfer-encoding" in found.request.headers
    assert "content-length" not in found.request.headers
    return found.is_success


def test_only_what_the_policy_calls_safe_is_accepted(server: Serving) -> None:
    pictures = (SAFE, REVIEW, ALMOST_NSFW, JUST_NSFW, NSFW, BROKEN, b"")
    assert [accepted(server, one) for one in pictures] == [True] + [False] * 6
    assert accepted(server, SAFE * 200_000)


def test_a_picture_to_review_is_accepted_only_if_the_operator_says_so() -> None:
    with serving(settings=ServeSettings(adapters=AdapterSettings(pass_review=True))) as server:
        assert [accepted(server, one) for one in (SAFE, REVIEW, NSFW)] == [True, True, False]


def test_without_a_model_uploads_are_rejected_with_a_time_to_come_back() -> None:
    settings = ServeSettings(limits=Limits(loading_s=0.1))
    with serving(no_model, settings, ready=False) as server:
        found = server.post("/validate", content=SAFE)
        assert found.status_code == 503
        assert int(found.headers["retry-after"]) > 0
        assert found.json()["decision"] is None
        assert not accepted(server, SAFE)


def test_what_passes_unjudged_by_the_operators_will_is_counted() -> None:
    settings = ServeSettings(
        limits=Limits(loading_s=0.1), adapters=AdapterSettings(pass_unavailable=True)
    )
    with serving(no_model, settings, ready=False) as server:
        assert accepted(server, NSFW)
        assert accepted(server, NSFW)
        assert "nsfwscan_unchecked_total 2.0" in server.get("/metrics").text


def test_what_cannot_be_decoded_is_rejected_even_then() -> None:
    with serving(settings=ServeSettings(adapters=AdapterSettings(pass_unavailable=True))) as server:
        assert [accepted(server, one) for one in (BROKEN, NSFW, b"")] == [False] * 3
        assert "nsfwscan_unchecked_total 0.0" in server.get("/metrics").text


def test_too_long_an_upload_is_rejected() -> None:
    settings = ServeSettings(
        limits=Limits(body_bytes=1000), adapters=AdapterSettings(pass_unavailable=True)
    )
    with serving(settings=settings) as server:
        assert server.post("/validate", content=SAFE * 1001).status_code == 413
        assert not accepted(server, SAFE * 3000)


def test_a_token_may_be_the_password_in_the_url_because_nothing_else_can_be_configured() -> None:
    settings = ServeSettings(tokens=parse(["pict-rs 0123456789abcdef"], "tokens"))
    with serving(settings=settings) as server:
        assert server.post("/validate", content=SAFE).status_code == 401
        for user in ("pict-rs", ""):
            known = server.post("/validate", content=SAFE, auth=(user, "0123456789abcdef"))
            assert known.status_code == 200
        for wrong in ("0123456789abcdeF", ""):
            assert server.post("/validate", content=SAFE, auth=("x", wrong)).status_code == 401
        broken = {"Authorization": "Basic ==="}
        assert server.post("/validate", content=SAFE, headers=broken).status_code == 401
