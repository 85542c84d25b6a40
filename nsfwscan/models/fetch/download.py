"""Fetching pinned files from the model hub and elsewhere: resumable, bounded, verified.

The one module that knows httpx (chosen over urllib for its separate connect and read timeouts, its
proxy handling and its types; the hub's own client uses it too). It is imported when a download
starts, because importing it costs a tenth of a second that a scan need not pay.

Environment: `HF_ENDPOINT` (a mirror), `HF_TOKEN` (sent to the endpoint alone), `HF_HUB_OFFLINE`,
and what httpx reads: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import queue
import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from nsfwscan._version import __version__
from nsfwscan.system.reading import open_text, open_to_change
from nsfwscan.values.errors import (
    ConfigError,
    DownloadError,
    HubUnreachable,
    ModelTampered,
    OfflineError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import httpx

    from nsfwscan.models.catalogue import HubFile, HubSource

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes there will be, None when unknown."""

DEFAULT_ENDPOINT = "https://huggingface.co"
MAX_FILE_BYTES = 4 << 30
"""The most that is taken from a server where the catalogue does not know the size."""

_REDIRECTS = (301, 302, 303, 307, 308)
_PAUSES = (408, 425, 429, 500, 502, 503, 504)
"""Answers that another try may change."""
_MAX_REDIRECTS = 5
_PROGRESS_WORTH_A_TRY = 1 << 18
"""A connection that brought at least so many bytes before it was cut does not count as a failure;
one that brought fewer does, so that a server that cuts after every byte ends a download."""
_SPARE_BYTES = 64 << 20
_DISK_RESERVE = 16 << 20
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,200}"\Z')
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_TRY_LATER = "what has arrived is kept; run the same command again to go on from there"
_PROXY_HINT = "check the network, HTTPS_PROXY and HF_ENDPOINT"


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
    """A connection that brings less than `_PROGRESS_WORTH_A_TRY` in this time counts as stalled: it
    may send a byte now and then for ever."""
    page_s: float = 60.0
    """For a whole page of a package index, redirects included."""
    longest_s: float = 4 * 3600.0
    """For a whole download with all its tries. What has arrived by then is kept."""
    most_copies: int = 4
    """So many times a file's size may be taken from a server, over all tries, and 64 MB."""


@dataclass(frozen=True, slots=True)
class Hub:
    """A server with the hub's layout: `{endpoint}/{repo}/resolve/{revision}/{path}`."""

    endpoint: str = DEFAULT_ENDPOINT
    token: str = field(default="", repr=False)
    patience: Patience = Patience()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Hub:
        """Read `HF_ENDPOINT` and `HF_TOKEN`. Raises `ConfigError` for an endpoint that is none."""
        endpoint = environ.get("HF_ENDPOINT", "").strip().rstrip("/") or DEFAULT_ENDPOINT
        parts = urlsplit(endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(
                f"HF_ENDPOINT is {endpoint!r}, which is not the address of a server",
                hint=f"unset it, or give it a value such as {DEFAULT_ENDPOINT}",
            )
        token = environ.get("HF_TOKEN", "").strip()
        if not (token.isascii() and token.isprintable()):  # it becomes a header
            raise ConfigError("HF_TOKEN holds characters that no token has", hint="unset it")
        return cls(endpoint, token)

    @property
    def host(self) -> str:
        """The server's name, for sentences."""
        return urlsplit(self.endpoint).netloc.rpartition("@")[2]

    def fetch(self, source: HubSource, file: HubFile, target: str, progress: Progress) -> int:
        """Download `file` to the path `target` and return its size in bytes.

        `target` may hold the beginning of the file from an earlier try, and keeps what arrived
        when this one fails. On return its bytes have the file's sha256 and are on the disk.

        Raises `HubUnreachable`, `DownloadError`, and `ModelTampered` for a complete file with
        another sha256, which is deleted.
        """
        url = f"{self.endpoint}/{source.repo}/resolve/{source.revision}/{file.path}"
        with _client(self.patience) as client:
            return _Download(self, client, url, file, target, progress).run()


@dataclass(frozen=True, slots=True)
class Page:
    """A list of files, as a package index answers."""

    url: str
    """Where it came from in the end; links in it are relative to that."""
    text: str
    is_json: bool


def fetch_pinned(
    url: str, file: HubFile, target: str, progress: Progress, patience: Patience
) -> int:
    """Download a file from any address; for the rest see `Hub.fetch`. No token is sent."""
    parts = urlsplit(url)
    hub = Hub(f"{parts.scheme}://{parts.netloc}", patience=patience)
    with _client(patience) as client:
        return _Download(hub, client, url, file, target, progress).run()


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

    with _client(patience) as client:
        try:
            return _in_time(read, deadline)
        except queue.Empty:
            raise late from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = str(error) or type(error).__name__
            raise HubUnreachable(
                f"the package index at {host} cannot be reached: {why}",
                hint="check the network, HTTPS_PROXY and PIP_INDEX_URL",
            ) from error


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


def network_is_forbidden(environ: Mapping[str, str]) -> bool:
    """Tell whether `HF_HUB_OFFLINE` is set, with the meaning the hub's own tools give it."""
    return environ.get("HF_HUB_OFFLINE", "").strip().upper() in {"1", "ON", "YES", "TRUE"}


def refuse_offline(what: str) -> OfflineError:
    """Return the error for something that would need the network."""
    return OfflineError(
        f"{what}, and the network is not to be used",
        hint="leave out --offline (and HF_HUB_OFFLINE) once, or copy a model package here and "
        "run `nsfwscan models add FOLDER`",
    )


class _Pause(Exception):
    """This try failed as the next one may not; `error` ends the download when none is left."""

    def __init__(self, error: DownloadError, *, wait_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_s = wait_s


class _Download:
    """One file on its way. The state is what the file `target` holds, so a kill loses nothing."""

    def __init__(
        self,
        hub: Hub,
        client: httpx.Client,
        url: str,
        file: HubFile,
        target: str,
        progress: Progress,
    ) -> None:
        self._hub = hub
        self._patience = hub.patience
        self._client = client
        self._url = url
        self._file = file
        self._target = target
        self._etag_path = target + ".etag"
        self._progress = progress
        self._answered = False
        """Whether a hub is known to be there: from then on it is given more time."""
        self._spoilt = False
        """Whether what `target` holds is of no use."""
        self._end = time.monotonic() + hub.patience.longest_s
        size = MAX_FILE_BYTES if file.bytes is None else file.bytes
        self._may_take = hub.patience.most_copies * size + _SPARE_BYTES
        """Bytes, over all tries."""

    def run(self) -> int:
        """Try until the file is there.

        This ends: each try takes bytes of a bounded number, and `tries` in a row that bring no more
        than the best one before them are the last, as is the one in which the time runs out.
        """
        failures, best = 0, _size(self._target)
        while True:
            try:
                return self._try()
            except _Pause as pause:
                self._clear_away()
                # Against the best so far: a server without ranges begins anew each time.
                size = _size(self._target)
                failures = 1 if size - best >= _PROGRESS_WORTH_A_TRY else failures + 1
                best = max(best, size)
                self._check_bounds()
                tries = self._patience.tries if self._answered else self._patience.first_tries
                if failures >= tries:
                    raise pause.error from pause
                backoff = self._patience.backoff_s * 2 ** (failures - 1)
                time.sleep(backoff if pause.wait_s is None else pause.wait_s)
            except BaseException:
                self._clear_away()
                raise

    def _check_bounds(self) -> None:
        """Raise `DownloadError` when the whole download has taken too long or too much."""
        if time.monotonic() > self._end:
            hours = self._patience.longest_s / 3600
            raise DownloadError(
                f"{self._file.path} did not arrive within {hours:.0f} hours", hint=_TRY_LATER
            )
        if self._may_take < 0:
            raise DownloadError(
                f"{self._hub.host} sent {self._file.path} {self._patience.most_copies} times over, "
                "and never the whole of it",
                hint=_PROXY_HINT,
            )

    def _clear_away(self) -> None:
        """Delete the file when it is of no use; only once it is closed, as Windows wants it."""
        if self._spoilt or _size(self._target) == 0:
            _remove(self._target)
            _remove(self._etag_path)
            self._spoilt = False

    def _try(self) -> int:
        """Ask for what is missing, take it, verify all of it."""
        with self._disk(), open_to_change(self._target, "a+b") as stream:
            stream.seek(0)
            digest = hashlib.file_digest(stream, "sha256")
            begun = stream.tell()
            if begun == 0 or begun != self._file.bytes:
                response = self._answer(begun)
                with contextlib.closing(response):
                    start, total = self._place(response, begun)
                    if start < begun:
                        stream.truncate(start)
                        digest = hashlib.sha256()
                    self._room_for(total, start)
                    self._remember_etag(response)
                    if response.status_code != 416:
                        self._take(response, stream, digest, start, total)
            stream.flush()
            os.fsync(stream.fileno())
            size = os.fstat(stream.fileno()).st_size
        if digest.hexdigest() != self._file.sha256:
            self._spoilt = True
            wrong = f"{self._url} does not have the checksum that nsfwscan knows for it"
            if begun:  # the beginning may have been damaged here, on this disk
                raise _Pause(DownloadError(wrong))
            raise ModelTampered(
                f"{wrong}; it was deleted",
                hint="try again later; if it stays so, the file was changed at its source, or "
                "something on the way changes downloads",
            )
        _remove(self._etag_path)
        return size

    def _answer(self, begun: int) -> httpx.Response:
        """Send the request and follow redirects to an answer that carries bytes."""
        import httpx

        url = httpx.URL(self._url)
        wait_s = self._patience.stall_s if self._answered else self._patience.answer_s
        deadline = time.monotonic() + wait_s
        for _ in range(_MAX_REDIRECTS):
            response = self._send(url, self._headers(url, begun), deadline)
            if response.status_code not in _REDIRECTS:
                self._check(response, begun)
                return response
            response.close()
            try:
                following = url.join(response.headers.get("location", ""))
            except httpx.InvalidURL as error:
                raise DownloadError(f"{self._hub.host} redirects to no address") from error
            if following.scheme not in {"http", "https"} or (
                url.scheme == "https" and following.scheme == "http"
            ):
                raise DownloadError(
                    f"{url.host} redirects to {following.host} without encryption, which is refused"
                )
            url = following
        raise DownloadError(f"{self._hub.host} redirects in circles", hint=_PROXY_HINT)

    def _headers(self, url: httpx.URL, begun: int) -> dict[str, str]:
        import httpx

        headers = {
            "accept-encoding": "identity",  # the hash is of the bytes as they are stored
            "user-agent": f"nsfwscan/{__version__}",
        }
        if begun:
            headers["range"] = f"bytes={begun}-"
            if etag := self._known_etag():
                headers["if-range"] = etag
        endpoint = httpx.URL(self._hub.endpoint)
        origin = (url.scheme, url.host, url.port)
        private = url.scheme == "https" or url.host in _LOOPBACK
        if (
            self._hub.token
            and private
            and origin == (endpoint.scheme, endpoint.host, endpoint.port)
        ):
            # A redirect leads to a storage server of somebody else, who must not see the token.
            headers["authorization"] = f"Bearer {self._hub.token}"
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
                response = self._client.send(
                    self._client.build_request("GET", url, headers=headers), stream=True
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
            raise _Pause(self._no_answer(url, "no answer in time")) from None
        if isinstance(outcome, httpx.Response):
            return outcome
        if isinstance(outcome, httpx.ProxyError):
            raise _Pause(self._no_answer(url, f"the proxy says {outcome}")) from outcome
        if isinstance(outcome, httpx.TransportError):
            why = str(outcome) or type(outcome).__name__
            raise _Pause(self._no_answer(url, why)) from outcome
        if isinstance(outcome, httpx.HTTPError | httpx.InvalidURL):
            raise DownloadError(f"{url.host} cannot be asked: {outcome}") from outcome
        raise outcome

    def _no_answer(self, url: httpx.URL, why: str) -> DownloadError:
        kind = DownloadError if self._answered else HubUnreachable
        return kind(
            f"{url.host} cannot be reached: {why}",
            hint=_TRY_LATER if self._answered else _PROXY_HINT,
        )

    def _check(self, response: httpx.Response, begun: int) -> None:
        """Refuse every answer that does not carry the file."""
        status = response.status_code
        if status in {200, 206} or (status == 416 and begun):
            kind = response.headers.get("content-type", "")
            if not kind.startswith("text/html"):
                self._answered = True
                return
        response.close()
        where = f"{response.url.host} answered {status} for {self._file.path}"
        if status in _PAUSES:
            self._answered = True
            wait_s = _retry_after(response)
            if wait_s is not None and wait_s > self._patience.longest_pause_s:
                raise DownloadError(f"{where} and asks to wait {wait_s:.0f} seconds")
            raise _Pause(DownloadError(where, hint=_TRY_LATER), wait_s=wait_s)
        if status == 404:
            raise DownloadError(
                f"{where}: it is not there (revision in {self._url})",
                hint="check HF_ENDPOINT if it names a mirror; a newer nsfwscan may know more",
            )
        if status in {407, 511} or response.headers.get("content-type", "").startswith("text/html"):
            raise HubUnreachable(
                f"{where} with a web page instead of the file: a proxy or the sign-in page of "
                "this network stands in between",
                hint=f"open any page in a browser to sign in, or {_PROXY_HINT}",
            )
        if status in {401, 403}:
            known = "the token in HF_TOKEN does not open it" if self._hub.token else "it is gated"
            raise DownloadError(
                f"{where}: {known}",
                hint="accept the model's terms on its page and set HF_TOKEN to a token of yours",
            )
        raise DownloadError(where)

    def _place(self, response: httpx.Response, begun: int) -> tuple[int, int | None]:
        """Return where the body begins in the file and how large the whole file is, in bytes."""
        start = 0
        if response.status_code == 200:
            total = _whole(response.headers.get("content-length"))
        else:
            given = re.match(
                r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)\Z", response.headers.get("content-range", "")
            )
            total = _whole(given[2]) if given else None
            start = begun
            if response.status_code == 206:
                start = (_whole(given[1]) or 0) if given else -1
            if start != begun or (response.status_code == 416 and total != begun):
                self._spoilt = True  # what is here cannot be the beginning of what is there
                raise _Pause(
                    DownloadError(f"{response.url.host} sends another part than it was asked for")
                )
        wanted = self._file.bytes
        if total is not None and wanted is not None and total != wanted:
            self._spoilt = True
            raise DownloadError(
                f"{response.url} has {total} bytes and not the {wanted} that nsfwscan knows for it",
                hint=_PROXY_HINT,
            )
        return start, wanted if total is None else total

    def _room_for(self, total: int | None, start: int) -> None:
        if total is None:
            return
        if total > MAX_FILE_BYTES:
            raise DownloadError(f"{self._url} has {total} bytes, more than any model should")
        folder = os.path.dirname(os.path.abspath(self._target))
        free = shutil.disk_usage(folder).free
        if free < total - start + _DISK_RESERVE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._target)

    def _take(
        self,
        response: httpx.Response,
        stream: IO[bytes],
        digest: hashlib._Hash,
        start: int,
        total: int | None,
    ) -> None:
        """Append the body to the file."""
        import httpx

        done, most = start, MAX_FILE_BYTES if total is None else total
        self._progress(done, total)
        slow_at, enough = time.monotonic() + self._patience.slow_s, done + _PROGRESS_WORTH_A_TRY
        try:
            for chunk in response.iter_raw():
                done += len(chunk)
                self._may_take -= len(chunk)
                self._check_bounds()
                if done >= enough:
                    slow_at = time.monotonic() + self._patience.slow_s
                    enough = done + _PROGRESS_WORTH_A_TRY
                elif time.monotonic() > slow_at:
                    stream.flush()  # the next try counts what is in the file
                    raise _Pause(
                        DownloadError(
                            f"{response.url.host} sends too slowly to ever end", hint=_TRY_LATER
                        )
                    )
                if done > most:
                    self._spoilt = True
                    raise DownloadError(f"{response.url} is longer than the {most} bytes expected")
                stream.write(chunk)
                digest.update(chunk)
                self._progress(done, total)
        except httpx.TransportError as error:
            stream.flush()  # the next try counts what is in the file
            why = str(error) or type(error).__name__
            raise _Pause(
                DownloadError(
                    f"the download from {response.url.host} broke off: {why}", hint=_TRY_LATER
                )
            ) from error
        if total is not None and done < total:
            raise _Pause(
                DownloadError(f"the download from {response.url.host} ended early", hint=_TRY_LATER)
            )

    def _remember_etag(self, response: httpx.Response) -> None:
        etag = response.headers.get("etag", "")
        if _STRONG_ETAG.match(etag):
            with open(self._etag_path, "w", encoding="ascii") as stream:
                stream.write(etag)
        elif response.status_code == 200:
            _remove(self._etag_path)

    def _known_etag(self) -> str:
        try:
            with open_text(self._etag_path, "ascii", errors="replace") as stream:
                etag = stream.read(300)
        except OSError:
            return ""
        return etag if _STRONG_ETAG.match(etag) else ""

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
            self._spoilt = full  # give the space back
            what = "the disk is full" if full else error.strerror or str(error)
            raise DownloadError(
                f"{self._file.path} cannot be written to {self._target}: {what}",
                hint="make room, or set NSFWSCAN_HOME to a folder on another disk" if full else "",
            ) from error


@contextlib.contextmanager
def _client(patience: Patience) -> Iterator[httpx.Client]:
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


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds a server asks to wait; a date, which few servers send, counts as none."""
    return _whole(response.headers.get("retry-after"))


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,15}", text) else None


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
