"""Misskey's detector protocol, as misskey-dev/sensitive-detector documents it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import scan_fakes
from serve_clients import ALMOST_NSFW, JUST_NSFW, Misskey, parts
from serving import BROKEN, NSFW, REVIEW, SAFE, Serving, no_model, serving

from nsfwscan.serve.adapters.options import AdapterSettings, ClassNames
from nsfwscan.serve.settings import Limits, ServeSettings
from nsfwscan.serve.tokens import parse

URL = "/v1/detect-images"


@pytest.fixture(scope="module", autouse=True)
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[scan_fakes.FakePool]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NSFWSCAN_HOME", str(tmp_path_factory.mktemp("home")))
        yield scan_fakes.install_pool(patch)


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving() as server:
        yield server


@contextlib.contextmanager
def without_a_model(*, flag_unjudged: bool = True) -> Iterator[Serving]:
    settings = ServeSettings(
        limits=Limits(loading_s=0.1, parts=6),
        adapters=AdapterSettings(flag_unjudged=flag_unjudged),
    )
    with serving(no_model, settings, ready=False) as server:
        yield server


def read(
    server: Serving, *pictures: bytes, misskey: Misskey | None = None
) -> list[tuple[bool, bool]]:
    found = server.post(URL, files=parts(*pictures))
    return (misskey or Misskey()).read(found.status_code, found.json(), len(pictures))


def test_each_part_gets_its_predictions_in_order(server: Serving) -> None:
    found = server.post(URL, files=parts(SAFE, NSFW, REVIEW, SAFE))
    assert found.status_code == 200
    body = found.json()
    assert body["success"] is True
    names = {one["className"] for one in body["result"]["results"][0]["predictions"]}
    assert names == {"Drawing", "Hentai", "Neutral", "Porn", "Sexy"}
    best = [item["predictions"][0]["className"] for item in body["result"]["results"]]
    assert best == ["Neutral", "Porn", "Neutral", "Neutral"]


def test_misskey_flags_what_the_policy_flags_and_nothing_else(server: Serving) -> None:
    assert read(server, SAFE, REVIEW, ALMOST_NSFW, JUST_NSFW, NSFW) == [
        (False, False), (False, False), (False, False), (True, True), (True, True)
    ]  # fmt: skip


@pytest.mark.parametrize("bad", [BROKEN, b""])
def test_a_picture_that_cannot_be_judged_is_sensitive_and_says_why(
    server: Serving, bad: bytes
) -> None:
    found = server.post(URL, files=parts(SAFE, bad, NSFW))
    assert found.status_code == 200
    error = found.json()["result"]["results"][1]["error"]
    assert error["code"] == ("IMAGE_DECODE_FAILED" if bad else "INVALID_REQUEST")
    assert error["message"]
    assert read(server, SAFE, bad, NSFW) == [(False, False), (True, False), (True, True)]


def test_errors_alone_are_sent_only_if_the_operator_wants_them() -> None:
    settings = ServeSettings(adapters=AdapterSettings(flag_unjudged=False))
    with serving(settings=settings) as server:
        items = server.post(URL, files=parts(SAFE, BROKEN)).json()["result"]["results"]
        assert items[0]["success"] is True
        assert items[1] == {
            "success": False,
            "error": {"code": "IMAGE_DECODE_FAILED", "message": items[1]["error"]["message"]},
        }


def test_without_a_model_every_picture_is_sensitive() -> None:
    with without_a_model() as server:
        assert server.get("/health").status_code == 503
        assert read(server, SAFE, NSFW) == [(True, False), (True, False)]
        found = server.post(URL, files=parts(SAFE)).json()["result"]["results"][0]
        assert found["error"]["code"] == "MODEL_UNAVAILABLE"


def test_without_a_model_and_without_flags_the_protocols_own_error_is_sent() -> None:
    with without_a_model(flag_unjudged=False) as server:
        found = server.post(URL, files=parts(SAFE))
        assert found.status_code == 200
        (item,) = found.json()["result"]["results"]
        assert item["success"] is False
        assert item["error"]["code"] == "MODEL_UNAVAILABLE"


def test_a_request_that_is_turned_away_is_sensitive_too() -> None:
    for limits in (Limits(memory_bytes=10), Limits(body_bytes=100), Limits(parts=2)):
        with serving(settings=ServeSettings(limits=limits)) as server:
            assert read(server, SAFE, SAFE, SAFE)[:2] == [(True, False)] * 2


def test_what_nobody_foresaw_is_sensitive_and_logged(
    server: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(server.service, "score", fail)
    assert read(server, SAFE) == [(True, False)]
    assert "could not be judged" in caplog.text


def test_hanamisskey_gets_two_classes() -> None:
    settings = ServeSettings(adapters=AdapterSettings(misskey_classes=ClassNames.BINARY))
    with serving(settings=settings) as server:
        items = server.post(URL, files=parts(JUST_NSFW, ALMOST_NSFW, BROKEN)).json()["result"]
        shown = [
            {one["className"]: one["probability"] for one in item["predictions"]}
            for item in items["results"]
        ]
        assert all(set(one) == {"nsfw", "safe"} for one in shown)
        assert [one["nsfw"] > 0.7 for one in shown] == [True, False, True]
        assert shown[1]["nsfw"] < 0.5


def test_refusals_come_in_the_order_and_form_of_the_original() -> None:
    settings = ServeSettings(
        limits=Limits(body_bytes=2000, parts=3),
        tokens=parse(["site 0123456789abcdef"], "tokens"),
        adapters=AdapterSettings(flag_unjudged=False),
    )
    token = {"Authorization": "Bearer 0123456789abcdef"}

    def refused(status: int, code: str, **request: object) -> None:
        found = server.post(URL, **request)  # type: ignore[arg-type]
        assert found.status_code == status, found.text
        assert found.json() == {
            "success": False,
            "error": {"code": code, "message": found.json()["error"]["message"]},
        }

    with serving(settings=settings) as server:
        assert server.get("/health").status_code == 200
        refused(401, "AUTHENTICATION_REQUIRED", content=b"x" * 3000)
        refused(413, "REQUEST_TOO_LARGE", content=b"x" * 3000, headers=token)
        refused(415, "UNSUPPORTED_MEDIA_TYPE", content=b"x", headers=token)
        kind = {"Content-Type": "multipart/form-data; boundary=b"} | token
        refused(400, "INVALID_REQUEST", content=b"no parts at all", headers=kind)
        refused(400, "INVALID_REQUEST", content=b"--b--\r\n", headers=kind)
        refused(413, "REQUEST_TOO_LARGE", files=parts(*[SAFE] * 4), headers=token)
        assert server.post(URL, files=parts(SAFE), headers=token).status_code == 200


def test_a_part_that_is_no_file_is_an_error_of_that_part(server: Serving) -> None:
    found = server.post(URL, files=parts(SAFE), data={"note": "hello"}).json()
    codes = [one.get("error", {}).get("code") for one in found["result"]["results"]]
    assert sorted(map(str, codes)) == ["INVALID_REQUEST", "None"]


def test_a_harmless_request_id_is_sent_back(server: Serving) -> None:
    given = {"X-Request-Id": "abc-1.2_3"}
    assert server.post(URL, files=parts(SAFE), headers=given).headers["x-request-id"] == "abc-1.2_3"
    assert server.post(URL, content=b"", headers=given).headers["x-request-id"] == "abc-1.2_3"
    bad = {"X-Request-Id": "a b<c>"}
    answer = server.post(URL, files=parts(SAFE), headers=bad)
    assert answer.headers["x-request-id"].isalnum()
