"""What the bundled program does that an installed one does not.

A bundle is a folder: the program, `_internal` with all that it loads, `models`. Nobody's package
manager looks after it, so it looks after itself: `CONTENTS` lists every file with its checksums,
and a native library whose bytes are not the listed ones is never loaded, because what a loader does
with a damaged file ranges from a message to a crash without one. On Linux the program is a launcher
(`packaging/bundle/launcher.c`) that looks at what Python itself is started from.

In: that list. Out: `BundleDamaged`, which names the file. CRC-32 is enough against accidents and
costs 0.4 ms a MB; `look_over` compares SHA-256. Nothing here protects from somebody who may write
to the folder: they could change the list.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ExtensionFileLoader, PathFinder
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.system.reading import File, open_bytes, open_text
from nsfwscan.values.errors import BundleDamaged

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

MODELS = "models"
"""The folder of the model packages in a bundle."""

WORKER_FLAG = "--decode-worker"
"""The bundled program started with this is a decode worker; the rest are the worker's arguments."""

DAMAGED = 78
"""The exit code of a decode worker that will not load a damaged library; EX_CONFIG of sysexits."""

CONTENTS = os.path.join("_internal", "nsfwscan", "contents.tsv")
"""The list of files. After a line with the CRC-32 of all that follows, a line a file: CRC-32, size
in bytes, SHA-256, path, and the numbers of the lines (from 0) that hold the libraries it needs."""

LAUNCHER, LAUNCHED = "nsfwscan", "nsfwscan-main"
"""In a bundle for Linux, the program that people start, and the one with Python in it."""

CHECKED = "_NSFWSCAN_CHECKED"
"""The variable in which the launcher leaves the number of the process that it has checked."""

HELD = "_NSFWSCAN_HELD"
"""The variable with the number of the process in which the launcher lets Ctrl-C wait."""

HINT = (
    "unpack the archive again, or install the package again; what nsfwscan remembers lies "
    "elsewhere and is kept"
)
"""What to do about a damaged bundle."""

PACKAGE_INDEX = os.path.join("_internal", "nsfwscan", "package-index.txt")
"""The address of the package index that pip asks by default, written down by the build."""

_LIBRARY_PATHS = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LIBPATH")
_LOADED_FIRST = (
    *("base_library", "libpython", "python3", "libz."),
    *("zlib.", "_struct.", "_typing."),  # modules that the bootloader imports, or this file
)
"""What Python is started from, beside the program: nobody can be asked before these are loaded."""
_CHUNK = 1 << 20


class _Listed(NamedTuple):
    crc32: str
    bytes: int
    sha256: str
    path: str
    needs: tuple[int, ...]


def folder() -> str | None:
    """Return the folder of the bundle this program runs from, None when it is no bundle."""
    if not getattr(sys, "frozen", False):
        return None
    return os.path.dirname(os.path.abspath(sys.executable))


def program() -> str:
    """Return the path of the program that people start, of the bundle this one runs from."""
    return sys.executable.removesuffix(LAUNCHED.removeprefix(LAUNCHER))


def starts_python(path: str) -> bool:
    """Tell whether a file of a bundle, by its path in it, is read before a line of Python runs."""
    inner = path.replace(os.sep, "/")
    return "/" not in inner or inner.rpartition("/")[2].startswith(_LOADED_FIRST)


def prepare(*, worker: bool) -> None:
    """Set the process of a bundled program up; to be called before anything else is imported.

    A `worker` that would have to load a damaged library ends with the exit code `DAMAGED`; in any
    other process loading it raises `BundleDamaged`. So does this function itself, when a file is
    missing or cut, or the program or what Python was started from is damaged.
    """
    bundle = folder()
    if bundle is None:
        raise RuntimeError("this is no bundle")
    # The bootloader lets the loader find the bundle's libraries. Programs of the system that are
    # started from here (systemctl, a file manager) must not find them.
    for name in _LIBRARY_PATHS:
        before = os.environ.pop(f"{name}_ORIG", None)
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
    contents = BundleContents(bundle)
    contents.check_sizes()
    launched = os.environ.pop(CHECKED, "") == str(os.getpid())
    if not worker and not launched:
        contents.check_start()
    finder = CheckedFinder(contents, worker=worker)
    sys.meta_path.insert(sys.meta_path.index(PathFinder), finder)


def package_index() -> str | None:
    """Return the address of the index that pip would ask by default; None without a bundle."""
    bundle = folder()
    if bundle is None:
        return None
    try:
        with open_text(os.path.join(bundle, PACKAGE_INDEX)) as file:
            return file.read().strip()
    except OSError:
        return None


def look_over(bundle: str) -> tuple[int, list[str]]:
    """Compare every file of the bundle with the list, by SHA-256; it takes a tenth of a second.

    Return how many files there are, and a sentence for each that is not as it was packed.
    """
    try:
        contents = BundleContents(bundle)
    except BundleDamaged as error:
        return 0, [str(error)]
    return len(contents), contents.damaged()


def refuse(bundle: str, problem: str = "") -> BundleDamaged:
    """Return the error for a damaged bundle; without `problem` every file is looked at first."""
    problems = [problem] if problem else look_over(bundle)[1]
    return BundleDamaged(
        f"this copy of nsfwscan is damaged: {problems[0] if problems else 'a file of it has gone'}",
        hint=HINT,
    )


class BundleContents:
    """The list of files of the bundle in the folder `bundle`. Raises `BundleDamaged`."""

    def __init__(self, bundle: str) -> None:
        self._bundle = bundle
        self._entries = _read(bundle)
        self._numbers = {
            os.path.normcase(one.path): number for number, one in enumerate(self._entries)
        }
        self._seen: set[int] = set()

    def check_sizes(self) -> None:
        """Look whether all files are there and have their sizes, which takes 0.5 ms.

        A library that is missing is not loaded, so nothing else would find out.
        """
        for one in self._entries:
            path = os.path.join(self._bundle, one.path)
            try:
                size = os.stat(path).st_size
            except OSError as error:
                problem = f"{path} cannot be read: {error.strerror or error}"
                raise refuse(self._bundle, problem) from error
            if size != one.bytes:
                raise refuse(self._bundle, f"{path} has {size} bytes and not {one.bytes}")

    def check_start(self) -> None:
        """Check the program and what Python was started from, as far as it is in files."""
        for number, one in enumerate(self._entries):
            if starts_python(one.path):
                self._check(number)

    def check_library(self, path: str) -> None:
        """Check a file that is about to be loaded and the libraries that come with it."""
        inner = os.path.relpath(os.path.realpath(path), os.path.realpath(self._bundle))
        number = self._numbers.get(os.path.normcase(inner.replace(os.sep, "/")))
        if number is None:
            raise refuse(self._bundle, f"{path} is no part of it")
        for one in (number, *self._entries[number].needs):
            self._check(one)

    def damaged(self) -> list[str]:
        """Return a sentence for each file that is not as listed, by SHA-256."""
        from nsfwscan.system.hashing import Sha256, pieces  # hashlib is slow to import

        problems = []
        for one in self._entries:
            path = os.path.join(self._bundle, one.path)
            try:
                with open_bytes(path) as file:
                    digest = Sha256().take(pieces(file)).hexdigest()
            except OSError as error:
                problems.append(f"{path} cannot be read: {error.strerror or error}")
                continue
            if digest != one.sha256:
                problems.append(f"{path} is not as it was packed")
        return problems

    def __len__(self) -> int:
        return len(self._entries)

    def _check(self, number: int) -> None:
        if number in self._seen:
            return
        one = self._entries[number]
        path = os.path.join(self._bundle, one.path)
        try:
            found = _crc32(path)
        except OSError as error:
            problem = f"{path} cannot be read: {error.strerror or error}"
            raise refuse(self._bundle, problem) from error
        if found != (one.crc32, one.bytes):
            raise refuse(self._bundle, f"{path} is not as it was packed")
        self._seen.add(number)


def _read(bundle: str) -> list[_Listed]:
    import zlib

    path = os.path.join(bundle, CONTENTS)
    try:
        with open_bytes(path) as file:
            head, _, body = file.read().partition(b"\n")
        if head.decode() != f"{zlib.crc32(body):08x}":
            raise refuse(bundle, f"{path} is not as it was packed")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise refuse(bundle, f"{path} cannot be read: {reason}") from error
    entries = []
    for line in body.decode().splitlines():
        crc32, size, sha256, name, needs = line.split("\t")
        entries.append(_Listed(crc32, int(size), sha256, name, tuple(map(int, needs.split()))))
    return entries


def _crc32(path: str) -> tuple[str, int]:
    """Return the CRC-32 and the size of a file."""
    import zlib

    crc, size = 0, 0
    buffer = memoryview(bytearray(_CHUNK))
    with File(path) as file:
        while got := file.readinto(buffer):
            crc = zlib.crc32(buffer[:got], crc)
            size += got
    return f"{crc:08x}", size


class CheckedFinder:
    """Finds modules as Python does, and checks native ones before they are loaded.

    To stand in `sys.meta_path` before `PathFinder`, which would find the same.

    What it prevents was measured: of 118 scans in bundles with 64 bytes changed in the middle or at
    the beginning of one library, 30 went wrong without it. 6 ended with SIGSEGV and no word, 2 as a
    bug in nsfwscan, 8 with the advice to install Pillow again, and 14 went on and remembered sound
    pictures as corrupt. With it all but two named the file or did not need it; those two, a damaged
    `select` that the command line imports first, do so since.
    """

    def __init__(self, contents: BundleContents, *, worker: bool) -> None:
        self._contents, self._worker = contents, worker

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what Python finds. Raises `BundleDamaged` for a native module that is damaged."""
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, ExtensionFileLoader):
            try:
                self._contents.check_library(spec.loader.path)
            except BundleDamaged:
                if self._worker:  # Pillow takes any exception for a codec that was left out
                    os._exit(DAMAGED)
                raise
        return spec
