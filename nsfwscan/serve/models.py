"""`ModelKeeper`: opens the model, says whether there is one, and opens it again when it fails.

A server starts without a model, and outlives one that fails. The thread here does what may take
long: finding, loading, and trying again. Only the first try may download; later ones take what was
installed meanwhile.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from nsfwscan.serve.problems import Unavailable
from nsfwscan.serve.remembered import Remembered
from nsfwscan.values.errors import NsfwscanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from nsfwscan.models.staging import Say
    from nsfwscan.scanning.session import Session

_FIRST_RETRY_S, _MOST_RETRY_S = 1.0, 30.0


class Phase(StrEnum):
    """Whether pictures can be scored."""

    LOADING = "loading"
    READY = "ready"
    UNAVAILABLE = "unavailable"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class ModelState:
    """The state of the server's model."""

    phase: Phase
    reason: str = ""
    """Why there is no model; empty if there is one."""
    hint: str = ""
    """What the person who runs the server can do about it. Not for clients."""
    retry_after: float = 5.0
    """Seconds until the next try."""


@dataclass(frozen=True, slots=True, eq=False)
class Scoring:
    """An open session, and what its cache knows."""

    session: Session
    remembered: Remembered


class OpenSession(Protocol):
    """Opens a session; `again` if it is not the first try, which must not use the network."""

    def __call__(self, *, again: bool) -> AbstractContextManager[Session]:
        """Return the session. Raises `NsfwscanError`."""


class ModelKeeper:
    """Keeps a session open; any thread may use it."""

    def __init__(self, open_session: OpenSession, *, write_cache: bool, warn: Say) -> None:
        self._open_session, self._write_cache, self._warn = open_session, write_cache, warn
        self._changed = threading.Condition()
        self._state = ModelState(Phase.LOADING)
        self._scoring: Scoring | None = None
        self._last: Scoring | None = None
        self._users = 0
        self._stopping = False
        self._listeners: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._keep, name="nsfwscan-model", daemon=True)

    def start(self) -> None:
        """Begin to load the model, and return."""
        self._thread.start()

    @property
    def state(self) -> ModelState:
        """Whether there is a model."""
        return self._state

    @property
    def last(self) -> Scoring | None:
        """The session that is open, or that was before the model failed."""
        return self._scoring or self._last

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have `listener` called, in any thread, when the state has changed."""
        self._listeners.append(listener)

    @contextmanager
    def using(self) -> Iterator[Scoring]:
        """Yield the open session, which stays open inside the block. Raises `Unavailable`.

        An `NsfwscanError` raised in the block means that the model or the decode processes fail:
        the session is closed and opened again.
        """
        with self._changed:
            scoring = self._scoring
            if scoring is None:
                raise self.unavailable()
            self._users += 1
        try:
            yield scoring
        except NsfwscanError as error:
            with self._changed:
                if self._scoring is scoring:
                    self._scoring = None
                    self._set(ModelState(Phase.UNAVAILABLE, str(error), error.hint, 1.0))
            if isinstance(error, Unavailable):
                raise
            raise Unavailable(str(error)) from error
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def unavailable(self) -> Unavailable:
        """Return the error that says why there is no model."""
        state = self._state
        if state.phase is Phase.LOADING:
            return Unavailable("the model is being loaded", state.retry_after, loading=True)
        return Unavailable(state.reason or "the server is stopping", state.retry_after)

    def close(self) -> None:
        """Close the session, once nobody uses it."""
        with self._changed:
            self._stopping = True
            self._scoring = None
            self._set(ModelState(Phase.STOPPING, "the server is stopping"))
        if self._thread.ident:
            self._thread.join()

    def _keep(self) -> None:
        again, wait_s = False, _FIRST_RETRY_S
        while not self._stopping:
            try:
                with ExitStack() as stack:
                    session = stack.enter_context(self._open_session(again=again))
                    self._last = scoring = Scoring(session, self._remember(session))
                    session.engine.load()
                    stack.enter_context(scoring.remembered)
                    with self._changed:
                        if not self._stopping:
                            self._scoring = scoring
                            self._set(ModelState(Phase.READY))
                            wait_s = _FIRST_RETRY_S
                        self._changed.wait_for(lambda: self._scoring is None and not self._users)
            except NsfwscanError as error:
                self._fail(str(error), error.hint, wait_s)
            except Exception as error:  # noqa: BLE001  a server outlives a bug in loading
                said = f"the model cannot be loaded: {type(error).__name__}: {error}"
                self._fail(said, "", wait_s)
            again = True
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, wait_s)
            wait_s = min(wait_s * 2, _MOST_RETRY_S)

    def _fail(self, reason: str, hint: str, wait_s: float) -> None:
        with self._changed:
            if self._stopping:
                return
            new = self._state.reason != reason
            self._set(ModelState(Phase.UNAVAILABLE, reason, hint, wait_s))
        if new:  # and not each of a hundred tries
            self._warn(f"no picture can be scored: {reason}" + (f"; {hint}" if hint else ""))

    def _set(self, state: ModelState) -> None:
        self._state = state
        self._changed.notify_all()
        for listener in self._listeners:
            listener()

    def _remember(self, session: Session) -> Remembered:
        return Remembered(session.cache, session.scorer, write=self._write_cache, warn=self._warn)
