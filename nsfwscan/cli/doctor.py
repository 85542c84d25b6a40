"""`nsfwscan doctor`: what is installed, what this computer can do, and what could be better."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import sys
from collections.abc import Iterator

import typer

from nsfwscan import cores, locations
from nsfwscan._version import __version__
from nsfwscan.cli.tables import print_table
from nsfwscan.errors import NsfwscanError
from nsfwscan.models.package import BrokenPackage
from nsfwscan.models.store import ModelStore
from nsfwscan.report.text import size

_PACKAGES = ("onnxruntime", "numpy", "pillow", "pillow-heif", "typer", "rich", "platformdirs")


def doctor() -> None:
    """Print what is installed, what this computer can do, and advice.

    Give this output along with any report of a problem. It holds no names of pictures. Exits with 2
    when nsfwscan cannot work as things are.
    """
    rows, advice, broken = [], [], False
    for check in (_versions, _machine, _models, _library):
        for what, value, remark in check():
            rows.append((what, value))
            if remark:
                advice.append(remark)
                broken = broken or remark.startswith("Broken")
    print_table(("what", "value"), rows)
    for remark in advice or ["All is well."]:
        typer.echo(f"\n{remark}")
    raise typer.Exit(2 if broken else 0)


_Row = tuple[str, str, str]


def _versions() -> Iterator[_Row]:
    yield "nsfwscan", __version__, ""
    yield "Python", f"{platform.python_version()} ({sys.executable})", ""
    for package in _PACKAGES:
        try:
            yield package, importlib.metadata.version(package), ""
        except importlib.metadata.PackageNotFoundError:
            heic = package == "pillow-heif"
            remark = "For HEIC pictures (iPhone): pip install 'nsfwscan[heic]'." if heic else ""
            yield package, "not installed", remark


def _machine() -> Iterator[_Row]:
    yield "system", f"{platform.system()} {platform.release()} {platform.machine()}", ""
    yield "cores", str(cores.available()), ""
    features = _cpu_features()
    if features is not None:
        fast = sorted(features & _FAST_INT8)
        remark = (
            ""
            if fast
            else "This processor has no 8-bit dot products (VNNI): INT8 models run at about half "
            "the speed they could, and their scores may differ a little from other computers'."
        )
        yield "8-bit dot products", ", ".join(fast) or "none", remark
    try:
        from nsfwscan.models.classifier import available_providers
    except Exception as error:  # noqa: BLE001  a broken native library fails in any way it likes
        yield "computes with", "nothing", f"Broken: onnxruntime cannot be loaded: {error}"
    else:
        yield "computes with", ", ".join(available_providers()), ""


_FAST_INT8 = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}


def _cpu_features() -> set[str] | None:
    """Read the processor's features on Linux; None where they cannot be read."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith(("flags", "Features")):
                    return set(line.split())
    except OSError:
        pass
    return None


def _models() -> Iterator[_Row]:
    folder = locations.models_folder()
    yield "models in", folder, ""
    try:
        packages = ModelStore(folder).packages()
    except NsfwscanError as error:
        yield "models", "unreadable", f"Broken: {error}"
        return
    for number, one in enumerate(packages):
        if isinstance(one, BrokenPackage):
            yield "model", f"{one.package} is broken", f"Broken package: {one.problem}"
        else:
            manifest = one.manifest
            chosen = " (a scan takes this one)" if number == 0 else ""
            yield "model", f"{manifest.package}{chosen}", manifest.notes
    if not packages:
        yield "model", "none", "No model is installed; the first scan fetches one."


def _library() -> Iterator[_Row]:
    path = locations.library_file()
    yield "configuration", _state(locations.config_file()), ""
    yield "cache", _state(path), ""
    yield "SQLite", sqlite3.sqlite_version, ""


def _state(path: str) -> str:
    try:
        return f"{path} ({size(os.path.getsize(path))})"
    except OSError:
        return f"{path} (not there)"
