"""`nsfwscan review`: the command around the page."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from unittest import mock

import pytest
import tiny_model
from conftest import Paint
from review_world import Client, World
from shell import Call, start
from sizes import trials

from nsfwscan.cli.shared.codes import FAILED, INTERNAL, NO_MODEL, OK, WRONG_COMMAND
from nsfwscan.system import locations
from nsfwscan.values.outcome import Scorer


@pytest.fixture
def world(tmp_path: Path, home: Path) -> World:
    return World(tmp_path / "pictures", home)


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return Call(capfd)


@contextmanager
def reviewing(
    *arguments: str | Path, before: str = ""
) -> Iterator[tuple[subprocess.Popen, Client]]:
    """Start the command, open its address, and kill it if it has not ended by then."""
    process = start("review", "--no-browser", *arguments, before=before)
    assert process.stdout is not None
    try:
        client = Client(process.stdout.readline().decode().strip())
        client.enter()
        yield process, client
    finally:
        process.kill()
        process.communicate()


def test_it_says_what_was_decided_and_how_to_undo_it(world: World) -> None:
    digests = world.many(4)
    with reviewing("--quarantine", world.folder.parent) as (process, client):
        for sha256 in digests:
            client.show(sha256)
        client.post("decide", digests[0], ruling="allowed")
        client.post("decide", digests[1], ruling="denied")
        client.post("decide", digests[2], ruling="denied")
        client.post("quarantine", digests[3])
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == OK
    lines = said.decode().splitlines()
    assert lines[-4:] == [
        "Decided about 3 pictures: 1 safe, 2 not safe.",
        "  undo: nsfwscan rulings forget PATH (`nsfwscan rulings list` shows all)",
        "Moved 1 file to quarantine.",
        "  undo: nsfwscan quarantine restore PATH (`nsfwscan quarantine list` shows all)",
    ]


def test_the_commands_that_undo_do(world: World, call: Call) -> None:
    digests = world.many(2)
    with reviewing("--quarantine", world.folder.parent) as (process, client):
        for sha256 in digests:
            client.show(sha256)
            client.post("decide", sha256, ruling="denied")
        client.post("quarantine", digests[1])
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode == OK
    forget = call("rulings", "forget", world.folder / "p0.png")
    assert (forget.code, list(world.ruled())) == (OK, [digests[1].hex()])
    gone = world.folder / "p1.png"
    restore = call("quarantine", "restore", gone, "--quarantine", world.folder.parent)
    assert restore.code == OK
    assert gone.exists()


def test_it_ends_when_the_page_is_closed(world: World) -> None:
    world.many(1)
    quick = "from nsfwscan.review.review import ReviewServer as R; "
    quick += "R.__init__.__kwdefaults__['grace_s'] = 0.2"
    with reviewing(before=quick) as (process, client):
        with client.present():
            assert process.poll() is None
        _, said = process.communicate(timeout=20)
        assert process.returncode == OK
    assert said.decode().splitlines()[-1] == "Nothing was decided."


@pytest.mark.parametrize(
    ("browser", "opens"),
    [
        (webbrowser.BackgroundBrowser("xdg-open"), True),
        (webbrowser.GenericBrowser("/usr/bin/w3m"), False),  # it would take over the terminal
        (None, False),
    ],
)
def test_it_opens_a_browser_with_windows_and_prints_the_address(
    world: World, call: Call, browser: webbrowser.BaseBrowser | None, opens: bool
) -> None:
    world.many(2)
    opened: list[str] = []

    def get() -> webbrowser.BaseBrowser:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        if browser is None:
            raise webbrowser.Error
        return browser

    with (
        mock.patch("webbrowser.get", get),
        mock.patch("webbrowser.open", side_effect=opened.append),
    ):
        done = call("review")
    assert done.code == OK
    assert done.out.startswith("http://127.0.0.1:")
    assert opened == [done.out.strip()] * opens
    assert ("The page opens in your browser" in done.err) is opens


def test_the_page_is_served_before_the_browser_has_started(world: World) -> None:
    world.many(1)
    before = "import time, webbrowser; webbrowser.get = lambda: None; "
    before += "webbrowser.open = lambda _: time.sleep(30)"
    process = start("review", before=before)
    try:
        assert process.stdout is not None
        client = Client(process.stdout.readline().decode().strip())
        assert client.enter().status == 303
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode == OK
    finally:
        process.kill()
        process.communicate()


def test_it_ends_with_its_terminal_as_with_ctrl_c(world: World) -> None:
    digests = world.many(2)
    with reviewing() as (process, client):
        for sha256 in digests:
            client.show(sha256)
            client.post("decide", sha256, ruling="denied")
        client.post("undo")
        process.stderr.close()
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == OK
    assert list(world.ruled()) == [digests[0].hex()]
    assert "p1.png" not in Path(locations.rulings_file()).read_text()


def test_a_kill_loses_at_most_the_decision_under_way(world: World) -> None:
    chance = random.Random(8)
    digests = world.many(30)
    for _ in range(trials(2, 30)):
        Path(locations.rulings_file()).unlink(missing_ok=True)
        acknowledged: list[str] = []
        with reviewing() as (process, client):
            for sha256 in digests:
                client.show(sha256, "small")
            threading.Timer(chance.uniform(0.02, 0.3), process.kill).start()
            for sha256 in digests:
                try:
                    answer = client.post("decide", sha256, ruling="denied")
                except OSError:
                    break
                assert answer.status == 200
                acknowledged.append(sha256.hex())
        stored = list(world.ruled())
        assert stored[: len(acknowledged)] == acknowledged
        assert len(stored) <= len(acknowledged) + 1


def test_a_review_after_a_kill_goes_on_where_it_ended(world: World) -> None:
    digests = world.many(3)
    with reviewing() as (process, client):
        client.show(digests[0])
        client.post("decide", digests[0], ruling="allowed")
        process.kill()
        process.wait()
    with reviewing() as (process, client):
        assert client.ask("GET", "/api/pictures").json["rulings"] == {digests[0].hex(): "allowed"}
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert said.startswith(b"2 pictures to decide about, 1 decided. ")


def test_a_scan_afterwards_follows_what_was_decided(world: World, call: Call) -> None:
    digests = world.many(2)
    with reviewing() as (process, client):
        for sha256, ruling in zip(digests, ("allowed", "denied"), strict=True):
            client.show(sha256)
            client.post("decide", sha256, ruling=ruling)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    done = call("scan", world.folder, "--format", "jsonl", "--only", "all", "--offline")
    assert done.verdicts == {"p0.png": "safe", "p1.png": "nsfw"}


def test_only_the_chosen_folders_model_and_thresholds_count(world: World) -> None:
    world.add("here/a.png", 0.6)
    world.add("here/b.png", 0.4)
    world.add("there/c.png", 0.9)
    arguments = (world.folder / "here", "--model", "tiny", "--review-at", "0.3", "--flag-at", "0.5")
    with reviewing(*arguments) as (_, client):
        found = client.ask("GET", "/api/pictures").json
    assert [one["decision"] for one in found["pictures"]] == ["nsfw", "review"]
    assert (found["model"], found["reviewAt"], found["flagAt"]) == ("tiny-1", 0.3, 0.5)


# What can go wrong


def test_nothing_to_review_is_no_error(world: World, call: Call) -> None:
    world.add("a.png", 0.1)
    world.add("b.png", None)
    done = call("review", "--no-browser")
    assert (done.code, done.out) == (OK, "")
    assert done.err == (
        "Nothing to review: no picture of 1 is flagged, or close to it. 1 file without a verdict "
        "cannot be shown.\n"
    )


def test_pictures_that_were_never_scanned_are_pointed_to(world: World, call: Call) -> None:
    done = call("review", world.folder)
    assert done.code == WRONG_COMMAND
    assert "no picture there has been scanned with tiny-1" in done.err
    assert f"`nsfwscan scan {world.folder}` scores the pictures" in done.err


def test_scores_of_another_model_are_named(world: World, call: Call) -> None:
    world.picture("a.png")
    other = Scorer("f" * 64, world.scorer.decoder)
    world.remember("a.png", scorer=other)
    world.cache.remember_model(other.fingerprint, "second-1", ("other", "red"))
    done = call("review")
    assert done.code == WRONG_COMMAND
    assert "no picture there has been scanned with tiny-1" in done.err
    assert "the cache has scores of second-1: choose it with --model, or scan" in done.err


def test_wrong_folders_are_named(world: World, call: Call) -> None:
    world.add("a.png")
    missing = call("review", world.folder / "missing")
    assert (missing.code, "missing does not exist" in missing.err) == (WRONG_COMMAND, True)
    file = call("review", world.folder / "a.png")
    assert (file.code, "a.png is not a folder" in file.err) == (WRONG_COMMAND, True)
    assert call("review", "").code == WRONG_COMMAND


def test_it_never_downloads_a_model(call: Call) -> None:
    done = call("review")
    assert done.code == NO_MODEL
    assert "no model is installed, so there are no scores to show" in done.err
    named = call("review", "--model", "falconsai")
    assert (named.code, "falconsai is not installed" in named.err) == (NO_MODEL, True)


def test_damaged_rulings_stop_it(world: World, call: Call) -> None:
    world.add("a.png")
    Path(locations.rulings_file()).write_text("{}\n")
    done = call("review")
    assert done.code == FAILED
    assert "`nsfwscan rulings repair` shows the damage" in done.err


def test_something_that_could_not_be_stored_shows_in_the_exit_code(world: World) -> None:
    (sha256,) = world.many(1)
    full = "import os; os.fsync = lambda _: (_ for _ in ()).throw(OSError(28, 'No space left'))"
    with reviewing(before=full) as (process, client):
        client.show(sha256)
        answer = client.post("decide", sha256, ruling="denied")
        assert "No space left" in answer.json["refused"]
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == FAILED
    assert "1 decision could not be carried out; the page said why" in said.decode()
    assert world.ruled() == {}


def test_an_unforeseen_error_exits_with_its_own_code(world: World) -> None:
    first, sha256 = world.many(2)
    broken = "from nsfwscan.review.desk import Desk; Desk.quarantine = lambda *_: 1 / 0"
    with reviewing(before=broken) as (process, client):
        client.show(first)
        client.show(sha256)
        client.post("decide", first, ruling="denied")
        assert client.post("quarantine", sha256).status == 500
        _, said = process.communicate(timeout=20)
        assert process.returncode == INTERNAL
        assert "Decided about 1 picture" in said.decode()  # the first one, which is stored


def test_a_stranger_with_hundreds_of_connections_keeps_nobody_out(world: World) -> None:
    (sha256,) = world.many(1)
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))"
    with reviewing(before=few) as (process, client), ExitStack() as stack:
        client.show(sha256)
        with client.present():
            for number in range(400):
                address = ("127.0.0.1", client.address.port)
                stranger = stack.enter_context(socket.create_connection(address))
                if number % 2:
                    with suppress(OSError):
                        stranger.sendall(b"GET /")  # and never the rest
            assert client.post("decide", sha256, ruling="denied").json["done"] == "denied"
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == OK
    assert "Traceback" not in said.decode()


def test_nothing_is_left_running(world: World) -> None:
    (sha256,) = world.many(1)
    with reviewing() as (process, client):
        client.show(sha256)  # which starts decode processes
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        group = process.pid
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("a process of the group is left")


def test_other_commands_import_nothing_of_it(home: Path, paint: Paint, tmp_path: Path) -> None:
    paint(tmp_path / "a.png", tiny_model.GREEN)
    tiny_model.write_package(str(home / "models"))
    program = """
import sys
from nsfwscan.cli.main import main
for arguments in (["--version"], ["--help"], ["scan", sys.argv[1]]):
    main(arguments)
print(sorted({"starlette", "uvicorn", "anyio", "webbrowser", "nsfwscan.review"} & {*sys.modules}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
