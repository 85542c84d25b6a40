"""`ModelManifest`: everything that can change a score or its meaning, read from a package.

A manifest is untrusted data. Every field is checked; one that is missing, unknown or out of range
is refused by name, and nothing is guessed. This module does no I/O.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum, StrEnum
from typing import Any, TypeVar

from nsfwscan.values.errors import ManifestError
from nsfwscan.values.geometry import Geometry, Resample, Resize

SCHEMA = "nsfwscan-model/1"
MANIFEST_NAME = "manifest.json"
MODEL_NAME = "model.onnx"
LICENCE_NAME = "LICENSE"
PUBLISHED = "published"
"""The recipe of a graph that was published by others."""
MAX_MANIFEST_BYTES = 1 << 20
"""A manifest is a few kilobytes; a larger one is not read."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_HEX64 = re.compile(r"[0-9a-f]{64}\Z")
_MAX_EDGE = 4096
_E = TypeVar("_E", bound=Enum)


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
    def package(self) -> str:
        """Return the name of the package's folder."""
        return f"{self.name}-{self.version}"

    @property
    def checksum(self) -> str:
        """Return a hash, 64 hex digits, of every field. It detects damage, not forgery."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def dump(self) -> str:
        """Return the manifest as JSON text from which `parse` returns an equal value."""
        document = {"schema": SCHEMA, **asdict(self), "checksum": self.checksum}
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
    top = _Fields(document, where)
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
    if manifest.external_data == MODEL_NAME:
        raise ManifestError(f"{where}: external_data must not be {MODEL_NAME} itself")
    return manifest


def _files(given: _Fields) -> Mapping[str, Artefact]:
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


def _input(given: _Fields) -> InputSpec:
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


def _geometry(given: _Fields) -> Geometry:
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


def _output(given: _Fields) -> OutputSpec:
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


def _thresholds(given: _Fields) -> Thresholds:
    thresholds = Thresholds(
        review_at=given.number("review_at", 0, 1),
        flag_at=given.number("flag_at", 0, 1),
        source=given.text("source"),
    )
    given.done()
    if thresholds.review_at > thresholds.flag_at:
        raise ManifestError(f"{given.where}.review_at is above flag_at")
    return thresholds


def _probes(top: _Fields) -> tuple[Probe, ...]:
    probes = []
    for one in top.several("probes"):
        probes.append(Probe(name=one.text("name", _NAME), unsafe=one.number("unsafe", 0, 1)))
        one.done()
    return tuple(probes)


def _numbers(given: _Fields) -> Mapping[str, float]:
    return {name: given.number(name, -1e12, 1e12) for name in given.names()}


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key appears twice")  # parsers differ in which one they take
    return document


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")


class _Fields:
    """Reads the fields of a mapping by name, checks each, and refuses unknown ones in `done`."""

    def __init__(self, document: object, where: str) -> None:
        if not isinstance(document, Mapping):
            raise ManifestError(f"{where} must be a table of fields")
        self.where = where
        self._document: Mapping[str, object] = document
        self._asked: set[str] = set()

    def names(self) -> list[str]:
        return list(self._document)

    def text(
        self, name: str, pattern: re.Pattern[str] | None = None, *, default: str | None = None
    ) -> str:
        value = self._get(name, default)
        if not isinstance(value, str) or (default is None and not value) or len(value) > 4000:
            raise self._wrong(name, value, "text")
        if not value.isprintable():  # control characters would reach the terminal
            raise self._wrong(name, value, "printable text")
        if pattern is not None and not pattern.match(value):
            raise self._wrong(name, value, f"text that matches {pattern.pattern}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._get(name)
        if not isinstance(value, list | tuple) or len(value) > 10_000:
            raise self._wrong(name, value, "a list of strings")
        if not all(isinstance(one, str) and one and one.isprintable() for one in value):
            raise self._wrong(name, value, "a list of printable strings")
        return tuple(value)

    def number(self, name: str, low: float, high: float) -> float:
        return self._number(name, self._get(name), low, high)

    def triple(self, name: str, low: float, high: float) -> tuple[float, float, float]:
        value = self._get(name)
        if not isinstance(value, list | tuple) or len(value) != 3:
            raise self._wrong(name, value, "a list of three numbers")
        red, green, blue = (self._number(name, one, low, high) for one in value)
        return red, green, blue

    def whole(self, name: str, low: int, high: int) -> int:
        value = self._get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(name, value, f"a whole number from {low} to {high}")
        return value

    def choice(self, name: str, options: type[_E]) -> _E:
        value = self._get(name)
        try:
            return options(value)
        except ValueError:
            words = ", ".join(str(one.value) for one in options)
            raise self._wrong(name, value, f"one of {words}") from None

    def fields(self, name: str, *, default: object = None) -> _Fields:
        return _Fields(self._get(name, default), f"{self.where}: {name}")

    def several(self, name: str) -> list[_Fields]:
        value = self._get(name, [])
        if not isinstance(value, list | tuple) or len(value) > 1000:
            raise self._wrong(name, value, "a list")
        return [_Fields(one, f"{self.where}: {name}[{at}]") for at, one in enumerate(value)]

    def done(self) -> None:
        """Refuse fields that were not read: they might change the meaning."""
        strangers = set(self._document) - self._asked
        if strangers:
            raise ManifestError(f"{self.where} has an unknown field {sorted(strangers)[0]!r}")

    def _get(self, name: str, default: object = None) -> object:
        self._asked.add(name)
        value = self._document.get(name, default)
        if value is None:
            raise ManifestError(f"{self.where} lacks the field {name!r}")
        return value

    def _number(self, name: str, value: object, low: float, high: float) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self._wrong(name, value, "a number")
        if not low <= value <= high:  # also refuses NaN
            raise self._wrong(name, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def _wrong(self, name: str, value: object, wanted: str) -> ManifestError:
        return ManifestError(f"{self.where}: {name} is {str(value)[:60]!r}, not {wanted}")
