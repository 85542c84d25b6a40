"""What systemd hears."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsfwscan.system import sd_notify

if not hasattr(socket, "AF_UNIX"):
    pytest.skip("this system has no such sockets, and no systemd", allow_module_level=True)


@pytest.fixture(params=["file", "abstract"])
def manager(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[socket.socket]:
    """Listen as systemd does, on a socket with a file and on one without."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(5)
        if request.param == "file":
            # Such an address may have a hundred characters, fewer than a temporary folder's path.
            monkeypatch.chdir(tmp_path)
            listener.bind(address := "notify")
        else:
            listener.bind(f"\0nsfwscan-test-{os.getpid()}")
            address = f"@nsfwscan-test-{os.getpid()}"
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield listener


def heard(manager: socket.socket) -> str:
    return manager.recv(4096).decode()


def test_the_life_of_a_service(manager: socket.socket) -> None:
    sd_notify.ready()
    assert heard(manager) == "READY=1"
    sd_notify.status("watching 3 folders,\nof 4")
    assert heard(manager) == "STATUS=watching 3 folders, of 4"
    sd_notify.watchdog()
    assert heard(manager) == "WATCHDOG=1"
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    sd_notify.reloading()
    first, _, stamp = heard(manager).partition("\nMONOTONIC_USEC=")
    assert first == "RELOADING=1"
    assert 0 <= int(stamp) - before < 5_000_000
    sd_notify.stopping()
    assert heard(manager) == "STOPPING=1"


def test_a_manager_that_is_gone_is_no_trouble(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    sd_notify.ready()
    monkeypatch.delenv("NOTIFY_SOCKET")
    sd_notify.ready()
    manager.settimeout(0.05)
    with pytest.raises(TimeoutError):
        heard(manager)


@pytest.mark.usefixtures("manager")
def test_the_watchdog_is_fed_at_half_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sd_notify.watchdog_interval_s() is None
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    assert sd_notify.watchdog_interval_s() == 15
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert sd_notify.watchdog_interval_s() == 15
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert sd_notify.watchdog_interval_s() is None, "meant for another process"
    monkeypatch.delenv("WATCHDOG_PID")
    for odd in ("0", "-1", "soon", ""):
        monkeypatch.setenv("WATCHDOG_USEC", odd)
        assert sd_notify.watchdog_interval_s() is None
