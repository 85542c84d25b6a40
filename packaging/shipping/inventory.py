"""What is inside a bundle, piece by piece, and under which licence.

In: the folder of a bundle, the names of the modules frozen into its program, and the Python
environment it was built from, which is the one that runs this. Out: an `Inventory`. Every file and
every module must have an owner and every owner a licence text; what has none is an error, because
a list that leaves something out is worse than no list.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

from packaging.requirements import Requirement

from nsfwscan._version import __version__
from nsfwscan.models.manifest import LICENCE_NAME, MANIFEST_NAME
from nsfwscan.models.package import open_package
from nsfwscan.system.bundled import LAUNCHED, LAUNCHER
from shipping.errors import ShippingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PROGRAMS = frozenset({LAUNCHER, LAUNCHED, "nsfwscan.exe"})
"""What a bundle has to start: on Linux the first, which starts the second; the third on Windows."""
INTERNAL = "_internal"
"""Where PyInstaller puts everything but the program."""

_ADDED = (
    "share/", "LICENSE", "README", "THIRD-PARTY-LICENSES.txt", "sbom.cdx.json", "install.sh",
)  # fmt: skip
"""What `stage` puts into the folder."""
_TEXTS_LEFT_OUT = {"pillow-heif": ("GPL-2", "GPL-3", "LGPL-3")}
"""Wheels that only name licences whose texts have to come along; the texts are in `licences/`."""
_LICENCE_NAMES = re.compile(r"(licen[cs]e|copying|notice|thirdpartynotices)", re.IGNORECASE)
_PARTS_OF_THE_RUNTIME = re.compile(
    r"(base_library\.zip|(python3\.\d+/)?(lib-dynload|encodings)/.*|libpython3.*|python3\d*\.dll|Python|"
    r"Python\.framework/.*|(vcruntime|msvcp|api-ms-win|ucrtbase).*\.dll)$"
)


class Kind(StrEnum):
    """What a part is."""

    PROGRAM = "program"
    LIBRARY = "Python library"
    RUNTIME = "Python and the bootloader"
    SYSTEM = "system library"
    MODEL = "model"


class Text(NamedTuple):
    """One licence file."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Part:
    """Something inside the bundle that has an author, a version and a licence."""

    kind: Kind
    name: str
    version: str
    licence: str
    """As its publisher calls it; an SPDX expression where there is one."""
    texts: tuple[Text, ...]
    purl: str = ""
    files: tuple[str, ...] = ()
    """Paths of its files, relative to the bundle; what is frozen into the program has none."""
    needs: tuple[str, ...] = ()
    """Keys of other parts."""
    within: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    """CycloneDX components that its publisher says are compiled into it (PEP 770)."""

    @property
    def key(self) -> str:
        """The name as others refer to it, however it is spelled."""
        return _normal(self.name)


@dataclass(frozen=True, slots=True)
class Inventory:
    """All parts of a bundle, the program first."""

    bundle: str
    parts: tuple[Part, ...]


def frozen_modules(bundle: str) -> frozenset[str]:
    """Return the full names of the modules that PyInstaller put into the program."""
    from PyInstaller.archive.readers import CArchiveReader

    program = frozen_program_of(bundle)
    try:
        archive = CArchiveReader(program)
        names = set(archive.open_embedded_archive("PYZ.pyz").toc)
    except Exception as error:  # it raises what it likes about a file that is no archive
        raise ShippingError(f"{program} is not a program made by PyInstaller: {error}") from error
    return frozenset(names)


def program_of(bundle: str) -> str:
    """Return the path of the program in a bundle. Raises `ShippingError` when there is none."""
    for name in ("nsfwscan", "nsfwscan.exe"):
        path = os.path.join(bundle, name)
        if os.path.isfile(path):
            return path
    raise ShippingError(f"{bundle} is not a bundle: there is no program called nsfwscan in it")


def frozen_program_of(bundle: str) -> str:
    """Return the path of the program that has Python in it. Raises `ShippingError`."""
    behind_launcher = os.path.join(bundle, LAUNCHED)
    return behind_launcher if os.path.isfile(behind_launcher) else program_of(bundle)


def save(inventory: Inventory, path: str) -> None:
    """Keep an inventory, for when the environment it was taken in is gone."""
    with open(path, "w", encoding="utf-8") as out:
        json.dump([asdict(part) for part in inventory.parts], out, indent=1)


def load(bundle: str, path: str) -> Inventory:
    """Read a kept inventory. Raises `ShippingError` when it is not that of this bundle."""
    with open(path, encoding="utf-8") as file:
        documents = json.load(file)
    parts = tuple(map(_part, documents))
    listed = {path for part in parts for path in part.files}
    if strange := sorted(listed ^ set(_files(bundle))):
        raise ShippingError(f"{path} is not about this bundle: {', '.join(strange[:5])}")
    return Inventory(bundle, parts)


def _part(document: dict[str, Any]) -> Part:
    """Make a part of what `save` made of it."""
    return Part(
        Kind(document["kind"]),
        document["name"],
        document["version"],
        document["licence"],
        tuple(Text(*one) for one in document["texts"]),
        purl=document["purl"],
        files=tuple(document["files"]),
        needs=tuple(document["needs"]),
        within=tuple(document["within"]),
    )


def take(bundle: str, modules: Iterable[str]) -> Inventory:
    """Find out whose everything in a bundle is.

    Raises `ShippingError` that names what has no owner or no licence text.
    """
    owners = _Owners()
    models: dict[str, list[str]] = {}
    nobodys: list[str] = []
    roots = _model_roots(bundle)
    for path in _files(bundle):
        root = next((one for one in roots if path.startswith(one + "/")), None)
        if root is not None:
            models.setdefault(root, []).append(path)
        elif not owners.claim_file(path):
            nobodys.append(path)
    nobodys += [f"module {name}" for name in sorted(modules) if not owners.claim_module(name)]
    if nobodys:
        raise ShippingError(
            "nobody knows whose these are, so no licence can be given: " + ", ".join(nobodys[:20])
        )
    parts = [*owners.parts(), *(_model(bundle, *one) for one in sorted(models.items()))]
    bare = [part.name for part in parts if not any(one.text.strip() for one in part.texts)]
    if bare:
        raise ShippingError(f"no licence text was found for {', '.join(bare)}")
    return Inventory(bundle, (_program(parts, owners.program), *parts))


class _Owners:
    """Whose each file and each module is."""

    def __init__(self) -> None:
        self._of_file: dict[str, metadata.Distribution] = {}
        self._of_module: dict[str, metadata.Distribution] = {}
        by_name: dict[str, metadata.Distribution] = {}
        for one in metadata.distributions():
            by_name.setdefault(_normal(one.name), one)
            for file in one.files or ():
                self._of_file.setdefault(file.as_posix(), one)
        for module, names in metadata.packages_distributions().items():
            self._of_module[module] = by_name[_normal(names[0])]
        self._libraries: dict[str, tuple[metadata.Distribution, list[str]]] = {}
        self._system: dict[str, list[str]] = {}
        self._runtime: list[str] = []
        self.program: list[str] = []

    def claim_file(self, path: str) -> bool:
        inner = path.removeprefix(f"{INTERNAL}/")
        if path in PROGRAMS or path.startswith(_ADDED) or inner.startswith("nsfwscan/"):
            self.program.append(path)
            return True
        if owner := self._of_file.get(inner):
            return self._claim(owner, path)
        name = os.path.basename(inner)
        if _PARTS_OF_THE_RUNTIME.match(inner) or _is_beside_python(name):
            self._runtime.append(path)
            return True
        if package := _debian_package(name):
            self._system.setdefault(package, []).append(path)
            return True
        return False

    def claim_module(self, name: str) -> bool:
        top = name.partition(".")[0]
        if top in {"nsfwscan", "quantize", "__main__"} or top in sys.stdlib_module_names:
            return True
        # The bootloader's own, and Python's generated ones.
        if top.startswith(("pyimod", "_pyi", "pyi_", "_sysconfigdata", "PyInstaller")):
            return True
        owner = self._of_module.get(top)
        return owner is not None and self._claim(owner, None)

    def _claim(self, owner: metadata.Distribution, path: str | None) -> bool:
        if _normal(owner.name) == "nsfwscan":
            self.program += [path] if path else []
            return True
        _, files = self._libraries.setdefault(_normal(owner.name), (owner, []))
        files += [path] if path else []
        return True

    def parts(self) -> Iterator[Part]:
        yield _python(self._runtime)
        yield _bootloader()
        for _, (owner, files) in sorted(self._libraries.items()):
            yield _library(owner, files, self._libraries.keys())
        for package, files in sorted(self._system.items()):
            yield _system_library(package, files)


def _files(bundle: str) -> Iterator[str]:
    """Yield the files of a bundle, relative and with slashes. Links only point at some of them."""
    for parent, below, names in os.walk(bundle):
        below.sort()
        for name in sorted(names):
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                yield os.path.relpath(path, bundle).replace(os.sep, "/")


def _model_roots(bundle: str) -> list[str]:
    return [
        os.path.relpath(parent, bundle).replace(os.sep, "/")
        for parent, _, names in os.walk(bundle)
        if MANIFEST_NAME in names and any(name.endswith(".onnx") for name in names)
    ]


def _program(parts: Iterable[Part], files: list[str]) -> Part:
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "..", "..", "LICENSE"), encoding="utf-8") as file:
        text = Text("LICENSE", file.read())
    return Part(
        Kind.PROGRAM, "nsfwscan", __version__, "Apache-2.0", (text,),
        purl=f"pkg:pypi/nsfwscan@{__version__}", files=tuple(sorted(files)),
        needs=tuple(one.key for one in parts),
    )  # fmt: skip


def _model(bundle: str, root: str, files: list[str]) -> Part:
    folder = os.path.join(bundle, root)
    found = open_package(folder)
    found.verify()
    with open(os.path.join(folder, LICENCE_NAME), encoding="utf-8") as file:
        text = Text(LICENCE_NAME, file.read())
    name, _, version = found.manifest.package.partition("-")
    return Part(
        Kind.MODEL, name, version, found.manifest.licence, (text,), files=tuple(sorted(files))
    )  # fmt: skip


def _library(owner: metadata.Distribution, files: list[str], inside: Iterable[str]) -> Part:
    wanted = [Requirement(one) for one in owner.requires or ()]
    needs = {
        _normal(one.name)
        for one in wanted
        if one.marker is None or one.marker.evaluate({"extra": ""})
    }
    return Part(
        Kind.LIBRARY,
        owner.name,
        owner.version,
        _licence_name(owner.metadata),
        (*_licence_texts(owner), *_texts_left_out(owner)),
        purl=f"pkg:pypi/{_normal(owner.name)}@{owner.version}",
        files=tuple(sorted(files)),
        needs=tuple(sorted(needs & set(inside))),
        within=tuple(_components_within(owner)),
    )


def _licence_name(fields: metadata.PackageMetadata) -> str:
    """Return what the metadata says, from the most exact field to the least."""
    expression = str((fields.get_all("License-Expression") or [""])[0])
    if expression:
        return expression
    old = str((fields.get_all("License") or [""])[0]).strip()
    if old and "\n" not in old and len(old) < 60:
        return old
    classified = [
        one.rpartition(" :: ")[2]
        for one in fields.get_all("Classifier") or ()
        if one.startswith("License :: ")
    ]
    return " and ".join(classified) or "see the licence text"


def _licence_texts(owner: metadata.Distribution) -> Iterator[Text]:
    """Yield the licence files: those beside the metadata, or else those in the package."""
    files = sorted(owner.files or (), key=lambda one: one.as_posix())
    # Not an `if` on the first kind: onnxruntime has all of its own inside the package.
    for file in files:
        parts = file.as_posix().split("/")
        beside = parts[0].endswith(".dist-info") and len(parts) > 1
        top = len(parts) <= 2
        if not (top or beside) or not _LICENCE_NAMES.search(parts[-1] if top else "/".join(parts)):
            continue
        if parts[-1].endswith((".py", ".pyc")):
            continue
        title = "/".join(parts[1:]).removeprefix("licenses/") or parts[0]
        yield Text(title, _read(owner, file))


def _read(owner: metadata.Distribution, file: metadata.PackagePath) -> str:
    with open(str(owner.locate_file(file)), encoding="utf-8", errors="replace") as stream:
        return stream.read()


def _texts_left_out(owner: metadata.Distribution) -> Iterator[Text]:
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "licences")
    for name in _TEXTS_LEFT_OUT.get(_normal(owner.name), ()):
        with open(os.path.join(folder, f"{name}.txt"), encoding="utf-8") as file:
            yield Text(name, file.read())


def _components_within(owner: metadata.Distribution) -> Iterator[dict[str, Any]]:
    seen = set()
    for file in owner.files or ():
        if ".dist-info/sboms/" not in file.as_posix() or not file.name.endswith(".json"):
            continue
        document = json.loads(_read(owner, file))
        for one in document.get("components", ()):
            key = (one.get("name"), one.get("version"))
            if _normal(one.get("name", "")) != _normal(owner.name) and key not in seen:
                seen.add(key)
                yield one


def _python(files: list[str]) -> Part:
    version = sys.version.split()[0]
    texts = []
    for folder in (sysconfig.get_path("stdlib"), sys.base_prefix):
        path = os.path.join(folder, "LICENSE.txt")
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                texts = [Text("LICENSE.txt", file.read())]
            break
    return Part(
        Kind.RUNTIME, "CPython", version, "PSF-2.0", tuple(texts),
        purl=f"pkg:generic/cpython@{version}", files=tuple(sorted(files)),
    )  # fmt: skip


def _bootloader() -> Part:
    try:
        owner = metadata.distribution("pyinstaller")
    except metadata.PackageNotFoundError:
        raise ShippingError(
            "PyInstaller is not installed here: run this in the environment that built the bundle"
        ) from None
    return Part(
        Kind.RUNTIME,
        "PyInstaller bootloader",
        owner.version,
        "GPL-2.0-or-later WITH Bootloader-exception",
        tuple(_licence_texts(owner)),
        purl=f"pkg:pypi/pyinstaller@{owner.version}",
    )


def _is_beside_python(name: str) -> bool:
    """Tell whether Python itself brought a library: on Windows and macOS it brings OpenSSL."""
    folders = [sys.base_prefix, os.path.join(sys.base_prefix, "DLLs")]
    folders += [os.path.join(sys.base_prefix, "lib"), sysconfig.get_config_var("LIBDIR") or ""]
    folders += [sysconfig.get_config_var("DESTSHARED") or ""]
    return any(os.path.isfile(os.path.join(folder, name)) for folder in folders if folder) and (
        # A Python of the system shares its folder with everybody's libraries.
        sys.base_prefix not in {"/usr", "/usr/local"} or "cpython-" in name
    )


def _debian_package(name: str) -> str:
    """Return the package of a library of a Debian system; empty when there is none."""
    tool = shutil.which("dpkg-query")
    if tool is None:
        return ""
    folders = ("/lib", "/usr/lib")
    triplet = sysconfig.get_config_var("MULTIARCH") or ""
    for folder in (os.path.join(one, triplet) for one in folders):
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            continue
        # Packages name files as they were before /lib became a link to /usr/lib.
        for known in (path, path.removeprefix("/usr"), os.path.realpath(path)):
            done = subprocess.run([tool, "-S", known], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return done.stdout.split(": ")[0].split(",")[0]
    return ""


def _system_library(package: str, files: list[str]) -> Part:
    tool = shutil.which("dpkg-query") or "dpkg-query"
    asked = [tool, "-W", "-f", "${Version}\t${source:Package}\t${Architecture}", package]
    version, source, architecture = subprocess.run(
        asked, capture_output=True, text=True, check=True
    ).stdout.split("\t")
    plain = package.partition(":")[0]
    path = f"/usr/share/doc/{plain}/copyright"
    texts = []
    if os.path.isfile(path):
        with open(path, encoding="utf-8", errors="replace") as file:
            texts = [Text("copyright", file.read())]
    return Part(
        Kind.SYSTEM, plain, version, "see the licence text", tuple(texts),
        purl=f"pkg:deb/debian/{plain}@{version}?arch={architecture}&upstream={source}",
        files=tuple(sorted(files)),
    )  # fmt: skip


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    # `packaging/build` runs this in the environment it froze: BUNDLE TARGET.json
    save(take(sys.argv[1], frozen_modules(sys.argv[1])), sys.argv[2])
