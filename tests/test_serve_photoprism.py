"""PhotoPrism's vision protocol, as its own client sends and reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import scan_fakes
from serve_clients import ALMOST_NSFW, JUST_NSFW, data_url, old_photoprism, photoprism
from serving import BROKEN, NSFW, REVIEW, SAFE, Serving, no_model, serving

from nsfwscan.serve.adapters.options import AdapterSettings
from nsfwscan.serve.settings import Limits, ServeSettings

URL = "/api/v1/vision/nsfw"
RESULT_FIELDS = {"status", "Drawing", "Hentai", "Neutral", "Porn", "Sexy"}


@pytest.fixture(scope="module", autouse=True)
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[scan_fakes.FakePool]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NSFWSCAN_HOME", str(tmp_path_factory.mktemp("home")))
        yield scan_fakes.install_pool(patch)


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving() as server:
        yield server


def request(*pictures: bytes) -> dict[str, Any]:
    """Return what PhotoPrism sends: its JSON tags give these fields."""
    return {
        "id": "3487da77-246e-4b4c-9437-67507177bcd7",
        "model": "nsfw",
        "version": "latest",
        "suffix": "",
        "stream": False,
        "images": [data_url(one) for one in pictures],
    }


def test_the_answer_has_the_fields_and_types_of_the_original(server: Serving) -> None:
    found = server.post(URL, json=request(SAFE, NSFW))
    assert found.status_code == 200
    body = found.json()
    assert body["id"] == request()["id"]
    assert body["code"] == 200
    assert body["model"]["type"] == "nsfw"
    assert body["model"]["resolution"] > 0
    assert [set(one) for one in body["result"]["nsfw"]] == [RESULT_FIELDS] * 2
    assert [one["status"] for one in body["result"]["nsfw"]] == ["safe", "unsafe"]


@pytest.mark.parametrize("threshold", [0.75, 0.8, 0.9, 0.98])
def test_every_version_flags_what_the_policy_flags_and_nothing_else(
    server: Serving, threshold: float
) -> None:
    for picture, flagged in (
        (SAFE, False), (REVIEW, False), (ALMOST_NSFW, False), (JUST_NSFW, True), (NSFW, True)
    ):  # fmt: skip
        body = server.post(URL, json=request(picture)).json()
        assert old_photoprism(body, threshold) is flagged
        assert photoprism(body, 1, threshold) == ["unsafe" if flagged else "safe"]


def test_a_score_comes_only_on_request_and_says_the_same(server: Serving) -> None:
    body = server.post(URL, json=request(JUST_NSFW)).json()
    assert "score" not in body["result"]["nsfw"][0]
    body = server.post(f"{URL}?score", json=request(JUST_NSFW, ALMOST_NSFW)).json()
    assert all(one["threshold"] == 0.75 for one in body["result"]["nsfw"])
    assert photoprism(body, 2) == ["unsafe", "safe"]


@pytest.mark.parametrize(
    "bad", [data_url(BROKEN), "data:image/jpeg;base64,", "data:image/jpeg,plain", "!", 7]
)
def test_an_image_that_cannot_be_judged_is_safe_to_no_version(server: Serving, bad: object) -> None:
    asked = request(SAFE) | {"images": [bad, data_url(SAFE)]}
    body = server.post(URL, json=asked).json()
    assert body["code"] == 200
    first = body["result"]["nsfw"][0]
    assert first["status"] == "unavailable"
    assert first["reason"]
    assert old_photoprism(body, 0.98)
    assert photoprism(body, 2) == ["unsafe", "safe"]


def test_an_address_is_not_fetched_and_the_answer_says_what_to_set(server: Serving) -> None:
    asked = request() | {"images": ["https://photos.example.org/api/v1/dl/1"]}
    for document in (asked, {"url": asked["images"][0]}):
        body = server.post(URL, json=document).json()
        assert "FileScheme: data" in body["result"]["nsfw"][0]["reason"]
        assert photoprism(body, 1) == ["unsafe"]


def test_base64_without_a_head_is_read_too(server: Serving) -> None:
    asked = request() | {"images": [data_url(NSFW).partition(",")[2]]}
    assert photoprism(server.post(URL, json=asked).json(), 1) == ["unsafe"]


@pytest.mark.parametrize("flag_unjudged", [True, False])
def test_without_a_model_nothing_is_safe(flag_unjudged: bool) -> None:
    settings = ServeSettings(
        limits=Limits(loading_s=0.1), adapters=AdapterSettings(flag_unjudged=flag_unjudged)
    )
    with serving(no_model, settings, ready=False) as server:
        found = server.post(URL, json=request(SAFE))
        assert found.status_code == 503
        assert int(found.headers["retry-after"]) > 0
        body = found.json()
        assert body["code"] == 503
        assert body["error"]
        assert photoprism(body, 1) == ["unsafe" if flag_unjudged else "unavailable"]
        assert old_photoprism(body, 0.98) is flag_unjudged


def test_a_request_that_is_turned_away_is_safe_to_no_version() -> None:
    with serving(settings=ServeSettings(limits=Limits(memory_bytes=10))) as server:
        found = server.post(URL, json=request(SAFE))
        assert found.status_code == 429
        assert photoprism(found.json(), 1) == ["unsafe"]
        assert old_photoprism(found.json(), 0.98)
    with serving(settings=ServeSettings(limits=Limits(body_bytes=10))) as server:
        found = server.post(URL, json=request(SAFE))
        assert found.status_code == 413
        assert photoprism(found.json(), 1) == ["unsafe"]
        assert old_photoprism(found.json(), 0.98)


@pytest.mark.parametrize("document", [{}, {"images": []}, {"images": "x"}, [], "x", None])
def test_a_request_without_images_is_refused_in_its_form(server: Serving, document: Any) -> None:
    found = server.post(URL, json=document)
    assert found.status_code == 400
    assert found.json()["code"] == 400
    assert isinstance(found.json()["error"], str)
    assert photoprism(found.json(), 1) == ["unavailable"]


def test_a_strange_id_is_not_repeated(server: Serving) -> None:
    body = server.post(URL, json=request(SAFE) | {"id": "<script>"}).json()
    assert body["id"] == ""
