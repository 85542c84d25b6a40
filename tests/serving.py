"""A server inside the test's process, on a real socket, with a fake or a real model behind it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING

import httpx
import scan_fakes
import uvicorn
from starlette.applications import Starlette

from nsfwscan.judge import RulingBook
from nsfwscan.scanning.session import Session
from nsfwscan.serve.bodies import Memory
from nsfwscan.serve.server import Listener, config_of, listen, url_of
from nsfwscan.serve.service import ScoringService
from nsfwscan.serve.settings import ServeSettings
from nsfwscan.system import locations
from nsfwscan.values.errors import NsfwscanError
from nsfwscan.values.outcome import Scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nsfwscan.cache.cache import Cache
    from nsfwscan.models.classifier import Classifier
    from nsfwscan.serve.models import OpenSession

NSFW, REVIEW, SAFE = scan_fakes.NSFW, scan_fakes.REVIEW, scan_fakes.SAFE
"""Pictures for the fake model: the first byte is the score. More bytes make another content."""
BROKEN = b"broken"


class Serving(httpx.Client):
    """A client of a running server, and the server's parts."""

    def __init__(
        self, listener: Listener, service: ScoringService, url: str, warnings: list[str]
    ) -> None:
        super().__init__(base_url=url, timeout=30, trust_env=False)
        self.listener, self.service, self.url, self.warnings = listener, service, url, warnings

    @property
    def app_memory(self) -> Memory:
        """What all bodies together take."""
        app = self.listener.config.app
        assert isinstance(app, Starlette)
        memory = app.state.memory
        assert isinstance(memory, Memory)
        return memory

    def stop(self) -> None:
        """Tell the server to stop, as SIGTERM does."""
        self.listener.should_exit = True

    @property
    def port(self) -> int:
        return self.base_url.port or 0

    def wait_for(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        wait_for(condition, seconds)


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until a condition holds, or fail."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came to be"
        time.sleep(0.005)


def fake_session(
    *,
    load: Callable[[], Classifier] = scan_fakes.FakeClassifier,
    cache: Cache | None = None,
    jobs: int = 2,
    tell: Callable[[str], None] = lambda _: None,
) -> OpenSession:
    """Return what opens a session with the pool of `scan_fakes.install_pool`."""

    @contextlib.contextmanager
    def open_session(*, again: bool) -> Iterator[Session]:
        with scan_fakes.engine(load, jobs=jobs) as engine:
            manifest = scan_fakes.MANIFEST
            book = RulingBook(locations.rulings_file())
            scorer = Scorer(manifest.fingerprint, 1)
            yield Session(manifest, scan_fakes.POLICY, engine, cache, scorer, book, tell)

    return open_session


@contextlib.contextmanager
def no_model(*, again: bool) -> Iterator[Session]:
    """Open no session, because no model is installed."""
    raise NsfwscanError("no model is installed", hint="pull one")
    yield


@contextlib.contextmanager
def serving(
    open_session: OpenSession | None = None,
    settings: ServeSettings | None = None,
    *,
    lanes: int = 2,
    ready: bool = True,
) -> Iterator[Serving]:
    """Run a server in a thread; with `ready`, wait until it has its model."""
    settings = settings or ServeSettings()
    warnings: list[str] = []
    service = ScoringService(
        open_session or fake_session(),
        limits=settings.limits,
        lanes=lanes,
        warn=warnings.append,
        write_cache=settings.write_cache,
    )
    sockets = listen("127.0.0.1", 0)
    server = Listener(config_of(service, settings), service, settings.limits.stop_s)
    thread = threading.Thread(target=run, args=(server, sockets), name="test-server")
    thread.start()
    try:
        wait_for(lambda: server.started or not thread.is_alive())
        with Serving(server, service, url_of(sockets[0]), warnings) as client:
            if ready:
                wait_for(lambda: service.state.phase.value == "ready")
            yield client
    finally:
        server.should_exit = True
        thread.join(30)
        for one in sockets:
            one.close()
        assert not thread.is_alive(), "the server does not stop"


def run(server: uvicorn.Server, sockets: list[object]) -> None:
    asyncio.run(server.serve(sockets))  # type: ignore[arg-type]
