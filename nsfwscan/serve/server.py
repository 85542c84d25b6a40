"""Running the server: sockets, signals, the end. The only module that starts uvicorn.

In: `ServeSettings` and where to listen. Out: nothing; it returns when it was told to stop and
everything under way is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import signal
import socket
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import uvicorn

from nsfwscan.serve.app import build_app
from nsfwscan.serve.connection import guarded
from nsfwscan.serve.opening import opener
from nsfwscan.serve.service import ScoringService
from nsfwscan.system import cores, interrupts, sd_notify
from nsfwscan.values.errors import NsfwscanError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from nsfwscan.models.staging import Say
    from nsfwscan.serve.models import OpenSession
    from nsfwscan.serve.settings import Limits, ServeSettings

_BACKLOG = 512
_FIRST_FD = 3
"""The first socket that a service manager passes on: sd_listen_fds(3)."""
_CANCEL_S = 2.0
"""Seconds between refusing what waits and cancelling what is under way."""
_KEEP_ALIVE_S = 15
_SWITCH_S = 0.0005
"""With this, an overloaded server refuses in a few milliseconds, instead of in a hundred."""
_OTHER_DESCRIPTORS = 200
"""Files, pipes and sockets besides connections: decode processes have two each."""


_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_SAY_AGAIN_S = 60.0


class CannotListen(NsfwscanError):
    """The address is in use, or may not be used."""


class Listener(uvicorn.Server):
    """A uvicorn server that stops gently, and then returns instead of raising the signal again."""

    def __init__(
        self,
        config: uvicorn.Config,
        service: ScoringService,
        stop_s: float,
        listening: Callable[[], None] = lambda: None,
    ) -> None:
        """Set up. `listening` is called once requests are taken."""
        super().__init__(config)
        self._service, self._stop_s, self._listening = service, stop_s, listening

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to `run`: uvicorn would raise them again at the end."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and tell the service manager."""
        await super().startup(sockets)
        self._listening()
        sd_notify.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is under way, for a while, and refuse what still waits then."""
        sd_notify.stopping()
        refuse = asyncio.get_running_loop().call_later(self._stop_s, self._service.stop_waiting)
        try:
            await super().shutdown(sockets)
        finally:
            refuse.cancel()


def run(
    settings: ServeSettings,
    sockets: Sequence[socket.socket],
    say: Say,
    warn: Say,
    *,
    adapt: Callable[[OpenSession], OpenSession] = lambda open_session: open_session,
    lifeline: int | None = None,
) -> None:
    """Serve on `sockets` until SIGTERM or Ctrl-C, or until the descriptor `lifeline` is closed.

    `adapt` may replace what opens the session.
    """
    # The event loop would wait up to 5 ms, Python's default, for each lane that prepares a picture.
    sys.setswitchinterval(_SWITCH_S)
    settings = replace(settings, limits=within_descriptors(settings.limits))
    count = settings.scan.scan.jobs or cores.available()
    service = ScoringService(
        adapt(opener(settings, say, warn)),
        limits=settings.limits,
        lanes=count,
        warn=warn,
        write_cache=settings.write_cache,
    )

    def listening() -> None:
        say_where(sockets, say)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(calm(warn))
        if lifeline is not None:
            loop.add_reader(lifeline, server.handle_exit, signal.SIGTERM, None)

    config = config_of(service, settings)
    server = Listener(config, service, settings.limits.stop_s, listening)
    with interrupts.answered(server.handle_exit, *stop_signals()):
        try:
            server.run(list(sockets))
        except SystemExit as ended:  # how uvicorn says that the application did not start
            if failure := getattr(getattr(config.app, "state", None), "failure", None):
                raise failure from ended
            raise


def calm(warn: Say) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """Return a handler of errors that says once a minute that connections cannot be accepted.

    asyncio tries again on its own, and has a traceback for each of thousands of tries.
    """
    again_at = 0.0

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal again_at
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in _NO_ROOM):
            loop.default_exception_handler(context)
        elif time.monotonic() >= again_at:
            again_at = time.monotonic() + _SAY_AGAIN_S
            warn(
                f"connections wait, because the system has no room for them: {error.strerror}; "
                "raise the limit of open files: `ulimit -n`, or LimitNOFILE= of a unit"
            )

    return handle


def within_descriptors(limits: Limits) -> Limits:
    """Return `limits` with no more connections than this process may have, after raising that."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return limits
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.connections + _OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHER_DESCRIPTORS
        return replace(limits, connections=max(1, min(limits.connections, room)))
    return limits


def say_where(sockets: Sequence[socket.socket], say: Say) -> None:
    """Say where the server listens."""
    for one in sockets:
        say(f"Listening on {url_of(one)}. Press Ctrl-C to stop.")


def stop_signals() -> list[str]:
    """Return the names of the signals that end a server gently; nohup has it ignore the last."""
    hang_up = [] if interrupts.is_ignored("SIGHUP") else ["SIGHUP"]
    return ["SIGINT", "SIGTERM", *hang_up]


def config_of(service: ScoringService, settings: ServeSettings) -> uvicorn.Config:
    """Return uvicorn's configuration: no log of requests, bounds on everything."""
    limits = settings.limits
    return uvicorn.Config(
        build_app(service, settings),
        http=guarded(limits),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(limits.stop_s + _CANCEL_S),
        backlog=_BACKLOG,
    )


def listen(host: str, port: int) -> list[socket.socket]:
    """Return sockets for an address. Raises `CannotListen` and `UsageError`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        why = error.strerror or error if isinstance(error, OSError) else "it is no valid name"
        raise UsageError(
            f"{host} is not an address of this computer: {why}",
            hint="give --host a numeric address, such as 127.0.0.1",
        ) from None
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            # asyncio only switches Nagle off if the protocol is named. Otherwise the body
            # of an answer waits 40 ms, until the client has acknowledged the header.
            one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            sockets.append(one)
            if os.name == "posix":
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.listen(_BACKLOG)
            one.setblocking(False)
            port = port or one.getsockname()[1]
    except OSError as error:
        for one in sockets:
            one.close()
        raise _cannot_listen(host, port, error) from None
    return sockets


def passed_sockets() -> list[socket.socket]:
    """Return the sockets that a service manager has opened, if any. Raises `UsageError`."""
    try:
        meant, count = int(os.environ["LISTEN_PID"]), int(os.environ["LISTEN_FDS"])
    except (KeyError, ValueError):
        return []
    if meant != os.getpid():
        return []
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)  # not meant for the decode processes
    sockets = []
    for at in range(_FIRST_FD, _FIRST_FD + count):
        try:
            one = socket.socket(fileno=at)
        except OSError as error:
            raise UsageError(
                f"LISTEN_FDS says that descriptor {at} is a socket, and it is not: "
                f"{error.strerror or error}",
                hint="start the server by its .socket unit, or unset LISTEN_PID",
            ) from None
        sockets.append(one)
        os.set_inheritable(at, False)
        one.setblocking(False)
    return sockets


def reachable_from_elsewhere(one: socket.socket) -> bool:
    """Return True if other computers may be able to connect to a socket."""
    if one.family not in {socket.AF_INET, socket.AF_INET6}:
        return False
    return not ipaddress.ip_address(one.getsockname()[0].partition("%")[0]).is_loopback


def url_of(one: socket.socket) -> str:
    """Return the address at which a socket can be reached, for people."""
    if one.family not in {socket.AF_INET, socket.AF_INET6}:
        return f"unix:{one.getsockname()}"
    host, port = one.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _cannot_listen(host: str, port: int, error: OSError) -> NsfwscanError:
    where = f"port {port} of {host}"
    match error.errno:
        case errno.EADDRINUSE:
            return CannotListen(
                f"{where} is in use by another program", hint="choose another with --port"
            )
        case errno.EACCES | errno.EPERM:
            return CannotListen(
                f"{where} may not be used: {error.strerror}",
                hint="choose a port above 1023 with --port",
            )
        case errno.EADDRNOTAVAIL:
            return UsageError(
                f"{host} is not an address of this computer",
                hint="give --host an address of this computer, or 0.0.0.0 for all of them",
            )
        case _:
            return CannotListen(f"{where} cannot be used: {error.strerror or error}")
