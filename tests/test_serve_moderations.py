"""OpenAI's moderation protocol, by its own client, unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import scan_fakes
from openai.types import ModerationCreateResponse
from serve_clients import ALMOST_NSFW, JUST_NSFW, data_url
from serving import BROKEN, NSFW, REVIEW, SAFE, Serving, no_model, serving

from nsfwscan.serve.adapters.openai_moderations import CATEGORIES
from nsfwscan.serve.settings import Limits, ServeSettings

MODEL = "omni-moderation-latest"


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> scan_fakes.FakePool:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    return scan_fakes.install_pool(monkeypatch)


@pytest.fixture
def server() -> Iterator[Serving]:
    with serving() as server:
        yield server


def images(*urls: str) -> list[Any]:
    return [{"type": "image_url", "image_url": {"url": url}} for url in urls]


def moderate(server: Serving, given: Any, retries: int = 0) -> ModerationCreateResponse:
    """Ask with the client, both the plain one and the one for asyncio."""
    options = {"api_key": "none", "base_url": f"{server.url}/v1", "max_retries": retries}

    async def ask() -> ModerationCreateResponse:
        async with openai.AsyncOpenAI(**options) as client:  # type: ignore[arg-type]
            return await client.moderations.create(model=MODEL, input=given)

    with openai.OpenAI(**options) as client:  # type: ignore[arg-type]
        plain = client.moderations.create(model=MODEL, input=given)
    assert asyncio.run(ask()).results == plain.results
    return plain


def test_a_picture_is_flagged_if_the_policy_flags_it(server: Serving) -> None:
    for picture, flagged in (
        (SAFE, False), (REVIEW, False), (ALMOST_NSFW, False), (JUST_NSFW, True), (NSFW, True)
    ):  # fmt: skip
        found = moderate(server, images(data_url(picture, "image/png")))
        assert found.id.startswith("modr-")
        assert found.model == scan_fakes.MANIFEST.package
        (one,) = found.results
        assert one.flagged is one.categories.sexual is flagged
        assert (one.category_scores.sexual > 0.5) is flagged
        assert one.category_applied_input_types.sexual == ["image"]


def test_the_answer_has_all_thirteen_categories_and_says_that_one_was_judged(
    server: Serving,
) -> None:
    document = {"model": MODEL, "input": images(data_url(NSFW))}
    (one,) = server.post("/v1/moderations", json=document).json()["results"]
    assert len(CATEGORIES) == 13
    for field in ("categories", "category_scores", "category_applied_input_types"):
        assert set(one[field]) == set(CATEGORIES)
    judged = [name for name, kinds in one["category_applied_input_types"].items() if kinds]
    assert judged == [name for name, flagged in one["categories"].items() if flagged] == ["sexual"]
    ModerationCreateResponse.model_validate({"id": "", "model": "", "results": [one]}, strict=True)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("some text", "text_not_supported"),
        (data_url(SAFE), "text_not_supported"),
        (["one", "two"], "text_not_supported"),
        ([{"type": "text", "text": "hello"}], "text_not_supported"),
        ([{"type": "text", "text": "a"}, *images(data_url(SAFE))], "text_not_supported"),
        (images("https://example.org/cat.jpg"), "image_url_not_supported"),
        (images("http://127.0.0.1/cat.jpg"), "image_url_not_supported"),
        (images("file:///etc/passwd"), "image_url_not_supported"),
        (images(data_url(SAFE), data_url(SAFE)), "too_many_images"),
        (images("data:image/png;base64,!!!"), "invalid_image_url"),
        (images(data_url(BROKEN)), "invalid_image"),
        (images(data_url(b"")), "invalid_image"),
        ([{"type": "video_url"}], "invalid_input"),
        ([], "invalid_input"),
    ],
)
def test_what_cannot_be_judged_is_refused_and_never_called_harmless(
    server: Serving, given: Any, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        moderate(server, given, retries=2)
    assert caught.value.code == code
    assert caught.value.body == {
        "message": caught.value.body["message"],  # type: ignore[index]
        "type": "invalid_request_error",
        "param": "input",
        "code": code,
    }
    assert server.service.metrics.available
    counted = server.get("/metrics").text
    assert 'nsfwscan_requests_total{route="/v1/moderations",status="400"} 1.0' in counted


def test_without_a_model_the_client_raises() -> None:
    settings = ServeSettings(limits=Limits(loading_s=0.1))
    with serving(no_model, settings, ready=False) as server:
        with pytest.raises(openai.InternalServerError) as caught:
            moderate(server, images(data_url(SAFE)))
        assert caught.value.status_code == 503
        assert caught.value.code == "model_unavailable"
        assert int(caught.value.response.headers["retry-after"]) > 0


def test_errors_of_every_kind_are_objects_with_a_message(server: Serving) -> None:
    for content in (b"", b"{", b"[]", b"\xff\xd8\xff", b"[" * 100_000, b'{"input": 1}'):
        found = server.post("/v1/moderations", content=content)
        assert found.status_code == 400
        assert isinstance(found.json()["error"]["message"], str)
    with serving(settings=ServeSettings(limits=Limits(body_bytes=100))) as small:
        with pytest.raises(openai.APIStatusError) as caught:
            moderate(small, images(data_url(SAFE * 200)), retries=2)
        assert caught.value.status_code == 413
