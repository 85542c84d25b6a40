"""What the system is to run: the `ServiceSpec` that generators and drivers take."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from nsfwscan.system import bundled

NAME = "nsfwscan"
_PLACES = (
    "NSFWSCAN_HOME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
)
"""Where nsfwscan keeps its files. A shell may set what the service manager does not know."""
DESCRIPTION = "nsfwscan: look at new pictures"
STOP_S = 60
"""How long a picture in hand may take to finish; its decoder has 30 seconds."""
WATCHDOG_S = 300
"""After such a silence systemd takes the watcher for stuck. A reconcile of a slow disk takes long,
but the watcher says so meanwhile."""
MEMORY_HIGH, MEMORY_MAX = "2G", "4G"
"""A model and two decoders at their limits: more slows the watcher down. What needs twice that does
not come to its senses any more."""


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A watcher that the system starts when its user logs in."""

    command: tuple[str, ...]
    """Program and arguments; the first is an absolute path."""
    environment: tuple[tuple[str, str], ...] = ()


def spec_for(
    paths: tuple[str, ...], *, config: str | None, options: tuple[str, ...] = ()
) -> ServiceSpec:
    """Return the watcher of `paths`, which become absolute, run by the program that runs now.

    `config` names a configuration file other than the usual one; `options` are for `watch`.
    """
    general = ("--config", _absolute(config)) if config else ()
    # `--`: a folder may be named like an option.
    arguments = (*general, "watch", *options, "--", *map(_absolute, paths))
    environment = tuple(
        (name, _absolute(os.environ[name])) for name in _PLACES if os.environ.get(name)
    )
    return ServiceSpec((*program(), *arguments), environment)


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def program() -> tuple[str, ...]:
    """Return how to start this nsfwscan again: itself when it is a bundle, else by its Python."""
    if bundled.folder():
        return (bundled.program(),)
    python = sys.executable
    if sys.platform == "win32":  # the other one opens a black window at each logon
        windowless = os.path.join(os.path.dirname(python), "pythonw.exe")
        python = windowless if os.path.exists(windowless) else python
    # -P: a service starts in the user's home, and a folder `nsfwscan` there is not the program.
    # -I would be safer still, but hides packages that were installed for one user only.
    return (python, "-P", "-m", "nsfwscan")
