"""`python -m bundle.launcher BUNDLE` puts `launcher.c` before the program of a bundle for Linux.

In: a bundle whose every other file is final, since their checksums are compiled in. Out: the
program that people start. Runs in the environment that was frozen, and needs a C compiler.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zlib

from bundle.errors import BuildError
from nsfwscan.system import bundled

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "launcher.c")
_OPTIONS = ("-std=c11", "-D_GNU_SOURCE", "-O3", "-s", "-Wall", "-Wextra", "-Wpedantic", "-Werror")


def put_before(folder: str, names: list[str]) -> None:
    """Compile the launcher of the bundle in `folder`; `names` are what it looks at, in it.

    Raises `BuildError` with what the compiler said.
    """
    with tempfile.TemporaryDirectory(prefix="nsfwscan-launcher-") as scratch:
        with open(os.path.join(scratch, "files.h"), "w", encoding="utf-8") as out:
            out.write(header(folder, names))
        # Named by itself: the compiler notes the names it is given.
        shutil.copy(SOURCE, scratch)
        program = os.path.join(os.path.abspath(folder), bundled.LAUNCHER)
        command = ["cc", *_OPTIONS, "-o", program, os.path.basename(SOURCE)]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")


def header(folder: str, names: list[str]) -> str:
    """Return what `launcher.c` includes."""
    rows = []
    for name in names:
        with open(os.path.join(folder, name), "rb") as file:
            data = file.read()
        rows.append(f"{{{_text(name)}, {len(data)}, 0x{zlib.adler32(data):08x}u}}")
    return (
        f"#define FILES {', '.join(rows)}\n"
        f"#define PROGRAM {_text(bundled.LAUNCHED)}\n"
        f"#define CHECKED {_text(bundled.CHECKED)}\n"
        f"#define HELD {_text(bundled.HELD)}\n"
        f"#define HINT {_text(bundled.HINT)}\n"
    )


def _text(value: str) -> str:
    """Return a text as C writes it. Raises `BuildError` for one that would need an escape."""
    if not value.isascii() or not value.isprintable() or set(value) & set('"\\?'):
        raise BuildError(f"{value!r} cannot be written into the launcher")
    return f'"{value}"'


def main(folder: str) -> None:
    """Put the launcher before what is started first in the bundle."""
    paths = (
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, _, names in os.walk(folder)
        for name in names
        if not os.path.islink(os.path.join(parent, name))
    )
    try:
        put_before(folder, sorted(path for path in paths if bundled.starts_python(path)))
    except BuildError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1])
