"""Sessions of onnxruntime. The only module that uses it.

Importing it costs as much as importing onnxruntime and numpy (about 0.2 s), so callers import it
only once they have a picture to score.
"""

from __future__ import annotations

import functools
import os
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnxruntime

from nsfwscan.models.provider import Provider
from nsfwscan.values.errors import ModelUnusable, ResourcesExhausted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_PROVIDER_OF = {
    "cuda": "CUDAExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"


class Runnable(NamedTuple):
    """A verified graph."""

    data: bytes
    weights: str = os.devnull
    """The folder where the graph may look for external weights.

    A graph that has none must not find any, but onnxruntime would look in the current folder. So
    this is then a path that is not a folder."""
    final: bool = False
    """Whether it was built for onnxruntime's kernels and must not be optimised further."""


class OrtGraph:
    """A graph in onnxruntime, for any number of threads."""

    def __init__(self, graph: Runnable, *, threads: int, provider: Provider = Provider.CPU) -> None:
        """Load `graph`; one run uses so many `threads`. Raises `ModelUnusable` if it is refused."""
        self._session = _session(graph, threads, provider)
        _sessions.add(self._session)
        self.inputs: list[Any] = self._session.get_inputs()
        self.outputs: list[Any] = self._session.get_outputs()
        """Have a name, a type such as `tensor(float)` and a shape."""

    def run(self, outputs: Sequence[str], feed: Mapping[str, NDArray[Any]]) -> Sequence[Any]:
        """Return these outputs. Raises `ModelUnusable`, or `ResourcesExhausted`."""
        try:
            found: Sequence[Any] = self._session.run(list(outputs), dict(feed))
        except Exception as error:  # onnxruntime's exceptions share no base class
            if exhausted := ResourcesExhausted.because(error):
                raise exhausted from error
            raise ModelUnusable(_first_line(error)) from error
        return found


def available_providers() -> list[Provider]:
    """Return the providers that the installed onnxruntime supports, best first."""
    names = set(onnxruntime.get_available_providers())
    return [Provider(word) for word, name in _PROVIDER_OF.items() if name in names]


@functools.cache
def exact_int8() -> bool:
    """Return True if products of uint8 activations and int8 weights are exact on this processor.

    Without VNNI or the like, onnxruntime adds pairs of products in 16 bits, and large ones
    saturate. So the largest are multiplied, by one row and by several, as both have kernels of
    their own.
    """
    from nsfwscan.models.graphs import onnx_file  # imports protobuf
    from nsfwscan.models.graphs.graph import Builder, Value

    depth, width = 256, 64
    b = Builder()
    weight = b.constant("weight", np.full((depth, width), 127, np.int8))
    rows = Value("rows", np.dtype(np.uint8), ("rows", depth))
    b.node("MatMulInteger", ("rows", weight), "products")
    graph = b.graph((rows,), (Value("products", np.dtype(np.int32), ("rows", width)),))
    session = OrtGraph(Runnable(onnx_file.to_bytes(graph)), threads=1)
    return all(
        bool(
            (
                session.run(["products"], {"rows": np.full((count, depth), 255, np.uint8)})[0]
                == depth * 255 * 127
            ).all()
        )
        for count in (1, 2, 64)
    )


def _session(graph: Runnable, threads: int, provider: Provider) -> Any:
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
