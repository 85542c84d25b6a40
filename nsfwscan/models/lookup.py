"""Looking through a folder of installed models: which are there, whole, and which comes first."""

from __future__ import annotations

import os

from nsfwscan.models.catalogue import AUTO_ORDER
from nsfwscan.models.manifest import MANIFEST_NAME
from nsfwscan.models.package import BrokenPackage, InstalledModel, open_package
from nsfwscan.values.errors import ModelError, ModelTampered


def is_path(name_or_path: str) -> bool:
    """Tell whether the user means the path of a package and not the name of a model."""
    separators = [os.sep, os.altsep] if os.altsep else [os.sep]
    return name_or_path.startswith((".", "~")) or any(one in name_or_path for one in separators)


def folders_in(folder: str) -> list[str]:
    """Return the folders that may hold packages. Raises `ModelError`."""
    try:
        with os.scandir(folder) as entries:
            return [
                entry.path
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ModelError(f"the model folder {folder} cannot be read: {error.strerror}") from error


def sound(folder: str) -> InstalledModel | None:
    """Return the package in `folder` when every byte of it is right."""
    one = look(folder)
    if isinstance(one, BrokenPackage):
        return None
    try:
        one.verify()
    except ModelTampered:
        return None
    return one


def look(folder: str) -> InstalledModel | BrokenPackage:
    """Return the package in `folder`, sound or broken; its weights are not read."""
    try:
        model = open_package(folder)
    except ModelError as error:
        return BrokenPackage(folder, error)
    if model.manifest.package != os.path.basename(folder):
        return BrokenPackage(
            folder, ModelTampered(f"{folder} holds a package called {model.manifest.package}")
        )
    return model


def names(one: InstalledModel | BrokenPackage) -> set[str]:
    """Return what a package may be called: its folder's name and its model's."""
    names = {os.path.basename(one.folder)}
    return names | {one.manifest.name} if isinstance(one, InstalledModel) else names


def preference(one: InstalledModel | BrokenPackage) -> tuple[int, str, bool, int, str]:
    """Sort by model, then a package of our own recipe before a published file, then the newest."""
    if isinstance(one, BrokenPackage):
        return len(AUTO_ORDER) + 1, one.package, False, 0, one.folder
    name = one.manifest.name
    known = name in AUTO_ORDER
    return (
        AUTO_ORDER.index(name) if known else len(AUTO_ORDER),
        name,
        one.manifest.recipe == "published",
        -_installed_ns(one.folder),
        one.folder,
    )


def _installed_ns(folder: str) -> int:
    try:
        return os.stat(os.path.join(folder, MANIFEST_NAME)).st_mtime_ns
    except OSError:  # removed meanwhile
        return 0
