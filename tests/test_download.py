"""Downloads from a hub on the loopback interface that does everything wrong a hub can do."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import loopback_hub
import pytest
from loopback_hub import QUICK, LoopbackHub
from tiny_packages import FILE, REPO, REVISION, content

from nsfwscan.models.catalogue import HubFile, HubSource
from nsfwscan.models.fetch import download, network_is_forbidden
from nsfwscan.models.fetch.client import Client, Patience
from nsfwscan.models.fetch.hub import DEFAULT_ENDPOINT, Hub
from nsfwscan.values.errors import ConfigError, DownloadError, HubUnreachable, ModelTampered

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = content(600_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
ETAG = f'"{SHA256}"'


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with loopback_hub.running() as server:
        server.put(REPO, REVISION, FILE, DATA)
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "file.part"


def fetch(
    hub: LoopbackHub,
    target: Path,
    *,
    size: int | None = None,
    sha256: str = SHA256,
    token: str = "",
    patience: Patience = QUICK,
    progress: download.Progress = lambda _done, _total: None,
) -> int:
    file = HubFile(FILE, "model.onnx", sha256, size)
    client = Hub(hub.endpoint, token, patience)
    return client.fetch(HubSource(REPO, REVISION, (file,)), file, str(target), progress)


def left_over(target: Path) -> list[str]:
    return sorted(one.name for one in target.parent.iterdir())


@pytest.mark.parametrize("size", [None, len(DATA)])
def test_a_file_arrives_whole(hub: LoopbackHub, target: Path, size: int | None) -> None:
    seen: list[tuple[int, int | None]] = []
    assert fetch(hub, target, size=size, progress=lambda *at: seen.append(at)) == len(DATA)
    assert target.read_bytes() == DATA
    assert left_over(target) == ["file.part"]
    assert seen[0] == (0, len(DATA))
    assert seen[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("size", [None, len(DATA)])
def test_a_server_that_tells_no_length_is_believed_by_hash(
    hub: LoopbackHub, target: Path, size: int | None
) -> None:
    hub.faults.no_length = True
    assert fetch(hub, target, size=size) == len(DATA)


def test_a_cut_connection_is_resumed_where_it_was_cut(hub: LoopbackHub, target: Path) -> None:
    hub.faults.cuts = [100_000, 50_000, 0, -1]
    assert fetch(hub, target) == len(DATA)
    assert hub.ranges() == ["", "bytes=100000-", "bytes=150000-", "bytes=150000-"]
    assert hub.seen[-1].headers["if-range"] == ETAG


def test_cuts_without_end_end_the_download_and_keep_what_came(
    hub: LoopbackHub, target: Path
) -> None:
    hub.faults.cuts = [1000] * 100
    with pytest.raises(DownloadError, match="broke off") as caught:
        fetch(hub, target)
    assert len(hub.ranges()) == QUICK.tries
    assert "run the same command again" in caught.value.hint
    assert target.read_bytes() == DATA[: 1000 * QUICK.tries]
    hub.faults.cuts = []
    assert fetch(hub, target) == len(DATA)  # another process goes on, with the remembered ETag
    assert hub.seen[-1].headers["if-range"] == ETAG
    assert hub.ranges()[-1] == f"bytes={1000 * QUICK.tries}-"


def test_cuts_that_bring_much_each_time_never_end_the_download(
    hub: LoopbackHub, target: Path
) -> None:
    data = content(3_000_000)
    digest = hub.put(REPO, REVISION, FILE, data)
    hub.faults.cuts = [300_000] * 9
    assert fetch(hub, target, sha256=digest) == len(data)


def test_a_complete_part_needs_no_download(hub: LoopbackHub, target: Path) -> None:
    target.write_bytes(DATA)
    assert fetch(hub, target, size=len(DATA)) == len(DATA)
    assert hub.seen == []
    assert fetch(hub, target) == len(DATA)  # of unknown size: the server is asked, and answers 416
    assert hub.ranges() == [f"bytes={len(DATA)}-"]


@pytest.mark.parametrize("size", [None, len(DATA)])
@pytest.mark.parametrize("length", [1, 1000, len(DATA), len(DATA) + 5])
def test_a_damaged_part_is_fetched_anew(
    hub: LoopbackHub, target: Path, size: int | None, length: int
) -> None:
    target.write_bytes(bytes(length))
    assert fetch(hub, target, size=size) == len(DATA)
    assert target.read_bytes() == DATA


def test_a_changed_etag_starts_over(hub: LoopbackHub, target: Path) -> None:
    target.write_bytes(DATA[:1000])
    Path(f"{target}.etag").write_text('"of-another-day"')
    assert fetch(hub, target) == len(DATA)
    assert hub.seen[-1].headers["if-range"] == '"of-another-day"'


@pytest.mark.parametrize("etag", ['W/"weak"', "", "no quotes"])
def test_only_a_strong_etag_is_sent_back(hub: LoopbackHub, target: Path, etag: str) -> None:
    hub.faults.etag = etag
    hub.faults.cuts = [1000]
    assert fetch(hub, target) == len(DATA)
    assert "if-range" not in hub.seen[-1].headers


def test_a_server_that_ignores_ranges_starts_over(hub: LoopbackHub, target: Path) -> None:
    hub.faults.cuts = [100_000]
    hub.faults.ignore_range = True
    assert fetch(hub, target) == len(DATA)
    assert target.read_bytes() == DATA


def test_a_server_that_sends_another_part_is_asked_anew(hub: LoopbackHub, target: Path) -> None:
    hub.faults.cuts = [100_000]
    hub.faults.wrong_range = True
    assert fetch(hub, target) == len(DATA)
    assert hub.ranges() == ["", "bytes=100000-", ""]


def test_wrong_bytes_are_deleted_and_refused(hub: LoopbackHub, target: Path) -> None:
    hub.faults.wrong_bytes = True
    with pytest.raises(ModelTampered, match="checksum"):
        fetch(hub, target)
    assert left_over(target) == []


def test_wrong_bytes_after_a_resumed_part_are_refused_too(hub: LoopbackHub, target: Path) -> None:
    target.write_bytes(DATA[:1000])
    hub.faults.wrong_bytes = True
    hub.faults.etag = ""
    with pytest.raises(ModelTampered, match="checksum"):
        fetch(hub, target)
    assert left_over(target) == []


@pytest.mark.parametrize("size", [None, len(DATA)])
def test_a_file_that_is_too_long_is_refused(
    hub: LoopbackHub, target: Path, size: int | None
) -> None:
    hub.faults.too_long = 7
    with pytest.raises(ModelTampered if size is None else DownloadError):
        fetch(hub, target, size=size)
    assert left_over(target) == []


def test_a_body_without_end_is_refused(
    hub: LoopbackHub, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_FILE_BYTES", 100_000)
    hub.faults.no_length = True
    with pytest.raises(DownloadError, match="longer than the 100000 bytes"):
        fetch(hub, target)
    assert left_over(target) == []
    hub.faults.no_length = False
    with pytest.raises(DownloadError, match="too large for a model"):
        fetch(hub, target)


def test_a_stall_is_noticed_and_resumed(hub: LoopbackHub, target: Path) -> None:
    hub.faults.stall_after = 1 << 16
    with pytest.raises(DownloadError, match="broke off"):
        fetch(hub, target)
    have = target.stat().st_size
    assert have >= 1 << 16
    hub.faults.stall_after = None
    assert fetch(hub, target) == len(DATA)
    assert hub.ranges()[-1] == f"bytes={have}-"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(hub: LoopbackHub, target: Path, status: int) -> None:
    hub.faults.statuses = [status, status, 200]
    assert fetch(hub, target) == len(DATA)


def test_a_server_that_stays_busy_ends_the_download(hub: LoopbackHub, target: Path) -> None:
    hub.faults.statuses = [503] * 100
    with pytest.raises(DownloadError, match="503") as caught:
        fetch(hub, target)
    assert not isinstance(caught.value, HubUnreachable)
    assert len(hub.ranges()) == QUICK.tries


def test_retry_after_is_obeyed_within_bounds(hub: LoopbackHub, target: Path) -> None:
    hub.faults.statuses, hub.faults.headers = [429, 200], {"retry-after": "1"}
    began = time.monotonic()
    assert fetch(hub, target) == len(DATA)
    assert time.monotonic() - began >= 1
    hub.faults.statuses, hub.faults.headers = [429, 200], {"retry-after": "86400"}
    target.unlink()
    with pytest.raises(DownloadError, match="asks to wait 86400 seconds"):
        fetch(hub, target)


@pytest.mark.parametrize(
    ("status", "token", "message", "hint"),
    [
        (404, "", "no such file", "HF_ENDPOINT"),
        (401, "", "it is gated", "HF_TOKEN"),
        (401, "hf_x", "the token in HF_TOKEN does not give access to it", "HF_TOKEN"),
        (403, "", "it is gated", "terms"),
        (410, "", "answered 410", ""),
    ],
)
def test_a_refusal_is_told_at_once(
    hub: LoopbackHub, target: Path, status: int, token: str, message: str, hint: str
) -> None:
    hub.faults.statuses = [status]
    with pytest.raises(DownloadError, match=message) as caught:
        fetch(hub, target, token=token)
    assert hint in caught.value.hint
    assert not isinstance(caught.value, HubUnreachable)
    assert len(hub.ranges()) == 1


def test_a_repository_that_is_not_there(hub: LoopbackHub, target: Path) -> None:
    hub.files.clear()
    with pytest.raises(DownloadError, match=r"404.*no such file"):
        fetch(hub, target)


@pytest.mark.parametrize("status", [200, 401, 403, 511])
def test_a_sign_in_page_is_recognised(hub: LoopbackHub, target: Path, status: int) -> None:
    hub.faults.html, hub.faults.html_status = True, status
    with pytest.raises(HubUnreachable, match="a web page instead of the file"):
        fetch(hub, target)
    assert not target.exists() or target.read_bytes() == b""


def test_redirects_in_circles_end(hub: LoopbackHub, target: Path) -> None:
    hub.faults.redirect_to = f"/{REPO}/resolve/{REVISION}/{FILE}"
    with pytest.raises(DownloadError, match="redirects too often"):
        fetch(hub, target)


@pytest.mark.parametrize(
    "where", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://127.0.0.1:x/"]
)
def test_redirects_to_no_web_address_are_refused(
    hub: LoopbackHub, target: Path, where: str
) -> None:
    hub.faults.redirect_to = where
    with pytest.raises(DownloadError, match=r"redirects|location"):
        fetch(hub, target)


def test_the_token_goes_to_the_endpoint_alone(hub: LoopbackHub, target: Path) -> None:
    with loopback_hub.running() as storage:
        storage.put(REPO, REVISION, FILE, DATA)
        hub.faults.redirect_to = f"{storage.endpoint}/storage/{SHA256}"
        fetch(hub, target, token="hf_secret")
        assert [one.headers.get("authorization") for one in hub.seen] == ["Bearer hf_secret"]
        assert len(storage.seen) == 1
        assert "hf_secret" not in str(storage.seen)


def answers(reply: Any) -> httpx.Client:
    return httpx.Client(transport=httpx.MockTransport(reply))


def fetch_from(client: httpx.Client, endpoint: str, target: Path, token: str = "") -> int:
    file = HubFile(FILE, "model.onnx", SHA256, None)
    url = f"{endpoint}/{REPO}/resolve/{REVISION}/{FILE}"
    with client:
        asking = Client(client, endpoint, token, QUICK)
        return download.Download(asking, url, file, str(target), lambda *_: None).run()


def test_a_redirect_that_drops_encryption_is_refused(target: Path) -> None:
    asked: list[str] = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(302, headers={"location": "http://hub.invalid/file"})

    with pytest.raises(DownloadError, match="without encryption"):
        fetch_from(answers(reply), "https://hub.invalid", target)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("endpoint", "sent"),
    [("https://hub.invalid", True), ("http://hub.invalid", False), ("http://127.0.0.1:1", True)],
)
def test_the_token_is_never_sent_in_the_clear(target: Path, endpoint: str, sent: bool) -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        assert ("authorization" in request.headers) is sent
        return httpx.Response(200, content=iter([DATA]))

    assert fetch_from(answers(reply), endpoint, target, "hf_secret") == len(DATA)


def test_the_token_does_not_show_in_errors() -> None:
    assert "hf_secret" not in repr(Hub(token="hf_secret"))


LEAKS = [
    one
    for one in vars(httpx).values()
    if isinstance(one, type) and issubclass(one, httpx.RequestError | httpx.InvalidURL)
]


@pytest.mark.parametrize("kind", LEAKS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("when", ["asking", "reading"])
def test_no_exception_of_httpx_leaks(target: Path, kind: type[Exception], when: str) -> None:
    def body() -> Iterator[bytes]:
        yield DATA[:10]
        raise kind("as the library says it")

    def reply(request: httpx.Request) -> httpx.Response:
        if when == "asking":
            raise kind("as the library says it")
        return httpx.Response(200, content=body())

    if when == "reading" and not issubclass(kind, httpx.TransportError):
        return  # these are never raised while bytes arrive
    with pytest.raises(DownloadError):
        fetch_from(answers(reply), "https://hub.invalid", target)


def test_a_refused_connection_is_unreachable_at_once(target: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    began = time.monotonic()
    with pytest.raises(HubUnreachable, match=r"127\.0\.0\.1 cannot be reached"):
        Hub(endpoint, "", Patience()).fetch(*_source(), str(target), lambda *_: None)
    assert time.monotonic() - began < 3
    assert not target.exists() or target.read_bytes() == b""


def _source() -> tuple[HubSource, HubFile]:
    file = HubFile(FILE, "model.onnx", SHA256, None)
    return HubSource(REPO, REVISION, (file,)), file


def test_a_name_that_does_not_resolve_is_given_up_within_ten_seconds(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the patience that users get, and a resolver that hangs."""
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kw: released.wait(60) and [])
    began = time.monotonic()
    try:
        with pytest.raises(HubUnreachable, match="no answer in time"):
            Hub("https://hub.invalid").fetch(*_source(), str(target), lambda *_: None)
        assert time.monotonic() - began < 10
    finally:
        released.set()
        join_threads()


def test_a_hub_that_accepts_and_is_mute_is_unreachable(hub: LoopbackHub, target: Path) -> None:
    hub.faults.silent = True
    try:
        with pytest.raises(HubUnreachable, match="no answer in time"):
            fetch(hub, target, patience=dataclasses.replace(QUICK, answer_s=0.3, stall_s=5))
    finally:
        hub.closing.set()
        join_threads()
    assert len(hub.seen) == QUICK.first_tries


def join_threads() -> None:
    for thread in threading.enumerate():
        if thread.name == "nsfwscan-hub":
            thread.join(20)


def test_the_longest_wait_for_an_unreachable_hub_adds_up_to_less_than_ten_seconds() -> None:
    waits = Patience()
    assert waits.first_tries * waits.answer_s + waits.backoff_s * (waits.first_tries - 1) < 10


def test_a_proxy_from_the_environment_is_used(
    hub: LoopbackHub, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", hub.endpoint)
    source, file = _source()
    assert Hub("http://hub.invalid", "", QUICK).fetch(
        source, file, str(target), lambda *_: None
    ) == len(DATA)
    assert hub.seen[0].path.startswith("http://hub.invalid/")
    monkeypatch.setenv("NO_PROXY", "hub.invalid")
    target.unlink()
    monkeypatch.setattr(socket, "getaddrinfo", _no_name)
    with pytest.raises(HubUnreachable):
        Hub("http://hub.invalid", "", QUICK).fetch(source, file, str(target), lambda *_: None)


def _no_name(*_args: object, **_options: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize(
    ("name", "value"), [("ALL_PROXY", "nonsense://x"), ("SSL_CERT_FILE", "/nowhere/certs.pem")]
)
def test_network_settings_that_cannot_be_used_are_named(
    hub: LoopbackHub, target: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(DownloadError, match="network settings") as caught:
        fetch(hub, target)
    assert name in caught.value.hint


def test_a_full_disk_is_said_and_given_back(
    hub: LoopbackHub, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(target.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=len(DATA) // 2))
    target.write_bytes(DATA[:1000])
    with pytest.raises(DownloadError, match="the disk is full") as caught:
        fetch(hub, target)
    assert "NSFWSCAN_HOME" in caught.value.hint
    assert left_over(target) == []


def test_a_folder_that_cannot_be_written_is_named(hub: LoopbackHub, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="cannot be written to"):
        fetch(hub, tmp_path / "no such folder" / "part")
    assert hub.seen == []


def test_the_endpoint_and_token_come_from_the_environment() -> None:
    made = Hub.from_environment({"HF_ENDPOINT": "https://mirror.invalid/hf/", "HF_TOKEN": " t\n"})
    assert (made.endpoint, made.token, made.host) == (
        "https://mirror.invalid/hf",
        "t",
        "mirror.invalid",
    )
    assert Hub.from_environment({}).endpoint == DEFAULT_ENDPOINT
    assert Hub.from_environment({"HF_ENDPOINT": "http://u:p@h:8/"}).host == "h:8"


@pytest.mark.parametrize("endpoint", ["mirror.invalid", "ftp://x", "https://", "http:///x"])
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="HF_ENDPOINT"):
        Hub.from_environment({"HF_ENDPOINT": endpoint})


@pytest.mark.parametrize("token", ["a\nb", "ä", "a\x00"])
def test_a_token_that_cannot_be_sent_is_refused_unseen(token: str) -> None:
    with pytest.raises(ConfigError, match="HF_TOKEN") as caught:
        Hub.from_environment({"HF_TOKEN": token})
    assert token not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "forbidden"),
    [("1", True), ("true", True), ("Yes", True), ("ON", True), ("0", False), ("", False)],
)
def test_the_hubs_offline_switch(value: str, forbidden: bool) -> None:
    assert network_is_forbidden({"HF_HUB_OFFLINE": value}) is forbidden
