"""The Python interface: `scan` for files, `classify` for one picture, `allow` and `deny`.

`scan` and `classify` choose and download models exactly as the command line does. What the command
line prints to stderr goes to the logger `nsfwscan`: remarks as INFO, warnings as WARNING.
"""

from __future__ import annotations

import atexit
import io
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from nsfwscan.judge import Judge, RulingBook, Rulings
from nsfwscan.media.discover import DEFAULT_MAX_BYTES, check_roots, printable
from nsfwscan.media.read import read_picture
from nsfwscan.models import select
from nsfwscan.models.store import ModelStore
from nsfwscan.scanning.engine import Engine
from nsfwscan.scanning.ruling_files import decide, look, pictures
from nsfwscan.scanning.scanner import ScanOptions
from nsfwscan.scanning.session import Settings, loader, open_session, policy_of
from nsfwscan.system import cores, interrupts, locations
from nsfwscan.values.errors import DecodeError, ModelUnusable, NsfwscanError, UsageError
from nsfwscan.values.likeness import DEFAULT_WITHIN, MOST_WITHIN
from nsfwscan.values.results import FailReason, Ruling, Scanned

if TYPE_CHECKING:
    from collections.abc import Generator

    from nsfwscan.models.manifest import ModelManifest
    from nsfwscan.scanning.examine import Finding
    from nsfwscan.values.results import Failed, ScanResult

_log = logging.getLogger("nsfwscan")


@runtime_checkable
class PillowImage(Protocol):
    """What `classify` needs of a `PIL.Image.Image`."""

    mode: str

    def convert(self, mode: str) -> PillowImage:
        """Return a copy in another mode."""

    def getexif(self) -> object:
        """Return the metadata, which include the orientation."""

    def save(self, fp: io.BytesIO, format: str, *, exif: object) -> None:  # noqa: A002  Pillow's
        """Write the picture as a file."""


Path: TypeAlias = "str | os.PathLike[str]"


def scan(
    paths: Path | Iterable[Path],
    *,
    model: str = select.AUTO,
    flag_at: float | None = None,
    review_at: float | None = None,
    offline: bool = False,
    cache: bool = True,
    options: ScanOptions | None = None,
) -> Generator[ScanResult]:
    """Scan every picture in one or several folders; yield one result for each.

    Results come in a stable order while the scan runs: `Scanned` with scores and a verdict,
    `Skipped`, or `Failed` for a picture that could not be scored, which never counts as safe.
    Leaving the loop early ends the scan; scores so far are cached.

    `paths` are files and folders; `~` is expanded. `model` is a known name or a package's folder;
    a missing model is downloaded, unless `offline`. `flag_at` and `review_at` are scores from 0 to
    1, by default the model's own. With `cache=False` the cache is neither read nor written.
    `options` says which files are scanned and how.

    Raises `FileNotFoundError` (also a `UsageError`) for a path that does not exist, `UsageError`
    for thresholds out of range or order, `ModelError` if there is no model to scan with, and
    `RulingsError` if the rulings cannot be read.
    """
    roots = _roots(paths)
    settings = Settings(
        model=model,
        flag_at=flag_at,
        review_at=review_at,
        offline=offline,
        use_cache=cache,
        scan=options or ScanOptions(),
    )
    with open_session(
        settings, roots, say=_log.info, warn=_log.warning, progress=_no_progress
    ) as session:
        yield from session.scanner(settings.scan, _log.warning).scan(roots)


def classify(
    picture: bytes | Path | PillowImage,
    *,
    model: str = select.AUTO,
    flag_at: float | None = None,
    review_at: float | None = None,
    offline: bool = False,
) -> Scanned:
    """Score one picture: the bytes of a file, a path, or a Pillow image.

    The model stays loaded for the next call. The cache is not used. `Scanned.path` is empty if
    there is no path. Rulings apply to the verdict as in a scan. Raises `FileNotFoundError` (also a
    `UsageError`) for a path that does not exist, `DecodeError` with a reason if the picture cannot
    be decoded, `TypeError` for anything but a picture, and `UsageError`, `ModelError` and
    `RulingsError` as `scan` does.
    """
    rulings = _rulings()
    settings = Settings(model=model, flag_at=flag_at, review_at=review_at, offline=offline)
    path, data = _bytes_of(picture)
    # Neither under the lock nor `apart`: it may be a download of minutes, which Ctrl-C must end.
    loaded = _kept.get((model, offline)) or _load(model, offline=offline)
    judge = Judge(policy_of(settings, loaded.manifest), rulings)
    found = interrupts.apart(lambda: _examine(model, offline, loaded, data))
    if found.outcome is None:
        raise RuntimeError("there is no outcome, although one was wanted")
    result = judge.result(path, found.sha256, found.outcome, fact=found.facts.get)
    if isinstance(result, Scanned):
        return result
    if result.reason is FailReason.BAD_OUTPUT:
        raise ModelUnusable(result.detail, hint="run `nsfwscan selftest`")
    raise DecodeError(result.reason, result.detail).about(printable(path))


def allow(
    paths: Path | Iterable[Path], *, near: bool = False, within: int = DEFAULT_WITHIN
) -> list[Failed]:
    """Rule that pictures are safe, whatever a model says, like `nsfwscan allow`.

    `paths` are files and folders, which stand for every picture below; there is no confirmation,
    however many there are. With `near` the ruling also applies to pictures that look the same:
    whose likeness differs in at most `within` of 64 bits. It holds until `deny` or `forget` is
    called for that content.

    Returns a `Failed` for each file that could not be read; no ruling is made about those. Raises
    `UsageError` for a path that does not exist, and `RulingsError`; then no ruling is made.
    """
    return _decide(paths, Ruling.ALLOWED, within if near else None)


def deny(
    paths: Path | Iterable[Path], *, near: bool = False, within: int = DEFAULT_WITHIN
) -> list[Failed]:
    """Rule that pictures are not safe for work, whatever a model says; see `allow`."""
    return _decide(paths, Ruling.DENIED, within if near else None)


def forget(paths: Path | Iterable[Path]) -> int:
    """Take back the rulings about the pictures at and below `paths`, by content.

    Returns the number of rulings taken back. Raises `UsageError` and `RulingsError` like `allow`.
    """
    book = RulingBook(locations.rulings_file())
    seen = look(pictures(_roots(paths)), near=False).seen
    ruled = {ruling.sha256 for ruling in book.load()} & {picture.sha256 for picture in seen}
    book.forget(ruled)
    return len(ruled)


def _decide(paths: Path | Iterable[Path], ruling: Ruling, within: int | None) -> list[Failed]:
    if within is not None and not 0 <= within <= MOST_WITHIN:
        raise UsageError(
            f"within is {within}, which is not between 0 and {MOST_WITHIN}",
            hint=f"leave it out to use {DEFAULT_WITHIN} bits, a good value",
        )
    book = RulingBook(locations.rulings_file())
    # We do not know here if a picture was restored after it was denied, so it is denied again.
    at = time.time() if ruling is Ruling.DENIED else 0.0
    found = pictures(_roots(paths))
    decided = decide(book, found, ruling, within=within, restored_at=lambda _sha256: at)
    for picture in decided.unlike:
        _log.warning("%s is known by its content only: %s", picture.path, picture.why_not)
    return decided.failed


def _roots(paths: Path | Iterable[Path]) -> list[str]:
    given: object = paths
    if isinstance(given, str | bytes | os.PathLike) or not isinstance(given, Iterable):
        given = [given]
    roots = [_path(path) for path in given]
    check_roots(roots)
    return roots


def _path(path: object) -> str:
    """Return a path as text, with `~` expanded. Raises `TypeError` for anything else."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str):
        raise TypeError(f"a path must be str or os.PathLike[str], not {type(text).__name__}")
    return os.path.expanduser(text)


_books: dict[str, RulingBook] = {}


def _rulings() -> Rulings:
    """Return the rulings; the file is read again only if it has changed."""
    path = locations.rulings_file()
    return _books.setdefault(path, RulingBook(path)).current(_log.warning)


@dataclass(slots=True, eq=False)
class _Loaded:
    """A model and its engine, kept for the next call of `classify`."""

    manifest: ModelManifest
    engine: Engine
    users: int = 0
    """Calls of `classify` that are using it now."""


_MOST_LOADED = 2
"""Models kept loaded, at a few hundred megabytes each: one in use, one to compare with."""
_kept: OrderedDict[tuple[str, bool], _Loaded] = OrderedDict()
"""In order of use, the latest last."""
_kept_lock = threading.Lock()


def _examine(model: str, offline: bool, loaded: _Loaded, data: bytes) -> Finding:
    """Examine with `loaded`, or with the engine that another thread has since kept."""
    key = (model, offline)
    with _kept_lock:
        kept = _kept.setdefault(key, loaded)
        kept.users += 1
        _kept.move_to_end(key)
        dropped = [_kept.popitem(last=False)[1] for _ in range(len(_kept) - _MOST_LOADED)]
        idle = [old for old in dropped if not old.users]
    for old in idle:
        old.engine.close()
    try:
        return kept.engine.examine(data)
    except NsfwscanError:
        with _kept_lock:  # the next call may succeed at what failed to load
            if _kept.get(key) is kept:
                del _kept[key]
        raise
    finally:
        with _kept_lock:
            kept.users -= 1
            last = not kept.users and _kept.get(key) is not kept
        if last:
            kept.engine.close()


def _load(model: str, *, offline: bool) -> _Loaded:
    settings = Settings(model=model, offline=offline)
    store = ModelStore(locations.models_folder(), offline=offline, say=_log.info)
    found = select.resolve_model(store, model)
    # One picture at a time, so it may use all cores.
    load = loader(store, found, settings, cores.available(), _log.warning)
    return _Loaded(found.manifest, Engine(load, found.manifest.input.geometry, jobs=1))


@atexit.register
def _close_engines() -> None:
    """End the decode processes of `classify` and free its models."""
    with _kept_lock:
        while _kept:
            _kept.popitem()[1].engine.close()


_inherited: list[object] = []


def _forget_engines() -> None:
    """Forget the parent's models in a forked child: their threads and processes stay there."""
    global _kept, _kept_lock
    _inherited.append(_kept)  # freeing a model here would wait for its threads
    _kept, _kept_lock = OrderedDict(), threading.Lock()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_forget_engines)


def _bytes_of(picture: bytes | Path | PillowImage) -> tuple[str, bytes]:
    """Return the path, if there is one, and the bytes of a picture file."""
    if isinstance(picture, bytes | bytearray | memoryview):
        return "", bytes(picture)
    if isinstance(picture, str | os.PathLike):
        path = _path(picture)
        check_roots([path])
        if os.path.isdir(path):
            raise UsageError(f"{printable(path)} is a folder", hint="`nsfwscan.scan` takes folders")
        try:
            return path, read_picture(path, follow=True, max_bytes=DEFAULT_MAX_BYTES).data
        except DecodeError as error:
            raise error.about(printable(path)) from error
    if isinstance(picture, PillowImage):
        stream = io.BytesIO()
        try:
            exif = picture.getexif()
            if picture.mode not in _PNG_MODES:
                # RGB would turn everything above 255 white; 32-bit integers hold 16 bits of grey.
                picture = picture.convert("I;16" if picture.mode == "I" else "RGB")
            picture.save(stream, format="PNG", exif=exif)
        except Exception as error:  # Pillow loads an image only now, and may raise anything
            raise DecodeError(FailReason.CORRUPT, str(error)) from error
        return "", stream.getvalue()
    raise TypeError(
        "classify takes a path, the bytes of a picture file, or a Pillow image, not "
        f"{type(picture).__name__}"
    )


_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B"})


def _no_progress(done_bytes: int, total_bytes: int | None, /) -> None:
    """Do nothing: a library draws no progress bars."""
