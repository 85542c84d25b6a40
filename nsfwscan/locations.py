"""Where nsfwscan keeps its files. The one module that knows platformdirs.

`NSFWSCAN_HOME` puts everything below one folder, for portable installs and for tests.
"""

from __future__ import annotations

import os

import platformdirs

from nsfwscan import bundled

_APP = "nsfwscan"


def _below_home(*parts: str) -> str | None:
    home = os.environ.get("NSFWSCAN_HOME", "")
    return os.path.join(os.path.abspath(os.path.expanduser(home)), *parts) if home else None


def config_file() -> str:
    """Return the path of the configuration file; it need not exist."""
    return _below_home("config.toml") or os.path.join(
        platformdirs.user_config_dir(_APP, appauthor=False), "config.toml"
    )


def models_folder() -> str:
    """Return the folder that holds the installed model packages; it need not exist."""
    return _below_home("models") or os.path.join(
        platformdirs.user_data_dir(_APP, appauthor=False), "models"
    )


def shipped_models_folder() -> str | None:
    """Return the folder of a bundle's own models, which is only read; None without a bundle."""
    bundle = bundled.folder()
    return os.path.join(bundle, bundled.MODELS) if bundle else None


def library_file() -> str:
    """Return the path of the library of earlier results; it need not exist."""
    return _below_home("library.sqlite3") or os.path.join(
        platformdirs.user_cache_dir(_APP, appauthor=False), "library.sqlite3"
    )


def rulings_file() -> str:
    """Return the path of the journal of people's decisions; it need not exist.

    Among the user's data and not beside the library: a cache is anybody's to delete.
    """
    return _below_home("rulings.jsonl") or os.path.join(
        platformdirs.user_data_dir(_APP, appauthor=False), "rulings.jsonl"
    )


def state_folder() -> str:
    """Return the folder for what a watcher says of itself: status and logs; it need not exist."""
    return _below_home("state") or platformdirs.user_state_dir(_APP, appauthor=False)


def status_file() -> str:
    """Return the path of what a watcher says of itself; it need not exist."""
    return os.path.join(state_folder(), "watch-status.json")


def log_file() -> str:
    """Return the path of a watcher's log; it need not exist."""
    return os.path.join(state_folder(), "watch.log")


def crash_file() -> str:
    """Return the path of the last traceback, kept for a bug report; it need not exist."""
    return os.path.join(state_folder(), "crash.txt")


def watch_lock() -> str:
    """Return the path of the lock that a watcher of this library holds; it need not exist."""
    return f"{library_file()}.watch"


def user_units_folder() -> str:
    """Return the folder of the user's own systemd units; it need not exist."""
    return os.path.join(platformdirs.user_config_dir(), "systemd", "user")


def quarantines_file() -> str:
    """Return the path of the list of quarantine folders; it need not exist."""
    return os.path.join(state_folder(), "quarantines.jsonl")
