"""What surrounds a watcher on the command line: lock, log, priority, status, service manager.

In: messages and the watcher's state. Out: the log, the status file, and notices to the service
manager. Raises `AlreadyRunning` if another watcher holds the lock. A log or status that cannot be
written does not stop the watcher.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from typing import TYPE_CHECKING, Self

from nsfwscan._version import __version__
from nsfwscan.system import locations, sd_notify
from nsfwscan.values.errors import NsfwscanError
from nsfwscan.values.results import Decision, Failed, Scanned
from nsfwscan.values.text import count
from nsfwscan.watch import logs, manners
from nsfwscan.watch.instance import InstanceLock
from nsfwscan.watch.logs import LoggedPath
from nsfwscan.watch.status import Status, StatusFile

if TYPE_CHECKING:
    from nsfwscan.cli.shared.talk import Talk
    from nsfwscan.scanning.session import Session
    from nsfwscan.values.changes import Change, WatchState

_log = logging.getLogger(f"{logs.LOGGER}.run")


class Lifecycle:
    """Holds the lock and the log while a watcher runs."""

    def __init__(self, talk: Talk, *, with_paths: bool, gentle: bool) -> None:
        self._talk = talk
        self._with_paths = with_paths
        self._gentle = gentle
        self._stack = contextlib.ExitStack()
        self._reloads = False

    def __enter__(self) -> Self:
        """Take the lock and open the log. Raises `AlreadyRunning`."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(InstanceLock(locations.watch_lock()))
            stack.callback(self._stopping)
            try:
                handler = logs.open_log(locations.log_file(), with_paths=self._with_paths)
            except NsfwscanError as error:  # a full disk does not stop the watcher
                self._talk.warn(str(error))
            else:
                stack.callback(logs.close_log, handler)
            self._stack = stack.pop_all()
        if self._gentle:
            manners.be_gentle()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is not None:  # the user may not see the error on the terminal
            _log.error("the watcher ended: %s", str(error) or type(error).__name__)
        self._stack.close()

    def say(self, sentence: str) -> None:
        """Print a remark, and log it."""
        _log.info("%s", sentence)
        self._talk.say(sentence)

    def warn(self, sentence: str) -> None:
        """Print a warning, even with --quiet, and log it."""
        _log.warning("%s", sentence)
        self._talk.warn(sentence)

    def log(self, change: Change) -> None:
        """Log a change, unless the picture is safe."""
        result = change.result
        if isinstance(result, Failed):
            _log.info("%s %s: %s", change.event, LoggedPath(change.path), result.reason)
        elif isinstance(result, Scanned) and result.verdict.decision is not Decision.SAFE:
            decision = result.verdict.decision
            _log.info("%s %s: %s", change.event, LoggedPath(change.path), decision)

    def reloading(self) -> None:
        """Tell the service manager that the watcher restarts with a new configuration."""
        self._reloads = True
        sd_notify.reloading()

    def _stopping(self) -> None:
        # If it were told both, a service manager would mistake a reload for the end.
        if not self._reloads:
            sd_notify.stopping()


class Heartbeat:
    """Reports the watcher's state to `nsfwscan status` and to the service manager."""

    def __init__(self, session: Session) -> None:
        self._model = session.manifest.package
        self._forgetful: tuple[str, ...] = ()
        if session.cache is None:
            self._forgetful = (
                "the cache could not be opened, so scores are lost when the watcher ends",
            )
        self._status = StatusFile(locations.status_file())
        self._last: Status | None = None
        self._ready = False
        self._told = ""
        self._interval_s = sd_notify.watchdog_interval_s()
        self._alive_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._last is not None:
            self._status.write(self._last, now=True)

    def beat(self, state: WatchState) -> None:
        """Report `state`."""
        degraded = (*state.degraded, *self._forgetful)
        status = Status(
            pid=os.getpid(),
            running_since=state.since,
            roots=state.roots,
            watched=state.watched,
            directories=state.folders,
            queue=state.queue,
            scanned=state.scanned,
            flagged=state.flagged,
            failed=state.failed,
            last_reconcile=state.reconciled_at,
            degraded=degraded,
            paused=state.paused,
            model=self._model,
            version=__version__,
        )
        self._status.write(status)
        self._last = status
        if not self._ready:
            self._ready = True
            sd_notify.ready()
        counted = f"{count(state.pictures, 'picture')}, {state.flagged:,} flagged"
        text = "; ".join((*degraded, counted))
        if text != self._told:
            self._told = text
            sd_notify.status(text)
        now = time.monotonic()
        if self._interval_s is not None and now - self._alive_at >= self._interval_s / 2:
            self._alive_at = now
            sd_notify.watchdog()
