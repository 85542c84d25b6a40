"""`Engine`: examines pictures; expensive to start.

In: a picture. Out: a `Finding`. Decode processes and classifier start side by side when the first
picture has to be scored. A scan has its own engine. A watcher keeps one over many small scans and
unloads it when idle: that frees a hundred megabytes and the processes until the next picture comes.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, Self

from nsfwscan.media.decode.pool import DecodePool
from nsfwscan.scanning.examine import ALL, Finding, Source, Wanted, examine
from nsfwscan.scanning.thumbnails import MakesThumbnails, thumbnail_of
from nsfwscan.system import cores
from nsfwscan.values.errors import NsfwscanError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsfwscan.media.decode.decoded import Decoded
    from nsfwscan.media.decode.thumbnail import ThumbnailForm
    from nsfwscan.models.classifier import Classifier
    from nsfwscan.scanning.thumbnails import ContentThumbnail
    from nsfwscan.values.geometry import Geometry


class Pool(MakesThumbnails, Protocol):
    """What an engine needs of a `DecodePool`; see there."""

    disowned: bool

    def start(self) -> None:
        """Start the decode processes."""

    def decode(self, data: bytes, geometry: Geometry) -> Decoded:
        """Decode one picture file, or raise `DecodeError`."""

    def abandon(self) -> None:
        """Kill the decode processes, from a signal handler."""

    def close(self) -> None:
        """End the decode processes."""


class Engine:
    """Decode processes and a classifier, for any number of threads."""

    def __init__(
        self,
        load: Callable[[], Classifier],
        geometry: Geometry,
        *,
        jobs: int = 0,
        make_pool: Callable[[int], Pool] = DecodePool,
    ) -> None:
        """Set up; nothing is started yet.

        `load` returns the classifier and is called in its own thread. `jobs` pictures are decoded
        at a time; 0 means one per core. `make_pool` returns a pool for that many.
        """
        self.jobs = jobs or cores.available()
        self._load = load
        self._geometry = geometry
        self._make_pool = make_pool
        self._starting = threading.Lock()
        self._classifier: Future[Classifier] | None = None
        self._loader: ThreadPoolExecutor | None = None
        self._pool = self._make_pool(self.jobs)
        self._decoding = False
        self._used_at = time.monotonic()

    @property
    def loaded(self) -> bool:
        """Whether `unload` would free anything."""
        return self._decoding or self._classifier is not None

    @property
    def idle_s(self) -> float:
        """Seconds since something was last examined or shown."""
        return time.monotonic() - self._used_at

    def examine(self, source: Source, wanted: Wanted = ALL) -> Finding:
        """Examine one picture; see `nsfwscan.scanning.examine`.

        Blocks until a decode process is free. Raises `DecodeError` for a path that cannot be read,
        and `NsfwscanError` if the processes or the model cannot be started. That error is raised by
        every call until `unload`, so that all waiting threads get it.
        """
        if wanted.outcome:
            loading = self._started()
            if loading.done():
                loading.result()  # raises the error from starting, if any
        else:
            loading = Future()  # never used
            with self._starting:
                self._start_decoding()
        try:
            return examine(
                source,
                wanted,
                decode=self._pool.decode,
                geometry=self._geometry,
                classifier=loading.result,
            )
        finally:
            self._used_at = time.monotonic()

    def thumbnail(
        self,
        source: Source,
        longest: int,
        *,
        pixelated: bool = False,
        frame: int = 0,
        form: ThumbnailForm | None = None,
    ) -> ContentThumbnail:
        """Read a picture and make a thumbnail; see `DecodePool.thumbnail`. No model is loaded.

        Raises as `examine` does, and `DecodeError` for content that cannot be decoded.
        """
        with self._starting:
            self._start_decoding()
        try:
            return thumbnail_of(
                source, longest, pool=self._pool, pixelated=pixelated, frame=frame, form=form
            )
        finally:
            self._used_at = time.monotonic()

    def load(self) -> None:
        """Start everything now, not with the first picture. Raises as `examine` does."""
        self._started().result()

    def unload(self) -> None:
        """End the processes and free the model; the next picture starts them again.

        No thread may be scoring.
        """
        with self._starting:
            self._end()
            self._pool = self._make_pool(self.jobs)

    def abandon(self) -> None:
        """Kill the decode processes. Safe to call from a signal handler: it takes no lock."""
        self._pool.abandon()

    def close(self) -> None:
        """End the processes and free the model, for good."""
        if self._pool.disowned:
            return
        with self._starting:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _end(self) -> None:
        if self._loader is not None:
            self._loader.shutdown()
        self._pool.close()
        self._loader = self._classifier = None
        self._decoding = False

    def _started(self) -> Future[Classifier]:
        """Start the decode processes and the loading of the model, unless started already."""
        with self._starting:
            if self._classifier is None:
                try:
                    self._start_decoding()
                    self._loader = ThreadPoolExecutor(1, "nsfwscan-load")
                    self._classifier = self._loader.submit(self._load)
                except NsfwscanError as error:
                    self._classifier = Future()
                    self._classifier.set_exception(error)
            return self._classifier

    def _start_decoding(self) -> None:
        """Start the decode processes, unless started already. The caller holds `_starting`."""
        if not self._decoding:
            try:
                self._pool.start()
            except BaseException:
                # The old pool is closed; the next call starts a new one.
                self._pool = self._make_pool(self.jobs)
                raise
            self._decoding = True
