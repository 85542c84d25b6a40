"""What all benchmarks share: running commands, interleaving them, medians, memory and tables."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_T = TypeVar("_T")
_MEMORY_EVERY_S = 0.02
_WARM_UP_SHARE = 0.1
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclass(frozen=True, slots=True)
class Run:
    """What one process, with all its children, took."""

    seconds: float
    """From its start to its end."""
    core_seconds: float
    """Of processor time, user and system, children included."""
    first_line: float
    """Seconds until the first line of its output; NaN when there was none."""
    steady_rate: float
    """Lines a second between the first tenth of them and the last; NaN for fewer than 20 lines."""
    output: str
    complaint: str
    """What it said on stderr."""


def nsfwscan(*arguments: str) -> list[str]:
    """Return the command that runs nsfwscan, from this checkout."""
    return [sys.executable, "-m", "nsfwscan", *arguments]


def environment(home: str) -> dict[str, str]:
    """Return an environment in which nsfwscan keeps everything below the folder `home`.

    Modules are compiled once and kept, as an installed program has them, away from the checkout.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NSFWSCAN_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    compiled = os.path.join(tempfile.gettempdir(), "nsfwscan-compiled")
    path = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH", ""))))
    ours = {"NSFWSCAN_HOME": home, "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": compiled}
    return {**kept, **ours}


def run(command: Sequence[str], env: Mapping[str, str], *, expect: Sequence[int] = (0,)) -> Run:
    """Run a command to its end, noting when each line of its output comes.

    Raises SystemExit with what it said on stderr when it ends otherwise than expected.
    """
    lines: list[bytes] = []
    times: list[float] = []
    with tempfile.TemporaryFile() as stderr:
        begun = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=env)
        assert child.stdout is not None
        for line in child.stdout:
            times.append(time.perf_counter() - begun)
            lines.append(line)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        child.stdout.close()
        stderr.seek(0)
        complaint = stderr.read().decode(errors="replace")
    if child.returncode not in expect:
        sys.exit(f"{command} ended with {child.returncode}:\n{complaint}")
    return Run(
        seconds,
        usage.ru_utime + usage.ru_stime,
        times[0] if times else float("nan"),
        _steady_rate(times),
        b"".join(lines).decode(errors="replace"),
        complaint,
    )


def peak_memory_mb(command: Sequence[str], env: Mapping[str, str], expect: Sequence[int]) -> float:
    """Run a command and return the most memory it and its children held at a time, in MB.

    Shared pages count once (the sum of PSS, looked at every 20 ms). NaN where /proc is missing.
    """
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    peak = float("nan") if not os.path.isdir("/proc/self") else 0.0
    while child.poll() is None:
        peak = max(peak, sum(map(pss_mb, family(child.pid))))
        time.sleep(_MEMORY_EVERY_S)
    if child.returncode not in expect:
        sys.exit(f"{command} ended with {child.returncode}")
    return peak


def interleaved(rounds: int, tasks: Mapping[str, Callable[[], _T]]) -> dict[str, list[_T]]:
    """Run every task once a round, so that what slows the machine down slows them all alike."""
    results: dict[str, list[_T]] = {name: [] for name in tasks}
    for number in range(rounds):
        for name, task in tasks.items():
            note(f"round {number + 1} of {rounds}: {name}")
            results[name].append(task())
    note("")
    return results


def median(values: Sequence[float]) -> float:
    """Return the median; NaN of nothing."""
    return statistics.median(values) if values else float("nan")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table in Markdown, texts to the left, numbers to the right."""
    widths = [max(len(row[at]) for row in (header, *rows)) for at in range(len(header))]
    lines = [
        "| " + " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) + " |"
        for row in (header, *rows)
    ]
    rule = "| " + " | ".join(["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])


def machine() -> str:
    """Say what this was measured on, and how busy it was with other things."""
    from nsfwscan.system import cores

    load = f", load {os.getloadavg()[0]:.1f} before" if hasattr(os, "getloadavg") else ""
    return f"{cores.available()} cores, Python {sys.version.split()[0]}{load}"


def note(sentence: str) -> None:
    """Show what is under way, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{sentence}", end="", file=sys.stderr, flush=True)


def _steady_rate(times: Sequence[float]) -> float:
    begin = int(len(times) * _WARM_UP_SHARE)
    if begin < 2:
        return float("nan")
    return (len(times) - 1 - begin) / (times[-1] - times[begin])


def memory_mb(pid: int) -> float:
    """Return the memory of a process and its children; what they share counts once."""
    return sum(map(pss_mb, family(pid)))


def core_seconds(pid: int) -> float:
    """Return the processor time, user and system, that a process and its children have used."""
    ticks = 0
    for one in family(pid):
        with contextlib.suppress(OSError), open(f"/proc/{one}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """Return `pid` and all its descendants that run a program of their own."""
    found = [pid]
    for one in found:
        try:
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children", encoding="ascii") as file:
                    children = map(int, file.read().split())
                # Between vfork and exec a child shows its parent's memory, which would count twice.
                found.extend(child for child in children if _program(child) != _program(one))
        except OSError:
            continue
    return found


def _program(pid: int) -> bytes:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()


def pss_mb(pid: int, which: str = "Pss") -> float:
    """Return the memory of a process, and its part of what it shares; `which` is a line's name."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            sizes = (line.split()[1] for line in file if line.startswith(f"{which}:"))
            return int(next(sizes, 0)) / 1e3
    except OSError:
        return 0.0
