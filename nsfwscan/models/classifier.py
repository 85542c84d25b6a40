"""From pixels to scores.

Importing it costs as much as importing onnxruntime and numpy (about 0.2 s), so callers import it
only once they have a picture to score.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, assert_never

import numpy as np

from nsfwscan.models.manifest import (
    CONVOLUTIONAL,
    MODEL_NAME,
    PUBLISHED,
    ChannelOrder,
    DType,
    Layout,
    ModelManifest,
    OutputKind,
    Reduction,
    Rewriting,
    WeightForm,
)
from nsfwscan.models.provider import Provider
from nsfwscan.models.rewrite.fused_vit import CLS_ATTENTION, EMBEDDING
from nsfwscan.models.runtime import OrtGraph, Runnable, available_providers, exact_int8
from nsfwscan.values.errors import ModelUnusable
from nsfwscan.values.outcome import Reading
from nsfwscan.values.results import Scores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from nsfwscan.models.manifest import InputSpec
    from nsfwscan.models.package import InstalledModel

_ORT_DTYPE = {"tensor(float)": DType.FLOAT32, "tensor(uint8)": DType.UINT8}
_ORT_FLOATS = frozenset({"tensor(float)", "tensor(float16)", "tensor(double)"})
_TOLERANCE = 1e-3
"""How far the sum of a model's probabilities may be from one; float32 softmax stays within 1e-6."""


class Classifier(Protocol):
    """What a scan needs of a model."""

    @property
    def manifest(self) -> ModelManifest:
        """Describes the model, including what its scores mean."""

    def read(
        self, pixels: bytes, views: int, *, embedding: bool = False, attention: bool = False
    ) -> Reading:
        """Score the views of one picture; any number of threads may do so at once.

        `pixels` has (views, height, width, 3) uint8 RGB at the crop size of the manifest's
        geometry. Returns the reading of the least safe view (the first of equals), with its
        embedding and attention if requested and the model has them. Raises `ModelUnusable` if the
        model returns anything but finite numbers.
        """


class OrtClassifier:
    """A `Classifier` on onnxruntime: one session, shared by all threads that score.

    Each picture runs on its own (batch 1), so a score never depends on other pictures; on few cores
    a larger batch would gain little anyway.
    """

    def __init__(
        self,
        model: InstalledModel,
        *,
        threads: int,
        provider: Provider = Provider.AUTO,
        warn: Callable[[str], None],
    ) -> None:
        """Load `model` and check that its graph matches its manifest.

        `threads` is the number of cores used by one run. Raises `ModelTampered` if the bytes are
        not those of the manifest, and `ModelUnusable` if onnxruntime refuses them or the graph's
        inputs or outputs differ. `warn` is called if an accelerator fails and the CPU is used.
        """
        self._manifest = model.manifest
        self._graph, self.provider, self.form = _open_graph(model, threads, provider, warn)
        output = model.manifest.output
        self._output = (
            replace(output, embedding=EMBEDDING, cls_attention=CLS_ATTENTION)
            if self.form
            else output
        )
        self._check_graph()
        self._read_one(np.full(self._shape, 127, np.uint8))

    @property
    def manifest(self) -> ModelManifest:
        """Describes the model, including what its scores mean."""
        return self._manifest

    def read(
        self, pixels: bytes, views: int, *, embedding: bool = False, attention: bool = False
    ) -> Reading:
        """Score the views of one picture; see `Classifier.read`."""
        output = self._output
        extras = (output.embedding if embedding else "", output.cls_attention if attention else "")
        readings = [
            self._read_one(picture, extras)._replace(view=view)
            for view, picture in enumerate(self._stack(pixels, views))
        ]
        return max(readings, key=lambda reading: reading.scores.unsafe)

    def classify(self, pixels: bytes, pictures: int) -> list[Scores]:
        """Score several pictures: (pictures, height, width, 3), otherwise as `Classifier.read`."""
        return [self._read_one(picture).scores for picture in self._stack(pixels, pictures)]

    def _stack(self, pixels: bytes, count: int) -> NDArray[np.uint8]:
        return np.frombuffer(pixels, np.uint8).reshape(count, *self._shape)

    @property
    def _shape(self) -> tuple[int, int, int]:
        geometry = self._manifest.input.geometry
        return geometry.crop_height, geometry.crop_width, 3

    def _read_one(self, pixels: NDArray[np.uint8], extras: tuple[str, str] = ("", "")) -> Reading:
        """Run the graph on one view. `extras` names the embedding and attention outputs, if any."""
        names = [self._manifest.output.name, *filter(None, extras)]
        found = self._run(
            names, {self._manifest.input.name: to_input(pixels, self._manifest.input)}
        )
        by_name = dict(zip(names, found, strict=True))
        row = np.asarray(by_name[names[0]], np.float64).reshape(-1)
        embedding, attention = (self._floats(name, by_name.get(name)) for name in extras)
        outputs: list[float] = row.tolist()
        scores = to_scores(outputs, self._manifest)
        return Reading(scores, embedding=embedding, attention=attention, outputs=tuple(outputs))

    def _floats(self, name: str, output: NDArray[Any] | None) -> bytes | None:
        """Return an output as float32, little-endian. Raises `ModelUnusable` unless all finite."""
        if output is None:
            return None
        if not np.isfinite(output).all():
            raise ModelUnusable(
                f"output {name!r} of model {self._manifest.name} has numbers that are not finite",
                hint="run `nsfwscan selftest`; the model or the provider is broken",
            )
        return np.ascontiguousarray(output, "<f4").tobytes()

    def _run(self, names: list[str], feed: dict[str, NDArray[Any]]) -> Sequence[Any]:
        try:
            return self._graph.run(names, feed)
        except ModelUnusable as error:
            raise ModelUnusable(
                f"model {self._manifest.name} failed to run: {error}",
                hint="run `nsfwscan models verify` and `nsfwscan selftest`",
            ) from error

    def _check_graph(self) -> None:
        spec, wanted = self._manifest.input, self._output
        inputs = {node.name: node for node in self._graph.inputs}
        outputs = {node.name: node for node in self._graph.outputs}
        if list(inputs) != [spec.name]:
            raise self._unlike(f"takes {sorted(inputs)}", f"{spec.name!r}")
        given = inputs[spec.name]
        if _ORT_DTYPE.get(given.type) is not spec.dtype:
            raise self._unlike(f"takes {given.type}", spec.dtype)
        height, width, channels = self._shape
        shape = [height, width, channels] if spec.layout is Layout.NHWC else [3, height, width]
        if not _fits(given.shape, [1, *shape]):
            raise self._unlike(f"takes the shape {given.shape}", f"(N, {str(shape)[1:-1]})")
        for name in filter(None, (wanted.name, wanted.embedding, wanted.cls_attention)):
            if name not in outputs:
                raise self._unlike(f"returns {sorted(outputs)}", f"{name!r}")
        if outputs[wanted.name].type not in _ORT_FLOATS:
            raise self._unlike(f"returns {outputs[wanted.name].type}", "numbers")
        if not _fits(outputs[wanted.name].shape, [1, len(wanted.labels)]):
            raise self._unlike(
                f"returns the shape {outputs[wanted.name].shape}", f"{len(wanted.labels)} labels"
            )

    def _unlike(self, found: str, wanted: str) -> ModelUnusable:
        return ModelUnusable(
            f"the graph of model {self._manifest.name} {found}, but its manifest says {wanted}",
            hint="the package was built wrongly; download or build the model again",
        )


def to_input(pixels: NDArray[np.uint8], spec: InputSpec) -> NDArray[Any]:
    """Turn (H, W, 3) uint8 RGB into a batch of one, as the graph takes it."""
    if spec.channel_order is ChannelOrder.BGR:
        pixels = pixels[:, :, ::-1]
    values: NDArray[Any] = pixels
    if spec.dtype is DType.FLOAT32:
        scaled = pixels.astype(np.float32)
        scaled *= np.float32(spec.scale)
        scaled -= np.asarray(spec.mean, np.float32)
        scaled /= np.asarray(spec.std, np.float32)
        values = scaled
    if spec.layout is Layout.NCHW:
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values)[np.newaxis]


def to_scores(row: Sequence[float], manifest: ModelManifest) -> Scores:
    """Turn one row of the graph's output, (labels,) floats, into probabilities and one score.

    Raises `ModelUnusable` if a number is missing, not finite, or not a probability.
    """
    output = manifest.output
    if len(row) != len(output.labels) or not all(map(math.isfinite, row)):
        raise ModelUnusable(
            f"model {manifest.name} returned {list(row)[:8]} for {len(output.labels)} labels",
            hint="run `nsfwscan selftest`; the model or the provider is broken",
        )
    match output.kind:
        case OutputKind.LOGITS:
            top = max(row)
            powers = [math.exp(value - top) for value in row]
            total = math.fsum(powers)
            probabilities = tuple(power / total for power in powers)
        case OutputKind.INDEPENDENT_LOGITS:
            # tanh does not overflow where exp would
            probabilities = tuple(0.5 + 0.5 * math.tanh(value / 2) for value in row)
        case OutputKind.PROBABILITIES:
            if min(row) < -_TOLERANCE or abs(math.fsum(row) - 1) > _TOLERANCE:
                raise ModelUnusable(
                    f"model {manifest.name} returned {list(row)[:8]}, which are not probabilities",
                    hint="its manifest should probably say that it returns logits",
                )
            probabilities = tuple(min(max(value, 0.0), 1.0) for value in row)
        case _:
            assert_never(output.kind)
    unsafe = [probabilities[output.labels.index(label)] for label in output.unsafe_labels]
    match output.reduction:
        case Reduction.SUM:
            return Scores(probabilities, min(math.fsum(unsafe), 1.0))
        case Reduction.MAX:
            return Scores(probabilities, max(unsafe))
        case _:
            assert_never(output.reduction)


def _open_graph(
    model: InstalledModel, threads: int, provider: Provider, warn: Callable[[str], None]
) -> tuple[OrtGraph, Provider, str]:
    """Load the graph on the requested provider; `auto` falls back to the CPU with a warning.

    The third value is the form of the rewritten weights that run, or empty.
    """
    available = available_providers()
    if provider is not Provider.AUTO and provider not in available:
        raise ModelUnusable(
            f"the installed onnxruntime does not support {provider}",
            hint=f"it supports {', '.join(available)}; another onnxruntime may add {provider}",
        )
    chosen = available[0] if provider is Provider.AUTO else provider
    try:
        return _loaded(model, threads, chosen)
    except ModelUnusable as error:
        if provider is not Provider.AUTO or chosen is Provider.CPU:
            raise
        warn(f"{chosen} cannot run this model ({error}); using the CPU")
        return _loaded(model, threads, Provider.CPU)


def _loaded(
    model: InstalledModel, threads: int, provider: Provider
) -> tuple[OrtGraph, Provider, str]:
    """Load the rewritten graph if the package has one that suits, or else its own."""
    rewriting = model.manifest.rewriting
    # Only the CPU has kernels for its operators.
    if rewriting is not None and rewriting.graph and provider is Provider.CPU and runs(rewriting):
        # An onnxruntime older than the one that it was built with may refuse it.
        with suppress(ModelUnusable):
            graph = _verified(model, rewriting.graph, rewriting.weights, final=False)
            return OrtGraph(graph, threads=threads), provider, rewriting.form
    return OrtGraph(as_published(model), threads=threads, provider=provider), provider, ""


def runs(rewriting: Rewriting) -> bool:
    """Return True if the rewritten graph gives the published scores on this processor."""
    return rewriting.form != WeightForm.INT8 or exact_int8()


def as_published(model: InstalledModel) -> Runnable:
    """Return the graph as it was published or built. Raises `ModelTampered`."""
    recipe = model.manifest.recipe
    # Convolutions that stayed in float are faster in the layout that suits the processor.
    final = recipe != PUBLISHED and not recipe.startswith(CONVOLUTIONAL)
    return _verified(model, MODEL_NAME, model.manifest.external_data, final=final)


def _verified(model: InstalledModel, graph: str, weights: str, *, final: bool) -> Runnable:
    data = model.read_artefact(graph)
    if not weights:
        return Runnable(data, final=final)
    return Runnable(data, os.path.dirname(os.path.abspath(model.check_artefact(weights))), final)


def _fits(found: Sequence[object], wanted: Sequence[int]) -> bool:
    """Return True if a graph's shape, in which text or None is a free axis, takes `wanted`."""
    return len(found) == len(wanted) and all(
        have == want for have, want in zip(found, wanted, strict=True) if isinstance(have, int)
    )
