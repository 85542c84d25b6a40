"""Several server processes on the same sockets: `--workers N`.

The parent loads the model and forks, so the model's memory is shared until somebody writes to it,
which nobody does. It answers no requests: it starts a process again that ends, and passes signals
on. Processes share the sockets, the cache file and the counters; each has its own queue.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from nsfwscan.models import select
from nsfwscan.models.store import ModelStore
from nsfwscan.scanning.engine import Engine
from nsfwscan.scanning.session import Session, loader
from nsfwscan.serve import metrics
from nsfwscan.serve.server import run, say_where, stop_signals
from nsfwscan.system import cores, interrupts, locations, sd_notify
from nsfwscan.values.errors import ModelError, UsageError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from nsfwscan.models.classifier import Classifier
    from nsfwscan.models.staging import Say
    from nsfwscan.serve.models import OpenSession
    from nsfwscan.serve.settings import ServeSettings

_PAUSE_S = 1.0
"""Before a process that ended is started again."""
_LOOK_S = 0.2
_END_S = 14.0
"""After this long a process that was told to stop hangs, and is killed. systemd's unit waits 15."""
_BUG = 70


def run_many(
    count: int, settings: ServeSettings, sockets: Sequence[socket.socket], say: Say, warn: Say
) -> None:
    """Serve with `count` processes until SIGTERM or Ctrl-C. Raises `UsageError` on Windows."""
    if not hasattr(os, "fork"):
        raise UsageError("this system has no --workers", hint="one process uses all cores as well")
    jobs = -(-(settings.scan.scan.jobs or cores.available()) // count)
    scan = replace(settings.scan, scan=replace(settings.scan.scan, jobs=jobs))
    classifier = _preloaded(settings, warn)
    with tempfile.TemporaryDirectory(prefix="nsfwscan-counters-") as folder:
        metrics.share(folder)
        settings = replace(settings, scan=scan)
        parent = _Parent(count, settings, sockets, classifier, say, warn, folder)
        with interrupts.answered(parent.stop, *stop_signals()):
            parent.live()


class _Parent:
    """The parent of the server processes."""

    def __init__(
        self,
        count: int,
        settings: ServeSettings,
        sockets: Sequence[socket.socket],
        classifier: Classifier | None,
        say: Say,
        warn: Say,
        counters: str,
    ) -> None:
        self._count, self._settings, self._sockets = count, settings, sockets
        self._classifier, self._counters = classifier, counters
        self._say, self._warn = say, warn
        self._own = os.getpid()
        self._children: set[int] = set()
        self._signalled = 0
        self._end_at = math.inf
        # The children read its end: it closes when this process ends, however it does.
        self._lifeline, self._held = os.pipe()

    def live(self) -> None:
        """Start the processes, and again each that ends, until `stop` was called."""
        again_at = 0.0
        told = False
        while not self._signalled or self._children:
            if not self._signalled and time.monotonic() >= again_at:
                while len(self._children) < self._count:
                    self._start_one()
                again_at = time.monotonic() + _PAUSE_S
            if not told:
                told = True
                say_where(self._sockets, self._say)
                sd_notify.ready()
            time.sleep(_LOOK_S)
            self._bury()
            if time.monotonic() >= self._end_at:
                self._pass_on(signal.SIGKILL)
        for one in (self._lifeline, self._held):
            os.close(one)

    def stop(self, number: int, _frame: FrameType | None) -> None:
        """Tell the processes to stop; a second Ctrl-C ends them at once."""
        if not self._signalled:
            sd_notify.stopping()
            self._end_at = time.monotonic() + _END_S
        self._signalled += 1
        at_once = self._signalled > 1 and number == signal.SIGINT
        self._pass_on(signal.SIGKILL if at_once else signal.SIGTERM)

    def _pass_on(self, number: int) -> None:
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

    def _start_one(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        with interrupts.held():
            child = os.fork()
            if child:
                self._children.add(child)
                return
        code = _BUG
        try:
            os.close(self._held)
            os.environ.pop("NOTIFY_SOCKET", None)  # the parent speaks for all
            run(
                self._settings,
                self._sockets,
                lambda _: None,
                self._warn,
                adapt=self._shared,
                lifeline=self._lifeline,
            )
            code = 0
        except BaseException:  # noqa: BLE001  a child must never go on as a parent
            traceback.print_exc()
        finally:
            if os.getppid() != self._own:  # it was killed, and removes nothing any more
                shutil.rmtree(self._counters, ignore_errors=True)
            sys.stderr.flush()
            os._exit(code)

    def _shared(self, open_session: OpenSession) -> OpenSession:
        """Return what opens a session that uses the parent's model, if it is the same one."""
        classifier = self._classifier
        if classifier is None:
            return open_session

        @contextmanager
        def open_one(*, again: bool) -> Iterator[Session]:
            with open_session(again=again) as session:
                if again or session.manifest.fingerprint != classifier.manifest.fingerprint:
                    yield session
                    return
                geometry = session.manifest.input.geometry
                with Engine(lambda: classifier, geometry, jobs=session.engine.jobs) as engine:
                    yield replace(session, engine=engine)

        return open_one

    def _bury(self) -> None:
        """Note the processes that have ended."""
        for child in list(self._children):
            ended, status = os.waitpid(child, os.WNOHANG)
            if not ended:
                continue
            self._children.discard(child)
            metrics.forget(child)
            if not self._signalled:
                how = os.waitstatus_to_exitcode(status)
                self._warn(f"a server process ended with {how}; another is started")


def _preloaded(settings: ServeSettings, warn: Say) -> Classifier | None:
    """Return the model, loaded before the fork; None if there is none or it cannot be shared.

    With one core for each run, onnxruntime starts no threads, which a fork would lose. Other
    systems than Linux forbid forking once some of their libraries were used.
    """
    scan = settings.scan
    if sys.platform != "linux" or scan.threads > 1:
        return None
    try:
        store = ModelStore(locations.models_folder(), offline=True)
        return loader(store, select.resolve_model(store, scan.model), scan, 1, warn)()
    except ModelError:
        return None  # each process says why, and waits for one
