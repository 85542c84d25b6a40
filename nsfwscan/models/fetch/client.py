"""Asking servers: connections, redirects, who may see the token, and how long to wait for what.

The one module that knows httpx (chosen over urllib for its separate connect and read timeouts, its
proxy handling and its types; the hub's own client uses it too). It is imported when a download
starts, because importing it costs a tenth of a second that a scan need not pay.

Environment, as httpx reads it: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`,
`SSL_CERT_FILE`.
"""

from __future__ import annotations

import contextlib
import queue
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nsfwscan._version import __version__
from nsfwscan.values.errors import DownloadError, HubUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import httpx

PROGRESS_WORTH_A_TRY = 1 << 18
"""A connection that brought at least so many bytes before it was cut does not count as a failure;
one that brought fewer does, so that a server that cuts after every byte ends a download."""
TRY_LATER = "what has arrived is kept; run the same command again to go on from there"
PROXY_HINT = "check the network, HTTPS_PROXY and HF_ENDPOINT"

_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 5
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what. All in seconds, except `tries`."""

    connect_s: float = 4.0
    """For one address to accept a connection."""
    answer_s: float = 4.5
    """For the first answer of a hub that has not answered yet: name, connection, TLS, headers."""
    first_tries: int = 2
    """Twice 4.5 s and one pause: who cannot be reached is known after less than 10 s."""
    stall_s: float = 30.0
    """For more bytes once the hub has answered."""
    tries: int = 5
    """Failures in a row, without progress in between, that end a download."""
    backoff_s: float = 0.5
    """Before the second try; doubled before each further one."""
    longest_pause_s: float = 60.0
    """The most that a server may ask for with Retry-After before the download gives up."""
    slow_s: float = 120.0
    """A connection that brings less than `PROGRESS_WORTH_A_TRY` in this time counts as stalled: it
    may send a byte now and then for ever."""
    page_s: float = 60.0
    """For a whole page of a package index, redirects included."""
    longest_s: float = 4 * 3600.0
    """For a whole download with all its tries. What has arrived by then is kept."""
    most_copies: int = 4
    """So many times a file's size may be taken from a server, over all tries, and 64 MB."""


class Pause(Exception):
    """This try failed as the next one may not; `error` ends the download when none is left."""

    def __init__(self, error: DownloadError, *, wait_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_s = wait_s


class ServerAnswer:
    """A response whose headers are there and whose body is still to come."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.url = str(response.url)
        self.host = response.url.host
        self.is_html = self.header("content-type").startswith("text/html")

    def header(self, name: str) -> str:
        """Return a header's value; empty without one."""
        value: str = self._response.headers.get(name, "")
        return value

    def body(self) -> Iterator[bytes]:
        """Yield the body as it was sent. Raises `Pause` when the connection breaks."""
        import httpx

        try:
            yield from self._response.iter_raw()
        except httpx.TransportError as error:
            why = _reason(error)
            raise Pause(
                DownloadError(f"the download from {self.host} broke off: {why}", hint=TRY_LATER)
            ) from error

    def close(self) -> None:
        """Give the connection up."""
        self._response.close()


class Client:
    """Asks one server for one file, as often as that takes."""

    def __init__(
        self, connections: httpx.Client, endpoint: str, token: str, patience: Patience
    ) -> None:
        self._connections = connections
        self._endpoint = endpoint
        self._token = token
        self.patience = patience
        self.answered = False
        """Whether a hub is known to be there: from then on it is given more time."""

    @property
    def host(self) -> str:
        """The server's name, for sentences."""
        return host_of(self._endpoint)

    @property
    def has_token(self) -> bool:
        """Whether there is a token to send."""
        return bool(self._token)

    def get(self, address: str, headers: Mapping[str, str]) -> ServerAnswer:
        """Send a request and follow redirects. Raises `Pause`, `DownloadError`."""
        import httpx

        url = httpx.URL(address)
        wait_s = self.patience.stall_s if self.answered else self.patience.answer_s
        deadline = time.monotonic() + wait_s
        for _ in range(_MAX_REDIRECTS):
            response = self._send(url, {**headers, **self._headers(url)}, deadline)
            if response.status_code not in _REDIRECTS:
                return ServerAnswer(response)
            response.close()
            try:
                following = url.join(response.headers.get("location", ""))
            except httpx.InvalidURL as error:
                raise DownloadError(f"{self.host} redirects to no address") from error
            if following.scheme not in {"http", "https"} or (
                url.scheme == "https" and following.scheme == "http"
            ):
                raise DownloadError(
                    f"{url.host} redirects to {following.host} without encryption, which is refused"
                )
            url = following
        raise DownloadError(f"{self.host} redirects in circles", hint=PROXY_HINT)

    def _headers(self, url: httpx.URL) -> dict[str, str]:
        import httpx

        headers = {
            "accept-encoding": "identity",  # the hash is of the bytes as they are stored
            "user-agent": f"nsfwscan/{__version__}",
        }
        endpoint = httpx.URL(self._endpoint)
        origin = (url.scheme, url.host, url.port)
        private = url.scheme == "https" or url.host in _LOOPBACK
        if self._token and private and origin == (endpoint.scheme, endpoint.host, endpoint.port):
            # A redirect leads to a storage server of somebody else, who must not see the token.
            headers["authorization"] = f"Bearer {self._token}"
        return headers

    def _send(self, url: httpx.URL, headers: dict[str, str], deadline: float) -> httpx.Response:
        """Send one request from a thread of its own, and wait until `deadline` (monotonic seconds).

        The thread is what bounds the time: a resolver that hangs ignores every timeout, and a
        host with eight addresses has eight times the connect timeout.
        """
        import httpx

        box: queue.SimpleQueue[httpx.Response | Exception] = queue.SimpleQueue()
        given_up = threading.Event()

        def send() -> None:
            try:
                response = self._connections.send(
                    self._connections.build_request("GET", url, headers=headers), stream=True
                )
            except Exception as error:  # noqa: BLE001 - it is raised again where it is waited for
                box.put(error)
            else:
                box.put(response)
                if given_up.is_set():
                    response.close()

        threading.Thread(target=send, name="nsfwscan-hub", daemon=True).start()
        try:
            outcome = box.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            given_up.set()
            raise Pause(self._no_answer(url, "no answer in time")) from None
        if isinstance(outcome, httpx.Response):
            return outcome
        if isinstance(outcome, httpx.ProxyError):
            raise Pause(self._no_answer(url, f"the proxy says {outcome}")) from outcome
        if isinstance(outcome, httpx.TransportError):
            why = _reason(outcome)
            raise Pause(self._no_answer(url, why)) from outcome
        if isinstance(outcome, httpx.HTTPError | httpx.InvalidURL):
            raise DownloadError(f"{url.host} cannot be asked: {outcome}") from outcome
        raise outcome

    def _no_answer(self, url: httpx.URL, why: str) -> DownloadError:
        kind = DownloadError if self.answered else HubUnreachable
        return kind(
            f"{url.host} cannot be reached: {why}",
            hint=TRY_LATER if self.answered else PROXY_HINT,
        )


@contextlib.contextmanager
def connected(endpoint: str, token: str, patience: Patience) -> Iterator[Client]:
    """Give a client for a server, whose connections end with the block. Raises `DownloadError`."""
    with _opened(patience) as connections:
        yield Client(connections, endpoint, token, patience)


@dataclass(frozen=True, slots=True)
class Page:
    """A list of files, as a package index answers."""

    url: str
    """Where it came from in the end; links in it are relative to that."""
    text: str
    is_json: bool


def read_page(url: str, accept: str, most_bytes: int, patience: Patience) -> Page:
    """Return a page of at most `most_bytes`. Raises `HubUnreachable`, `DownloadError`."""
    import httpx

    headers = {"accept": accept, "user-agent": f"nsfwscan/{__version__}"}
    host, data = urlsplit(url).hostname, bytearray()
    late = HubUnreachable(
        f"the package index at {host} did not answer within {patience.page_s:.0f} seconds",
        hint="check the network, HTTPS_PROXY and PIP_INDEX_URL",
    )
    deadline = time.monotonic() + patience.page_s

    def read() -> Page:
        with client.stream("GET", url, headers=headers, follow_redirects=True) as response:
            if response.status_code != 200:
                raise DownloadError(
                    f"the package index at {host} answered {response.status_code}",
                    hint="check the network, HTTPS_PROXY and PIP_INDEX_URL",
                )
            for chunk in response.iter_bytes():
                data.extend(chunk)
                if len(data) > most_bytes:
                    raise DownloadError(f"the package index at {host} answers without end")
                if time.monotonic() > deadline:
                    raise late
            kind = response.headers.get("content-type", "")
            return Page(str(response.url), data.decode("utf-8", "replace"), "json" in kind)

    with _opened(patience) as client:
        try:
            return _in_time(read, deadline)
        except queue.Empty:
            raise late from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = _reason(error)
            raise HubUnreachable(
                f"the package index at {host} cannot be reached: {why}",
                hint="check the network, HTTPS_PROXY and PIP_INDEX_URL",
            ) from error


def _reason(error: Exception) -> str:
    """Return what went wrong, without the number that the system has for it."""
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__


def _in_time(read: Callable[[], Page], deadline: float) -> Page:
    """Call `read` in a thread and return or raise what it does; `queue.Empty` after `deadline`.

    Headers may trickle, too, and no timeout of httpx is for all of them. `deadline` is by
    `time.monotonic`.
    """
    box: queue.SimpleQueue[Page | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            box.put(read())
        except Exception as error:  # noqa: BLE001 - it is raised again where it is waited for
            box.put(error)

    threading.Thread(target=run, name="nsfwscan-page", daemon=True).start()
    outcome = box.get(timeout=max(0.0, deadline - time.monotonic()))
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@contextlib.contextmanager
def _opened(patience: Patience) -> Iterator[httpx.Client]:
    import httpx

    timeout = httpx.Timeout(patience.stall_s, connect=patience.connect_s)
    try:
        client = httpx.Client(timeout=timeout, follow_redirects=False)
    # A SOCKS proxy without its package, a proxy address that is none, a missing SSL_CERT_FILE.
    except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
        raise DownloadError(
            f"the network settings cannot be used: {error}",
            hint="check HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE",
        ) from error
    with client:
        yield client


def host_of(endpoint: str) -> str:
    """Return the name of a server for sentences, without who logs in there."""
    return urlsplit(endpoint).netloc.rpartition("@")[2]


def whole(text: str | None) -> int | None:
    """Return the number that a header holds; None if it holds anything else."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,15}", text) else None
