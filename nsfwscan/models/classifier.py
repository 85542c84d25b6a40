"""From pixels to scores. The only module that uses onnxruntime.

Importing it costs as much as importing onnxruntime and numpy (about 0.2 s), so callers import it
only once they have a picture to score.
"""

from __future__ import annotations

import math
import os
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, assert_never

import numpy as np
import onnxruntime

from nsfwscan.models.manifest import (
    MODEL_NAME,
    PUBLISHED,
    ChannelOrder,
    DType,
    Layout,
    ModelManifest,
    OutputKind,
    Reduction,
)
from nsfwscan.models.provider import Provider
from nsfwscan.values.errors import ModelUnusable, ResourcesExhausted
from nsfwscan.values.outcome import Reading
from nsfwscan.values.results import Scores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from nsfwscan.models.package import InstalledModel

_PROVIDER_OF = {
    "cuda": "CUDAExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
_ORT_DTYPE = {"tensor(float)": DType.FLOAT32, "tensor(uint8)": DType.UINT8}
_ORT_FLOATS = frozenset({"tensor(float)", "tensor(float16)", "tensor(double)"})
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
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
        self._session, self.provider = _open_session(model, threads, provider, warn)
        _sessions.add(self._session)
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
        output = self._manifest.output
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
        found = self._run(names, {self._manifest.input.name: self._prepare(pixels)})
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
            outputs: Sequence[Any] = self._session.run(names, feed)
        except Exception as error:  # onnxruntime's exceptions share no base class
            if exhausted := ResourcesExhausted.because(error):
                raise exhausted from error
            raise ModelUnusable(
                f"model {self._manifest.name} failed to run: {_first_line(error)}",
                hint="run `nsfwscan models verify` and `nsfwscan selftest`",
            ) from error
        return outputs

    def _prepare(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """Turn (H, W, 3) uint8 RGB into a batch of one, as the graph takes it."""
        spec = self._manifest.input
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

    def _check_graph(self) -> None:
        spec, wanted = self._manifest.input, self._manifest.output
        inputs = {node.name: node for node in self._session.get_inputs()}
        outputs = {node.name: node for node in self._session.get_outputs()}
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


def available_providers() -> list[Provider]:
    """Return the providers that the installed onnxruntime supports, best first."""
    names = set(onnxruntime.get_available_providers())
    return [Provider(word) for word, name in _PROVIDER_OF.items() if name in names]


class _RunnableGraph(NamedTuple):
    data: bytes
    weights: str
    """The folder of external weights."""
    final: bool
    """Whether it was built for onnxruntime's kernels and must not be optimised further."""


def _open_session(
    model: InstalledModel, threads: int, provider: Provider, warn: Callable[[str], None]
) -> tuple[Any, Provider]:
    """Open a session on the requested provider; `auto` falls back to the CPU with a warning."""
    available = available_providers()
    if provider is not Provider.AUTO and provider not in available:
        raise ModelUnusable(
            f"the installed onnxruntime does not support {provider}",
            hint=f"it supports {', '.join(available)}; another onnxruntime may add {provider}",
        )
    chosen = available[0] if provider is Provider.AUTO else provider
    graph = _RunnableGraph(
        model.read_artefact(MODEL_NAME),
        _weights_folder(model),
        final=model.manifest.recipe != PUBLISHED,
    )
    try:
        return _session(graph, threads, chosen), chosen
    except ModelUnusable as error:
        if provider is not Provider.AUTO or chosen is Provider.CPU:
            raise
        warn(f"{chosen} cannot run this model ({error}); using the CPU")
        return _session(graph, threads, Provider.CPU), Provider.CPU


def _weights_folder(model: InstalledModel) -> str:
    """Verify external weights, and return the folder where the graph may look for them.

    A graph whose manifest names no such file must not find one, but onnxruntime would look in the
    current folder. So it is given a path that is not a folder.
    """
    if not model.manifest.external_data:
        return os.devnull
    model.check_artefact(model.manifest.external_data)
    return os.path.abspath(model.folder)


def _session(graph: _RunnableGraph, threads: int, provider: Provider) -> Any:
    onnxruntime.disable_telemetry_events()  # in case onnxruntime was loaded before us
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors come as exceptions; its log would repeat them
    # Threads that spin between two pictures take the core that decodes the next one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if graph.final:
        # Optimising it again would cost time and bring back slower operators.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    names = list(dict.fromkeys([_PROVIDER_OF[provider], _PROVIDER_OF["cpu"]]))
    try:
        options.add_session_config_entry(_WEIGHTS_FOLDER, graph.weights)
        # onnxruntime's own fallback prints to standard output, where the results go.
        session = onnxruntime.InferenceSession(
            graph.data, options, providers=names, enable_fallback=0
        )
    except Exception as error:  # onnxruntime's exceptions share no base class
        if exhausted := ResourcesExhausted.because(error):
            raise exhausted from error
        raise ModelUnusable(
            f"onnxruntime {onnxruntime.__version__} refuses the graph: {_first_line(error)}",
            hint="run `nsfwscan models verify`; a newer onnxruntime may read it",
        ) from error
    # A provider whose own libraries (CUDA, for example) are missing is dropped without an error.
    if names[0] not in session.get_providers():
        raise ModelUnusable(
            f"onnxruntime cannot start {provider}",
            hint="its drivers or libraries may be missing; the provider `cpu` always works",
        )
    return session


def _fits(found: Sequence[object], wanted: Sequence[int]) -> bool:
    """Return True if a graph's shape, in which text or None is a free axis, takes `wanted`."""
    return len(found) == len(wanted) and all(
        have == want for have, want in zip(found, wanted, strict=True) if isinstance(have, int)
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


_sessions: weakref.WeakSet[Any] = weakref.WeakSet()


def _never_free() -> None:
    """Keep a forked child from freeing sessions: it would wait for its parent's threads."""
    import ctypes

    for session in list(_sessions):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_never_free)
