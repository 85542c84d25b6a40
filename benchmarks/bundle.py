"""Size, start-up and memory of the bundle, next to the installed package, rembg and NudeNet.

`python -m benchmarks.bundle dist/nsfwscan-VERSION-linux-x86_64`. The peers, and nsfwscan itself,
are installed into virtual environments of their own. rembg fetches its model from the network at
the first use, so only its size without one and its start are compared; NudeNet's is in its wheel.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import measure, photos

if TYPE_CHECKING:
    from collections.abc import Sequence

_PEERS = {"rembg": "rembg[cpu,cli]", "NudeNet": "nudenet==3.4.2"}
_LOAD = """
import sys, time
begun = time.perf_counter()
from nsfwscan.models.classifier import OrtClassifier
from nsfwscan.models.package import open_package
OrtClassifier(open_package(sys.argv[1]), threads=1, warn=print)
print(time.perf_counter() - begun)
"""
_NAMED = "import nsfwscan.cli.app; from nsfwscan.cli.shared.lazy import Commands; Commands()['{}']"
_IMPORTS = {
    "nothing (`python -c pass`)": "pass",
    "the package (`import nsfwscan`)": "import nsfwscan",
    "no command yet": "import nsfwscan.cli.app",
    "`status`": _NAMED.format("status"),
    "`scan`": _NAMED.format("scan"),
    "every command, as `--help` does": f"{_NAMED.format('scan')}; list(Commands().values())",
    "every command and all they ever import": (
        f"{_NAMED.format('scan')}; list(Commands().values()); import nsfwscan.models.classifier, "
        "nsfwscan.media.decode.decode, httpx, rich.console, pathspec, watchdog.observers, sqlite3"
    ),
}


@dataclass(frozen=True, slots=True)
class _Way:
    """A program to compare: commands and the size of its files."""

    name: str
    folder: str
    version: list[str]
    """What starts it and ends at once."""
    verdict: list[str] | None
    """What looks at one picture; None where that cannot be done here."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bundle", description=__doc__)
    parser.add_argument("bundle", help="the folder that `packaging/build` made")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument(
        "--environments", metavar="FOLDER", help="keep what is installed there for the next run"
    )
    given = parser.parse_args(arguments)
    picture = photos.gather(photos.GATHERED)[0]
    with tempfile.TemporaryDirectory() as scratch:
        model = os.path.join(given.bundle, "models", os.listdir(f"{given.bundle}/models")[0])
        kept = os.path.abspath(given.environments or scratch)
        ways = _ways(os.path.abspath(given.bundle), model, picture, kept, given.without_peers)
        print(measure.machine(), end="\n\n")
        env = measure.environment(os.path.join(scratch, "home"))
        del env["PYTHONPATH"]  # each environment has its own
        print(_ways_table(ways, env, given.rounds), end="\n\n")
        installed = ways[1].version[0].removesuffix("nsfwscan") + "python"
        load = [installed, "-c", _LOAD, model]
        seconds = measure.median(
            [float(measure.run(load, env).output) for _ in range(given.rounds)]
        )
        print(f"Loading the model in a running Python, onnxruntime included: {seconds:.2f} s\n")
        print(_imports_table(installed, env, given.rounds), end="\n\n")
        print(_archive(os.path.abspath(given.bundle), model))


def _ways(bundle: str, model: str, picture: str, scratch: str, without_peers: bool) -> list[_Way]:
    scan = ["scan", "--offline", "--exit-zero", "--quiet", "--no-cache", "--format", "jsonl"]
    program = os.path.join(bundle, "nsfwscan")
    ours = _install(os.path.join(scratch, "nsfwscan"), [f"{measure.ROOT}[heic]"])
    installed = os.path.join(ours, "bin", "nsfwscan")
    ways = [
        _Way("nsfwscan, the bundle", bundle, [program, "--version"], [program, *scan, picture]),
        _Way(
            "nsfwscan, installed by pip",
            ours,
            [installed, "--version"],
            [installed, *scan, "--model", model, picture],
        ),
    ]
    if not without_peers:
        rembg = _install(os.path.join(scratch, "rembg"), [_PEERS["rembg"]])
        nudenet = _install(os.path.join(scratch, "nudenet"), [_PEERS["NudeNet"]])
        detect = "import sys, nudenet; print(nudenet.NudeDetector().detect(sys.argv[1]))"
        python = os.path.join(nudenet, "bin", "python")
        ways += [
            _Way("rembg, without a model", rembg, [f"{rembg}/bin/rembg", "--version"], None),
            _Way(
                "NudeNet (`import nudenet`)",
                nudenet,
                [python, "-c", "import nudenet"],
                [python, "-c", detect, picture],
            ),
        ]
    python = os.path.join(ours, "bin", "python")
    return [*ways, _Way("python -c pass", "", [python, "-c", "pass"], None)]


def _ways_table(ways: list[_Way], env: dict[str, str], rounds: int) -> str:
    for way in ways:  # read every file and compile every module once
        for command in filter(None, (way.version, way.verdict)):
            measure.run(command, env)
    starts = measure.interleaved(
        rounds, {way.name: partial(measure.run, way.version, env) for way in ways}
    )
    judging = {way.name: way.verdict for way in ways if way.verdict}
    verdicts = measure.interleaved(
        rounds, {name: partial(measure.run, command, env) for name, command in judging.items()}
    )
    rows = []
    for way in ways:
        start, start_core = _both(starts[way.name])
        row = [way.name, f"{_size_mb(way.folder):.0f}" if way.folder else ""]
        row += [f"{start * 1e3:.0f}", f"{start_core * 1e3:.0f}"]
        if way.verdict:
            clock, core = _both(verdicts[way.name])
            peak = measure.peak_memory_mb(way.verdict, env, (0,))
            row += [f"{clock:.2f}", f"{core:.2f}", f"{peak:.0f}"]
        else:
            row += [""] * 3
        rows.append(row)
    header = ["what", "MB on disk", "start, ms", "core ms"]
    return measure.table([*header, "one picture, s", "core s", "peak MB"], rows)


def _both(runs: Sequence[measure.Run]) -> tuple[float, float]:
    """Return the medians of seconds by the clock and of processor time."""
    clock = measure.median([one.seconds for one in runs])
    return clock, measure.median([one.core_seconds for one in runs])


def _imports_table(python: str, env: dict[str, str], rounds: int) -> str:
    """Time what is imported, lazily and eagerly, as `-X importtime` tells and by the clock."""
    runs = measure.interleaved(
        rounds,
        {name: partial(measure.run, [python, "-c", code], env) for name, code in _IMPORTS.items()},
    )
    rows = []
    for name, code in _IMPORTS.items():
        told = measure.run([python, "-X", "importtime", "-c", code], env).complaint
        own = [int(us) for us in re.findall(r"import time:\s+(\d+) \|", told)]
        rows.append(
            (name, str(len(own)), f"{sum(own) / 1e3:.0f}",
             *(f"{one * 1e3:.0f}" for one in _both(runs[name])))
        )  # fmt: skip
    header = ("imported", "modules", "importtime, ms", "whole process, ms", "core ms")
    return measure.table(header, rows)


def _archive(bundle: str, model: str) -> str:
    packed = f"{bundle}.tar.xz"
    if not os.path.exists(packed):
        return "No archive was made of this bundle."
    whole = os.path.getsize(packed) / 1e6
    alone = subprocess.run(
        ["tar", "-cJf", "-", "-C", os.path.dirname(model), os.path.basename(model)],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    weight = len(alone) / 1e6
    return f"The archive: {whole:.1f} MB, of which the model is {weight:.1f} MB."


def _install(folder: str, requirements: list[str]) -> str:
    """Make a virtual environment with these and without pip, which no program needs to run."""
    if os.path.isdir(folder):
        return folder
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [os.path.join(folder, "bin", "python"), "-m", "pip", "-q"]
    subprocess.run([*pip, "install", *requirements], check=True, stderr=subprocess.DEVNULL)
    subprocess.run([*pip, "uninstall", "-y", "pip", "setuptools"], check=False, capture_output=True)
    return folder


def _size_mb(folder: str) -> float:
    return sum(
        os.lstat(os.path.join(parent, name)).st_size
        for parent, _, names in os.walk(folder)
        for name in names
    ) / 1e6  # fmt: skip


if __name__ == "__main__":
    main()
