"""What /metrics counts. The only module that uses prometheus-client, which is an extra.

Without it, nothing is counted and /metrics says how to install it. Several server processes count
in files of a folder that they share; what is shown is the sum.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from nsfwscan.values.results import Scanned

if TYPE_CHECKING:
    from nsfwscan.values.results import Failed

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The library reads this variable when it is imported."""


def share(folder: str) -> None:
    """Have this process and those it forks count together, in files in `folder`."""
    os.environ[_FOLDER] = folder


def forget(process: int) -> None:
    """Leave out what a process that has ended was doing; what it has counted stays."""
    try:
        from prometheus_client import multiprocess
    except ImportError:
        return
    multiprocess.mark_process_dead(process)  # type: ignore[no-untyped-call]


class Metrics:
    """Counters of one server process."""

    def __init__(self) -> None:
        self._of: dict[str, Any] = {}
        self._labelled: dict[tuple[str, ...], Any] = {}
        try:
            import prometheus_client as prometheus
        except ImportError:
            self.available = False
            return
        self.available = True
        self._prometheus = prometheus
        self._registry = registry = prometheus.CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> None:
            self._of[name] = prometheus.Counter(f"nsfwscan_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str) -> None:
            self._of[name] = prometheus.Histogram(
                f"nsfwscan_{name}", text, registry=registry, buckets=_SECONDS
            )

        def gauge(name: str, text: str) -> None:
            self._of[name] = prometheus.Gauge(
                f"nsfwscan_{name}", text, registry=registry, multiprocess_mode="livesum"
            )

        counter("requests", "Requests answered, by route and status.", "route", "status")
        counter("pictures", "Pictures with a result, by decision or reason.", "result", "origin")
        counter("refused", "Pictures refused because too many were waiting.")
        counter("dropped", "Pictures that left the queue because their client had gone.")
        counter("unchecked", "Uploads that pict-rs accepted although nothing could judge them.")
        histogram("queue_seconds", "Seconds that pictures waited for a core.")
        histogram("examine_seconds", "Seconds that decoding and scoring a picture took.")
        gauge("waiting", "Pictures waiting for a core.")
        gauge("ready", "1 if pictures can be scored; with several processes, in how many.")

    def text(self) -> tuple[bytes, str]:
        """Return the metrics, and their media type."""
        prometheus, registry = self._prometheus, self._registry
        if _FOLDER in os.environ:
            from prometheus_client import multiprocess

            registry = prometheus.CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return prometheus.generate_latest(registry), prometheus.CONTENT_TYPE_LATEST

    def request(self, route: str, status: int) -> None:
        """Count a request."""
        if self.available:
            self._counter("requests", route, str(status)).inc()

    def answered(self, result: Scanned | Failed, queued_s: float, examined_s: float) -> None:
        """Count a picture with a result, which may be that it has no verdict."""
        if not self.available:
            return
        word = result.decision if isinstance(result, Scanned) else result.reason
        self._counter("pictures", word.value, result.origin.value).inc()
        self._of["queue_seconds"].observe(queued_s)
        if examined_s:
            self._of["examine_seconds"].observe(examined_s)

    def _counter(self, *key: str) -> Any:
        """Return a counter by its name and the values of its labels, which are few."""
        found = self._labelled.get(key)
        if found is None:
            found = self._labelled[key] = self._of[key[0]].labels(*key[1:])
        return found

    def refused(self, count: int) -> None:
        """Count pictures that were refused."""
        if self.available:
            self._of["refused"].inc(count)

    def unchecked(self) -> None:
        """Count an upload that passed although nothing could judge it."""
        if self.available:
            self._of["unchecked"].inc()

    def dropped(self, count: int) -> None:
        """Count pictures whose client has gone, or whose deadline has passed."""
        if self.available and count:
            self._of["dropped"].inc(count)

    def waiting(self, count: int) -> None:
        """Note how many pictures are waiting."""
        if self.available:
            self._of["waiting"].set(count)

    def ready(self, *, ready: bool) -> None:
        """Note whether there is a model."""
        if self.available:
            self._of["ready"].set(float(ready))
