"""One pinned file on its way from a server: resumed, bounded, verified."""

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
"""Called with the bytes that are there and the bytes there will be, None when unknown."""

MAX_FILE_BYTES = 4 << 30
"""The most that is taken from a server where the catalogue does not know the size."""

_PAUSES = (408, 425, 429, 500, 502, 503, 504)
"""Answers that another try may change."""
_SPARE_BYTES = 64 << 20
_DISK_RESERVE = 16 << 20
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,200}"\Z')


class Download:
    """One file on its way. The state is what the file `target` holds, so a kill loses nothing."""

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
        """Whether what `target` holds is of no use."""
        self._end = time.monotonic() + client.patience.longest_s
        size = MAX_FILE_BYTES if file.bytes is None else file.bytes
        self._may_take = client.patience.most_copies * size + _SPARE_BYTES
        """Bytes, over all tries."""

    def run(self) -> int:
        """Try until the file is there; return its size in bytes. For the errors see `Hub.fetch`.

        This ends: each try takes bytes of a bounded number, and `tries` in a row that bring no more
        than the best one before them are the last, as is the one in which the time runs out.
        """
        failures, best = 0, _size(self._target)
        while True:
            try:
                return self._try()
            except Pause as pause:
                self._clear_away()
                # Against the best so far: a server without ranges begins anew each time.
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
        """Raise `DownloadError` when the whole download has taken too long or too much."""
        if time.monotonic() > self._end:
            hours = self._patience.longest_s / 3600
            raise DownloadError(
                f"{self._file.path} did not arrive within {hours:.0f} hours", hint=TRY_LATER
            )
        if self._may_take < 0:
            raise DownloadError(
                f"{self._client.host} sent {self._file.path} {self._patience.most_copies} times "
                "over, and never the whole of it",
                hint=PROXY_HINT,
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
            wrong = f"{self._url} does not have the checksum that nsfwscan knows for it"
            if begun:  # the beginning may have been damaged here, on this disk
                raise Pause(DownloadError(wrong))
            raise ModelTampered(
                f"{wrong}; it was deleted",
                hint="try again later; if it stays so, the file was changed at its source, or "
                "something on the way changes downloads",
            )
        _remove(self._etag_path)
        return size

    def _answer(self, begun: int) -> ServerAnswer:
        """Ask for the file from the byte `begun` on; return an answer that carries bytes."""
        headers = {}
        if begun:
            headers["range"] = f"bytes={begun}-"
            if etag := self._known_etag():
                headers["if-range"] = etag
        answer = self._client.get(self._url, headers)
        self._check(answer, begun)
        return answer

    def _check(self, answer: ServerAnswer, begun: int) -> None:
        """Refuse every answer that does not carry the file."""
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
                f"{where}: it is not there (revision in {self._url})",
                hint="check HF_ENDPOINT if it names a mirror; a newer nsfwscan may know more",
            )
        if status in {407, 511} or answer.is_html:
            raise HubUnreachable(
                f"{where} with a web page instead of the file: a proxy or the sign-in page of "
                "this network stands in between",
                hint=f"open any page in a browser to sign in, or {PROXY_HINT}",
            )
        if status in {401, 403}:
            known = "it is gated"
            if self._client.has_token:
                known = "the token in HF_TOKEN does not open it"
            raise DownloadError(
                f"{where}: {known}",
                hint="accept the model's terms on its page and set HF_TOKEN to a token of yours",
            )
        raise DownloadError(where)

    def _place(self, answer: ServerAnswer, begun: int) -> tuple[int, int | None]:
        """Return where the body begins in the file and how large the whole file is, in bytes."""
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
                self._spoilt = True  # what is here cannot be the beginning of what is there
                raise Pause(
                    DownloadError(f"{answer.host} sends another part than it was asked for")
                )
        wanted = self._file.bytes
        if total is not None and wanted is not None and total != wanted:
            self._spoilt = True
            raise DownloadError(
                f"{answer.url} has {total} bytes and not the {wanted} that nsfwscan knows for it",
                hint=PROXY_HINT,
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
        answer: ServerAnswer,
        stream: IO[bytes],
        digest: Sha256,
        start: int,
        total: int | None,
    ) -> None:
        """Append the body to the file; what came stays in it, however this ends."""
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
                raise Pause(
                    DownloadError(f"{answer.host} sends too slowly to ever end", hint=TRY_LATER)
                )
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
            self._spoilt = full  # give the space back
            what = "the disk is full" if full else error.strerror or str(error)
            raise DownloadError(
                f"{self._file.path} cannot be written to {self._target}: {what}",
                hint="make room, or set NSFWSCAN_HOME to a folder on another disk" if full else "",
            ) from error


def _retry_after(answer: ServerAnswer) -> float | None:
    """Return the seconds a server asks to wait; a date, which few servers send, counts as none."""
    return whole(answer.header("retry-after"))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
