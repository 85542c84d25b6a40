"""The quarantine as a state machine: volumes, links, locks, crashes, clocks, several of each.

The oracle: each picture's bytes are under exactly one committed name; its last decision, by time,
holds; what is lost is told by `verify`; an exit code of 0 means that all was done.

    python tests/quarantine_model.py --on vfat --sequences 1000

runs it on a kind of file system, in mounts of its own where that is allowed. Without volumes, where
it is not, all pictures are on one file system.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from disks import KINDS, Disk
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from model_calls import holding, prepare
from model_oracle import CONTENTS, FOLDERS, NAMES, SCAN, Oracle, Place, World

NO_MOUNT = 77
"""Exit code where a kind of file system cannot be mounted."""


def step(**strategies: Any) -> Callable[[Callable[..., None]], Any]:
    """Make a rule whose steps are noted, and printed when one finds a fault.

    Hypothesis prints them only if the fault shows again; where two processes meet it need not.
    """

    def made(do: Callable[..., None]) -> Any:
        @functools.wraps(do)
        def noted(self: QuarantineModel, **drawn: Any) -> None:
            self.world.call.log.append(f"{do.__name__} {drawn}")
            try:
                do(self, **drawn)
                self.each_picture_is_in_exactly_one_place()
            except Exception as error:
                print("", *self.world.call.log, f"{error}", sep="\n", file=sys.stderr)
                raise

        return rule(**strategies)(noted)

    return made


class QuarantineModel(Oracle, RuleBasedStateMachine):
    """See the module."""

    @initialize(
        several=st.lists(
            st.tuples(
                st.integers(0, 2), st.sampled_from(FOLDERS), st.integers(0, len(NAMES) - 1),
                st.integers(0, len(CONTENTS) - 1),
            ),
            min_size=2,
            max_size=4,
        )
    )  # fmt: skip
    def begin_with(self, several: list[tuple[int, str, int, int]]) -> None:
        for volume, folder, name, which in several:
            self.make_a_picture(volume=volume, folder=folder, name=name, which=which, linked=False)

    @step(
        volume=st.integers(0, 2),
        folder=st.sampled_from(FOLDERS),
        name=st.integers(0, len(NAMES) - 1),
        which=st.integers(0, len(CONTENTS) - 1),
        linked=st.booleans(),
    )
    def make_a_picture(self, volume: int, folder: str, name: int, which: int, linked: bool) -> None:
        content = CONTENTS[which]
        present = self.present()
        top = self.at[present[volume % len(present)]]
        assert top is not None
        path = top / folder / NAMES[name]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            return  # something stands in its way
        if path.exists():
            return
        if path.resolve() != path:
            return  # behind a link
        path.write_bytes(content)
        self.expected[content] += 1
        self.world.pictures += 1
        if linked and not os.path.lexists(top / "linked.jpg") and self.world.kind != "vfat":
            os.link(path, top / "linked.jpg")
            self.expected[content] += 1

    @step(
        chosen=st.sampled_from(["", "q", "media"]),
        again=st.booleans(),
        which=st.integers(0, 3),
        kill=st.sampled_from([0, 0, 0, 1, 2]),
        at=st.integers(1, 120),
    )
    def scan(self, chosen: str, again: bool, which: int, kill: int, at: int) -> None:
        present = self.present()
        roots = [top for top in self.at if top is not None]
        if which < len(present):
            roots = [roots[which]]
        options: list[str | Path] = ["--again"] if again else []
        if chosen == "q" or not self.world.mounts:
            options += ["--quarantine", self.world.base / "top/q"]
        elif chosen == "media":
            last = self.at[present[-1]]
            assert last is not None
            options += ["--quarantine", last / "mine"]
        before = self.census()
        wanted: list[tuple[Place, bytes]] = []
        for place, content in self.outside():
            named = place.path.endswith(".jpg")
            if named and any(self.path(place).is_relative_to(root) for root in roots):
                wanted.append((place, content))
        ruled = {content: self.last_word(content) for _, content in wanted}
        flagged = {content: self.is_flagged(content) for _, content in wanted}
        trouble = self.trouble(kill, at)
        done = self.call(*SCAN, *options, *roots, trouble=trouble)
        if done.killed:
            return self.finish(before)
        # Whoever was told so must give --quarantine from then on.
        self.unknown |= "will need --quarantine" in done.err
        self.follow(before)
        assert done.code in {0, 1, 2, 3, 6}, done
        left = Counter(self.outside())
        for place, content in wanted:
            stayed = left[place, content] > 0
            if ruled[content] == "?":
                continue
            if not flagged[content]:
                may_go = must_go = False
            else:
                may_go = must_go = again or ruled[content] != "restored"
            assert stayed or may_go, f"{place} was taken away; {self.words[content]}"
            if trouble is None and must_go and not self.damaged:
                assert not stayed or done.code == 6, f"{place} stayed, and nobody says why: {done}"
        return None

    @step(
        where=st.integers(0, 3),
        what=st.sampled_from(["all", "path", "id"]),
        kill=st.sampled_from([0, 0, 0, 1, 2]),
        at=st.integers(1, 120),
    )
    def restore(self, where: int, what: str, kill: int, at: int) -> None:
        self._give_back("restore", where, what, kill, at)

    @step(
        where=st.integers(0, 3),
        what=st.sampled_from(["all", "path", "id"]),
        kill=st.sampled_from([0, 0, 0, 1, 2]),
        at=st.integers(1, 120),
    )
    def delete(self, where: int, what: str, kill: int, at: int) -> None:
        self._give_back("delete", where, what, kill, at)

    def _give_back(self, command: str, where: int, what: str, kill: int, at: int) -> None:
        cwd = self._somewhere(where)
        before = self.census()
        words: list[str] = ["--all"]
        if what != "all":
            listed = json.loads(self.call("quarantine", "list", "-f", "json", cwd=cwd).out or "[]")
            if not listed:
                return None
            words = [listed[at % len(listed)][what] or listed[at % len(listed)]["id"]]
        sure = ["--yes"] if command == "delete" else []
        deleting = command == "delete"
        trouble = self.trouble(kill, at)
        done = self.call("quarantine", command, *words, *sure, cwd=cwd, trouble=trouble)
        if done.killed:
            self.unsure_what_is_lost |= deleting
            return self.finish(before, deleting=deleting)
        self.follow(before, deleting=deleting)
        assert done.code in {0, 2, 6}, done
        held = self.held()
        if done.code == 0 and what == "all":
            assert not held or self.unknown, f"exit code 0, and {held} are held: {done}"
        if command == "restore" and what == "all" and not trouble:
            lost = sum(self.lost.values())
            told = done.code == 6 or self.unsure_what_is_lost
            assert told or not lost or self.unknown or self.away, done
        if deleting and done.code == 0 and what == "all":
            self.lost.clear()
        elif deleting:
            self.unsure_what_is_lost = True
        return None

    def _somewhere(self, where: int) -> Path:
        places = [self.world.home, *(top for top in self.at if top is not None)]
        return places[where % len(places)]

    @step(where=st.integers(0, 3))
    def verify(self, where: int) -> None:
        before = self.census()
        done = self.call("quarantine", "verify", cwd=self._somewhere(where))
        self.follow(before)
        assert done.code in {0, 6, 7}, done
        if self.damaged or self.unsure_what_is_lost or self.unknown:
            return
        lost = sum(number for path, number in self.lost.items() if path.exists())
        assert done.code == (7 if lost else 0), f"{lost} are lost: {done}"
        self.world.losses += lost

    @step(which=st.integers(0, 9))
    def take_a_held_picture_away_behind_its_back(self, which: int) -> None:
        held = [one for one in self.census() if one[2] and one[0].volume in {-1, *self.present()}]
        if not held:
            return
        place, content, _ = held[which % len(held)]
        path = self.path(place)
        path.unlink()
        self.expected[content] -= 1
        self.lost[path.parent.parent] += 1
        self.verify(where=which)

    @step(which=st.integers(0, 9), at=st.integers(0, 99_999))
    def damage_a_journal(self, which: int, at: int) -> None:
        journals = self.journals()
        if not journals:
            return
        path = journals[which % len(journals)]
        data = bytearray(path.read_bytes())
        if data:
            data[at % len(data)] ^= 1 << at % 8
            path.write_bytes(data)
            self.damaged = True

    @precondition(lambda self: self.world.mounts)
    @step(number=st.integers(1, 2), where=st.sampled_from(["", "moved/1", "moved/2"]))
    def unplug_or_plug_in(self, number: int, where: str) -> None:
        disk = self.world.disks[number]
        if disk.at is not None:
            self.away[number] = self._below(number, disk.at)
            disk.unplug()
            self.at[number] = None
            return
        at = self.world.base / "top" / where if where else self.world.tops[number]
        if any(other is not None and other == at for other in self.at):
            return
        disk.plug_in(at)
        self.at[number] = at
        self.unknown |= at != self.world.tops[number]
        assert Counter(self._below(number, at)) == Counter(self.away.pop(number))

    @invariant()
    def nothing_is_written_where_a_volume_is_away(self) -> None:
        for number in self.away:
            top = self.world.tops[number]
            if not os.path.ismount(top):
                assert not top.exists() or not [
                    one for _, _, names in os.walk(top) for one in names
                ]

    @step(which=st.integers(0, 9), what=st.sampled_from(["file", "dangling", "link", "back"]))
    def replace_a_folder(self, which: int, what: str) -> None:
        present = self.present()
        top = self.at[present[which % len(present)]]
        assert top is not None
        folder = top / FOLDERS[0]
        if folder.is_symlink():
            folder.unlink()
        elif folder.is_file():
            self.expected[folder.read_bytes()] -= 1
            folder.unlink()
        elif folder.is_dir():
            if any(folder.iterdir()):
                return
            folder.rmdir()
        if what == "back":
            folder.mkdir()
        elif what == "file" or self.world.kind == "vfat":
            folder.write_bytes(CONTENTS[0])
            self.expected[CONTENTS[0]] += 1
        else:
            other = self.at[present[-1]]
            assert other is not None
            folder.symlink_to("nowhere" if what == "dangling" else other / FOLDERS[1])

    @step(hours=st.sampled_from([24, 24 * 365, -24 * 365]))
    def move_the_clock(self, hours: int) -> None:
        self.ahead_s += hours * 3600

    @step(which=st.integers(0, 9), what=st.sampled_from(["allow", "deny"]))
    def decide(self, which: int, what: str) -> None:
        outside = self.outside()
        if outside:
            place, content = outside[which % len(outside)]
            done = self.call(what, self.path(place))
            assert done.code == 0, done
            self.said(content, "allowed" if what == "allow" else "denied")

    @step(which=st.integers(0, 9), command=st.sampled_from(["scan", "restore", "delete"]))
    def another_process_holds_the_lock(self, which: int, command: str) -> None:
        journals = self.journals()
        if not journals:
            return
        folder = journals[which % len(journals)].parent
        before = self.census()
        arguments: list[str | Path] = ["quarantine", command, "--all"]
        if command == "scan":
            arguments = [*SCAN, *self._chosen(), *(top for top in self.at if top is not None)]
        elif command == "delete":
            arguments.append("--yes")
        with holding(folder / "lock"):
            done = self.call(*arguments, cwd=folder.parent)
        assert done.code in {0, 1, 2, 3, 6} if command == "scan" else {6}, done
        mine = [self.path(one) for one, _, held in before if held and one.volume in self._there()]
        assert all(one.exists() for one in mine if one.is_relative_to(folder))
        if command == "delete":
            self.lost = Counter({folder: self.lost[folder]}) if self.lost[folder] else Counter()
        self.follow(before, deleting=command == "delete")

    @step(one=st.sampled_from(["scan", "restore"]), other=st.sampled_from(["restore", "verify"]))
    def two_processes_at_once(self, one: str, other: str) -> None:
        before = self.census()
        arguments: list[str | Path] = ["quarantine", one, "--all"]
        if one == "scan":
            arguments = [*SCAN, *self._chosen(), *(top for top in self.at if top is not None)]
        beside = ["quarantine", other, *(["--all"] if other == "restore" else [])]
        done = self.call(*arguments, beside=beside)
        assert done.code in {0, 1, 2, 3, 6}, done
        if one == "scan" and other == "restore":
            self.torn.update(content for _, content, _ in before)
        self.follow(before)

    def _there(self) -> set[int]:
        return {-1, *self.present()}

    def _chosen(self) -> list[str | Path]:
        return [] if self.world.mounts else ["--quarantine", self.world.base / "top/q"]


def run(
    world: World, sequences: int, *, steps: int = 15, start: int | None = None, shrink: bool = False
) -> None:
    """Run the machine in a world, and print what was counted. Raises what a sequence found."""
    QuarantineModel.world = world
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    chosen = settings(
        max_examples=sequences, stateful_step_count=steps, deadline=None, database=None,
        derandomize=start is None, phases=phases, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    try:
        run_machine(
            QuarantineModel if start is None else seed(start)(QuarantineModel), settings=chosen
        )
    finally:
        call = world.call
        print(
            f"{world.kind}: {world.sequences:,} sequences, {call.calls:,} commands, "
            f"{call.kills:,} kills, {call.failures:,} failing calls, {world.pictures:,} pictures, "
            f"{world.losses:,} losses made and told, {call.tracebacks} tracebacks",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--on", choices=KINDS, default="tmpfs")
    parser.add_argument("--sequences", type=int, default=100)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--seed", type=int, help="another one gives other sequences")
    parser.add_argument("--shrink", action="store_true", help="look for a shorter sequence")
    chosen = parser.parse_args()
    prepare()
    mounts = os.environ.get("NSFWSCAN_TEST_MOUNTS", "") == "1"
    with tempfile.TemporaryDirectory(prefix="nsfwscan-model-") as base:
        try:
            world = World(chosen.on, mounts, Path(base))
            run(
                world, chosen.sequences,
                steps=chosen.steps, start=chosen.seed, shrink=chosen.shrink,
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            print(f"this machine mounts no {chosen.on}: {error}", file=sys.stderr)
            sys.exit(NO_MOUNT)
        finally:
            os.chdir("/")
            if os.path.ismount(base):
                Disk.detach(Path(base))  # with all that is mounted below it


if __name__ == "__main__":
    main()
