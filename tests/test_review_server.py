"""Who may talk to the page of a review, and what it answers."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from PIL import Image
from review_world import Client, World, running, serving

from nsfwscan.media.decode.pool import DecodePool
from nsfwscan.review import file_manager
from nsfwscan.review.review import Review, ReviewServer
from nsfwscan.values.errors import NsfwscanError

PATHS = ["/", "/review.js", "/review.css", "/review.svg", "/api/pictures", "/api/present",
         "/api/picture/{sha256}/large", "/api/nothing", "/nothing"]  # fmt: skip
DEEDS = ["/api/decide", "/api/quarantine", "/api/undo", "/api/folder"]


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(1) as pool:
        yield pool


@pytest.fixture
def world(tmp_path: Path, home: Path) -> World:
    return World(tmp_path / "pictures", home)


@pytest.fixture
def sha256(world: World) -> bytes:
    return world.add("a.png")


@pytest.fixture
def review(world: World, pool: DecodePool, sha256: bytes) -> Review:
    return world.review(pool)


@pytest.fixture
def server(review: Review) -> Iterator[ReviewServer]:
    with serving(review) as server:
        yield server


@pytest.fixture
def client(server: ReviewServer) -> Client:
    client = Client(server.address)
    assert client.enter().status == 303
    return client


# Who may talk to it


def test_the_address_works_once(server: ReviewServer) -> None:
    first, second = Client(server.address), Client(server.address)
    entered = first.enter()
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert entered.headers["location"].startswith("/#")
    assert second.enter().status == 403
    assert first.ask("GET", first.address.path).headers["location"] == "/"  # the owner may


def test_two_reviews_in_one_browser_do_not_disturb_each_other(
    review: Review, client: Client
) -> None:
    with serving(review) as other:
        second = Client(other.address)
        second.enter()
        # Browsers keep cookies by name, for all ports of a host together.
        assert second.cookie.partition("=")[0] != client.cookie.partition("=")[0]
        both = {"Cookie": f"{client.cookie}; {second.cookie}"}
        assert client.ask("GET", "/api/pictures", **both).status == 200
        assert second.ask("GET", "/api/pictures", **both).status == 200


def test_a_stranger_gets_nothing(server: ReviewServer, client: Client, sha256: bytes) -> None:
    stranger = Client(server.address)
    assert stranger.ask("GET", "/enter/guess").status == 403
    for path in PATHS:
        answer = stranger.ask("GET", path.format(sha256=sha256.hex()))
        assert answer.status in {403, 404}, path
        assert len(answer.body) < 100
    for path in DEEDS:
        assert stranger.ask("POST", path, {"id": sha256.hex()}).status == 403
    assert client.ask("GET", "/").status == 200


def test_cookie_and_key_are_both_needed(client: Client, sha256: bytes, world: World) -> None:
    for missing in ("cookie", "key"):
        half = Client(f"http://{client.authority}/")
        half.cookie, half.key = client.cookie, client.key
        setattr(half, missing, "")
        assert half.ask("GET", "/api/pictures").status == 403
        assert half.show(sha256).status == 403
        assert half.post("decide", sha256, ruling="allowed").status == 403
    half.cookie, half.key = client.cookie, f"{client.key}x"
    assert half.ask("GET", "/api/pictures").status == 403
    assert world.ruled() == {}


FOREIGN = [
    {"Host": "evil.example"},
    {"Host": "localhost"},
    {"Host": "127.0.0.1"},
    {"Host": "127.0.0.1:1"},
    {"Host": "-"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "https://{authority}"},
    {"Origin": "http://{authority}.evil.example"},
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},  # another port of this computer
]


def test_a_foreign_site_gets_nothing_even_with_all_secrets(
    client: Client, world: World, sha256: bytes
) -> None:
    client.show(sha256)
    given = {"request": "1", "id": sha256.hex(), "ruling": "allowed"}
    for headers in FOREIGN:
        own = client.authority
        foreign = {name: value.format(authority=own) for name, value in headers.items()}
        for path in PATHS:
            answer = client.ask("GET", path.format(sha256=sha256.hex()), **foreign)
            assert answer.status in {400, 403}, (headers, path)
            assert len(answer.body) < 200
        assert client.ask("POST", "/api/decide", given, **foreign).status in {400, 403}
    assert world.ruled() == {}
    assert "access-control-allow-origin" not in client.ask("GET", "/").headers


def test_a_post_without_an_origin_is_refused(client: Client, sha256: bytes) -> None:
    given = {"request": "1", "id": sha256.hex(), "ruling": "allowed"}
    assert client.ask("POST", "/api/decide", given, Origin="-").status == 403


def test_every_answer_forbids_what_the_page_does_not_need(client: Client, sha256: bytes) -> None:
    answers = [
        client.ask("GET", path.format(sha256=sha256.hex()))
        for path in PATHS
        if "present" not in path
    ]
    answers += [client.ask("GET", "/", Host="evil.example"), client.post("undo")]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers


def test_it_only_listens_on_this_computer(server: ReviewServer) -> None:
    assert server.authority.startswith("127.0.0.1:")


# Pictures


def test_pictures_are_made_anew_and_never_the_bytes_of_a_file(
    client: Client, world: World, pool: DecodePool
) -> None:
    hidden = b"a comment that no browser should see"
    stream = io.BytesIO()
    Image.new("RGB", (3000, 1500), (200, 30, 30)).save(stream, "JPEG", comment=hidden)
    (world.folder / "large.jpg").write_bytes(stream.getvalue())
    (sha256,) = world.remember("large.jpg")
    with serving(world.review(pool)) as server:
        client = Client(server.address)
        client.enter()
        longest = {}
        for size in ("small", "large", "zoom"):
            answer = client.show(sha256, size)
            assert answer.headers["content-type"] == "image/jpeg"
            assert hidden not in answer.body
            longest[size] = max(Image.open(io.BytesIO(answer.body)).size)
    assert longest == {"small": 192, "large": 1280, "zoom": 2048}


@pytest.mark.parametrize(
    "path",
    [
        "/api/picture/{other}/large",
        "/api/picture/..%2F..%2Fetc%2Fpasswd/large",
        "/api/picture/{sha256}/original",
        "/api/picture/{sha256}/../../etc/passwd",
        "/../etc/passwd",
        "/page/review.html",
        "/review.js/..%2f..%2fapp.py",
    ],
)
def test_what_is_not_part_of_the_review_cannot_be_had(
    client: Client, world: World, sha256: bytes, path: str
) -> None:
    other = world.add("safe.png", 0.1)  # in the cache, but there is nothing to decide
    answer = client.ask("GET", path.format(sha256=sha256.hex(), other=other.hex()))
    assert answer.status == 404


def test_nothing_is_decided_about_what_is_not_part_of_the_review(
    client: Client, world: World
) -> None:
    other = world.add("safe.png", 0.1)
    for sha256 in (other, bytes(32)):
        assert client.post("decide", sha256, ruling="denied").status == 409
        assert client.post("quarantine", sha256).status == 409
        assert client.post("folder", sha256).status == 404
    assert world.ruled() == {}
    assert (world.folder / "safe.png").exists()


def test_a_picture_that_is_gone_is_told_as_gone(
    client: Client, world: World, sha256: bytes
) -> None:
    (world.folder / "a.png").unlink()
    answer = client.show(sha256)
    assert answer.status == 410
    assert "a.png was moved, renamed or deleted" in answer.json["gone"]
    assert client.post("decide", sha256, ruling="denied").status == 409  # nobody has seen it


def test_a_picture_that_cannot_be_decoded_says_why(
    client: Client, world: World, pool: DecodePool
) -> None:
    (world.folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    (sha256,) = world.remember("broken.jpg")
    with serving(world.review(pool)) as server:
        client = Client(server.address)
        client.enter()
        answer = client.show(sha256)
    assert answer.status == 422
    assert answer.json["gone"].startswith("It cannot be shown: ")


def test_a_decoder_that_does_not_start_ends_nothing(
    client: Client, review: Review, sha256: bytes
) -> None:
    with mock.patch.object(review.gallery, "_make", side_effect=NsfwscanError("no memory")):
        answer = client.show(sha256)
    assert (answer.status, answer.json["gone"]) == (503, "It cannot be shown: no memory")
    assert client.show(sha256).status == 200


def test_a_picture_in_quarantine_can_still_be_seen(client: Client, sha256: bytes) -> None:
    client.show(sha256, "small")
    assert client.post("quarantine", sha256).json["files"] == 1
    assert client.show(sha256).status == 200
    assert client.ask("GET", "/api/pictures").json["quarantined"] == [sha256.hex()]
    client.post("undo")
    assert client.ask("GET", "/api/pictures").json["quarantined"] == []


# Requests that the page does not send


MALFORMED = [
    b"", b"[]", b"{", b"null", b"[" * 10_000, b'{"request": 1}', b'{"request": ""}', b"x" * 100_000,
    b'{"id": 3, "ruling": "allowed"}', b'{"ruling": "perhaps"}', b'{"ruling": ["allowed"]}',
]  # fmt: skip


def test_malformed_requests_are_refused_and_end_nothing(client: Client, world: World) -> None:
    for body in MALFORMED:
        for path in DEEDS:
            answer = client.ask("POST", path, body)
            assert 400 <= answer.status < 500, (path, body, answer)
    assert client.ask("GET", "/").status == 200
    assert world.ruled() == {}


def test_other_methods_are_refused(client: Client) -> None:
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
        answer = client.ask(method, "/api/pictures", Origin=f"http://{client.authority}")
        assert answer.status == 405
    assert client.ask("GET", "/api/decide").status == 405


# The folder


def test_the_folder_of_a_picture_opens(client: Client, world: World, sha256: bytes) -> None:
    with mock.patch.object(file_manager, "command_for", return_value=["true"]):
        assert client.post("folder", sha256).json == {"done": str(world.folder)}
    with mock.patch.object(file_manager, "command_for", return_value=["/no/such"]):
        answer = client.post("folder", sha256)
    assert answer.status == 409
    assert answer.json["refused"].startswith("no file manager can be started")
    assert str(world.folder) in answer.json["hint"]


def test_a_folder_whose_name_is_no_text_ends_nothing(
    world: World, pool: DecodePool, tmp_path: Path
) -> None:
    world.folder = tmp_path / os.fsdecode(b"\xff")
    sha256 = world.add("a.png")
    with serving(world.review(pool, world.folder)) as server:
        client = Client(server.address)
        client.enter()
        for command in ("true", "/no/such"):
            with mock.patch.object(file_manager, "command_for", return_value=[command]):
                assert r"/\xff" in client.post("folder", sha256).body.decode().replace("\\\\", "\\")
        (world.folder / "a.png").unlink()
        assert client.show(sha256).status == 410
        assert client.post("quarantine", sha256).status == 409


# Its end


def test_it_ends_some_time_after_the_page_was_closed(review: Review) -> None:
    with running(review, grace_s=0.5) as thread:
        client = Client(thread.server.address)
        client.enter()
        with client.present():
            time.sleep(0.8)
            assert thread.is_alive()
        with client.present():  # reloaded
            time.sleep(0.8)
            assert thread.is_alive()
            with client.present():  # in two windows
                pass
            time.sleep(0.8)
            assert thread.is_alive()
        began = time.monotonic()
        thread.end()
        assert time.monotonic() - began >= 0.4
    assert thread.crash is None


def test_it_waits_for_a_page_that_was_never_opened(review: Review) -> None:
    with running(review, grace_s=0.1) as thread:
        time.sleep(0.5)
        assert thread.is_alive()


def test_it_ends_at_once_when_told_although_the_page_is_open(review: Review) -> None:
    with running(review) as thread:
        client = Client(thread.server.address)
        client.enter()
        with client.present():
            began = time.monotonic()
            thread.server.stop()
            thread.end()
            assert time.monotonic() - began < 1.5
    assert thread.crash is None


def test_an_unforeseen_error_ends_the_server_and_is_raised(review: Review) -> None:
    with running(review) as thread:
        client = Client(thread.server.address)
        client.enter()
        with mock.patch.object(review.desk, "undo", side_effect=ZeroDivisionError):
            assert client.post("undo").status == 500
        thread.end()
    assert isinstance(thread.crash, ZeroDivisionError)


def test_the_port_is_free_again(review: Review) -> None:
    before = _sockets()
    with serving(review) as server:
        Client(server.address).enter()
    assert not _sockets() - before


def _sockets() -> set[str]:
    return {name for one in os.listdir("/proc/self/fd") if "socket" in (name := _target(one))}


def _target(number: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return ""
