"""`Engine`: what turns the bytes of a picture into an outcome and is expensive to start.

In: the bytes of one file. Out: an `Outcome`, and what tells near-duplicates. Decode processes and
classifier start side by side with the first picture that has to be scored. A scan has an engine of
its own; a watcher keeps one over many small scans, and unloads it when nothing happens: a hundred
megabytes and the processes then go back to the system until the next picture comes.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from nsfwscan.media.decode.pool import DecodePool
from nsfwscan.system import cores
from nsfwscan.values.errors import DecodeError, ModelUnusable, NsfwscanError
from nsfwscan.values.likeness import NONE, UNKNOWN
from nsfwscan.values.outcome import Outcome, Scored, Unscorable
from nsfwscan.values.results import FailReason, Scores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nsfwscan.models.classifier import Classifier
    from nsfwscan.values.geometry import Geometry


class Engine:
    """Decode processes and a classifier, for any number of threads."""

    def __init__(
        self, load: Callable[[], Classifier], geometry: Geometry, *, jobs: int = 0
    ) -> None:
        """Prepare; nothing is started yet.

        `load` makes the classifier; it is called in a thread of its own. `jobs` pictures are
        decoded at a time; 0 means one for each core.
        """
        self.jobs = jobs or cores.available()
        self._load = load
        self._geometry = geometry
        self._starting = threading.Lock()
        self._classifier: Future[Classifier] | None = None
        self._loader: ThreadPoolExecutor | None = None
        self._pool = DecodePool(self.jobs)
        self._decoding = False
        self._used_at = time.monotonic()

    @property
    def loaded(self) -> bool:
        """Whether `unload` would give something back."""
        return self._decoding or self._classifier is not None

    @property
    def idle_s(self) -> float:
        """Seconds since something was scored last."""
        return time.monotonic() - self._used_at

    def score(self, data: bytes) -> tuple[Outcome, int]:
        """Decode and score the bytes of one picture file; return its outcome and its likeness.

        Blocks until a decode process is free. What is wrong with the picture is an outcome, and its
        likeness is `UNKNOWN` then. Raises
        `NsfwscanError` when processes or model cannot be started: again and again, until `unload`,
        so that all who wait hear the same.
        """
        loading = self._started()
        if loading.done():
            loading.result()  # raises what starting raised: the scan is broken
        try:
            decoded = self._pool.decode(data, self._geometry)
        except DecodeError as error:
            return Unscorable(error.reason, error.detail, error.passing), UNKNOWN
        finally:
            self._used_at = time.monotonic()
        classifier = loading.result()  # raises what loading raised
        try:
            frames = classifier.classify(decoded.pixels, decoded.frames)
        except ModelUnusable as error:
            return Unscorable(FailReason.BAD_OUTPUT, str(error)), decoded.likeness
        return Scored(decoded.facts, worst(frames)), decoded.likeness

    def likeness(self, data: bytes) -> int:
        """Decode a picture that was scored before, for its likeness alone; loads no model.

        `NONE` when it does not decode: it is not worth another try each scan; `UNKNOWN` when the
        cause may lie outside the picture.
        """
        with self._starting:
            self._start_decoding()
        try:
            return self._pool.decode(data, self._geometry).likeness
        except DecodeError as error:
            return UNKNOWN if error.passing else NONE
        finally:
            self._used_at = time.monotonic()

    def unload(self) -> None:
        """End the processes and forget the model; the next picture starts them again.

        Nobody may be scoring.
        """
        with self._starting:
            self._end()
            self._pool = DecodePool(self.jobs)

    def abandon(self) -> None:
        """Kill the decode processes. May be called from a signal handler: it takes no lock."""
        self._pool.abandon()

    def close(self) -> None:
        """End the processes and forget the model, for good."""
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
        """Start the decode processes and the loading of the model, if nobody has yet."""
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
        """Start the decode processes, if nobody has yet. The caller holds `_starting`."""
        if not self._decoding:
            try:
                self._pool.start()
            except BaseException:
                self._pool = DecodePool(self.jobs)  # that one is closed; the next call tries anew
                raise
            self._decoding = True


def worst(frames: Sequence[Scores]) -> Scores:
    """Return the scores of the frame that counts: the least safe one."""
    return max(frames, key=lambda scores: scores.unsafe)
