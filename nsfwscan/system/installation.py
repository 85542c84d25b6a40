"""How this nsfwscan was installed, and how to remove it."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.system import bundled
from nsfwscan.system.reading import open_text

if TYPE_CHECKING:
    from importlib.metadata import Distribution

REMOVE_NOTE = "REMOVE.txt"
"""One line in a bundle's folder about how to remove it, written by whatever installed it."""


class Installation(NamedTuple):
    """What a user needs to know to remove the program."""

    how: str
    """For example `by pip`."""
    where: str
    """The folder that holds the program."""
    removal: str
    """A command, or a sentence if there is no command."""


def find() -> Installation:
    """Return how the running program was installed."""
    bundle = bundled.folder()
    return _bundle(bundle) if bundle else _python()


def installing(package: str) -> str:
    """Return the command that installs a package beside this nsfwscan."""
    program = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    return f"{program} -m pip install {package}"


def installing_extra(extra: str) -> str:
    """Return the command that installs the packages of an extra, as `pip install '.[EXTRA]'` does.

    It names the packages and not nsfwscan, which may not be in the package index.
    """
    from importlib import metadata

    try:
        requirements = metadata.requires("nsfwscan") or []
    except metadata.PackageNotFoundError:
        requirements = []
    wanted = []
    for line in requirements:
        requirement, _, marker = line.partition(";")
        if re.search(rf"""extra == ["']{extra}["']""", marker):
            wanted.append(f'"{requirement.strip()}"')  # > and < mean redirection to the shell
    return installing(" ".join(wanted) or f'".[{extra}]"')


def _bundle(folder: str) -> Installation:
    try:
        with open_text(os.path.join(folder, REMOVE_NOTE)) as file:
            removal = file.readline().strip()
    except OSError:
        removal = ""
    return Installation("as a bundle", folder, removal or f"delete the folder {folder}")


def _python() -> Installation:
    from importlib import metadata  # takes 20 ms, which other commands save

    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        distribution = metadata.distribution("nsfwscan")
    except metadata.PackageNotFoundError:
        return Installation("as a folder of source code", here, f"delete the folder {here}")
    # Both leave a file of their own in the environment that they create for a program.
    if os.path.exists(os.path.join(sys.prefix, "pipx_metadata.json")):
        return Installation("by pipx", sys.prefix, "pipx uninstall nsfwscan")
    if os.path.exists(os.path.join(sys.prefix, "uv-receipt.toml")):
        return Installation("by uv", sys.prefix, "uv tool uninstall nsfwscan")
    installer = _note(distribution, "INSTALLER").strip() or "pip"
    editable = _is_editable(_note(distribution, "direct_url.json"))
    how = f"by {installer}" + (f", from the source code in {here}" if editable else "")
    if installer == "uv":
        return Installation(how, sys.prefix, f"uv pip uninstall --python {sys.executable} nsfwscan")
    return Installation(how, sys.prefix, f"{sys.executable} -m pip uninstall nsfwscan")


def _note(distribution: Distribution, name: str) -> str:
    """Return a file that the installer wrote into the package's metadata, or "" if unreadable."""
    try:
        return distribution.read_text(name) or ""
    except (OSError, UnicodeDecodeError):
        return ""


def _is_editable(direct_url: str) -> bool:
    try:
        return bool(json.loads(direct_url)["dir_info"]["editable"])
    except (ValueError, KeyError, TypeError):
        return False
