"""Finds the packages in a folder of installed models, and orders them by preference."""

from __future__ import annotations

import os

from nsfwscan.models.catalogue import AUTO_ORDER
from nsfwscan.models.manifest import MANIFEST_NAME
from nsfwscan.models.package import BrokenPackage, InstalledModel, open_package
from nsfwscan.values.errors import ModelError, ModelTampered


def is_path(name_or_path: str) -> bool:
    """Return True if the user means the path of a package and not the name of a model."""
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
    """Return the package in `folder` if every byte of it is verified, otherwise None."""
    one = look(folder)
    if isinstance(one, BrokenPackage):
        return None
    try:
        one.verify()
    except ModelTampered:
        return None
    return one


def look(folder: str) -> InstalledModel | BrokenPackage:
    """Return the package in `folder`, sound or broken, without reading its weights."""
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
    """Return the names of a package: that of its folder and that of its model."""
    names = {os.path.basename(one.folder)}
    return names | {one.manifest.name} if isinstance(one, InstalledModel) else names


def preference(one: InstalledModel | BrokenPackage) -> tuple[int, str, bool, int, str]:
    """Return a sort key: model, then packages with a recipe before published ones, then newest."""
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
    except OSError:  # it has just been removed
        return 0
