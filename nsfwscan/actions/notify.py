"""One desktop notification for many pictures, without names, because others may see the screen.

Uses `notify-send` on Linux and `osascript` on macOS, which come with the desktop; a library would
bring its own D-Bus client.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from nsfwscan.values.actions import Outcome

_TIME_LIMIT_S = 10.0
_SCRIPT = "on run words\ndisplay notification (item 2 of words) with title (item 1 of words)\nend"


def show(title: str, text: str) -> tuple[Outcome, str]:
    """Show a notification; return outcome and detail."""
    command = _command(title, text)
    if command is None:
        return Outcome.LEFT, "there is no desktop to show it on"
    try:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIME_LIMIT_S,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return Outcome.FAILED, f"{command[0]} did not answer for {_TIME_LIMIT_S:g} seconds"
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "backslashreplace").strip()
        return Outcome.FAILED, f"{command[0]}: {said or f'exit code {error.returncode}'}"
    except OSError as error:
        return Outcome.FAILED, f"{command[0]}: {error.strerror or error}"
    return Outcome.DONE, ""


def _command(title: str, text: str) -> list[str] | None:
    if sys.platform == "win32":
        return None
    if sys.platform == "darwin":
        return ["osascript", "-e", _SCRIPT, title, text]
    desktop = ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS")
    program = shutil.which("notify-send")
    if program is None or not any(os.environ.get(name) for name in desktop):
        return None
    return [program, "--app-name=nsfwscan", "--", title, text]
