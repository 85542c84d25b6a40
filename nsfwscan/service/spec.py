"""What the service manager should run: `ServiceSpec`."""

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
"""Variables that decide where nsfwscan keeps its files. A shell may set them, and the service
manager does not know them."""
DESCRIPTION = "nsfwscan: scan new pictures"
STOP_S = 60
"""How long the current picture may take to finish; its decoder has 30 seconds."""
WATCHDOG_S = 300
"""After so long without a sign of life systemd restarts the watcher. A reconcile of a slow disk
takes long, but the watcher reports progress."""
MEMORY_HIGH, MEMORY_MAX = "2G", "4G"
"""Enough for a model and two decoders at their limits; above this systemd slows the watcher down,
and above twice this ends it, because it will not recover."""


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A watcher that the system starts when its user logs in."""

    command: tuple[str, ...]
    """Program and arguments; the first is an absolute path."""
    environment: tuple[tuple[str, str], ...] = ()


def spec_for(
    paths: tuple[str, ...], *, config: str | None, options: tuple[str, ...] = ()
) -> ServiceSpec:
    """Return the spec that watches `paths`, made absolute, with the running program.

    `config` names a configuration file other than the default; `options` are those of `watch`.
    """
    general = ("--config", _absolute(config)) if config else ()
    # `--`, because a folder may be named like an option.
    arguments = (*general, "watch", *options, "--", *map(_absolute, paths))
    environment = tuple(
        (name, _absolute(os.environ[name])) for name in _PLACES if os.environ.get(name)
    )
    return ServiceSpec((*program(), *arguments), environment)


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def program() -> tuple[str, ...]:
    """Return the command that starts this nsfwscan: the bundle, or Python with `-m nsfwscan`."""
    if bundled.folder():
        return (bundled.program(),)
    python = sys.executable
    if sys.platform == "win32":  # python.exe opens a console window at each logon
        windowless = os.path.join(os.path.dirname(python), "pythonw.exe")
        python = windowless if os.path.exists(windowless) else python
    # -P: a service starts in the user's home, where a folder `nsfwscan` must not be imported.
    # -I would be safer still, but hides packages that were installed for one user.
    return (python, "-P", "-m", "nsfwscan")
