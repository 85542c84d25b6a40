"""Putting a scan together: model, thresholds, cache, scanner.

In: `Settings` and the paths. Out: a `Session`, which makes scanners. The command line and the
Python API both start here, so they cannot differ.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING

from nsfwscan.cache.cache import Cache
from nsfwscan.judge import Judge, RulingBook, Rulings
from nsfwscan.judge.policy import Policy
from nsfwscan.media.decode.decoded import DECODER_VERSION
from nsfwscan.models import select
from nsfwscan.models.provider import Provider
from nsfwscan.models.store import ModelStore
from nsfwscan.scanning.engine import Engine
from nsfwscan.scanning.examine import Read, identify
from nsfwscan.scanning.scanner import Scanner, ScanOptions
from nsfwscan.system import bundled, cores, locations
from nsfwscan.system.installation import installing
from nsfwscan.system.reading import open_text
from nsfwscan.values.errors import CacheError, CacheTooNew, ModelUnusable, ResourcesExhausted
from nsfwscan.values.outcome import Scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nsfwscan.models.classifier import Classifier
    from nsfwscan.models.fetch.download import Progress
    from nsfwscan.models.manifest import ModelManifest
    from nsfwscan.models.package import InstalledModel
    from nsfwscan.models.staging import Say


_LEAST_MEMORY = 1 << 29
"""Bytes of address space needed to load a model."""
_BLAS_THREADS = "OPENBLAS_NUM_THREADS"


@dataclass(frozen=True, slots=True)
class Settings:
    """A scan's settings, as the user gives them."""

    model: str = select.AUTO
    """A known name, or a package's folder; `auto` for the best installed model."""
    review_at: float | None = None
    """Score, 0 to 1, from which a picture needs review; None for the model's own threshold."""
    flag_at: float | None = None
    """Score, 0 to 1, from which a picture is nsfw; None for the model's own threshold."""
    offline: bool = False
    provider: Provider = Provider.AUTO
    threads: int = 0
    """Cores for one run of the model; 0 chooses automatically."""
    use_cache: bool = True
    scan: ScanOptions = field(default_factory=ScanOptions)


@dataclass(frozen=True, slots=True)
class Session:
    """Cache, model and engine, open for any number of scans, one after the other."""

    manifest: ModelManifest
    policy: Policy
    engine: Engine
    cache: Cache | None
    scorer: Scorer
    book: RulingBook
    warn: Say
    read: Read = identify
    """Reads a path."""
    clock: Callable[[], int] = time.time_ns
    """Returns nanoseconds since the epoch."""

    def judge(self) -> Judge:
        """Return a judge that knows the rulings made until now.

        If the rulings file is damaged while this is open, the rulings read before stay in force,
        and a warning says so.
        """
        return Judge(self.policy, self.book.current(self.warn))

    def rulings(self) -> Rulings:
        """Return the rulings made until now."""
        return self.judge().rulings

    def scanner(self, options: ScanOptions, warn: Say) -> Scanner:
        """Return a scanner for one scan, which applies the rulings made until now."""
        return Scanner(
            self.manifest,
            self.engine,
            self.judge(),
            decoder=self.scorer.decoder,
            cache=self.cache,
            options=options,
            warn=warn,
            read=self.read,
            clock=self.clock,
        )


def policy_of(settings: Settings, manifest: ModelManifest) -> Policy:
    """Return the thresholds: the user's, or else the model's own.

    A flag threshold below the model's review threshold lowers that as well. Raises `UsageError` for
    thresholds out of range or order, and `TypeError` for those that are not numbers.
    """
    for name in ("flag_at", "review_at"):
        value = getattr(settings, name)
        if not isinstance(value, Real | None) or isinstance(value, bool):
            raise TypeError(f"{name} takes a number from 0 to 1, not {type(value).__name__}")
    own = select.thresholds_of(manifest)
    flag_at = own.flag_at if settings.flag_at is None else settings.flag_at
    review_at = min(own.review_at, flag_at) if settings.review_at is None else settings.review_at
    return Policy(review_at, flag_at)


def loader(
    store: ModelStore, model: InstalledModel, settings: Settings, threads: int, warn: Say
) -> Callable[[], Classifier]:
    """Return a function that loads `model`, including the import of onnxruntime."""

    def load() -> Classifier:
        load_runtime()
        from nsfwscan.models.classifier import OrtClassifier

        ready = store.prepared(model)
        return OrtClassifier(ready, threads=threads, provider=settings.provider, warn=warn)

    return load


def prepare(store: ModelStore, model: InstalledModel) -> InstalledModel:
    """Prepare a model for this processor, as its first scan would; see `ModelStore.prepared`."""
    load_runtime()
    return store.prepared(model)


def load_runtime() -> None:
    """Import onnxruntime. Raises `ResourcesExhausted` or `ModelUnusable`."""
    _check_memory_limit()
    try:
        with _one_blas_thread():
            import nsfwscan.models.classifier  # noqa: F401
    except ImportError as error:  # another system's wheel, or a missing runtime library
        if bundle := bundled.folder():
            raise bundled.refuse(bundle) from error
        if exhausted := ResourcesExhausted.because(error):
            raise exhausted from error
        last = next(filter(str.strip, reversed(str(error).splitlines())), "no reason given")
        raise ModelUnusable(
            f"onnxruntime cannot be loaded: {last.strip()}",
            hint=f"install it again: `{installing('--force-reinstall onnxruntime')}`",
        ) from error


def _check_memory_limit() -> None:
    """Raise `ResourcesExhausted` if the process's limit leaves too little memory for a model.

    Without memory, OpenBLAS, which numpy loads, ends the process with exit code 1, and an
    onnxruntime that was only partly loaded cannot be loaded again.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    left = limit - _address_space()
    if limit != resource.RLIM_INFINITY and left < _LEAST_MEMORY:
        raise ResourcesExhausted(
            f"{left >> 20} MB of address space are left, which is too little to load a model",
            hint=f"raise the limit by {(_LEAST_MEMORY - left) >> 20} MB or more: `ulimit -v`",
        )


def _address_space() -> int:
    """Return the bytes of address space used by this process; 0 if they cannot be found out."""
    try:
        with open_text("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Keep numpy from starting a thread for each core: they take memory and are not used."""
    before = os.environ.get(_BLAS_THREADS)
    os.environ[_BLAS_THREADS] = before or "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_BLAS_THREADS]


def threads_for(settings: Settings, paths: Sequence[str]) -> int:
    """Return the number of cores for one run: one, unless there are fewer pictures than cores."""
    if settings.threads:
        return settings.threads
    if paths and all(os.path.isfile(path) for path in paths):
        return max(1, cores.available() // len(paths))
    return 1


@contextmanager
def open_session(
    settings: Settings, paths: Sequence[str], *, say: Say, warn: Say, progress: Progress
) -> Iterator[Session]:
    """Choose the model, open the cache and prepare the engine; close both at the end.

    `paths` only serve to choose the number of threads. A missing model is downloaded, which `say`
    and `progress` (bytes done, total bytes) report. Raises `ModelError`, `UsageError`,
    `RulingsError` and `CacheTooNew`; any other problem with the cache becomes a warning.
    """
    book = RulingBook(locations.rulings_file())
    book.current(warn)  # fails before a model is downloaded in vain
    store = ModelStore(
        locations.models_folder(), offline=settings.offline, say=say, progress=progress
    )
    model = select.resolve_model(store, settings.model)
    manifest = model.manifest
    policy = policy_of(settings, manifest)
    load = loader(store, model, settings, threads_for(settings, paths), warn)
    with ExitStack() as stack:
        cache = None
        if settings.use_cache:
            cache = _open_cache(manifest, warn)
            if cache is not None:
                stack.enter_context(cache)
        engine = Engine(load, manifest.input.geometry, jobs=settings.scan.jobs)
        stack.enter_context(engine)
        scorer = Scorer(manifest.fingerprint, DECODER_VERSION)
        yield Session(manifest, policy, engine, cache, scorer, book, warn)


def _open_cache(manifest: ModelManifest, warn: Say) -> Cache | None:
    try:
        cache = Cache.open(locations.cache_file(), warn=warn)
    except CacheTooNew:
        raise
    except CacheError as error:
        warn(f"{error}; the scan continues, but its results will not be cached")
        return None
    # A cache that cannot be written may still be read. The first failing write will warn.
    with suppress(CacheError):
        cache.remember_model(manifest.fingerprint, manifest.package, manifest.output.labels)
    return cache
