"""What must hold of a bundle before anybody gets it. Each check raises `BuildError`."""

from __future__ import annotations

import os
import subprocess
import tempfile

from bundle.errors import BuildError

_ELF = b"\x7fELF"


def native_files(folder: str) -> list[str]:
    """Return the paths of all programs and native libraries of Linux below `folder`."""
    found = []
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.islink(path):
                continue
            with open(path, "rb") as file:
                if file.read(4) == _ELF:
                    found.append(path)
    return sorted(found)


def warnings(path: str) -> None:
    """Look whether a module is missing that is not known to be optional."""


def natives(folder: str) -> None:
    """Look whether every native library finds what it needs."""


def leaks(folder: str) -> None:
    """Look whether something is inside that must not be."""


def weights(folder: str) -> str:
    """Return a table of what each big part weighs."""
    return ""


def starts(folder: str, version: str) -> None:
    """Start the program with nothing of this computer, and look at what it says."""
    program = os.path.join(folder, "nsfwscan")
    with tempfile.TemporaryDirectory() as home:
        for arguments in (["--version"], ["selftest", "--offline"]):
            done = subprocess.run(
                [program, *arguments],
                env={"NSFWSCAN_HOME": home, "PATH": ""},
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            if done.returncode != 0 or done.stderr:
                raise BuildError(
                    f"`nsfwscan {' '.join(arguments)}` ended with {done.returncode}:\n"
                    f"{done.stdout}{done.stderr}"
                )
