"""The server's own ways: what it answers and refuses, and what it never does."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import scan_fakes
from conftest import Paint
from serving import BROKEN, NSFW, REVIEW, SAFE, Serving, fake_session, serving, wait_for
from starlette.background import BackgroundTask
from starlette.responses import Response

import nsfwscan
from nsfwscan.cache.cache import Cache
from nsfwscan.serve import app as serve_app
from nsfwscan.serve import tokens, v1
from nsfwscan.serve.settings import Limits, ServeSettings
from nsfwscan.values.errors import CacheUnavailable, ModelNotFound, ModelUnusable, UsageError
from nsfwscan.values.outcome import Reading

TOKEN = "0123456789abcdef"
OTHER = "fedcba9876543210"


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> scan_fakes.FakePool:
    return scan_fakes.install_pool(monkeypatch)


@pytest.fixture
def server(pool: scan_fakes.FakePool) -> Iterator[Serving]:
    with serving() as server:
        yield server


def limited(**limits: float) -> ServeSettings:
    return ServeSettings(limits=Limits(**limits))  # type: ignore[arg-type]


def gate(pool: scan_fakes.FakePool, content: bytes) -> threading.Event:
    """Have the decoder hold a picture until the event is set."""
    return pool.gates.setdefault(content, threading.Event())


def test_a_picture_gets_its_scores_best_first(server: Serving) -> None:
    for picture, best in ((NSFW, "red"), (SAFE, "other"), (REVIEW, "red")):
        found = server.post("/", content=picture)
        assert found.status_code == 200
        assert found.json()[0]["label"] == best
        assert all(set(one) == {"label", "score"} for one in found.json())
        for name in ("x-compute-time", "x-total-time", "x-queue-time", "x-inference-time"):
            assert found.headers[name].isdigit()


@pytest.mark.parametrize("media_type", [None, "image/jpeg", "application/json", "text/plain", "x"])
def test_what_was_sent_is_found_out_from_the_bytes(server: Serving, media_type: str | None) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    document = json.dumps({"inputs": base64.b64encode(NSFW).decode()}).encode()
    for body in (NSFW, document, b" \n" + document):
        found = server.post("/predict", content=body, headers=headers)
        assert found.json()[0] == {"label": "red", "score": 1.0}


def test_top_k_is_taken_from_the_body_and_from_the_query(server: Serving) -> None:
    document = {"inputs": base64.b64encode(NSFW).decode(), "parameters": {"top_k": 1}}
    assert len(server.post("/", json=document).json()) == 1
    assert len(server.post("/?top_k=1", content=NSFW).json()) == 1
    assert len(server.post("/?top_k=99", content=NSFW).json()) == 2


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": "!"},
        {"inputs": 7},
        {},
        {"inputs": "https://example.org/a.jpg"},
        {"inputs": "/w==", "parameters": []},
        {"inputs": "/w==", "parameters": {"top_k": 0}},
        {"inputs": "/w==", "parameters": {"top_k": True}},
        {"inputs": "/w==", "parameters": {"top_k": "x"}},
        {"inputs": "/w==", "parameters": {"function_to_apply": "tanh"}},
        {"inputs": "/w==", "parameters": {"candidate_labels": ["cat"]}},
        {"inputs": "/w==", "parameters": {"other": 1}},
    ],
    ids=str,
)
def test_a_wrong_question_is_answered_with_400_and_a_sentence(
    server: Serving, document: dict[str, object]
) -> None:
    found = server.post("/", json=document)
    assert found.status_code == 400
    assert found.json()["error"]


@pytest.mark.parametrize("body", [b"{", b'{"inputs": ', b"{" * 100_000, b'{"a": ' * 50_000])
def test_json_that_is_none_is_said_to_be_wrong(server: Serving, body: bytes) -> None:
    found = server.post("/", content=body)
    assert found.status_code == 400
    assert "JSON" in found.json()["error"]


def test_a_picture_without_a_verdict_is_an_error(server: Serving) -> None:
    found = server.post("/", content=BROKEN)
    assert found.status_code == 400
    assert found.json()["reason"] == "corrupt"
    assert server.post("/", content=b"").json()["reason"] == "empty"


def test_a_model_answers_only_to_its_own_name(server: Serving) -> None:
    for name in ("tiny", "tiny-1", "TINY"):
        assert server.post(f"/models/{name}", content=NSFW).status_code == 200
    found = server.post("/models/someone/other", content=NSFW)
    assert found.status_code == 404
    assert "someone/other" in found.json()["error"]


def test_one_request_may_hold_many_pictures(server: Serving) -> None:
    names = {"a.png": NSFW, "b.png": SAFE, "c.png": BROKEN, "d\u202egpj.png": REVIEW}
    files = [("picture", (name, data)) for name, data in names.items()]
    records = server.post("/v1/scan", files=files).json()["results"]
    assert [one["path"] for one in records] == list(names)
    decisions = [one["decision"] or one["reason"] for one in records]
    assert decisions == ["nsfw", "safe", "corrupt", "review"]
    assert server.post("/v1/scan", content=NSFW).json()["results"][0]["decision"] == "nsfw"


@pytest.mark.parametrize(
    ("media_type", "body", "status"),
    [
        ("multipart/form-data", b"", 400),
        ("multipart/form-data; boundary=x", b"", 400),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n", 400),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nnonsense\r\n\r\nbody\r\n--x--\r\n", 400),
        ("multipart/form-data; boundary=" + "x" * 300, b"--x--\r\n", 400),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\r\n' * 4 + b"--x--\r\n",
            413,
        ),
    ],
)
def test_a_malformed_multipart_body_is_refused(
    pool: scan_fakes.FakePool, media_type: str, body: bytes, status: int
) -> None:
    with serving(settings=limited(parts=3)) as server:
        found = server.post("/v1/scan", content=body, headers={"Content-Type": media_type})
    assert found.status_code == status
    assert pool.decoded == []


def test_rulings_decide_as_in_a_scan(server: Serving, paint: Paint, tmp_path: Path) -> None:
    picture = paint(tmp_path / "a.png", (255, 0, 0))
    for decision, by in (("review", "model"), ("safe", "person")):
        record = server.post("/v1/scan", content=picture.read_bytes()).json()["results"][0]
        assert (record["decision"], record["decided_by"]) == (decision, by)
        assert nsfwscan.allow(picture) == []


def test_the_cache_is_read_and_written_only_if_that_is_asked(
    pool: scan_fakes.FakePool, tmp_path: Path
) -> None:
    with Cache.open(str(tmp_path / "cache"), warn=pytest.fail) as cache:
        for write in (False, True):
            with serving(fake_session(cache=cache), ServeSettings(write_cache=write)) as server:
                record = server.post("/v1/scan", content=NSFW).json()["results"][0]
                assert record["origin"] == "model"
            assert cache.stats().contents == int(write)
        with serving(fake_session(cache=cache)) as server:
            again = server.post("/v1/scan", content=NSFW).json()["results"][0]
            assert again == {**record, "origin": "cache"}
            assert len(pool.decoded) == 2
            server.post("/", content=NSFW, headers={"x-use-cache": "false"})
            assert len(pool.decoded) == 3


def test_a_cache_that_fails_is_said_once_and_requests_go_on(
    pool: scan_fakes.FakePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise CacheUnavailable("the disk is full")

    with Cache.open(str(tmp_path / "cache"), warn=pytest.fail) as cache:
        monkeypatch.setattr(Cache, "write", fail)
        with serving(fake_session(cache=cache), ServeSettings(write_cache=True)) as server:
            for at in range(3):
                assert server.post("/", content=NSFW + bytes([at])).status_code == 200
            server.wait_for(lambda: bool(server.warnings))
            monkeypatch.setattr(Cache, "outcome", fail)
            for at in range(3):
                assert server.post("/", content=NSFW + bytes([at])).status_code == 200
            assert len(server.warnings) == 2


def test_a_request_waits_for_a_model_that_is_being_loaded(pool: scan_fakes.FakePool) -> None:
    loading = threading.Event()

    def load() -> scan_fakes.FakeClassifier:
        assert loading.wait(20)
        return scan_fakes.FakeClassifier()

    with serving(fake_session(load=load), ready=False) as server, ThreadPoolExecutor() as threads:
        waiting = threads.submit(server.post, "/", content=NSFW)
        found = server.post("/", content=NSFW, headers={"x-wait-for-model": "false"})
        assert found.status_code == 503
        assert found.json()["estimated_time"] > 0
        assert "currently loading" in found.json()["error"]
        assert int(found.headers["retry-after"]) > 0
        assert server.get("/health").status_code == 503
        loading.set()
        assert waiting.result().status_code == 200


def test_a_model_that_takes_too_long_is_503(pool: scan_fakes.FakePool) -> None:
    loading = threading.Event()

    def load() -> scan_fakes.FakeClassifier:
        assert loading.wait(20)
        return scan_fakes.FakeClassifier()

    with serving(fake_session(load=load), limited(loading_s=0.05), ready=False) as server:
        assert server.post("/", content=NSFW).status_code == 503
        loading.set()


def test_a_server_without_a_model_says_so_and_takes_one_that_comes(
    pool: scan_fakes.FakePool,
) -> None:
    models: list[scan_fakes.FakeClassifier] = []

    def load() -> scan_fakes.FakeClassifier:
        if not models:
            raise ModelNotFound("no model is installed", hint="run `nsfwscan models pull`")
        return models[0]

    with serving(fake_session(load=load), ready=False) as server:
        server.wait_for(lambda: bool(server.warnings))
        for found in (server.post("/", content=NSFW), server.get("/health")):
            assert found.status_code == 503
            assert "no model is installed" in found.json()["error"]
            assert int(found.headers["retry-after"]) > 0
        assert server.post("/v1/scan", content=SAFE).status_code == 503
        models.append(scan_fakes.FakeClassifier())
        server.wait_for(lambda: server.get("/health").status_code == 200)
        assert server.post("/", content=NSFW).status_code == 200
        assert len(server.warnings) == 1


def test_a_model_that_fails_while_it_runs_is_503_and_never_safe(
    pool: scan_fakes.FakePool,
) -> None:
    class Failing(scan_fakes.FakeClassifier):
        broken = False

        def read(self, pixels: bytes, views: int, **wanted: bool) -> Reading:
            if self.broken:
                raise ModelUnusable("it returned nan")
            return super().read(pixels, views, **wanted)

    model = Failing()
    with serving(fake_session(load=lambda: model)) as server:
        model.broken = True
        for path in ("/", "/v1/scan"):
            found = server.post(path, content=SAFE)
            assert found.status_code == 503
            assert "nan" in found.json()["error"]
        assert server.get("/health").status_code == 503
        model.broken = False
        assert server.post("/", content=SAFE).status_code == 200
        assert server.get("/health").status_code == 200


def test_decode_processes_that_cannot_start_are_503_until_they_do(
    pool: scan_fakes.FakePool,
) -> None:
    with serving() as server:
        pool.running = False  # `decode` raises, as a pool does that was closed
        assert server.post("/", content=NSFW).status_code == 503
        server.wait_for(lambda: server.get("/health").status_code == 200)
        assert server.post("/", content=NSFW).status_code == 200


def test_no_picture_waits_while_a_lane_is_idle(pool: scan_fakes.FakePool, server: Serving) -> None:
    slow = gate(pool, b"\x01slow")
    with ThreadPoolExecutor() as threads:
        first = threads.submit(server.post, "/", content=b"\x01slow")
        assert pool.waiting.wait(10)
        for at in range(20):
            assert server.post("/", content=SAFE + bytes([at])).status_code == 200
        slow.set()
        assert first.result().status_code == 200


def test_a_full_queue_refuses_with_429_and_loses_nothing(pool: scan_fakes.FakePool) -> None:
    held = [gate(pool, b"\x01" + bytes([at])) for at in range(2)]
    with (
        serving(settings=limited(waiting=3)) as server,
        ThreadPoolExecutor(16) as threads,
    ):
        running = [threads.submit(server.post, "/", content=content) for content in pool.gates]
        server.wait_for(lambda: server.service.lanes.idle == 0)
        queued = [threads.submit(server.post, "/", content=SAFE + bytes([i])) for i in range(3)]
        server.wait_for(lambda: server.service.lanes.waiting == 3)
        for path in ("/", "/v1/scan"):
            refused = server.post(path, content=NSFW)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
        for one in held:
            one.set()
        assert [one.result().status_code for one in running + queued] == [200] * 5
        assert NSFW not in pool.decoded


def test_clients_that_hang_up_cost_no_inference(pool: scan_fakes.FakePool) -> None:
    held = [gate(pool, b"\x01" + bytes([at])) for at in range(2)]
    count = 1000
    with serving(settings=limited(waiting=50)) as server, ThreadPoolExecutor(4) as threads:
        running = [threads.submit(server.post, "/", content=content) for content in pool.gates]
        server.wait_for(lambda: server.service.lanes.idle == 0)
        for at in range(count):
            with socket.create_connection(("127.0.0.1", server.port)) as line:
                # Half of them leave before the picture is whole, half while it waits.
                length = 9 if at % 2 else 8
                head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
                line.sendall(head.encode() + b"\x00gone%03d" % at)
                if at % 100 == 0:
                    time.sleep(0.01)
        # They may still be waiting to be accepted; what comes after them is not.
        assert server.get("/health").status_code == 200
        server.wait_for(lambda: len(server.listener.server_state.connections) <= 3)
        server.wait_for(lambda: server.service.lanes.waiting == 0)
        for one in held:
            one.set()
        assert [one.result().status_code for one in running] == [200, 200]
        assert server.post("/", content=NSFW).status_code == 200
        assert not [content for content in pool.decoded if b"gone" in content]
        assert server.app_memory.used == 0


def test_what_comes_after_an_answer_is_done_although_the_client_leaves(
    pool: scan_fakes.FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()

    async def later() -> None:
        await asyncio.sleep(0.1)
        done.set()

    def response(_: object) -> Response:
        return Response("ok", background=BackgroundTask(later))

    monkeypatch.setattr(v1, "JSONResponse", response)
    with serving() as server:
        found = server.post("/v1/scan", content=NSFW, headers={"Connection": "close"})
        assert found.text == "ok"
        assert done.wait(10)


def test_a_picture_that_waits_too_long_is_given_up_unscored(pool: scan_fakes.FakePool) -> None:
    held = [gate(pool, b"\x01" + bytes([at])) for at in range(2)]
    with serving(settings=limited(answer_s=0.3)) as server, ThreadPoolExecutor(4) as threads:
        running = [threads.submit(server.post, "/", content=content) for content in pool.gates]
        server.wait_for(lambda: server.service.lanes.idle == 0)
        late = server.post("/", content=NSFW)
        assert late.status_code == 429
        assert "retry-after" in late.headers
        for one in held:
            one.set()
        assert {one.result().status_code for one in running} <= {200, 429}
        assert NSFW not in pool.decoded


def test_a_body_over_the_limit_is_refused_before_it_is_kept(pool: scan_fakes.FakePool) -> None:
    with serving(settings=limited(body_bytes=1000)) as server:
        for body in (b"x" * 1001, iter([b"x" * 600, b"x" * 600])):
            found = server.post("/", content=body)  # announced, and in chunks
            assert found.status_code == 413
            assert found.json()["error"]
        # A client that asks first is refused without being asked for the body.
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            line.sendall(
                b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n"
                b"Expect: 100-continue\r\n\r\n"
            )
            assert line.recv(1000).startswith(b"HTTP/1.1 413")
        assert server.post("/", content=b"\x00" * 1000).status_code == 200
        assert server.app_memory.used == 0


def test_all_bodies_together_have_a_bound(pool: scan_fakes.FakePool) -> None:
    with serving(settings=limited(memory_bytes=1000)) as server:
        assert server.post("/", content=b"\x00" * 1001).status_code == 429
        assert server.post("/", content=b"\x00" * 1000).status_code == 200


def closed_after(line: socket.socket, seconds: float) -> bytes:
    """Return what a connection says until the server closes it, which must be soon."""
    line.settimeout(seconds)
    said = b""
    while more := line.recv(4096):
        said += more
    return said


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b""),
        (b"POST / HT", b""),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\n", b""),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n", b"408"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc", b"408"),
        (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            b"408",
        ),
    ],
)
def test_a_slow_client_is_closed(pool: scan_fakes.FakePool, sent: bytes, status: bytes) -> None:
    with (
        serving(settings=limited(header_s=0.3, slow_s=0.3)) as server,
        socket.create_connection(("127.0.0.1", server.port)) as line,
    ):
        line.sendall(sent)
        said = closed_after(line, 5)
    assert said.partition(b" ")[2][:3] == status


def test_a_client_that_drips_is_closed_as_well(pool: scan_fakes.FakePool) -> None:
    with (
        serving(settings=limited(header_s=0.5, slow_s=0.5)) as server,
        socket.create_connection(("127.0.0.1", server.port)) as header,
        socket.create_connection(("127.0.0.1", server.port)) as body,
    ):
        header.sendall(b"GET /")
        body.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n")
        began = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - began < 5:
                header.sendall(b"x")
                body.sendall(b"x")
                time.sleep(0.02)
        assert time.monotonic() - began < 3


def test_honest_uploads_may_take_their_time(pool: scan_fakes.FakePool) -> None:
    def upload() -> Iterator[bytes]:
        for _ in range(10):
            time.sleep(0.1)
            yield b"\x00" * 2000

    with serving(settings=limited(header_s=0.2, slow_s=0.3)) as server:
        assert server.post("/", content=upload()).status_code == 200


def test_too_many_connections_are_refused_with_an_answer(pool: scan_fakes.FakePool) -> None:
    with serving(settings=limited(connections=3)) as server:
        lines = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(4)]
        try:
            assert b" 503 " in closed_after(lines[-1], 5)
        finally:
            for line in lines:
                line.close()


def test_answers_are_sent_at_once(server: Serving) -> None:
    server.get("/health")
    for protocol in server.listener.server_state.connections:
        sent = protocol.transport.get_extra_info("socket")
        assert sent.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_header_has_a_bound(pool: scan_fakes.FakePool, server: Serving) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000)
        assert b" 400 " in closed_after(line, 5)


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "a b", "[::1"])
def test_a_request_for_another_host_is_refused(server: Serving, host: str) -> None:
    found = server.post("/", content=NSFW, headers={"Host": host})
    assert found.status_code in {400, 421}


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:80", "10.0.0.7"])
def test_a_request_by_number_or_as_localhost_is_ours(server: Serving, host: str) -> None:
    assert server.get("/health", headers={"Host": host}).status_code == 200


def test_a_page_of_another_origin_may_not_ask(pool: scan_fakes.FakePool, server: Serving) -> None:
    foreign = ("https://evil.example", "null", "http://127.0.0.1:1", "http://localhost", "file://")
    for origin in foreign:
        assert server.post("/", content=NSFW, headers={"Origin": origin}).status_code == 403
    crossed = server.post("/", content=NSFW, headers={"Sec-Fetch-Site": "cross-site"})
    assert crossed.status_code == 403
    assert server.get("/metrics", headers={"Origin": "https://evil.example"}).status_code == 403
    assert pool.decoded == []
    assert server.post("/", content=NSFW, headers={"Origin": server.url}).status_code == 200
    allowed = ServeSettings(
        hosts=frozenset({"pictures.example"}), origins=frozenset({"https://evil.example"})
    )
    with serving(settings=allowed) as other:
        headers = {"Origin": "https://evil.example", "Host": "pictures.example"}
        answer = other.post("/", content=NSFW, headers=headers)
        assert answer.status_code == 200
        asks = {"Access-Control-Request-Method": "POST"}
        asks["Access-Control-Request-Headers"] = "authorization, content-type"
        before = other.options("/v1/scan", headers=headers | asks)
        assert before.status_code == 200
        for one in (answer, before):
            assert one.headers["access-control-allow-origin"] == "https://evil.example"
    assert "access-control-allow-origin" not in server.get("/health").headers


def test_a_token_is_asked_for_and_its_limits_hold(pool: scan_fakes.FakePool) -> None:
    known = tokens.parse([f"one {TOKEN} per-minute=2", f"two {OTHER} at-once=1"], "a test")
    with serving(settings=ServeSettings(tokens=known)) as server, ThreadPoolExecutor() as threads:
        for wrong in (
            None,
            "",
            TOKEN,
            f"Basic {TOKEN}",
            "Bearer",
            f"Bearer {TOKEN}x",
            "Bearer \xff",
        ):
            headers = {} if wrong is None else {"Authorization": wrong.encode("latin-1")}
            for path in ("/", "/v1/scan", "/models/tiny"):
                assert server.post(path, content=NSFW, headers=headers).status_code == 401
            for path in ("/info", "/metrics"):
                assert server.get(path, headers=headers).status_code == 401
        assert pool.decoded == []
        assert server.get("/health").status_code == 200
        one, two = ({"Authorization": f"Bearer {token}"} for token in (TOKEN, OTHER))
        codes = [server.post("/", content=NSFW, headers=one).status_code for _ in range(3)]
        assert codes == [200, 200, 429]
        held = gate(pool, b"\x01slow")
        first = threads.submit(server.post, "/", content=b"\x01slow", headers=two)
        assert pool.waiting.wait(10)
        assert server.post("/", content=NSFW, headers=two).status_code == 429
        held.set()
        assert first.result().status_code == 200
        assert server.post("/", content=NSFW, headers=two).status_code == 200


def test_who_has_no_token_learns_no_path_of_the_machine(pool: scan_fakes.FakePool) -> None:
    def load() -> scan_fakes.FakeClassifier:
        raise ModelUnusable("/home/ann/models/tiny-1 cannot be read")

    known = tokens.parse([f"one {TOKEN}"], "a test")
    settings = ServeSettings(tokens=known)
    with serving(fake_session(load=load), settings, ready=False) as server:
        server.wait_for(lambda: bool(server.warnings))
        for path in ("/health", "/", "/info", "/metrics", "/v1/jobs", "/nothing"):
            for method in ("GET", "POST"):
                for wrong in ({}, {"Authorization": f"Bearer {TOKEN}x"}):
                    assert "ann" not in server.request(method, path, headers=wrong).text
        found = server.get("/health")
        assert found.status_code == 503
        assert found.json()["status"] == "unavailable"
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert "/home/ann" in server.get("/health", headers=right).json()["error"]


def test_without_tokens_any_authorization_is_accepted(server: Serving) -> None:
    headers = {"Authorization": "Bearer hf_something"}
    assert server.post("/", content=NSFW, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "line",
    ["name", "name short", f"name {TOKEN} at-once=0", f"name {TOKEN} x=1", f"name {TOKEN} at-once"],
)
def test_a_wrong_line_of_a_token_file_is_named_without_its_token(line: str) -> None:
    with pytest.raises(UsageError) as found:
        tokens.parse(["# comment", "", line], "the file")
    assert "line 3" in str(found.value)
    assert TOKEN not in str(found.value)


def test_two_tokens_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="same name"):
        tokens.parse([f"a {TOKEN}", f"a {OTHER}"], "the file")
    with pytest.raises(UsageError, match="one token two names"):
        tokens.parse([f"a {TOKEN}", f"b {TOKEN}"], "the file")


def test_what_is_not_here_is_said_in_json(server: Serving) -> None:
    assert server.get("/nothing").json()["error"]
    assert server.get("/nothing").status_code == 404
    assert server.put("/").status_code == 405
    assert server.post("/predict/", content=NSFW).status_code == 404, "a redirect loses the body"


def test_a_bug_is_500_and_the_log_has_no_token(
    server: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(server.service, "answer", fail)
    found = server.post("/", content=NSFW, headers={"Authorization": f"Bearer {TOKEN}"})
    assert found.status_code == 500
    assert "ZeroDivisionError" not in found.text
    assert "ZeroDivisionError" in caplog.text
    assert TOKEN not in caplog.text


def test_every_route_is_described_and_every_description_has_a_route(server: Serving) -> None:
    described = server.get("/openapi.json").json()["paths"]
    routes = {
        (re.sub(r":\w+", "", route.path), method.lower())
        for module in serve_app.PROTOCOLS
        for route in module.routes(server.service, ServeSettings())
        for method in route.methods - {"HEAD"}
    }
    assert routes == {(path, method) for path, found in described.items() for method in found}


def test_metrics_count_what_happened(server: Serving) -> None:
    server.post("/", content=NSFW)
    server.post("/", content=BROKEN)
    text = server.get("/metrics").text
    assert 'nsfwscan_pictures_total{origin="model",result="nsfw"} 1.0' in text
    assert 'nsfwscan_requests_total{route="/",status="400"} 1.0' in text
    assert "nsfwscan_ready 1.0" in text


def test_the_page_runs_only_what_is_in_it(server: Serving) -> None:
    page = server.get("/", headers={"Accept": "text/html"})
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert policy.count("sha256-") == 2
    # Nothing from elsewhere, and no handlers or styles that the policy would stop.
    assert not re.search(r"(src|href)=\"(https?:)?//|\son\w+=|style=", page.text)
    assert server.get("/").json()["status"] == "ok"


def test_what_is_under_way_is_answered_at_the_end_and_the_rest_refused(
    pool: scan_fakes.FakePool,
) -> None:
    held = gate(pool, b"\x01slow")
    answers = []
    with ThreadPoolExecutor() as threads:
        with serving(settings=limited(stop_s=0.3), lanes=1) as server:
            running = threads.submit(server.post, "/", content=b"\x01slow")
            assert pool.waiting.wait(10)
            queued = threads.submit(server.post, "/", content=NSFW)
            server.wait_for(lambda: server.service.lanes.waiting == 1)
            threading.Timer(0.8, held.set).start()
            server.stop()
            answers = [running.result(), queued.result()]
        assert [one.status_code for one in answers] == [200, 503]
        assert NSFW not in pool.decoded


def test_scores_of_a_request_are_dropped_with_it(server: Serving) -> None:
    server.post("/", content=NSFW)
    wait_for(lambda: server.app_memory.used == 0)
