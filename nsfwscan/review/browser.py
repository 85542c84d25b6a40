"""Opens an address in the person's browser, and does not wait for it.

Starting a browser takes seconds, and some commands for it only end with the browser; the page has
to be served meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import threading
import webbrowser

_IN_TERMINAL = {"elinks", "links", "links2", "lynx", "w3m", "www-browser"}
"""Browsers that would take over the terminal, and could not show the page."""


def is_there() -> bool:
    """Return True if there is a browser with windows, as far as one can know before trying."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    return os.path.basename(str(getattr(browser, "name", ""))) not in _IN_TERMINAL


def open_soon(address: str) -> None:
    """Let the browser open `address`. Whether it did cannot be known."""
    threading.Thread(target=_open, args=[address], name="browser", daemon=True).start()


def _open(address: str) -> None:
    with contextlib.suppress(OSError, webbrowser.Error):
        webbrowser.open(address)
