"""`ModelManifest`: everything that can change a score or its meaning, read from a package.

A manifest is untrusted data. Every field is checked; one that is missing, unknown or out of range
is refused by name, and nothing is guessed. This module does no I/O.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from nsfwscan.models.fields import Fields
from nsfwscan.values.errors import ManifestError
from nsfwscan.values.geometry import Geometry, Resample, Resize

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = "nsfwscan-model/1"
MANIFEST_NAME = "manifest.json"
MODEL_NAME = "model.onnx"
LICENCE_NAME = "LICENSE"
CONVOLUTIONAL = "conv"
"""How the names of recipes for convolutional networks begin."""
PUBLISHED = "published"
"""The recipe of a graph that was published by others."""
MAX_MANIFEST_BYTES = 1 << 20
"""A manifest is a few kilobytes; a larger one is not read."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_REWRITING = re.compile(r"[a-z0-9-]{1,40}/[0-9]{1,4}\Z")
_HEX64 = re.compile(r"[0-9a-f]{64}\Z")
_MAX_EDGE = 4096


class DType(StrEnum):
    """Element type of the pixels that the graph takes."""

    FLOAT32 = "float32"
    UINT8 = "uint8"


class Layout(StrEnum):
    """Order of the axes of the pixels: batch, channels, height, width."""

    NCHW = "NCHW"
    NHWC = "NHWC"


class ChannelOrder(StrEnum):
    """Order of the three colour channels."""

    RGB = "RGB"
    BGR = "BGR"


class OutputKind(StrEnum):
    """What the graph returns, and so what remains to be done to get probabilities."""

    LOGITS = "logits"
    """Exactly one label applies: softmax over the labels."""
    INDEPENDENT_LOGITS = "independent-logits"
    """Any number of labels may apply: a sigmoid for each."""
    PROBABILITIES = "probabilities"


class Reduction(StrEnum):
    """How the probabilities of the unsafe labels become one unsafe score."""

    SUM = "sum"
    """The sum: for labels that exclude each other."""
    MAX = "max"
    """The largest: for independent labels."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The graph's input `name`: (N, ...) pixels, each value = (pixel * scale - mean) / std."""

    name: str
    dtype: DType
    layout: Layout
    channel_order: ChannelOrder
    geometry: Geometry
    scale: float
    mean: tuple[float, float, float]
    """In `channel_order`, in units of the scaled pixel."""
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """The graph's output `name`: (N, labels) floats, and what they mean."""

    name: str
    kind: OutputKind
    labels: tuple[str, ...]
    """The publisher's labels, verbatim, in the order of the output's columns."""
    unsafe_labels: tuple[str, ...]
    reduction: Reduction
    embedding: str = ""
    """Name of an output (N, hidden) with the picture's embedding; empty without one."""
    cls_attention: str = ""
    """Name of an output (N, heads, tokens) with the CLS token's attention in the last block."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The default thresholds, 0 to 1, and their source."""

    review_at: float
    flag_at: float
    source: str


@dataclass(frozen=True, slots=True)
class Artefact:
    """A file of the package: its size and checksum."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Probe:
    """A generated picture (see `nsfwscan.models.probes`) and its recorded score."""

    name: str
    unsafe: float
    """0 to 1, measured with the CPU provider on the machine that built the package."""


class WeightForm(StrEnum):
    """The type of the integers that stand for a rewritten graph's weights."""

    INT8 = "int8"
    """Fast and exact with VNNI or similar instructions; otherwise sums of two products saturate."""
    UINT8 = "uint8"
    """Exact on every processor."""


@dataclass(frozen=True, slots=True)
class Rewriting:
    """A faster graph that was built here from the published one, or why there is none.

    It gives the same scores bit for bit, so it does not change the fingerprint.
    """

    name: str
    """The way of rewriting, with its version."""
    form: str = ""
    """A `WeightForm`; empty if there is no graph."""
    graph: str = ""
    """File name in the package."""
    weights: str = ""
    problem: str = ""
    """Why the published graph runs as it is; empty if it is not of a kind that can be rewritten."""


@dataclass(frozen=True, slots=True)
class ModelManifest:
    """Everything that can change a score or its meaning."""

    name: str
    version: str
    title: str
    source: str
    """The repository or package that the weights come from."""
    revision: str
    licence: str
    """An SPDX expression."""
    files: Mapping[str, Artefact]
    """Every file of the package except the manifest; must include `model.onnx`."""
    input: InputSpec
    output: OutputSpec
    thresholds: Thresholds
    recipe: str
    """How the graph was built: `PUBLISHED` or the name of a quantization recipe."""
    external_data: str = ""
    """The file of weights that `model.onnx` refers to; empty if the weights are in `model.onnx`."""
    agreement: Mapping[str, float] = field(default_factory=dict)
    """Measured agreement with the float32 model; empty if not measured."""
    probes: tuple[Probe, ...] = ()
    notes: str = ""
    """A remark to show at every scan, such as a gate that was not passed."""
    rewriting: Rewriting | None = None
    """None if it was not tried yet."""

    @property
    def fingerprint(self) -> str:
        """Return a hash, 64 hex digits, of all that changes a score: not names or thresholds."""
        graph = {MODEL_NAME: self.files[MODEL_NAME].sha256}
        if self.external_data:
            graph[self.external_data] = self.files[self.external_data].sha256
        moves = {
            "schema": SCHEMA,
            "graph": graph,
            "input": asdict(self.input),
            "output": {
                "name": self.output.name,
                "kind": self.output.kind,
                "labels": self.output.labels,
                "unsafe_labels": self.output.unsafe_labels,
                "reduction": self.output.reduction,
            },
        }
        canonical = json.dumps(moves, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def as_published(self) -> ModelManifest:
        """Return the manifest without what was built here."""
        if self.rewriting is None:
            return self
        built = {self.rewriting.graph, self.rewriting.weights}
        files = {name: one for name, one in self.files.items() if name not in built}
        return replace(self, files=files, rewriting=None)

    @property
    def mapped_files(self) -> frozenset[str]:
        """Return the names of the files that onnxruntime maps into memory."""
        built = self.rewriting.weights if self.rewriting else ""
        return frozenset(filter(None, (self.external_data, built)))

    @property
    def package(self) -> str:
        """Return the name of the package's folder."""
        return f"{self.name}-{self.version}"

    @property
    def checksum(self) -> str:
        """Return a hash, 64 hex digits, of every field. It detects damage, not forgery."""
        canonical = json.dumps(
            self._document(), sort_keys=True, separators=(",", ":"), allow_nan=False
        )
        return hashlib.sha256(canonical.encode()).hexdigest()

    def _document(self) -> dict[str, Any]:
        document = asdict(self)
        if self.rewriting is None:  # manifests that earlier versions wrote have no such field
            del document["rewriting"]
        return document

    def dump(self) -> str:
        """Return the manifest as JSON text from which `parse` returns an equal value."""
        document = {"schema": SCHEMA, **self._document(), "checksum": self.checksum}
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def parse(text: str | bytes, *, where: str = MANIFEST_NAME) -> ModelManifest:
    """Parse a manifest from JSON text.

    `where` is its name in errors. Raises `ManifestError` that names the field.
    """
    try:
        document = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where} is not valid JSON: {error}") from error
    return from_mapping(document, where=where)


def from_mapping(document: object, *, where: str) -> ModelManifest:
    """Read a manifest from decoded JSON or TOML. Raises `ManifestError` that names the field."""
    top = Fields(document, where)
    schema = top.text("schema")
    if schema != SCHEMA:
        raise ManifestError(
            f"{where} has schema {schema!r}, not {SCHEMA!r}",
            hint="a newer nsfwscan may read it",
        )
    manifest = ModelManifest(
        name=top.text("name", _NAME),
        version=top.text("version", _NAME),
        title=top.text("title"),
        source=top.text("source"),
        revision=top.text("revision"),
        licence=top.text("licence"),
        files=_files(top.fields("files")),
        input=_input(top.fields("input")),
        output=_output(top.fields("output")),
        thresholds=_thresholds(top.fields("thresholds")),
        recipe=top.text("recipe"),
        external_data=top.text("external_data", default=""),
        agreement=_numbers(top.fields("agreement", default={})),
        probes=_probes(top),
        notes=top.text("notes", default=""),
        rewriting=_rewriting(top),
    )
    # Optional in a manifest written by hand; `dump` always adds it. Without it, a flipped bit in a
    # mean or a threshold would still be a valid manifest.
    checksum = top.text("checksum", default="")
    top.done()
    if checksum and checksum != manifest.checksum:
        raise ManifestError(
            f"{where} does not match its checksum: it was damaged or edited",
            hint="if you edited it on purpose, remove the line with the checksum",
        )
    if manifest.external_data and manifest.external_data not in manifest.files:
        raise ManifestError(
            f"{where}: external_data names {manifest.external_data!r}, not in files"
        )
    rewriting = manifest.rewriting
    if rewriting is not None and rewriting.graph:
        built = {rewriting.graph, rewriting.weights}
        if not built <= set(manifest.files) or len(built - {MODEL_NAME, LICENCE_NAME}) != 2:
            raise ManifestError(f"{where}: rewriting names files that are not in files")
    if manifest.external_data == MODEL_NAME:
        raise ManifestError(f"{where}: external_data must not be {MODEL_NAME} itself")
    return manifest


def _files(given: Fields) -> Mapping[str, Artefact]:
    files = {}
    for name in given.names():
        if not _FILE.match(name) or name == MANIFEST_NAME:
            raise ManifestError(f"{given.where}: {name!r} is not a file name of a package")
        one = given.fields(name)
        files[name] = Artefact(
            sha256=one.text("sha256", _HEX64), bytes=one.whole("bytes", 1, 1 << 34)
        )
        one.done()
    if MODEL_NAME not in files:
        raise ManifestError(f"{given.where} does not list {MODEL_NAME}")
    return files


def _input(given: Fields) -> InputSpec:
    spec = InputSpec(
        name=given.text("name"),
        dtype=given.choice("dtype", DType),
        layout=given.choice("layout", Layout),
        channel_order=given.choice("channel_order", ChannelOrder),
        geometry=_geometry(given.fields("geometry")),
        scale=given.number("scale", 1e-6, 1e6),
        mean=given.triple("mean", -1e6, 1e6),
        std=given.triple("std", 1e-6, 1e6),
    )
    given.done()
    if spec.dtype is DType.UINT8 and (spec.scale, spec.mean, spec.std) != (1.0, (0,) * 3, (1,) * 3):
        raise ManifestError(
            f"{given.where}: a uint8 input takes raw pixels, so scale 1, mean 0, std 1"
        )
    return spec


def _geometry(given: Fields) -> Geometry:
    geometry = Geometry(
        resize=given.choice("resize", Resize),
        resize_width=given.whole("resize_width", 1, _MAX_EDGE),
        resize_height=given.whole("resize_height", 1, _MAX_EDGE),
        resample=given.choice("resample", Resample),
        crop_width=given.whole("crop_width", 1, _MAX_EDGE),
        crop_height=given.whole("crop_height", 1, _MAX_EDGE),
    )
    given.done()
    if geometry.crop_width > geometry.resize_width or geometry.crop_height > geometry.resize_height:
        raise ManifestError(f"{given.where}: the crop is larger than the resized picture")
    return geometry


def _output(given: Fields) -> OutputSpec:
    output = OutputSpec(
        name=given.text("name"),
        kind=given.choice("kind", OutputKind),
        labels=given.texts("labels"),
        unsafe_labels=given.texts("unsafe_labels"),
        reduction=given.choice("reduction", Reduction),
        embedding=given.text("embedding", default=""),
        cls_attention=given.text("cls_attention", default=""),
    )
    given.done()
    if len(set(output.labels)) != len(output.labels) or len(output.labels) < 2:
        raise ManifestError(f"{given.where}.labels must be at least two different labels")
    strangers = set(output.unsafe_labels) - set(output.labels)
    if strangers or not 0 < len(set(output.unsafe_labels)) < len(output.labels):
        raise ManifestError(f"{given.where}.unsafe_labels must be some of the labels, but not all")
    return output


def _thresholds(given: Fields) -> Thresholds:
    thresholds = Thresholds(
        review_at=given.number("review_at", 0, 1),
        flag_at=given.number("flag_at", 0, 1),
        source=given.text("source"),
    )
    given.done()
    if thresholds.review_at > thresholds.flag_at:
        raise ManifestError(f"{given.where}.review_at is above flag_at")
    return thresholds


def _probes(top: Fields) -> tuple[Probe, ...]:
    probes = []
    for one in top.several("probes"):
        probes.append(Probe(name=one.text("name", _NAME), unsafe=one.number("unsafe", 0, 1)))
        one.done()
    return tuple(probes)


def _rewriting(top: Fields) -> Rewriting | None:
    if "rewriting" not in top.names():
        return None
    given = top.fields("rewriting")
    rewriting = Rewriting(
        name=given.text("name", _REWRITING),
        form=given.text("form", default=""),
        graph=given.text("graph", default=""),
        weights=given.text("weights", default=""),
        problem=given.text("problem", default=""),
    )
    given.done()
    whole = bool(rewriting.form), bool(rewriting.graph), bool(rewriting.weights)
    if len(set(whole)) != 1 or rewriting.form not in {"", *WeightForm}:
        raise ManifestError(f"{given.where} is incomplete, or of an unknown form")
    return rewriting


def _numbers(given: Fields) -> Mapping[str, float]:
    return {name: given.number(name, -1e12, 1e12) for name in given.names()}


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key appears twice")  # parsers differ in which one they take
    return document


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")
