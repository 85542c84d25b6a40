"""A bundle with everything around it: licences, SBOM, manual, completions, menu entries.

In: the folder that PyInstaller made. Out: a folder of the same name in another place, ready to be
packed. Archive, Debian package and container all begin with it. The bundle itself stays as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime

from nsfwscan._version import __version__
from shipping import inventory, licences, manual, sbom
from shipping.errors import ShippingError

PACKAGING = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CHECKOUT = os.path.dirname(PACKAGING)

_LINUX = {
    "nsfwscan.desktop": "share/applications/nsfwscan.desktop",
    "nsfwscan.svg": "share/icons/hicolor/scalable/apps/nsfwscan.svg",
    "io.github.nsfwscan.nsfwscan.metainfo.xml":
        "share/metainfo/io.github.nsfwscan.nsfwscan.metainfo.xml",
    "nsfwscan-dolphin.desktop": "share/kio/servicemenus/nsfwscan.desktop",
    "nsfwscan.nemo_action": "share/nemo/actions/nsfwscan.nemo_action",
    "nautilus-script": "share/nsfwscan/nautilus-script",
    "scan-in-terminal": "share/nsfwscan/scan-in-terminal",
    "scan-and-wait": "share/nsfwscan/scan-and-wait",
    "thunar.md": "share/nsfwscan/thunar.md",
    "install.sh": "install.sh",
}  # fmt: skip
_PROGRAMS = {"nautilus-script", "scan-in-terminal", "scan-and-wait", "install.sh"}
# Dolphin only shows actions from files that may be executed, so that no download becomes one.
_PROGRAMS |= {"nsfwscan-dolphin.desktop"}
_COMPLETIONS = {
    "bash": "share/bash-completion/completions/nsfwscan",
    "zsh": "share/zsh/site-functions/_nsfwscan",
    "fish": "share/fish/vendor_completions.d/nsfwscan.fish",
}


def stage(bundle: str, into: str, epoch_s: int, *, linux: bool = True) -> str:
    """Make the folder `into`/<name of the bundle> and return its path.

    What is inside is read from `<bundle>.inventory.json`, which `packaging/build` writes; without
    that file this has to run in the environment that was frozen. `linux` adds what only desktops on
    Linux know. Raises `ShippingError`.
    """
    bundle = os.path.abspath(bundle)
    program = inventory.program_of(bundle)
    kept = f"{bundle}.inventory.json"
    if os.path.exists(kept):
        found = inventory.load(bundle, kept)
    else:
        found = inventory.take(bundle, inventory.frozen_modules(bundle))
    folder = os.path.join(into, os.path.basename(bundle))
    if os.path.exists(folder):
        raise ShippingError(f"{folder} is in the way; remove it first")
    os.makedirs(into, exist_ok=True)
    shutil.copytree(bundle, folder, symlinks=True, copy_function=_link)
    found = replace(found, bundle=folder)
    _write(folder, licences.NAME, licences.render(found))
    _write(folder, sbom.NAME, sbom.render(found, epoch_s))
    for name in ("LICENSE", "README.md"):
        with open(os.path.join(CHECKOUT, name), encoding="utf-8") as file:
            _write(folder, name, file.read())
    if linux:
        _add_linux(folder, program, epoch_s)
    return folder


def _add_linux(folder: str, program: str, epoch_s: int) -> None:
    _write(folder, "share/man/man1/nsfwscan.1", manual.render(epoch_s))
    for shell, path in _COMPLETIONS.items():
        _write(folder, path, completion(program, shell))
    day = datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d")
    for name, path in _LINUX.items():
        with open(os.path.join(PACKAGING, "linux", name), encoding="utf-8") as file:
            text = file.read().replace("@VERSION@", __version__).replace("@DATE@", day)
        _write(folder, path, text, program=name in _PROGRAMS)


def completion(program: str, shell: str) -> str:
    """Let the program itself print its completion script. Raises `ShippingError`."""
    # Which shell it is, is usually found out from the parent process.
    env = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        [program, "--show-completion", shell],
        capture_output=True, text=True, env=env, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode != 0 or "_NSFWSCAN_COMPLETE" not in done.stdout:
        raise ShippingError(
            f"{program} --show-completion {shell} ended with {done.returncode}: {done.stderr}"
        )
    return done.stdout


def _link(source: str, target: str) -> None:
    """Give a file a second name, which costs no space; copy it where that is impossible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _write(folder: str, name: str, text: str, *, program: bool = False) -> None:
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):  # a second name of a file of the bundle, which must not change
        os.unlink(path)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
    os.chmod(path, 0o755 if program else 0o644)
