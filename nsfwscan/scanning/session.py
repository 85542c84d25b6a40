"""Putting the parts of a scan together: model, thresholds, cache, scanner.

In: `Settings` and the paths. Out: a `Session` whose scanner is ready to go. The command line and
the Python API both start here, so that they cannot differ.
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
"""Bytes of address space that have to be left for a model to be loaded."""
_BLAS_THREADS = "OPENBLAS_NUM_THREADS"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user may set about a scan."""

    model: str = select.AUTO
    """A known name, or the folder of a package; `auto` for the best installed one."""
    review_at: float | None = None
    """Score, 0 to 1, from which a person should look; None for the model's own."""
    flag_at: float | None = None
    """Score, 0 to 1, from which a picture is not safe for work; None for the model's own."""
    offline: bool = False
    provider: Provider = Provider.AUTO
    threads: int = 0
    """Cores for one run of the model; 0 selects."""
    use_cache: bool = True
    scan: ScanOptions = field(default_factory=ScanOptions)


@dataclass(frozen=True, slots=True)
class Session:
    """A scan that is ready to start."""

    scanner: Scanner
    manifest: ModelManifest
    policy: Policy


@dataclass(frozen=True, slots=True)
class Workshop:
    """Cache, model and engine, open for as many scans as are wanted, one after the other."""

    manifest: ModelManifest
    policy: Policy
    engine: Engine
    cache: Cache | None
    scorer: Scorer
    book: RulingBook
    warn: Say
    read: Read = identify
    """What reads a path."""
    clock: Callable[[], int] = time.time_ns
    """Nanoseconds since the epoch."""

    def judge(self) -> Judge:
        """Return the judge, who knows what people decided until now.

        A file of decisions that is damaged while this is open ends nothing: what was read of it
        before goes on to hold, and a warning says so.
        """
        return Judge(self.policy, self.book.current(self.warn))

    def rulings(self) -> Rulings:
        """Return what people decided until now."""
        return self.judge().rulings

    def scanner(self, options: ScanOptions, warn: Say) -> Scanner:
        """Return a scanner for one scan, which applies what people decided until now."""
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
    """Return the thresholds: what the user set, else the model's own.

    A flag threshold set below the model's review threshold takes that one down with it. Raises
    `UsageError` for thresholds that make no sense, TypeError for those that are not numbers.
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
    model: InstalledModel, settings: Settings, threads: int, warn: Say
) -> Callable[[], Classifier]:
    """Return a function that loads `model`; importing onnxruntime is part of loading."""

    def load() -> Classifier:
        _check_memory_limit()
        try:
            with _one_blas_thread():
                from nsfwscan.models.classifier import OrtClassifier
        except ImportError as error:  # a wheel of another system, or a runtime library is missing
            if bundle := bundled.folder():
                raise bundled.refuse(bundle) from error
            if exhausted := ResourcesExhausted.because(error):
                raise exhausted from error
            last = next(filter(str.strip, reversed(str(error).splitlines())), "no reason given")
            raise ModelUnusable(
                f"onnxruntime cannot be loaded: {last.strip()}",
                hint=f"install it again: `{installing('--force-reinstall onnxruntime')}`",
            ) from error

        return OrtClassifier(model, threads=threads, provider=settings.provider, warn=warn)

    return load


def _check_memory_limit() -> None:
    """Raise `ResourcesExhausted` if the process may not have the memory that a model needs.

    OpenBLAS, which numpy loads, ends the process with exit code 1 when it gets none; and what
    onnxruntime began to load without enough memory cannot be loaded again.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    left = limit - _address_space()
    if limit != resource.RLIM_INFINITY and left < _LEAST_MEMORY:
        raise ResourcesExhausted(
            f"{left >> 20} MB of address space are left, which is too little for a model",
            hint=f"raise the limit by {(_LEAST_MEMORY - left) >> 20} MB or more: `ulimit -v`",
        )


def _address_space() -> int:
    """Return the bytes of address space that this process takes; 0 where only the system knows."""
    try:
        with open_text("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Keep numpy from starting a thread for each core, each with its memory, to no use here."""
    before = os.environ.get(_BLAS_THREADS)
    os.environ[_BLAS_THREADS] = before or "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_BLAS_THREADS]


def threads_for(settings: Settings, paths: Sequence[str]) -> int:
    """Return the cores for one run: one, unless there are fewer pictures than cores."""
    if settings.threads:
        return settings.threads
    if paths and all(os.path.isfile(path) for path in paths):
        return max(1, cores.available() // len(paths))
    return 1


@contextmanager
def open_workshop(
    settings: Settings, paths: Sequence[str], *, say: Say, warn: Say, progress: Progress
) -> Iterator[Workshop]:
    """Choose the model, open the cache and prepare the engine; close both at the end.

    `paths` are only looked at to select the number of threads. A missing model is fetched, which
    `say` and `progress` (bytes done, bytes in all) tell. Raises `ModelError`, `UsageError`,
    `RulingsError` and `CacheTooNew`; any other trouble with the cache becomes a warning.
    """
    book = RulingBook(locations.rulings_file())
    book.current(warn)  # before a model is fetched in vain
    store = ModelStore(
        locations.models_folder(), offline=settings.offline, say=say, progress=progress
    )
    model = select.resolve_model(store, settings.model)
    manifest = model.manifest
    policy = policy_of(settings, manifest)
    load = loader(model, settings, threads_for(settings, paths), warn)
    with ExitStack() as stack:
        cache = None
        if settings.use_cache:
            cache = _open_cache(manifest, warn)
            if cache is not None:
                stack.enter_context(cache)
        engine = Engine(load, manifest.input.geometry, jobs=settings.scan.jobs)
        stack.enter_context(engine)
        scorer = Scorer(manifest.fingerprint, DECODER_VERSION)
        yield Workshop(manifest, policy, engine, cache, scorer, book, warn)


@contextmanager
def open_session(
    settings: Settings, paths: Sequence[str], *, say: Say, warn: Say, progress: Progress
) -> Iterator[Session]:
    """Put together what one scan needs, as `open_workshop` does, and raise what it raises."""
    with open_workshop(settings, paths, say=say, warn=warn, progress=progress) as workshop:
        yield Session(workshop.scanner(settings.scan, warn), workshop.manifest, workshop.policy)


def _open_cache(manifest: ModelManifest, warn: Say) -> Cache | None:
    try:
        cache = Cache.open(locations.cache_file(), warn=warn)
    except CacheTooNew:
        raise
    except CacheError as error:
        warn(f"{error}; the scan goes on, its results are not remembered")
        return None
    # One that cannot be written may still be read. The first row that is lost will say so.
    with suppress(CacheError):
        cache.remember_model(manifest.fingerprint, manifest.package, manifest.output.labels)
    return cache
