"""Requests that are meant to harm the server, or that nobody would send on purpose."""

from __future__ import annotations

import base64
import sys
import time
import types
from collections.abc import Iterator

import pytest
import scan_fakes
from serve_clients import Misskey, old_photoprism
from serving import SAFE, Serving, serving

from nsfwscan.serve import parts, tokens
from nsfwscan.serve.settings import ServeSettings

JSON_ROUTES = ("/", "/v1/moderations", "/api/v1/vision/nsfw")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    scan_fakes.install_pool(monkeypatch)
    with serving() as server:
        yield server


@pytest.mark.parametrize("path", JSON_ROUTES)
@pytest.mark.parametrize("value", [b"[]", b"{}", b"1"])
def test_json_of_very_many_values_is_refused_before_it_is_parsed(
    server: Serving, path: str, value: bytes
) -> None:
    body = b'{"inputs": [' + b",".join([value] * 2_000_000) + b"]}"
    began = time.thread_time()
    found = server.post(path, content=body)
    assert found.status_code == 400, found.text
    assert "more than 10,000 values" in found.text
    assert time.thread_time() - began < 5


@pytest.mark.parametrize("value", ["{}", "[]", "0", "false", '"tanh"', '["softmax"]', "1e999"])
def test_a_function_that_is_none_is_refused(server: Serving, value: str) -> None:
    inputs = base64.b64encode(SAFE).decode()
    body = f'{{"inputs": "{inputs}", "parameters": {{"function_to_apply": {value}}}}}'
    found = server.post("/", content=body.encode())
    assert found.status_code == 400
    assert "function_to_apply is one of" in found.json()["error"]


@pytest.mark.parametrize("space", [" ", "\n", "\r\n", "\t"])
def test_base64_may_have_white_space_anywhere(server: Serving, space: str) -> None:
    spaced = space.join(base64.b64encode(SAFE).decode())
    url = f"data:image/png;base64,{spaced}"
    document = {"input": [{"type": "image_url", "image_url": {"url": url}}]}
    assert server.post("/v1/moderations", json=document).status_code == 200


@pytest.mark.parametrize("path", ["/v1/scan", "/v1/detect-images"])
def test_an_error_is_a_sentence_and_not_what_python_says(server: Serving, path: str) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="a"; filename="\xff"\r\n\r\n'
    body = head + SAFE + b"\r\n--b--\r\n"
    found = server.post(
        path, content=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert found.status_code == 400
    assert "Error" not in found.text


@pytest.mark.parametrize("module", [None, types.ModuleType("multipart")])
def test_without_the_library_or_with_one_of_the_same_name_forms_are_refused(
    server: Serving, monkeypatch: pytest.MonkeyPatch, module: types.ModuleType | None
) -> None:
    monkeypatch.setitem(sys.modules, "multipart", module)
    assert not parts.can_read()
    found = server.post("/v1/scan", files={"a": ("a.png", SAFE)})
    assert found.status_code == 501
    assert "nsfwscan[serve]" in found.json()["error"]
    assert server.post("/v1/scan", content=SAFE).status_code == 200


@pytest.mark.parametrize("wrong", [{"Host": "nsfwscan:8470"}, {"Authorization": "Bearer wrong"}])
def test_a_mistake_of_the_operator_makes_nothing_safe(wrong: dict[str, str]) -> None:
    grants = tokens.parse(["site 0123456789abcdef"], "tokens")
    headers = {"Authorization": "Bearer 0123456789abcdef"} | wrong
    status = 421 if "Host" in wrong else 401
    with serving(settings=ServeSettings(tokens=grants)) as server:
        found = server.post("/v1/detect-images", files={"a": ("a.png", SAFE)}, headers=headers)
        assert Misskey().read(found.status_code, found.json(), 1) == [(True, False)]
        document = {"images": ["data:image/png;base64," + base64.b64encode(SAFE).decode()]}
        found = server.post("/api/v1/vision/nsfw", json=document, headers=headers)
        assert found.status_code == status
        assert found.json()["result"]["nsfw"][0]["status"] == "unavailable"
        assert old_photoprism(found.json(), 0.98)
        for path in ("/validate", "/v1/moderations", "/", "/v1/scan", "/v1/jobs"):
            assert server.post(path, content=SAFE, headers=headers).status_code == status
