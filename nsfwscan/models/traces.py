"""What installed models and downloads leave on the disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nsfwscan.models.manifest import LICENCE_NAME, MANIFEST_NAME
from nsfwscan.models.package import open_package
from nsfwscan.models.staging import LOCK, PARTS, REPLACED, is_part, is_staging
from nsfwscan.system import locations
from nsfwscan.system.traces import entries, is_folder, is_link, is_there, own_parent
from nsfwscan.values.errors import ModelError
from nsfwscan.values.traces import TraceKind, Traces

if TYPE_CHECKING:
    from collections.abc import Iterator


def traces() -> Iterator[Traces]:
    """Yield the packages and leftovers of unfinished ones. Raises `NsfwscanError`."""
    folder = locations.models_folder()
    linked = is_link(folder)
    files: list[str] = []
    folders: list[str] = []
    strangers: list[str] = []
    for entry in entries(folder):
        inside = entry.is_dir(follow_symlinks=False)
        if entry.name in {LOCK, f"{LOCK}.held"} and entry.is_file(follow_symlinks=False):
            files.append(entry.path)
        elif inside and (is_staging(entry.name) or entry.name.startswith(REPLACED)):
            # Only the store writes into these.
            for parent, below, names in os.walk(entry.path, topdown=False):
                files += [os.path.join(parent, name) for name in names]
                files += [path for one in below if is_link(path := os.path.join(parent, one))]
                folders.append(parent)
        elif inside and entry.name == PARTS:
            for inner in entries(entry.path):
                own_file = is_part(inner.name) and inner.is_file(follow_symlinks=False)
                (files if own_file else strangers).append(inner.path)
            folders.append(entry.path)
        elif inside and (own := _names_in_package(entry.path, sure=linked)):
            for inner in entries(entry.path):
                own_file = inner.name in own and inner.is_file(follow_symlinks=False)
                (files if own_file else strangers).append(inner.path)
            folders.append(entry.path)
        else:
            strangers.append(entry.path)
    if is_folder(folder):
        folders += [folder, *own_parent(folder)]
    yield Traces(TraceKind.MODELS, folder, tuple(files), tuple(folders), tuple(strangers))


def _names_in_package(folder: str, *, sure: bool) -> set[str]:
    """Return the names of the files that belong to a package; none if it is not a package.

    With `sure`, a broken package does not count: other programs also have a `manifest.json`.
    """
    if not is_there(os.path.join(folder, MANIFEST_NAME)):
        return set()
    always = {MANIFEST_NAME, LICENCE_NAME, "model.onnx"}
    try:
        return always | set(open_package(folder).manifest.files)
    except ModelError:  # its other files are unknown
        return set() if sure else always
