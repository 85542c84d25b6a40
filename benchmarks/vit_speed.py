"""Time a real-size ViT-B/16-224 in every way one would run it on this machine, side by side.

    python -m benchmarks.vit_speed WORKDIR [--rounds 15] [--only NAME ...]

Needs `nsfwscan[quantize,export]`, openvino and nncf. The models are made once, in WORKDIR. Each
contender lives in a process of its own, and they take turns: a busy moment meets all of them.
Prints medians in milliseconds a picture and the peak memory of each process. `core time` is what
the processor spent at one thread: the figure to trust when the machine has other work, too.

`latency`: one picture after the other. `batch 8`: eight in one call. `bulk`: eight pictures as
fast as the contender can, in whatever way suits it best (ours: two threads share one session).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import numpy as np

from benchmarks import int8_peak, vit_fixture

_IMAGE = 224
_MACS = 16.12e9
"""Of one picture by our graph, whose last block is computed for the CLS token only."""
_BULK = 8
_PAUSE_S = 0.25
"""Between two contenders: the threads of the one before may spin for a fifth of a second."""
_FEWEST = 5
"""Turns, two of them to warm up, however long they take."""

CONTENDERS = (
    "torch float (model card)",
    "onnxruntime float, optimum export",
    "published recipe (dynamic, QUInt8)",
    "optimum avx512_vnni (dynamic, QInt8)",
    "OpenVINO default",
    "OpenVINO INT8, latency",
    "OpenVINO INT8, throughput",
    "ours, dynamic",
    "ours, static",
    "ours, static-scores",
    "ours, static-attention",
)
_OURS = "ours, "


def prepare(work: str) -> None:
    """Make the checkpoint and every model that is not there yet."""
    checkpoint = os.path.join(work, "checkpoint")
    if not os.path.exists(checkpoint):
        vit_fixture.make(checkpoint)
    export = os.path.join(work, "export")
    if not os.path.exists(export):
        from optimum.exporters.onnx import main_export

        main_export(checkpoint, export, task="image-classification", do_validation=False)
    float_model = os.path.join(export, "model.onnx")
    published = os.path.join(work, "published.onnx")
    if not os.path.exists(published):
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(float_model, published, weight_type=QuantType.QUInt8)
    vnni = os.path.join(work, "vnni")
    if not os.path.exists(vnni):
        from optimum.onnxruntime import ORTQuantizer
        from optimum.onnxruntime.configuration import AutoQuantizationConfig

        config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
        ORTQuantizer.from_pretrained(export, file_name="model.onnx").quantize(
            save_dir=vnni, quantization_config=config
        )
    if not os.path.exists(os.path.join(work, "openvino.xml")):
        _prepare_openvino(work, float_model)
    for name in CONTENDERS:
        if name.startswith(_OURS):
            _prepare_ours(work, checkpoint, name.removeprefix(_OURS))


def _prepare_openvino(work: str, float_model: str) -> None:
    import nncf
    import openvino

    model = openvino.convert_model(float_model)
    openvino.save_model(model, os.path.join(work, "openvino.xml"), compress_to_fp16=False)
    random = np.random.default_rng(0)
    values = [
        random.standard_normal((1, 3, _IMAGE, _IMAGE)).astype(np.float32) * 0.5 for _ in range(32)
    ]
    small = nncf.quantize(
        model,
        nncf.Dataset(values),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=32,
    )
    openvino.save_model(small, os.path.join(work, "openvino_int8.xml"), compress_to_fp16=False)


def _prepare_ours(work: str, checkpoint: str, recipe: str) -> None:
    package = os.path.join(work, f"ours-{recipe}")
    if os.path.exists(package):
        return
    from PIL import Image

    pictures = os.path.join(work, "pictures")
    os.makedirs(pictures, exist_ok=True)
    random = np.random.default_rng(0)
    for at in range(8):
        coarse = random.integers(0, 256, (14, 14, 3), np.uint8)
        Image.fromarray(coarse).resize((_IMAGE, _IMAGE)).save(f"{pictures}/{at}.png")
    command = [sys.executable, "-m", "quantize", checkpoint, "-o", package]
    command += ["--pictures", pictures, "--recipe", recipe, "--accept-worse"]
    subprocess.run(command, check=True, capture_output=True)


Call = Callable[[int], None]
"""Runs so many pictures."""


def _worker(name: str, work: str, threads: int) -> None:
    """Answer each request `latency`, `batch` or `bulk` on stdin with milliseconds a picture."""
    one, many, bulk = _load(name, work, threads)
    ways: dict[str, tuple[Call, int]] = {
        "latency": (one, 1),
        "batch": (many, _BULK),
        "bulk": (bulk, _BULK),
    }
    print("ready", flush=True)
    for line in sys.stdin:
        call, count = ways[line.strip()]
        begun, worked = time.perf_counter(), time.process_time()
        call(count)
        answer = {
            "ms": (time.perf_counter() - begun) * 1000 / count,
            "core_ms": (time.process_time() - worked) * 1000 / count,
            "rss_mb": _peak_mb(),
        }
        print(json.dumps(answer), flush=True)


def _peak_mb() -> float:
    with open("/proc/self/status", encoding="ascii") as stream:
        return next(int(line.split()[1]) for line in stream if line.startswith("VmHWM")) / 1024


def _load(name: str, work: str, threads: int) -> tuple[Call, Call, Call]:
    if name.startswith("torch"):
        return _load_torch(work, threads)
    if name.startswith("OpenVINO"):
        return _load_openvino(name, work, threads)
    if name.startswith(_OURS):
        return _load_ours(os.path.join(work, f"ours-{name.removeprefix(_OURS)}"), threads)
    files = {
        "onnxruntime float, optimum export": "export/model.onnx",
        "published recipe (dynamic, QUInt8)": "published.onnx",
        "optimum avx512_vnni (dynamic, QInt8)": "vnni/model_quantized.onnx",
    }
    return _load_onnxruntime(os.path.join(work, files[name]), threads)


def _floats(count: int) -> Any:
    random = np.random.default_rng(1)
    return random.standard_normal((count, 3, _IMAGE, _IMAGE)).astype(np.float32)


def _load_torch(work: str, threads: int) -> tuple[Call, Call, Call]:
    import torch
    from transformers import ViTForImageClassification

    torch.set_num_threads(threads)
    model = ViTForImageClassification.from_pretrained(os.path.join(work, "checkpoint")).eval()
    values = torch.from_numpy(_floats(_BULK))

    def run(count: int) -> None:
        with torch.inference_mode():
            model(values[:count])

    return run, run, run


def _load_onnxruntime(path: str, threads: int) -> tuple[Call, Call, Call]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    values = _floats(_BULK)
    name = session.get_inputs()[0].name

    def run(count: int) -> None:
        session.run(None, {name: values[:count]})

    return run, run, run


def _load_openvino(name: str, work: str, threads: int) -> tuple[Call, Call, Call]:
    import openvino

    throughput = "throughput" in name
    file = "openvino_int8.xml" if "INT8" in name else "openvino.xml"
    config: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads}
    config["PERFORMANCE_HINT"] = "THROUGHPUT" if throughput else "LATENCY"
    core = openvino.Core()
    compiled = core.compile_model(os.path.join(work, file), "CPU", config)
    values = _floats(_BULK)
    request = compiled.create_infer_request()
    queue = openvino.AsyncInferQueue(compiled)

    def run(count: int) -> None:
        request.infer({0: values[:count]})

    def stream(count: int) -> None:
        for at in range(count):
            queue.start_async({0: values[at : at + 1]})
        queue.wait_all()

    return run, run, stream if throughput else run


def _load_ours(package: str, threads: int) -> tuple[Call, Call, Call]:
    from quantize.session import OrtSession

    values = np.random.default_rng(1).integers(0, 256, (_BULK, _IMAGE, _IMAGE, 3), np.uint8)
    latency = OrtSession(package, threads=threads)
    single = latency if threads == 1 else OrtSession(package, threads=1)
    pool = ThreadPoolExecutor(threads)

    def run(count: int) -> None:
        latency.run(values[:count], ["logits"])

    def parallel(count: int) -> None:
        list(pool.map(lambda at: single.run(values[at : at + 1], ["logits"]), range(count)))

    return run, run, parallel


class _Contender:
    def __init__(self, name: str, work: str, threads: int) -> None:
        command = [
            sys.executable,
            "-m",
            "benchmarks.vit_speed",
            work,
            "--worker",
            name,
            "--threads",
            str(threads),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        while (line := self._read()) != "ready":
            if not line:
                raise SystemExit(f"{name} did not start")

    def ask(self, way: str) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{way}\n")
        self._process.stdin.flush()
        answer: dict[str, float] = json.loads(self._read())
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def compare(work: str, names: list[str], rounds: int, seconds: float) -> None:
    """Run all contenders in turns and print the table."""
    table: dict[str, dict[str, float]] = {name: {} for name in names}
    for threads, ways in ((2, ("latency", "batch", "bulk")), (1, ("latency", "batch"))):
        running = {name: _Contender(name, work, threads) for name in names}
        for way in ways:
            column = f"{way}, {threads} thread{'s' * (threads > 1)}"
            taken: dict[str, list[float]] = {name: [] for name in names}
            worked: dict[str, list[float]] = {name: [] for name in names}
            last = time.monotonic() + seconds
            for turn in range(rounds + 2):
                if turn >= _FEWEST and time.monotonic() > last:
                    break
                for name, contender in running.items():
                    time.sleep(_PAUSE_S)
                    answer = contender.ask(way)
                    if turn >= 2:  # the first two warm up
                        taken[name].append(answer["ms"])
                        worked[name].append(answer["core_ms"])
                    if threads == 2 and way == "latency":
                        table[name]["peak MB"] = answer["rss_mb"]
            for name in names:
                table[name][column] = median(taken[name])
                if threads == 1:
                    table[name][f"core time, {way}"] = median(worked[name])
        for contender in running.values():
            contender.close()
    columns = [key for key in table[names[0]] if key != "peak MB"] + ["peak MB"]
    print(" | ".join(["contender", *columns]))
    for name in names:
        print(" | ".join([name, *(f"{table[name][key]:.1f}" for key in columns)]), flush=True)
    loop = int8_peak.best_way()
    if loop is not None:
        for threads in (1, 2):
            peak = int8_peak.measure(loop, threads)
            least = _MACS / peak / 1e6
            print(f"{loop.name} peak, {threads} threads: {peak:.0f} GMAC/s, {least:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=120, help="the most for each column")
    parser.add_argument("--only", nargs="+", default=list(CONTENDERS))
    parser.add_argument("--worker")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.worker:
        _worker(options.worker, options.work, options.threads)
        return
    os.makedirs(options.work, exist_ok=True)
    prepare(options.work)
    compare(options.work, options.only, options.rounds, options.seconds)


if __name__ == "__main__":
    main()
