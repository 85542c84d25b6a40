"""`nsfwscan doctor`: what is installed, what works, and what could be improved."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import typer

from nsfwscan._version import __version__
from nsfwscan.cli.shared import config, crash
from nsfwscan.cli.shared.codes import OK, UNSOUND
from nsfwscan.cli.shared.options import ShownAs, TableFormat
from nsfwscan.cli.shared.tables import print_rows
from nsfwscan.cli.shared.talk import fitted
from nsfwscan.models.package import InstalledModel
from nsfwscan.scanning.session import load_runtime
from nsfwscan.system import bundled, cores, locations
from nsfwscan.system.installation import installing
from nsfwscan.system.reading import open_text
from nsfwscan.values.errors import ConfigError, NsfwscanError, ServiceError
from nsfwscan.values.text import printable, readable, size

_PACKAGES = (
    "onnxruntime",
    "numpy",
    "pillow",
    "typer",
    "rich",
    "platformdirs",
    "httpx",
    "pathspec",
    "psutil",
)


class _Line(NamedTuple):
    """One row of the table, and advice about it."""

    what: str
    value: str
    advice: str = ""
    broken: bool = False
    """True if this keeps nsfwscan from working."""


def doctor(context: typer.Context, output_format: ShownAs = TableFormat.TABLE) -> None:
    """Check the installation: print what is installed, what works, and advice.

    Include this output when you report a problem. It contains no names of pictures.

    Exits with 7 if nsfwscan cannot work, and with 0 otherwise.
    """
    root = cast("typer.Context", context.find_root())  # typer's annotation is its private base
    checks: list[Callable[[], Iterator[_Line]]] = [
        _versions,
        _bundle,
        _heic,
        _machine,
        _providers,
        lambda: _configuration(root),
        _models,
        _cache,
        _rulings,
        _sqlite,
        _watcher,
        _service,
    ]
    findings = [finding for check in checks for finding in _guarded(check)]
    rows = [(one.what, one.value) for one in findings]
    print_rows(output_format, ("what", "value"), rows, [_document(one) for one in findings])
    if output_format is TableFormat.TABLE:
        advice = [one.advice for one in findings if one.advice]
        for sentence in advice or ["Everything works."]:
            typer.echo(f"\n{fitted(readable(sentence), sys.stdout)}")
    raise typer.Exit(UNSOUND if any(one.broken for one in findings) else OK)


def _document(line: _Line) -> dict[str, object]:
    """Return a line as it stands in JSON."""
    return {
        "what": line.what,
        "value": printable(line.value),
        "advice": printable(line.advice) or None,
        "broken": line.broken,
    }


def _guarded(check: Callable[[], Iterator[_Line]]) -> Iterator[_Line]:
    """Yield what `check` finds; a check that raises is also a finding."""
    try:
        yield from check()
    except Exception as error:
        if crash.is_interrupt(error):
            raise
        problem = f"{type(error).__name__}: {error}"
        yield _Line("failed check", problem, f"A check failed: {problem}", broken=True)


def _versions() -> Iterator[_Line]:
    yield _Line("nsfwscan", __version__)
    yield _Line("Python", f"{platform.python_version()} ({sys.executable})")
    for package in _PACKAGES:
        yield _Line(package, _version_of(package))


def _bundle() -> Iterator[_Line]:
    bundle = bundled.folder()
    if bundle is None:
        return
    files, problems = bundled.look_over(bundle)
    if not problems:
        yield _Line("bundle", f"{bundle}, {files} files as they were packed")
    for problem in problems:
        yield _Line("bundle", problem, _sentence(bundled.refuse(bundle, problem)), broken=True)


def _version_of(package: str) -> str:
    from importlib import metadata  # takes 20 ms, which other commands need not pay

    found: str | None = None
    # A bundle has no metadata. A broken installation may have metadata that cannot be read, or that
    # gives None without an error.
    with contextlib.suppress(metadata.PackageNotFoundError, OSError, ValueError, KeyError):
        found = metadata.version(package)
    return found or "unknown version"


def _heic() -> Iterator[_Line]:
    from importlib import util  # not imported: decoders only run in child processes

    if util.find_spec("pillow_heif") is None:
        advice = "To scan HEIC pictures (iPhone photos): " + installing("pillow-heif")
        yield _Line("HEIC pictures", "cannot be read", advice)
    else:
        yield _Line("HEIC pictures", f"read by pillow-heif {_version_of('pillow-heif')}")


def _machine() -> Iterator[_Line]:
    yield _Line("system", f"{platform.system()} {platform.release()} {platform.machine()}")
    yield _Line("cores", str(cores.available()))
    features = _cpu_features()
    if features is not None:
        fast = sorted(features & _FAST_INT8)
        advice = (
            ""
            if fast
            else "This processor has no 8-bit dot products (VNNI), so INT8 models run "
            "at about half the speed."
        )
        yield _Line("8-bit dot products", ", ".join(fast) or "none", advice)


_FAST_INT8 = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}


def _cpu_features() -> set[str] | None:
    """Return the processor's features, or None if they cannot be read, as on other systems."""
    try:
        with open_text("/proc/cpuinfo", "ascii", errors="replace") as file:
            for line in file:
                if line.startswith(("flags", "Features")):
                    return set(line.split())
    except OSError:
        pass
    return None


def _providers() -> Iterator[_Line]:
    try:
        from nsfwscan.models.runtime import available_providers

        yield _Line("providers", ", ".join(available_providers()))
    except Exception as error:
        if crash.is_interrupt(error):
            raise
        advice = f"onnxruntime cannot be loaded, so no picture can be scored: {error}"
        yield _Line("providers", "none", advice, broken=True)


def _configuration(root: typer.Context) -> Iterator[_Line]:
    given = root.params.get("config_file")
    path = given or locations.config_file()
    try:
        config.read(root, given)
    except ConfigError as error:
        yield _Line("configuration", f"{path} is wrong", _sentence(error), broken=True)
    else:
        yield _Line("configuration", _state(path))


def _models() -> Iterator[_Line]:
    from nsfwscan.models.store import ModelStore

    folder = locations.models_folder()
    yield _Line("models folder", folder)
    try:
        packages = ModelStore(folder).packages()
    except NsfwscanError as error:
        yield _Line("models", "unreadable", _sentence(error), broken=True)
        return
    best = next((one for one in packages if isinstance(one, InstalledModel)), None)
    for one in packages:
        if isinstance(one, InstalledModel):
            chosen = " (used by default)" if one is best else ""
            yield _Line("model", f"{one.manifest.package}{chosen}", one.manifest.notes)
            try:
                one.verify()
                if one is best:
                    yield from _speed(one)
            except NsfwscanError as error:
                broken = one is best
                yield _Line(
                    "model", f"{one.manifest.package} is damaged", _sentence(error), broken=broken
                )
        else:
            yield _Line("model", f"{one.package} is broken", _sentence(one.problem))
    if best is None:
        yield _Line("model", "none", "No model is installed; the first scan downloads one.")


def _speed(model: InstalledModel) -> Iterator[_Line]:
    """Yield how the model that scans use runs here."""
    load_runtime()
    from nsfwscan.models.speed import measure

    speed = measure(model)
    rate = f"{speed.pictures_a_second:.3g} pictures a second on one core, without decoding"
    advice = f"{model.manifest.package}: {speed.faster}." if speed.faster else ""
    yield _Line("how it runs", f"{speed.runs}; {rate}", advice)


def _cache() -> Iterator[_Line]:
    from nsfwscan.cache.migrations import MIGRATIONS, stored_schema

    path = locations.cache_file()
    advice = ""
    if os.path.exists(path) and not os.access(path, os.W_OK):
        advice = f"The cache {path} cannot be written: scans work, but new scores are not kept."
    schema = stored_schema(path)
    if schema > len(MIGRATIONS):
        yield _Line(
            "cache",
            f"{path} has schema {schema}",
            f"The cache {path} was written by a later version: install that, or let NSFWSCAN_HOME "
            "name another folder.",
            broken=True,
        )
        return
    yield _Line("cache", _state(path), advice)


def _rulings() -> Iterator[_Line]:
    from nsfwscan.judge import RulingBook

    path = locations.rulings_file()
    try:
        number = len(RulingBook(path).load())
    except NsfwscanError as error:
        yield _Line("rulings", f"{path} is damaged", _sentence(error), broken=True)
    else:
        yield _Line("rulings", f"{number:,} in {_state(path)}")


def _sqlite() -> Iterator[_Line]:
    from nsfwscan.cache.database import SQLITE_VERSION, journal_mode

    version = ".".join(map(str, SQLITE_VERSION))
    advice = ""
    if journal_mode(SQLITE_VERSION) != "wal":
        advice = (
            f"SQLite {version} has a bug that can damage a write-ahead log (WAL), so the cache "
            "uses the slower rollback journal, which is just as safe. To use WAL, run a Python "
            "with SQLite 3.51.3 or later (or 3.50.7 or 3.44.6)."
        )
    yield _Line("SQLite", version, advice)


def _watcher() -> Iterator[_Line]:
    from nsfwscan.watch import instance, status

    found = status.read(locations.status_file())
    if not instance.is_held(locations.watch_lock()):
        yield _Line("watcher", "not running")
    elif found is None:
        yield _Line("watcher", "running")
    else:
        watched = f"{found.watched:,} of {found.directories:,} folders watched"
        advice = " ".join(f"The watcher is degraded: {one}." for one in found.degraded)
        yield _Line("watcher", f"running, {watched}", advice)


def _service() -> Iterator[_Line]:
    from nsfwscan.service.managers import manager

    found = manager()
    try:
        state = found.state()
    except ServiceError as error:
        yield _Line("service", f"not available: {error}")
        return
    words = ("running" if state.running else "installed") if state.installed else "not installed"
    yield _Line("service", f"{words} ({found.name})")


def _state(path: str) -> str:
    try:
        return f"{path} ({size(os.path.getsize(path))})"
    except OSError:
        return f"{path} (does not exist)"


def _sentence(error: NsfwscanError) -> str:
    return f"{error}: {error.hint}." if error.hint else f"{error}."
