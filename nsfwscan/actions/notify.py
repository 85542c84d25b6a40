"""One desktop notification for many pictures, without names, because others may see the screen.

Uses `notify-send` on Linux and `osascript` on macOS, which come with the desktop; a library would
bring its own D-Bus client. With libnotify from 0.7.10 (2022) a click on the notification runs a
command; a shell waits for the click, because this program may have ended by then.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from nsfwscan.values.actions import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

_TIME_LIMIT_S = 10.0
_APPEARS_S = 1.0
"""A notification that fails has failed by then; one that waits for a click goes on."""
_MOST_WAITING = 8
"""Notifications that wait for a click at a time; further ones do not react to clicks."""
_SCRIPT = "on run words\ndisplay notification (item 2 of words) with title (item 1 of words)\nend"
_SHOW_AND_WAIT = """\
chosen=$("$1" --app-name=nsfwscan --action=default=Open --action="look=$2" -- "$3" "$4") || exit
[ -n "$chosen" ] || exit 0
shift 4
exec "$@" >/dev/null 2>&1
"""

_waiting: list[subprocess.Popen[bytes]] = []


def show(title: str, text: str, *, look: Sequence[str] = ()) -> tuple[Outcome, str]:
    """Show a notification; return outcome and detail.

    `look` is a command that shows what the notification is about, which runs when the user clicks
    on it, where the desktop has that.
    """
    program = _program()
    if program is None:
        return Outcome.LEFT, "there is no desktop to show it on"
    if look and _takes_clicks(program):
        return _show_and_wait(program, title, text, look)
    if sys.platform == "darwin":
        command = [program, "-e", _SCRIPT, title, text]
    else:
        command = [program, "--app-name=nsfwscan", "--", title, text]
    try:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIME_LIMIT_S,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return Outcome.FAILED, f"{program} did not answer for {_TIME_LIMIT_S:g} seconds"
    except subprocess.CalledProcessError as error:
        return _failed(program, error.returncode, error.stderr)
    except OSError as error:
        return Outcome.FAILED, f"{program}: {error.strerror or error}"
    return Outcome.DONE, ""


def _show_and_wait(program: str, title: str, text: str, look: Sequence[str]) -> tuple[Outcome, str]:
    """Show a notification, and leave a shell behind that runs `look` if the user clicks on it."""
    words = ["sh", program, "Look at them", title, text, *_outside_a_service(), *look]
    try:
        shown = subprocess.Popen(
            ["/bin/sh", "-c", _SHOW_AND_WAIT, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return Outcome.FAILED, f"/bin/sh: {error.strerror or error}"
    try:
        _, said = shown.communicate(timeout=_APPEARS_S)
    except subprocess.TimeoutExpired:
        _waiting.append(shown)
        return Outcome.DONE, ""
    if shown.returncode:
        return _failed(program, shown.returncode, said)
    return Outcome.DONE, ""


def _failed(program: str, code: int, stderr: bytes) -> tuple[Outcome, str]:
    said = stderr.decode("utf-8", "backslashreplace").strip()
    return Outcome.FAILED, f"{program}: {said or f'exit code {code}'}"


def _program() -> str | None:
    """Return the path of the program that shows notifications; None if there is no desktop."""
    if sys.platform == "darwin":
        return "osascript"
    desktop = ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS")
    if sys.platform == "win32" or not any(os.environ.get(name) for name in desktop):
        return None
    return shutil.which("notify-send")


def _takes_clicks(program: str) -> bool:
    """Return True if a notification can wait for a click."""
    for one in [one for one in _waiting if one.poll() is not None]:
        one.communicate()  # closes its pipe
        _waiting.remove(one)
    if sys.platform == "darwin" or len(_waiting) >= _MOST_WAITING:
        return False
    try:
        told = subprocess.run(
            [program, "--help"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIME_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"--action" in told.stdout


def _outside_a_service() -> list[str]:
    """Return what to put before a command so that it runs outside our systemd service.

    A browser could not start inside the service, which denies it namespaces.
    """
    runner = shutil.which("systemd-run") if "INVOCATION_ID" in os.environ else None
    if runner is None:
        return []
    ours = [name for name in os.environ if name.startswith(("NSFWSCAN_", "XDG_"))]
    variables = [f"--setenv={name}={os.environ[name]}" for name in ours]
    return [runner, "--user", "--collect", "--quiet", *variables]
