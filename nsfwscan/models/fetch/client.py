"""HTTP: connections, redirects, which server gets the token, and timeouts.

The only module that imports httpx (chosen over urllib for its separate connect and read timeouts,
its proxy handling and its types; the hub's own client uses it too). It is imported when a download
starts, because importing it takes 0.1 s.

Environment variables, as read by httpx: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`,
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
"""A connection that delivered at least this many bytes before it broke is not a failure. One with
fewer is, so that a server that disconnects after every byte does not prolong a download forever."""
TRY_LATER = "what has arrived is kept; run the same command again to resume"
PROXY_HINT = "check the network, HTTPS_PROXY and HF_ENDPOINT"

_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 5
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Patience:
    """Timeouts and limits of a download; times in seconds."""

    connect_s: float = 4.0
    """Until one address accepts a connection."""
    answer_s: float = 4.5
    """Until the first answer of a hub that has not yet answered: DNS, connection, TLS, headers."""
    first_tries: int = 2
    """Tries of a hub that has not yet answered. With a pause, this fails in less than 10 s."""
    stall_s: float = 30.0
    """Until more bytes arrive, once the hub has answered."""
    tries: int = 5
    """Consecutive failures without progress that end a download."""
    backoff_s: float = 0.5
    """Before the second try; doubled before each further try."""
    longest_pause_s: float = 60.0
    """The longest Retry-After that is respected; beyond it the download gives up."""
    slow_s: float = 120.0
    """A connection that delivers less than `PROGRESS_WORTH_A_TRY` in this time has stalled, even if
    it sends a byte now and then."""
    page_s: float = 60.0
    """For a whole page of a package index, including redirects."""
    longest_s: float = 4 * 3600.0
    """For a whole download with all tries. What has arrived by then is kept."""
    most_copies: int = 4
    """All tries together may transfer this many times the file's size, plus 64 MB."""


class Pause(Exception):
    """This try failed, but the next may succeed. `error` ends the download if no try is left."""

    def __init__(self, error: DownloadError, *, wait_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_s = wait_s


class ServerAnswer:
    """A response with headers, whose body has not been read."""

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
        """Yield the body as sent. Raises `Pause` if the connection breaks."""
        import httpx

        try:
            yield from self._response.iter_raw()
        except httpx.TransportError as error:
            why = _reason(error)
            raise Pause(
                DownloadError(f"the download from {self.host} broke off: {why}", hint=TRY_LATER)
            ) from error

    def close(self) -> None:
        """Close the connection."""
        self._response.close()


class Client:
    """Requests one file from one server, as often as necessary."""

    def __init__(
        self, connections: httpx.Client, endpoint: str, token: str, patience: Patience
    ) -> None:
        self._connections = connections
        self._endpoint = endpoint
        self._token = token
        self.patience = patience
        self.answered = False
        """Whether the hub has answered: from then on it gets more time."""

    @property
    def host(self) -> str:
        """Return the server's name for messages."""
        return host_of(self._endpoint)

    @property
    def has_token(self) -> bool:
        """Return True if there is a token to send."""
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
                raise DownloadError(f"{self.host} redirects to an invalid address") from error
            if following.scheme not in {"http", "https"} or (
                url.scheme == "https" and following.scheme == "http"
            ):
                raise DownloadError(
                    f"{url.host} redirects to {following.host} without encryption, which is refused"
                )
            url = following
        raise DownloadError(f"{self.host} redirects too often", hint=PROXY_HINT)

    def _headers(self, url: httpx.URL) -> dict[str, str]:
        import httpx

        headers = {
            "accept-encoding": "identity",  # the hash is of the stored bytes
            "user-agent": f"nsfwscan/{__version__}",
        }
        endpoint = httpx.URL(self._endpoint)
        origin = (url.scheme, url.host, url.port)
        private = url.scheme == "https" or url.host in _LOOPBACK
        if self._token and private and origin == (endpoint.scheme, endpoint.host, endpoint.port):
            # A redirect may lead to another party's storage server, which must not get the token.
            headers["authorization"] = f"Bearer {self._token}"
        return headers

    def _send(self, url: httpx.URL, headers: dict[str, str], deadline: float) -> httpx.Response:
        """Send one request in its own thread, and wait until `deadline` (monotonic seconds).

        The thread bounds the time: a resolver that hangs ignores every timeout, and a host with
        eight addresses takes eight times the connect timeout.
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
            raise DownloadError(f"the request to {url.host} failed: {outcome}") from outcome
        raise outcome

    def _no_answer(self, url: httpx.URL, why: str) -> DownloadError:
        kind = DownloadError if self.answered else HubUnreachable
        return kind(
            f"{url.host} cannot be reached: {why}",
            hint=TRY_LATER if self.answered else PROXY_HINT,
        )


@contextlib.contextmanager
def connected(endpoint: str, token: str, patience: Patience) -> Iterator[Client]:
    """Yield a client for a server, and close its connections at the end. Raises `DownloadError`."""
    with _opened(patience) as connections:
        yield Client(connections, endpoint, token, patience)


@dataclass(frozen=True, slots=True)
class Page:
    """A package index's list of files."""

    url: str
    """Its address after redirects; links in it are relative to this."""
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
                    raise DownloadError(f"the package index at {host} sent too much data")
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
    """Return an error's message without the error number."""
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__


def _in_time(read: Callable[[], Page], deadline: float) -> Page:
    """Call `read` in a thread; return its result or raise its error, or `queue.Empty` in time.

    httpx has no timeout for all headers together, which may trickle. `deadline` is in seconds of
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
    # A SOCKS proxy without its package, an invalid proxy address, a missing SSL_CERT_FILE.
    except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
        raise DownloadError(
            f"the network settings are invalid: {error}",
            hint="check HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE",
        ) from error
    with client:
        yield client


def host_of(endpoint: str) -> str:
    """Return the name of a server for messages, without user name and password."""
    return urlsplit(endpoint).netloc.rpartition("@")[2]


def whole(text: str | None) -> int | None:
    """Return the number in a header; None if it is anything else."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,15}", text) else None
