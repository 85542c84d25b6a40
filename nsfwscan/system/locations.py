"""Where nsfwscan keeps its files. The only module that imports platformdirs.

`NSFWSCAN_HOME` puts everything below one folder, for portable installs and for tests.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import platformdirs

from nsfwscan.system import bundled
from nsfwscan.values.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

_APP = "nsfwscan"


def _found(find: Callable[..., str], *app: str) -> str:
    """Return a folder from platformdirs. Raises `ConfigError` for a user without a home folder."""
    try:
        found = find(*app, appauthor=False)
    except RuntimeError as error:
        raise _homeless() from error
    if not os.path.isabs(found):  # HOME is relative or empty
        raise _homeless()
    return found


def _homeless() -> ConfigError:
    return ConfigError(
        "there is no home folder, so there is no place for models and results",
        hint="set HOME or NSFWSCAN_HOME to the path of a folder",
    )


def _below_home(*parts: str) -> str | None:
    home = os.environ.get("NSFWSCAN_HOME", "")
    return os.path.join(os.path.abspath(os.path.expanduser(home)), *parts) if home else None


def make_private(folder: str) -> None:
    """Create a folder and missing ones above it, accessible to this user only, whatever the umask.

    An existing folder stays as it is. Raises OSError.
    """
    if os.path.isdir(folder):
        return
    upper = os.path.dirname(folder)
    if upper != folder:
        make_private(upper)
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        if not os.path.isdir(folder):
            raise
    else:
        with contextlib.suppress(OSError):  # a file system without permissions
            os.chmod(folder, 0o700)  # a umask may also remove the owner's permissions


def config_file() -> str:
    """Return the path of the configuration file; it need not exist."""
    return _below_home("config.toml") or os.path.join(
        _found(platformdirs.user_config_dir, _APP), "config.toml"
    )


def models_folder() -> str:
    """Return the folder of the installed model packages; it need not exist."""
    return _below_home("models") or os.path.join(_found(platformdirs.user_data_dir, _APP), "models")


def shipped_models_folder() -> str | None:
    """Return the read-only folder of a bundle's models; None outside a bundle."""
    bundle = bundled.folder()
    return os.path.join(bundle, bundled.MODELS) if bundle else None


def cache_file() -> str:
    """Return the path of the cache; it need not exist."""
    return _below_home("library.sqlite3") or os.path.join(
        _found(platformdirs.user_cache_dir, _APP), "library.sqlite3"
    )


def rulings_file() -> str:
    """Return the path of the journal of rulings; it need not exist.

    It is in the data folder and not beside the cache, because caches may be deleted at any time.
    """
    return _below_home("rulings.jsonl") or os.path.join(
        _found(platformdirs.user_data_dir, _APP), "rulings.jsonl"
    )


def state_folder() -> str:
    """Return the folder for status, logs and lists; it need not exist."""
    return _below_home("state") or _found(platformdirs.user_state_dir, _APP)


def status_file() -> str:
    """Return the path of the watcher's status file; it need not exist."""
    return os.path.join(state_folder(), "watch-status.json")


def log_file() -> str:
    """Return the path of the watcher's log; it need not exist."""
    return os.path.join(state_folder(), "watch.log")


def owed_file() -> str:
    """Return the path of the list of pictures on which a watcher must still act."""
    return os.path.join(state_folder(), "watch-owed.jsonl")


def crash_file() -> str:
    """Return the path of the latest traceback, kept for a bug report; it need not exist."""
    return os.path.join(state_folder(), "crash.txt")


def watch_lock() -> str:
    """Return the path of the lock that a watcher holds; it need not exist.

    It is not beside the cache, which may be deleted at any time: without the lock file, a second
    watcher could start.
    """
    return os.path.join(state_folder(), "watch.lock")


def jobs_folder() -> str:
    """Return the folder of a server's jobs; it need not exist."""
    return os.path.join(state_folder(), "jobs")


def user_units_folder() -> str:
    """Return the folder of the user's own systemd units; it need not exist."""
    return os.path.join(_found(platformdirs.user_config_dir), "systemd", "user")


def quarantines_file() -> str:
    """Return the path of the list of quarantine folders; it need not exist."""
    return os.path.join(state_folder(), "quarantines.jsonl")
