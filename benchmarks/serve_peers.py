"""`nsfwscan serve` beside what people serve a ViT with: FastAPI with transformers, and LitServe.

    python -m benchmarks.serve_peers WORKDIR [--rounds 3]

All serve one ViT-B/16-224 with random weights, which is made in WORKDIR, as are the environments
of the peers. Ours runs it in INT8, as `quantize` builds it, and once more in float; the peers run
it in float, in torch. All are started, and for each number of connections all take their turns, one
at a time, and the engine without a server as well: what else the machine does slows all of them
alike. What sends is the same for all, and uses the same cores.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import dataclasses
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from typing import TYPE_CHECKING, NamedTuple

import psutil

from benchmarks import measure, photos, vit_fixture
from benchmarks.measure import median
from benchmarks.serve_load import CONCURRENCIES, Bare, Served
from benchmarks.serve_requests import Load, ask, request
from benchmarks.watch_latency import percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_HERE = os.path.dirname(os.path.abspath(__file__))
_TRANSFORMERS = ("torch==2.13.0", "transformers==4.57.6", "pillow")
_FASTAPI = ("fastapi==0.165.0", "python-multipart", "uvicorn[standard]==0.54.0")
_LITSERVE = ("litserve==0.2.19",)
_BATCH = 8
_START_S = 120.0
_BOUNDARY = "nsfwscan-benchmark"


class Contender(NamedTuple):
    """One way to serve."""

    name: str
    begin: Callable[[], Served | _Peer]
    requests: list[bytes]


class _Peer:
    """Another server, in a process of its own."""

    def __init__(self, command: Sequence[str], home: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        arguments = [one.replace("PORT", str(self.port)) for one in command]
        self.process = subprocess.Popen(
            arguments,
            env={**measure.environment(home), "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + _START_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise SystemExit(f"{' '.join(arguments)} does not serve")
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            address = f"http://127.0.0.1:{self.port}/health"
            with urllib.request.urlopen(address, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> int:
        """Stop the server and all it has started."""
        family = _family(self.process.pid)
        self.process.terminate()
        psutil.wait_procs(family, timeout=5)
        for one in family:
            if one.is_running():
                one.kill()
        return self.process.wait()


def _family(pid: int) -> list[psutil.Process]:
    """Return a process and all it has started, forks as well."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _core_seconds(pid: int) -> float:
    times = [one.cpu_times() for one in _family(pid)]
    return sum(one.user + one.system for one in times)


def _memory_mb(pid: int) -> float:
    return sum(one.memory_full_info().pss for one in _family(pid)) / 1e6


def in_form(picture: bytes) -> bytes:
    """Return a request with a picture as a form's file."""
    body = (
        (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        ).encode()
        + picture
        + f"\r\n--{_BOUNDARY}--\r\n".encode()
    )
    return _request("/predict", f"multipart/form-data; boundary={_BOUNDARY}", body)


def in_json(picture: bytes) -> bytes:
    """Return a request with a picture in base64."""
    body = json.dumps({"image_data": base64.b64encode(picture).decode()}).encode()
    return _request("/predict", "application/json", body)


def _request(path: str, kind: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def prepare(work: str, paths: Sequence[str]) -> tuple[str, str, str]:
    """Make what is not there yet; return the checkpoint and its packages in INT8 and float."""
    checkpoint, int8, plain = (
        os.path.join(work, name) for name in ("checkpoint", "vit-int8", "vit-float")
    )
    if not os.path.exists(checkpoint):
        vit_fixture.make(checkpoint)
    if not os.path.exists(int8):
        pictures = os.path.join(work, "calibration")
        shutil.rmtree(pictures, ignore_errors=True)
        os.makedirs(pictures)
        for path in paths:
            shutil.copy(path, pictures)
        command = [sys.executable, "-m", "quantize", checkpoint, "-o", int8, "--accept-worse"]
        subprocess.run([*command, "--pictures", pictures], check=True, capture_output=True)
    if not os.path.exists(plain):
        _write_float(checkpoint, int8, plain)
    return checkpoint, int8, plain


def _write_float(checkpoint: str, int8: str, target: str) -> None:
    """Write the package that `quantize` would, had it left the network in float."""
    from nsfwscan.models.graphs import onnx_file
    from nsfwscan.models.manifest import MANIFEST_NAME, Artefact
    from nsfwscan.models.package import open_package
    from quantize import checkpoint as checkpoints
    from quantize import source, vit_graph

    found = checkpoints.open_checkpoint(checkpoint)
    assert found.meaning.preprocessing is not None
    graph = vit_graph.build(found.shape, found.weights(), found.meaning.preprocessing.normalisation)
    partial = tempfile.mkdtemp(dir=os.path.dirname(target))
    onnx_file.write(graph, partial)
    shutil.copy(os.path.join(int8, "LICENSE"), partial)
    files = {
        name: Artefact(
            source.sha256(os.path.join(partial, name)),
            os.path.getsize(os.path.join(partial, name)),
        )
        for name in os.listdir(partial)
    }
    given = open_package(int8).manifest
    manifest = dataclasses.replace(given, files=files, recipe="none", probes=(), agreement={})
    with open(os.path.join(partial, MANIFEST_NAME), "w", encoding="utf-8") as file:
        file.write(manifest.dump())
    os.rename(partial, target)


def python_with(work: str, name: str, requirements: Sequence[str]) -> str:
    """Return a Python that has these packages, installed into a place of its own."""
    place = os.path.join(work, name)
    python = os.path.join(place, "Scripts" if os.name == "nt" else "bin", "python")
    done = os.path.join(place, "installed")
    if not os.path.exists(done):
        venv.create(place, with_pip=True)
        command = [python, "-m", "pip", "install", "--quiet", *requirements]
        subprocess.run(command, check=True, capture_output=True)
        with open(done, "w", encoding="ascii"):
            pass
    return python


def contenders(work: str, paths: Sequence[str], home: str) -> list[Contender]:
    """Return all ways to serve. Raises what failed while they were prepared."""
    checkpoint, int8, plain = prepare(work, paths)
    pictures = []
    for path in paths:
        with open(path, "rb") as file:
            pictures.append(file.read())
    fastapi = python_with(work, "fastapi", (*_TRANSFORMERS, *_FASTAPI))
    litserve = python_with(work, "litserve", (*_TRANSFORMERS, *_LITSERVE))

    def peer(python: str, name: str, *options: str) -> Callable[[], _Peer]:
        command = [python, os.path.join(_HERE, f"peer_{name}.py"), checkpoint, "PORT", *options]
        return lambda: _Peer(command, home)

    return [
        Contender("nsfwscan serve, INT8", lambda: Served(int8, home), [*map(request, pictures)]),
        Contender("nsfwscan serve, float", lambda: Served(plain, home), [*map(request, pictures)]),
        Contender("FastAPI, float", peer(fastapi, "fastapi"), [*map(in_form, pictures)]),
        Contender("LitServe, float", peer(litserve, "litserve", "1"), [*map(in_json, pictures)]),
        Contender(
            f"LitServe, float, batches of {_BATCH}",
            peer(litserve, "litserve", str(_BATCH)),
            [*map(in_json, pictures)],
        ),
    ]


class Row(NamedTuple):
    """One measurement of a server."""

    load: Load
    memory_mb: float


def measured(
    server: Served | _Peer, requests: Sequence[bytes], count: int, concurrency: int
) -> Row:
    """Return what comes of `count` requests, or as many as connections if that is more."""
    before = _core_seconds(server.process.pid)
    load = ask(server.port, requests, max(count, concurrency), concurrency)
    used = _core_seconds(server.process.pid) - before
    load.core_ms = used / max(1, len(load.latencies(200))) * 1000
    return Row(load, _memory_mb(server.process.pid))


def report(work: str, paths: Sequence[str], rounds: int, count: int) -> str:
    """Measure, and lay out what was measured."""
    machine, cores = measure.machine(), len(os.sched_getaffinity(0))
    rows: dict[tuple[int, str], list[Row]] = {}
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
        every = contenders(work, paths, home)
        _, *packages = prepare(work, paths)
        lanes = [Bare(package, paths, home) for package in packages]
        for bare in lanes:
            stack.callback(bare.stop)
        servers = []
        for one in every:
            servers.append(one.begin())
            stack.callback(servers[-1].stop)
            if len(ask(servers[-1].port, one.requests, 4, 2).latencies(200)) < 4:
                raise SystemExit(f"{one.name} does not answer")
        for concurrency in CONCURRENCIES * rounds:
            for kind, bare in zip(("INT8", "float"), lanes, strict=True):
                row = Row(bare.ask(min(cores, concurrency), count), math.nan)
                rows.setdefault((concurrency, f"bare lanes, {kind}"), []).append(row)
            for one, server in zip(every, servers, strict=True):
                row = measured(server, one.requests, count, concurrency)
                rows.setdefault((concurrency, one.name), []).append(row)
                told = f"{one.name}: {row.load.rate:.1f} a second, {row.load.core_ms:.0f} core ms"
                measure.note(f"{concurrency}, {told}")
    table = [
        [str(concurrency), name, *_figures(some)] for (concurrency, name), some in rows.items()
    ]
    header = [
        *("connections", "server", "pictures a second", "core ms", "p50 ms", "p99 ms"),
        *("refused or lost", "MB"),
    ]
    return "\n".join([machine, "", measure.table(header, table)])


def _figures(rows: Sequence[Row]) -> list[str]:
    times = [one for row in rows for one in row.load.latencies(200)]
    answers = sum(len(row.load.answers) + row.load.lost for row in rows)
    memory = median([row.memory_mb for row in rows])
    return [
        f"{median([row.load.rate for row in rows]):.1f}",
        f"{median([row.load.core_ms for row in rows]):.0f}",
        *(f"{percentile(times, share) * 1000:.0f}" for share in (50, 99)),
        str(answers - len(times)),
        "-" if math.isnan(memory) else f"{memory:.0f}",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("work", metavar="WORKDIR", help="for models and the peers' environments")
    parser.add_argument("--photographs", metavar="FOLDER", help="send these, all of them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=64, help="requests, at least the connections")
    given = parser.parse_args(arguments)
    paths = photos.photographs(given.photographs) if given.photographs else photos.default_set(40)
    work = os.path.abspath(given.work)
    os.makedirs(work, exist_ok=True)
    print(report(work, paths, given.rounds, given.count))


if __name__ == "__main__":
    main()
