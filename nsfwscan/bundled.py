"""What the bundled program has to do that an installed one does not. No I/O when not bundled.

A bundle is a folder: the program, `_internal` with all it loads, and `models`.
"""

from __future__ import annotations

import os
import sys

MODELS = "models"
"""The folder of the model packages in a bundle."""

WORKER_FLAG = "--decode-worker"
"""The bundled program started with this is a decode worker; the rest are the worker's arguments."""


def folder() -> str | None:
    """Return the folder of the bundle this program runs from, None when it is no bundle."""
    if not getattr(sys, "frozen", False):
        return None
    return os.path.dirname(os.path.abspath(sys.executable))


def prepare() -> None:
    """Set this process up; to be called first."""
    # The bootloader lets the loader find the bundle's libraries. Programs of the system that are
    # started from here (systemctl, a file manager) must not find them.
    for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LIBPATH"):
        before = os.environ.pop(f"{name}_ORIG", None)
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
