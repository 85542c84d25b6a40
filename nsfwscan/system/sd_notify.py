"""Telling systemd how a watcher or server is: datagrams as sd_notify(3) describes them.

Every function does nothing where no service manager listens (no `NOTIFY_SOCKET`), and never raises:
a watcher goes on watching when its manager does not hear it.
"""

from __future__ import annotations

import os
import socket
import time

_MICRO = 1_000_000


def ready() -> None:
    """Say that the watcher watches, also after a reload, or that the server listens."""
    _send("READY=1")


def reloading() -> None:
    """Say that the configuration is read anew; `ready` says when that is done."""
    # systemd compares the stamp with that of its own signal (Type=notify-reload).
    stamp = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000 if _here() else 0
    _send(f"RELOADING=1\nMONOTONIC_USEC={stamp}")


def stopping() -> None:
    """Say that the service finishes what it has in hand and ends."""
    _send("STOPPING=1")


def status(text: str) -> None:
    """Give one line for `systemctl status`."""
    _send("STATUS=" + " ".join(text.split()))


def watchdog() -> None:
    """Say that the service is alive."""
    _send("WATCHDOG=1")


def watchdog_interval_s() -> float | None:
    """Return how often `watchdog` is to be called, seconds, or None when nobody asks for it.

    That is half of the time after which systemd would end a silent service.
    """
    try:
        limit = int(os.environ.get("WATCHDOG_USEC", ""))
        meant = int(os.environ.get("WATCHDOG_PID", str(os.getpid())))
    except ValueError:
        return None
    if not _here() or limit <= 0 or meant != os.getpid():
        return None
    return limit / _MICRO / 2


def _here() -> bool:
    return bool(os.environ.get("NOTIFY_SOCKET")) and hasattr(socket, "AF_UNIX")


def _send(message: str) -> None:
    if not _here():
        return
    address = os.environ["NOTIFY_SOCKET"]
    if address[0] == "@":  # a socket without a file, which Linux names with a leading NUL
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.settimeout(1.0)
            line.connect(address)
            line.sendall(message.encode())
    except OSError:
        pass
