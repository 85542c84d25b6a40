"""Callbacks: off by default, to allowed hosts only, signed, no redirects."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import scan_fakes
from serving import NSFW, SAFE, wait_for
from test_jobs import ended, hand_over, with_jobs

from nsfwscan.serve.jobs import callbacks
from nsfwscan.serve.jobs.callbacks import allowed_callback, signature
from nsfwscan.serve.jobs.settings import JobSettings
from nsfwscan.serve.problems import RequestRefused

SECRET = b"a secret that both know"


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> scan_fakes.FakePool:
    return scan_fakes.install_pool(monkeypatch)


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps what it is sent, and answers with the statuses it is given."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Kept)
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.statuses: list[int] = []


class Kept(http.server.BaseHTTPRequestHandler):
    server: Receiver
    timeout: ClassVar[float] = 10

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 204)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    do_GET = do_POST  # noqa: N815  the name that http.server looks for

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield receiver
        finally:
            receiver.shutdown()
            thread.join()


def options(receiver: Receiver) -> dict[str, Any]:
    host = f"127.0.0.1:{receiver.server_port}"
    return {"callback_hosts": frozenset({host}), "callback_secret": SECRET}


def test_the_end_of_a_job_is_told_once_and_signed(tmp_path: Path, receiver: Receiver) -> None:
    with with_jobs(tmp_path / "jobs", **options(receiver)) as server:
        url = f"http://127.0.0.1:{receiver.server_port}/done?from=nsfwscan"
        job = hand_over(server, [SAFE, NSFW], callback=url)
        done = ended(server, job)
        wait_for(lambda: bool(receiver.got))
        ((path, headers, body),) = receiver.got
        assert path == "/done?from=nsfwscan"
        assert json.loads(body) == done
        assert headers["X-Nsfwscan-Signature"] == signature(
            SECRET, headers["X-Nsfwscan-Timestamp"], body
        )
    with with_jobs(tmp_path / "jobs", **options(receiver)):
        pass
    assert len(receiver.got) == 1


def test_a_callback_that_fails_is_tried_again_also_after_a_restart(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "_PAUSES_S", (0.0, 0.0))
    receiver.statuses += [500, 302]
    url = f"http://127.0.0.1:{receiver.server_port}/done"
    for tries in (1, 2, 3, 3):
        with with_jobs(tmp_path / "jobs", **options(receiver)) as server:
            if tries == 1:
                hand_over(server, [SAFE], callback=url)
            wait_for(lambda tries=tries: len(receiver.got) >= tries)
    assert [path for path, _, _ in receiver.got] == ["/done"] * 3  # and no redirect was followed


def test_a_cancelled_job_is_told_about_too(tmp_path: Path, receiver: Receiver) -> None:
    with with_jobs(tmp_path / "jobs", model=False, **options(receiver)) as server:
        url = f"http://127.0.0.1:{receiver.server_port}/"
        job = hand_over(server, [SAFE], callback=url)
        server.post(f"/v1/jobs/{job}/cancel")
        wait_for(lambda: bool(receiver.got))
        assert json.loads(receiver.got[0][2])["state"] == "cancelled"


def test_callbacks_are_off_by_default(tmp_path: Path) -> None:
    with with_jobs(tmp_path / "jobs") as server:
        for request in (
            {"files": {"p": ("1.jpg", SAFE)}, "data": {"callback": "http://127.0.0.1/"}},
            {"json": {"folder": "/", "callback": "http://127.0.0.1/"}},
        ):
            found = server.post("/v1/jobs", **request)  # type: ignore[arg-type]
            assert (found.status_code, found.json()["code"]) == (403, "callbacks-off")
        assert server.get("/v1/jobs").json()["jobs"] == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{other}/", "http://127.0.0.2:{port}/", "http://localhost:{port}/",
        "https://example.org/", "http://127.0.0.1:{port}@example.org/",
        "http://user@127.0.0.1:{port}/", "http://127.0.0.1:{port}/#part", "ftp://127.0.0.1:{port}/",
        "file:///etc/passwd", "http://[::1]:{port}/", "http://127.0.0.1:99999/", "//127.0.0.1/",
        "http://127.0.0.1:{port}/a b", "http://127.0.0.1:{port}/\r\nX: y", "", " ", "x",
        "http://127.0.0.1:{port}/ü",
    ],
)  # fmt: skip
def test_a_foreign_host_is_not_called(url: str) -> None:
    settings = JobSettings("", callback_hosts=frozenset({"127.0.0.1:8080"}), callback_secret=SECRET)
    with pytest.raises(RequestRefused) as caught:
        allowed_callback(url.format(port=8080, other=8081), settings)
    assert caught.value.status in {400, 403}


@pytest.mark.parametrize(
    "url", ["https://example.org/x", "http://example.org:80/", "http://[::1]:5/", "http://A.B:7/"]
)
def test_an_allowed_host_may_be_named_without_its_usual_port(url: str) -> None:
    hosts = frozenset({"example.org", "[::1]:5", "a.b:7"})
    assert allowed_callback(url, JobSettings("", callback_hosts=hosts)) == url
