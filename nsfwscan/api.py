"""The Python interface: `scan` for files, `classify` for one picture, `allow` and `deny`.

The first two choose, fetch and remember models exactly as the command line does. What that says on
stderr goes to the logger `nsfwscan`: remarks as INFO, warnings as WARNING.
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
        """Return the metadata, which say how the picture is to be turned."""

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
    """Look at every picture in one or several folders; yield one result for each.

    Results come in a stable order while the scan goes on: `Scanned` with scores and a verdict,
    `Skipped`, or `Failed` for a picture that could not be read, which is never to be taken for a
    safe one. Leaving the loop early ends the scan; what was scored is remembered.

    `paths` are files and folders, `~` is expanded. `model` is a known name or the folder of a
    package; one that is missing is fetched, unless `offline`. `flag_at` and `review_at` are scores
    from 0 to 1, by default the model's own. With `cache=False` nothing is remembered or recalled.
    `options` says which files are looked at and how.

    Raises `FileNotFoundError` (which is a `UsageError`, too) for a path that does not exist,
    `UsageError` for thresholds that make no sense, `ModelError` when there is no model to scan
    with, and `RulingsError` when what people decided cannot be read.
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
        yield from session.scanner.scan(roots)


def classify(
    picture: bytes | Path | PillowImage,
    *,
    model: str = select.AUTO,
    flag_at: float | None = None,
    review_at: float | None = None,
    offline: bool = False,
) -> Scanned:
    """Score one picture: the bytes of a file, a path, or a Pillow image.

    The model stays loaded for the next call. Nothing is remembered on disk. `Scanned.path` is empty
    for what has no path. What a person decided about the picture stands in its verdict as in a
    scan's. Raises `FileNotFoundError` (which is a `UsageError`, too) for a path that does not
    exist, `DecodeError` with a reason when the picture cannot be decoded, `TypeError` for anything
    else than a picture, and `UsageError`, `ModelError` and `RulingsError` as `scan` does.
    """
    rulings = _rulings()
    settings = Settings(model=model, flag_at=flag_at, review_at=review_at, offline=offline)
    path, data = _bytes_of(picture)
    # Not with the lock held, and not apart: it may be a download of minutes, which Ctrl-C ends.
    loaded = _kept.get((model, offline)) or _load(model, offline=offline)
    judge = Judge(policy_of(settings, loaded.manifest), rulings)
    found = interrupts.apart(lambda: _examine(model, offline, loaded, data))
    if found.outcome is None:
        raise RuntimeError("no outcome, though one was wanted")
    result = judge.result(path, found.sha256, found.outcome, fact=found.facts.get)
    if isinstance(result, Scanned):
        return result
    if result.reason is FailReason.BAD_OUTPUT:
        raise ModelUnusable(result.detail, hint="run `nsfwscan selftest`")
    raise DecodeError(result.reason, result.detail).about(printable(path))


def allow(
    paths: Path | Iterable[Path], *, near: bool = False, within: int = DEFAULT_WITHIN
) -> list[Failed]:
    """Decide that pictures are safe, whatever a model says; `nsfwscan allow` does the same.

    `paths` are files, and folders with every picture below; nobody is asked, however many there
    are. With `near` the decision is also about pictures that look the same: whose likeness differs
    in at most `within` of 64 bits. It holds until `deny` or `forget` is called for that content.

    Returns a `Failed` for each file that could not be read; nothing is decided about these. Raises
    `UsageError` for a path that does not exist, and `RulingsError`: then nothing was decided.
    """
    return _decide(paths, Ruling.ALLOWED, within if near else None)


def deny(
    paths: Path | Iterable[Path], *, near: bool = False, within: int = DEFAULT_WITHIN
) -> list[Failed]:
    """Decide that pictures are not safe for work, whatever a model says; see `allow`."""
    return _decide(paths, Ruling.DENIED, within if near else None)


def forget(paths: Path | Iterable[Path]) -> int:
    """Take back what was decided about the pictures at and below `paths`, by content.

    Returns how many decisions that were. Raises `UsageError` and `RulingsError` as `allow` does.
    """
    book = RulingBook(locations.rulings_file())
    seen = look(pictures(_roots(paths)), near=False).seen
    ruled = {one.sha256 for one in book.load()} & {one.sha256 for one in seen}
    book.forget(ruled)
    return len(ruled)


def _decide(paths: Path | Iterable[Path], ruling: Ruling, within: int | None) -> list[Failed]:
    if within is not None and not 0 <= within <= MOST_WITHIN:
        raise UsageError(
            f"within is {within}, which is not between 0 and {MOST_WITHIN}",
            hint=f"leave it out: {DEFAULT_WITHIN} bits are a good value",
        )
    book = RulingBook(locations.rulings_file())
    # Whether a picture was restored after it was denied is not known here: it is denied anew.
    at = time.time() if ruling is Ruling.DENIED else 0.0
    found = pictures(_roots(paths))
    decided = decide(book, found, ruling, within=within, restored_at=lambda _sha256: at)
    for one in decided.unlike:
        _log.warning("%s is known by its content only: %s", one.path, one.why_not)
    return decided.failed


def _roots(paths: Path | Iterable[Path]) -> list[str]:
    given: object = paths
    if isinstance(given, str | bytes | os.PathLike) or not isinstance(given, Iterable):
        given = [given]
    roots = [_path(path) for path in given]
    check_roots(roots)
    return roots


def _path(path: object) -> str:
    """Return a path as text, `~` expanded. Raises `TypeError` for anything else."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str):
        raise TypeError(f"a path is a str or an os.PathLike of one, not {type(text).__name__}")
    return os.path.expanduser(text)


_books: dict[str, RulingBook] = {}


def _rulings() -> Rulings:
    """Return what people decided; the file is read again only when it looks another one."""
    path = locations.rulings_file()
    return _books.setdefault(path, RulingBook(path)).current(_log.warning)


@dataclass(slots=True, eq=False)
class _Loaded:
    """A model and what scores with it, kept for the next call of `classify`."""

    manifest: ModelManifest
    engine: Engine
    users: int = 0
    """Calls of `classify` that score with it now."""


_MOST_LOADED = 2
"""Models kept loaded, of a few hundred megabytes each: one in use, one to compare with."""
_kept: OrderedDict[tuple[str, bool], _Loaded] = OrderedDict()
"""The last is the one used last."""
_kept_lock = threading.Lock()


def _examine(model: str, offline: bool, loaded: _Loaded, data: bytes) -> Finding:
    """Examine with `loaded`, or with what another thread has kept for this model meanwhile."""
    key = (model, offline)
    with _kept_lock:
        kept = _kept.setdefault(key, loaded)
        kept.users += 1
        _kept.move_to_end(key)
        dropped = [_kept.popitem(last=False)[1] for _ in range(len(_kept) - _MOST_LOADED)]
        idle = [one for one in dropped if not one.users]
    for one in idle:
        one.engine.close()
    try:
        return kept.engine.examine(data)
    except NsfwscanError:
        with _kept_lock:  # what could not be loaded may be mended by the next call
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
    # One picture at a time: all cores may work on it.
    load = loader(found, settings, cores.available(), _log.warning)
    return _Loaded(found.manifest, Engine(load, found.manifest.input.geometry, jobs=1))


@atexit.register
def _close_engines() -> None:
    """End the decode processes of `classify` and forget its models."""
    with _kept_lock:
        while _kept:
            _kept.popitem()[1].engine.close()


_inherited: list[object] = []


def _forget_engines() -> None:
    """Use no more in a forked child what its parent loaded: threads and processes stayed there."""
    global _kept, _kept_lock
    _inherited.append(_kept)  # to free a model here would wait for its threads
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
                # To RGB, all above 255 would turn white; 32-bit integers hold 16 bits of grey.
                picture = picture.convert("I;16" if picture.mode == "I" else "RGB")
            picture.save(stream, format="PNG", exif=exif)
        except Exception as error:  # an image is only loaded now, and loading raises anything
            raise DecodeError(FailReason.CORRUPT, str(error)) from error
        return "", stream.getvalue()
    raise TypeError(
        "classify takes a path, the bytes of a picture file, or a Pillow image, not "
        f"{type(picture).__name__}"
    )


_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B"})


def _no_progress(done_bytes: int, total_bytes: int | None, /) -> None:
    """Do nothing: a library draws no bars."""
