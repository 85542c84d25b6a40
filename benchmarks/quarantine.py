"""What a large quarantine costs, with volumes away: `python -m benchmarks.quarantine`.

10,000 small pictures from four volumes are in quarantine, then two of the volumes are unplugged.
Measured are `nsfwscan quarantine list`, `restore` and `delete` of all of them, each as a process of
its own, in two layouts: each volume with its own quarantine, which is the default, and one
quarantine in a folder of choice, where pictures are copied. Beside each stand the moves alone: the
same number of renames, copies or removals, and nothing else. The journals are counted as well.

Needs Linux and the right to mount in a namespace of its own (`unshare`), as root or any user.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import measure
from nsfwscan.actions.quarantine.entries import Reason
from nsfwscan.actions.quarantine.held import Quarantines
from nsfwscan.actions.quarantine.intake import BATCH, Arrival, take_in
from nsfwscan.actions.quarantine.vault import open_vault
from nsfwscan.actions.verified_file import VerifiedFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_VOLUMES = 4
_AWAY = 2
_BYTES = 10_000
"""Of a picture. Restoring reads each one, so real ones take the time that reading them does."""
_PLACES = {"a quarantine each": False, "one quarantine": True}
_INSIDE = "--inside"


class Took(NamedTuple):
    """What something took, in seconds."""

    wall: float
    core: float
    """Of processor time, user and system."""


class World:
    """Four volumes below a folder, and a home that holds the list of quarantines."""

    def __init__(self, scratch: str, pictures: int, *, chosen: bool) -> None:
        self._scratch = scratch
        self._each = pictures // _VOLUMES
        self.home = os.path.join(scratch, "home")
        self.chosen = os.path.join(scratch, "chosen") if chosen else None
        self._number = 0
        self.volumes = [os.path.join(scratch, "volumes", str(one)) for one in range(_VOLUMES)]
        for place in self.volumes:
            os.makedirs(place)
            _run("mount", "-t", "tmpfs", "-o", "mode=700", "nsfwscan", place)
        self.away: list[str] = []

    def fill(self) -> None:
        """Write pictures on all volumes, and move them to quarantine."""
        os.environ["NSFWSCAN_HOME"] = self.home
        quarantines = Quarantines(self.chosen, measure.note)
        for place in self.volumes:
            paths = [os.path.join(place, str(one % 50), f"{one}.jpg") for one in range(self._each)]
            for start in range(0, len(paths), BATCH):
                self._move_in(quarantines, paths[start : start + BATCH])

    def _move_in(self, quarantines: Quarantines, paths: list[str]) -> None:
        wanted = []
        for path in paths:
            self._number += 1
            content = self._number.to_bytes(8, "big") * (_BYTES // 8)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _write(path, content)
            picture = VerifiedFile(path, hashlib.sha256(content).digest())
            wanted.append(Arrival(picture, Reason("nsfw", 0.9, "opennsfw")))
        take_in(quarantines.for_picture(paths[0]), wanted)
        for one in wanted:
            one.picture.close()

    def unplug(self) -> None:
        """Take two volumes away; the kernel keeps them for `plug_in`."""
        for number, place in enumerate(self.volumes[:_AWAY]):
            keep = os.path.join(self._scratch, "kept", str(number))
            os.makedirs(keep, exist_ok=True)
            _run("mount", "--bind", place, keep)
            _run("umount", place)
            self.away.append(keep)

    def plug_in(self) -> None:
        """Give back what was taken away."""
        for place, keep in zip(self.volumes, self.away, strict=False):
            _run("mount", "--bind", keep, place)
            _run("umount", keep)
        self.away.clear()

    def close(self) -> None:
        """Unmount everything."""
        self.plug_in()
        for place in self.volumes:
            _run("umount", "--lazy", place)

    def command(self, *words: str) -> tuple[Took, str]:
        """Run a command of `nsfwscan quarantine`; return what it took and printed."""
        chosen = [] if self.chosen is None else ["--quarantine", self.chosen]
        command = measure.nsfwscan("quarantine", *words, *chosen)
        run = measure.run(command, measure.environment(self.home), expect=(0, 6))
        return Took(run.seconds, run.core_seconds), run.output + run.complaint

    def moves(self, name: str, number: int) -> Took:
        """Rename, copy or remove that many files on a volume that is there, and nothing else."""
        volume = self.volumes[-1]
        inside, outside = os.path.join(volume, "moves", "in"), os.path.join(volume, "moves", "out")
        if self.chosen is not None:
            inside = os.path.join(self.chosen, "moves")
        os.makedirs(inside)
        os.makedirs(outside)
        names = list(map(str, range(number)))
        for one in names:  # on the disk, as what is in quarantine is
            _write(os.path.join(inside, one), bytes(_BYTES), sync=True)
        begun = _now()
        for one in names:
            path = os.path.join(inside, one)
            if name == "delete":
                os.unlink(path)
            elif self.chosen is None:
                os.rename(path, os.path.join(outside, one))
            else:
                with open(path, "rb") as file:
                    _write(os.path.join(outside, one), file.read(), sync=True)
                os.unlink(path)
        ended = _now()
        shutil.rmtree(inside)
        shutil.rmtree(os.path.dirname(outside))
        return Took(ended.wall - begun.wall, ended.core - begun.core)

    def journals(self) -> Iterator[float]:
        """Yield, for each quarantine, its records per record that counts."""
        for folder in self.volumes if self.chosen is None else [self.chosen]:
            vault = open_vault(folder, measure.note, create=False)
            if vault is None:
                sys.exit(f"there is no quarantine in {folder}")
            yield len(vault.journal.read().records) / vault.peek().live


def _now() -> Took:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Took(time.perf_counter(), usage.ru_utime + usage.ru_stime)


def _write(path: str, content: bytes, *, sync: bool = False) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        if sync:
            os.fsync(file.fileno())


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def _round(scratch: str, pictures: int, *, chosen: bool) -> dict[str, tuple[Took, Took, float]]:
    """Return, for each command, what it took, what its moves take, and the longest journal."""
    there = pictures // _VOLUMES * (_VOLUMES - _AWAY)
    work: dict[str, tuple[Sequence[str], str, int]] = {
        "list": (("list",), "", 0),
        "restore": (("restore",), f"Restored {there:,} pictures.", there),
        "delete": (
            ("delete", "--yes"),
            f"Deleted {pictures if chosen else there:,} pictures.",
            pictures if chosen else there,
        ),
    }
    found = {}
    for name, (words, expected, moved) in work.items():
        if name != "restore":  # the list changes nothing
            shutil.rmtree(scratch, ignore_errors=True)
            world = World(scratch, pictures, chosen=chosen)
            world.fill()
            world.unplug()
        # By name: other quarantines of the user, such as the one at home, are not to be touched.
        places = world.volumes if chosen else world.volumes[_AWAY:]
        took, printed = world.command(*words, *(places if moved else ()))
        if expected not in printed:
            sys.exit(f"`quarantine {name}` did something else:\n{printed[-1000:]}")
        alone = world.moves(name, moved) if moved else Took(0, 0)
        world.plug_in()
        found[name] = took, alone, max(world.journals())
        if name == "list":
            world.unplug()
        else:
            world.close()
    return found


def measure_in(scratch: str, pictures: int, rounds: int) -> None:
    """Measure, with all files below the folder `scratch`, and print."""
    tasks: dict[str, Callable[[], dict[str, tuple[Took, Took, float]]]] = {
        layout: lambda chosen=chosen: _round(  # type: ignore[misc]
            os.path.join(scratch, "world"), pictures, chosen=chosen
        )
        for layout, chosen in _PLACES.items()
    }
    print(f"{measure.machine()}; medians of {rounds} rounds; {_AWAY} of {_VOLUMES} volumes away\n")
    rows = []
    for layout, results in measure.interleaved(rounds, tasks).items():
        for name in results[0]:
            took = [one[name][0] for one in results]
            alone = [one[name][1] for one in results]
            beside = [a.wall - b.wall for a, b in zip(took, alone, strict=True)]
            rows.append(
                (
                    f"{name}, {layout}",
                    f"{measure.median([one.wall for one in took]):.2f}",
                    f"{measure.median([one.wall for one in alone]):.2f}",
                    f"{measure.median(beside):.2f}",
                    f"{measure.median([one.core for one in took]):.2f}",
                    f"{measure.median([one.core for one in alone]):.2f}",
                    f"{max(one[name][2] for one in results):.2f}",
                )
            )
    header = (
        f"{pictures:,} pictures",
        "seconds",
        "moves alone",
        "beside them",
        "core seconds",
        "moves alone, core",
        "records per one that counts",
    )
    print(measure.table(header, rows))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(_INSIDE, action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if not given.inside:
        _again_inside(given)
        return
    with tempfile.TemporaryDirectory() as scratch:
        measure_in(scratch, given.pictures, given.rounds)


def _again_inside(given: argparse.Namespace) -> None:
    """Run this once more where it may mount. Raises SystemExit where that is not allowed."""
    apart = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid():
        apart += ["--user", "--map-root-user"]
    numbers = ["--pictures", str(given.pictures), "--rounds", str(given.rounds)]
    module = [sys.executable, "-m", "benchmarks.quarantine", _INSIDE, *numbers]
    environment = {**os.environ, "PYTHONPATH": measure.ROOT}
    done = subprocess.run([*apart, *module], env=environment, stdout=subprocess.PIPE, check=False)
    print(done.stdout.decode(errors="replace"), end="")
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
