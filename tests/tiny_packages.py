"""Model packages of a few hundred bytes: the store and the downloads never look into a graph."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
from typing import TYPE_CHECKING

from nsfwscan.models import catalogue
from nsfwscan.models.catalogue import CatalogueEntry, HubFile, HubSource
from nsfwscan.models.manifest import LICENCE_NAME, MANIFEST_NAME, MODEL_NAME, Artefact

if TYPE_CHECKING:
    from nsfwscan.models.manifest import ModelManifest

REPO = "someone/some-model"
REVISION = "0123456789abcdef0123456789abcdef01234567"
FILE = "onnx/model_quantized.onnx"


def content(size: int, seed: int = 0) -> bytes:
    """Return `size` bytes that no two seeds share."""
    return random.Random(seed).randbytes(size)


def describe(data: bytes) -> Artefact:
    """Return what a manifest says of a file that holds `data`."""
    return Artefact(hashlib.sha256(data).hexdigest(), len(data))


def make(
    folder: str, *, model: bytes | None = None, weights: bytes = b"", **changes: str
) -> ModelManifest:
    """Write a package and return its manifest; `changes` replace fields of the manifest."""
    graph = content(200) if model is None else model
    files = {MODEL_NAME: graph, LICENCE_NAME: b"All rights given.\n"}
    if weights:
        files["weights.bin"] = weights
    base = catalogue.load()["falconsai"].manifest({n: describe(d) for n, d in files.items()})
    external = "weights.bin" if weights else ""
    manifest = dataclasses.replace(base, external_data=external, **changes)  # type: ignore[arg-type] # only texts are changed
    os.makedirs(folder)
    for name, data in {**files, MANIFEST_NAME: manifest.dump().encode()}.items():
        with open(os.path.join(folder, name), "wb") as stream:
            stream.write(data)
    return manifest


def entry(data: bytes, *, size: int | None = None, name: str = "falconsai") -> CatalogueEntry:
    """Return the catalogue's entry with its graph replaced by `data`, as published at `REPO`."""
    file = HubFile(FILE, MODEL_NAME, hashlib.sha256(data).hexdigest(), size)
    origin = HubSource(REPO, REVISION, (file,))
    return dataclasses.replace(catalogue.load()[name], origin=origin)
