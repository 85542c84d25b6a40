"""Shows a file in the system's file manager."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from nsfwscan.values.errors import NsfwscanError


def command_for(path: str) -> list[str]:
    """Return the command that shows a file: selected where the system can, else its folder."""
    if sys.platform == "win32":
        return ["explorer", f"/select,{path}"]
    if sys.platform == "darwin":
        return ["open", "-R", path]
    return ["xdg-open", os.path.dirname(path)]


def show(path: str) -> str:
    """Show the file at an absolute path; return its folder. Raises `NsfwscanError`."""
    folder = os.path.dirname(path)
    try:
        started = subprocess.Popen(
            command_for(path),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise NsfwscanError(
            f"no file manager can be started: {error.strerror or error}",
            hint=f"the folder is {folder}",
        ) from error
    # It may stay open for hours, and belongs to the person; if it ends before, it is reaped.
    threading.Thread(target=started.wait, name="file-manager", daemon=True).start()
    return folder
