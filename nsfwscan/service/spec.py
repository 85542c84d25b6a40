"""What the system is to run: the `ServiceSpec` that generators and drivers take."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

NAME = "nsfwscan"
DESCRIPTION = "nsfwscan: look at new pictures"
STOP_S = 60
"""How long a picture in hand may take to finish; its decoder has 30 seconds."""
WATCHDOG_S = 300
"""After such a silence systemd takes the watcher for stuck. A reconcile of a slow disk takes long,
but the watcher says so meanwhile."""
MEMORY = "2G"
"""A model and two decoders at their limits."""


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A watcher that the system starts when its user logs in."""

    command: tuple[str, ...]
    """Program and arguments; the first is an absolute path."""
    environment: tuple[tuple[str, str], ...] = ()


def spec_for(paths: tuple[str, ...], *, config: str | None) -> ServiceSpec:
    """Return the watcher of `paths`, which become absolute, run by the program that runs now.

    `config` names a configuration file other than the usual one.
    """
    options = ("--config", os.path.abspath(config)) if config else ()
    folders = tuple(os.path.abspath(os.path.expanduser(path)) for path in paths)
    # `--`: a folder may be named like an option.
    arguments = (*options, "watch", "--", *folders)
    home = os.environ.get("NSFWSCAN_HOME", "")
    environment = (("NSFWSCAN_HOME", os.path.abspath(os.path.expanduser(home))),) if home else ()
    return ServiceSpec((*program(), *arguments), environment)


def program() -> tuple[str, ...]:
    """Return how to start this nsfwscan again: itself when it is a bundle, else by its Python."""
    if getattr(sys, "frozen", False):
        return (sys.executable,)
    python = sys.executable
    if sys.platform == "win32":  # the other one opens a black window at each logon
        windowless = os.path.join(os.path.dirname(python), "pythonw.exe")
        python = windowless if os.path.exists(windowless) else python
    # -I would be safer still, but hides packages that were installed for one user only.
    return (python, "-m", "nsfwscan")
