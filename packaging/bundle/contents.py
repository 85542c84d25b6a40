"""The list of a bundle's files, with what `nsfwscan.system.bundled` needs to find a damaged one.

In: the folder. Out: its file `CONTENTS`, whose format stands in `nsfwscan/system/bundled.py`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import zlib

from bundle.errors import BuildError

CONTENTS = os.path.join("_internal", "nsfwscan", "contents.tsv")
PACKAGE_INDEX = os.path.join("_internal", "nsfwscan", "package-index.txt")
ELF = b"\x7fELF"
LOADED_BY_NAME = {"onnxruntime_pybind11_state": "libonnxruntime_providers_shared"}
"""Libraries that another one opens itself when it is loaded, so that no loader knows of them."""


def write(folder: str) -> None:
    """List all files of the bundle in `folder`."""
    paths = sorted(
        os.path.relpath(os.path.join(parent, name), folder).replace(os.sep, "/")
        for parent, _, names in os.walk(folder)
        for name in names
        if not os.path.islink(os.path.join(parent, name))
    )
    ours = CONTENTS.replace(os.sep, "/")
    numbers = {path: number for number, path in enumerate(one for one in paths if one != ours)}
    lines = []
    for path in numbers:
        with open(os.path.join(folder, path), "rb") as file:
            data = file.read()
        lines_of = " ".join(str(numbers[one]) for one in needs(folder, path, data, list(numbers)))
        sha256 = hashlib.sha256(data).hexdigest()
        lines.append(f"{zlib.crc32(data):08x}\t{len(data)}\t{sha256}\t{path}\t{lines_of}\n")
    body = "".join(lines).encode()
    os.makedirs(os.path.dirname(os.path.join(folder, CONTENTS)), exist_ok=True)
    with open(os.path.join(folder, CONTENTS), "wb") as out:
        out.write(f"{zlib.crc32(body):08x}\n".encode() + body)


def libraries(path: str, folder: str) -> dict[str, str]:
    """Return what the loader of Linux loads along with a native file of a bundle: name to path.

    The path is empty for a library that is not found. Raises `BuildError` where there is no `ldd`.
    """
    ldd = shutil.which("ldd")
    if ldd is None:
        raise BuildError("ldd is needed to check the bundle; it comes with the C library")
    env = dict(os.environ)
    if os.path.dirname(path) != folder:  # as PyInstaller's bootloader sets it, once it runs
        env["LD_LIBRARY_PATH"] = os.path.join(folder, "_internal")
    done = subprocess.run([ldd, path], env=env, capture_output=True, text=True, check=False)
    found = {}
    for line in done.stdout.splitlines():
        name, arrow, rest = line.strip().partition(" => ")
        if arrow:
            found[name] = "" if rest.startswith("not found") else rest.rpartition(" (")[0]
    return found


def needs(folder: str, path: str, data: bytes, known: list[str]) -> list[str]:
    """Return the files of the bundle that are loaded along with the native file `path`."""
    if not data.startswith(ELF):
        return []
    real = os.path.realpath(folder)
    found = [
        os.path.relpath(os.path.realpath(one), real)
        for one in libraries(os.path.join(folder, path), folder).values()
        if one
    ]
    for opener, opened in LOADED_BY_NAME.items():
        if opener in path:
            found += [one for one in known if opened in one]
    # libpython is in memory already, and checked at the start.
    return sorted(
        one for one in set(found) if one in known and one != path and "libpython" not in one
    )


def loader(program: str) -> str:
    """Return the path of the loader that a program of Linux is started by."""
    ldd = shutil.which("ldd") or "ldd"
    done = subprocess.run([ldd, program], capture_output=True, text=True, check=True)
    lines = [line.split(" (")[0].strip() for line in done.stdout.splitlines()]
    return next(line for line in lines if line.startswith("/"))
