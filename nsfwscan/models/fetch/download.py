"""Downloads one pinned file: resumed, bounded, verified."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, TypeAlias

from nsfwscan.models.fetch.client import (
    PROGRESS_WORTH_A_TRY,
    PROXY_HINT,
    TRY_LATER,
    Client,
    Pause,
    ServerAnswer,
    whole,
)
from nsfwscan.system.hashing import Sha256, pieces
from nsfwscan.system.reading import open_text, open_to_change
from nsfwscan.values.errors import DownloadError, HubUnreachable, ModelTampered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsfwscan.models.catalogue import HubFile

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with the bytes downloaded and the total bytes (None if unknown)."""

MAX_FILE_BYTES = 4 << 30
"""The most bytes to accept if the catalogue has no size."""

_PAUSES = (408, 425, 429, 500, 502, 503, 504)
"""Status codes after which another try may succeed."""
_SPARE_BYTES = 64 << 20
_DISK_RESERVE = 16 << 20
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,200}"\Z')


class Download:
    """One download. Its state is the content of the file `target`, so a kill loses nothing."""

    def __init__(
        self, client: Client, url: str, file: HubFile, target: str, progress: Progress
    ) -> None:
        self._client = client
        self._patience = client.patience
        self._url = url
        self._file = file
        self._target = target
        self._etag_path = target + ".etag"
        self._progress = progress
        self._spoilt = False
        """Whether the content of `target` is useless."""
        self._end = time.monotonic() + client.patience.longest_s
        size = MAX_FILE_BYTES if file.bytes is None else file.bytes
        self._may_take = client.patience.most_copies * size + _SPARE_BYTES
        """Bytes transferred in all tries."""

    def run(self) -> int:
        """Try until the file is complete; return its size in bytes. Raises as `Hub.fetch` does.

        This terminates: the bytes of each try are bounded, and it gives up after `tries`
        consecutive tries that do not get further than an earlier one, or when the time is up.
        """
        failures, best = 0, _size(self._target)
        while True:
            try:
                return self._try()
            except Pause as pause:
                self._clear_away()
                # Compared with the best so far: a server without ranges starts over each time.
                size = _size(self._target)
                failures = 1 if size - best >= PROGRESS_WORTH_A_TRY else failures + 1
                best = max(best, size)
                self._check_bounds()
                there = self._client.answered
                tries = self._patience.tries if there else self._patience.first_tries
                if failures >= tries:
                    raise pause.error from pause
                backoff = self._patience.backoff_s * 2 ** (failures - 1)
                time.sleep(backoff if pause.wait_s is None else pause.wait_s)
            except BaseException:
                self._clear_away()
                raise

    def _check_bounds(self) -> None:
        """Raise `DownloadError` if the whole download has taken too long or too many bytes."""
        if time.monotonic() > self._end:
            hours = self._patience.longest_s / 3600
            raise DownloadError(
                f"{self._file.path} did not arrive within {hours:.0f} hours", hint=TRY_LATER
            )
        if self._may_take < 0:
            raise DownloadError(
                f"{self._client.host} has sent {self._patience.most_copies} times the size of "
                f"{self._file.path}, but never the whole file",
                hint=PROXY_HINT,
            )

    def _clear_away(self) -> None:
        """Delete the file if it is useless; it must be closed, because of Windows."""
        if self._spoilt or _size(self._target) == 0:
            _remove(self._target)
            _remove(self._etag_path)
            self._spoilt = False

    def _try(self) -> int:
        """Request the missing part, append it, and verify the whole file."""
        with self._disk(), open_to_change(self._target, "a+b") as stream:
            stream.seek(0)
            digest = Sha256().take(pieces(stream))
            begun = stream.tell()
            if begun == 0 or begun != self._file.bytes:
                answer = self._answer(begun)
                with contextlib.closing(answer):
                    start, total = self._place(answer, begun)
                    if start < begun:
                        stream.truncate(start)
                        digest = Sha256()
                    self._room_for(total, start)
                    self._remember_etag(answer)
                    if answer.status != 416:
                        self._take(answer, stream, digest, start, total)
            stream.flush()
            os.fsync(stream.fileno())
            size = os.fstat(stream.fileno()).st_size
        if digest.hexdigest() != self._file.sha256:
            self._spoilt = True
            wrong = f"{self._url} does not have the expected checksum"
            if begun:  # the first part may have been damaged on this disk
                raise Pause(DownloadError(wrong))
            raise ModelTampered(
                f"{wrong}; it was deleted",
                hint="try again later; if this persists, the file was changed at its source, or "
                "a proxy modifies downloads",
            )
        _remove(self._etag_path)
        return size

    def _answer(self, begun: int) -> ServerAnswer:
        """Request the file from byte `begun` on; return an answer with its content."""
        headers = {}
        if begun:
            headers["range"] = f"bytes={begun}-"
            if etag := self._known_etag():
                headers["if-range"] = etag
        answer = self._client.get(self._url, headers)
        self._check(answer, begun)
        return answer

    def _check(self, answer: ServerAnswer, begun: int) -> None:
        """Raise an error for any answer that is not the file."""
        status = answer.status
        carries_it = status in {200, 206} or (status == 416 and begun)
        if carries_it and not answer.is_html:
            self._client.answered = True
            return
        answer.close()
        where = f"{answer.host} answered {status} for {self._file.path}"
        if status in _PAUSES:
            self._client.answered = True
            wait_s = _retry_after(answer)
            if wait_s is not None and wait_s > self._patience.longest_pause_s:
                raise DownloadError(f"{where} and asks to wait {wait_s:.0f} seconds")
            raise Pause(DownloadError(where, hint=TRY_LATER), wait_s=wait_s)
        if status == 404:
            raise DownloadError(
                f"{where}: no such file (revision in {self._url})",
                hint="check HF_ENDPOINT if it is a mirror; a newer nsfwscan may have a new address",
            )
        if status in {407, 511} or answer.is_html:
            raise HubUnreachable(
                f"{where} with a web page instead of the file, perhaps from a proxy or this "
                "network's sign-in page",
                hint=f"open any page in a browser to sign in, or {PROXY_HINT}",
            )
        if status in {401, 403}:
            known = "it is gated"
            if self._client.has_token:
                known = "the token in HF_TOKEN does not give access to it"
            raise DownloadError(
                f"{where}: {known}",
                hint="accept the model's terms on its page, and set HF_TOKEN to your token",
            )
        raise DownloadError(where)

    def _place(self, answer: ServerAnswer, begun: int) -> tuple[int, int | None]:
        """Return the body's offset in the file and the file's total size, in bytes."""
        start = 0
        if answer.status == 200:
            total = whole(answer.header("content-length"))
        else:
            given = re.match(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)\Z", answer.header("content-range"))
            total = whole(given[2]) if given else None
            start = begun
            if answer.status == 206:
                start = (whole(given[1]) or 0) if given else -1
            if start != begun or (answer.status == 416 and total != begun):
                self._spoilt = True  # what we have cannot be the beginning of this file
                raise Pause(DownloadError(f"{answer.host} sent another part than requested"))
        wanted = self._file.bytes
        if total is not None and wanted is not None and total != wanted:
            self._spoilt = True
            raise DownloadError(
                f"{answer.url} has {total} bytes instead of the expected {wanted}",
                hint=PROXY_HINT,
            )
        return start, wanted if total is None else total

    def _room_for(self, total: int | None, start: int) -> None:
        if total is None:
            return
        if total > MAX_FILE_BYTES:
            raise DownloadError(f"{self._url} has {total} bytes, which is too large for a model")
        folder = os.path.dirname(os.path.abspath(self._target))
        free = shutil.disk_usage(folder).free
        if free < total - start + _DISK_RESERVE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._target)

    def _take(
        self,
        answer: ServerAnswer,
        stream: IO[bytes],
        digest: Sha256,
        start: int,
        total: int | None,
    ) -> None:
        """Append the body to the file, which keeps what has arrived even after an error."""
        done, most = start, MAX_FILE_BYTES if total is None else total
        self._progress(done, total)
        slow_at, enough = time.monotonic() + self._patience.slow_s, done + PROGRESS_WORTH_A_TRY
        for chunk in answer.body():
            done += len(chunk)
            self._may_take -= len(chunk)
            self._check_bounds()
            if done >= enough:
                slow_at = time.monotonic() + self._patience.slow_s
                enough = done + PROGRESS_WORTH_A_TRY
            elif time.monotonic() > slow_at:
                raise Pause(DownloadError(f"{answer.host} sends too slowly", hint=TRY_LATER))
            if done > most:
                self._spoilt = True
                raise DownloadError(f"{answer.url} is longer than the {most} bytes expected")
            digest.take([chunk], stream.write)
            self._progress(done, total)
        if total is not None and done < total:
            raise Pause(
                DownloadError(f"the download from {answer.host} ended early", hint=TRY_LATER)
            )

    def _remember_etag(self, answer: ServerAnswer) -> None:
        etag = answer.header("etag")
        if _STRONG_ETAG.match(etag):
            with open(self._etag_path, "w", encoding="ascii") as stream:
                stream.write(etag)
        elif answer.status == 200:
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
            self._spoilt = full  # frees the space
            what = "the disk is full" if full else error.strerror or str(error)
            raise DownloadError(
                f"{self._file.path} cannot be written to {self._target}: {what}",
                hint="make room, or set NSFWSCAN_HOME to a folder on another disk" if full else "",
            ) from error


def _retry_after(answer: ServerAnswer) -> float | None:
    """Return the seconds that a server asks to wait; None for a date, which few servers send."""
    return whole(answer.header("retry-after"))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
