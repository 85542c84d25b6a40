"""Runs graphs while a model is built. The only module of `quantize` that imports onnxruntime.

Session options are those of a scan, so that measurements here apply to scans.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import onnxruntime

from nsfwscan.models.manifest import MODEL_NAME
from nsfwscan.system import cores
from nsfwscan.values.errors import ModelUnusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from nsfwscan.models.graphs.graph import Array

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_HOPELESS = 1.2
"""A session slower than the fastest by this factor runs only the first rounds of a race."""
_FIRST_ROUNDS = 2

_ERRORS_ONLY = 3
"""onnxruntime's log level. Lower ones print a line about lenient merging for every free axis."""


class OrtSession:
    """A graph loaded for the CPU."""

    def __init__(self, folder: str, *, threads: int = 1) -> None:
        """Load `model.onnx` from `folder`; its weights file is mapped.

        Raises `ModelUnusable` if onnxruntime refuses the graph.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                os.path.join(folder, MODEL_NAME), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ModelUnusable(f"onnxruntime refuses the graph: {error}") from error
        self._input = self._session.get_inputs()[0].name

    def run(self, pixels: Array, outputs: Sequence[str]) -> list[Array]:
        """Return the named outputs for (N, H, W, 3) uint8 pixels. Threads may share a session."""
        try:
            values: list[Array] = self._session.run(list(outputs), {self._input: pixels})
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ModelUnusable(f"onnxruntime cannot run the graph: {error}") from error
        return values


def on_all_cores(work: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
    """Return `work(item)` for each item, in order, with one thread per core.

    Whole pictures in parallel are faster than one picture on all cores, and give the same bits.
    """
    with ThreadPoolExecutor(cores.available()) as pool:
        return list(pool.map(work, items))


def race(
    sessions: Mapping[str, OrtSession], pixels: Array, outputs: Sequence[str], *, rounds: int
) -> dict[str, float]:
    """Time sessions side by side and return each one's best time, in seconds.

    They take turns, so that other load on the machine affects all of them. It can only make a run
    longer, so the best time is the most accurate. Sessions that cannot win are stopped early.
    """
    best = dict.fromkeys(sessions, float("inf"))
    running = dict(sessions)
    for session in running.values():
        session.run(pixels, outputs)
    for number in range(rounds):
        if number == _FIRST_ROUNDS:
            bound = _HOPELESS * min(best.values())
            running = {name: one for name, one in running.items() if best[name] <= bound}
        for name, session in running.items():
            begun = time.perf_counter()
            session.run(pixels, outputs)
            best[name] = min(best[name], time.perf_counter() - begun)
    return best


def optimise(source: str, target: str) -> None:
    """Write the graph file `source`, folded and fused by onnxruntime, as `target`.

    Raises `ModelUnusable` if onnxruntime refuses it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.optimized_model_filepath = target
    # EXTENDED does not include layouts that only suit this machine's processor.
    level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.graph_optimization_level = level
    try:
        onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ModelUnusable(f"onnxruntime refuses the exported graph: {error}") from error
