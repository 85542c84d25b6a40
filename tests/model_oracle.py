"""What a sequence of `quarantine_model` works on, and what must be true after each of its steps."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import tiny_model
from disks import Disk
from model_calls import Caller, Done, Trouble, warm_up

from nsfwscan.actions.quarantine.recovery import GONE

QUARANTINE = ".nsfwscan-quarantine"
CONTENTS = [b"\xff\xd8\xff" + b"flagged picture %d" % number * 100 for number in range(4)]
CONTENTS.append(b"GIF89a" + b"safe picture" * 100)
SAFE = CONTENTS[-1]
NAMES = ["x.jpg", "y.jpg", "l" * 251 + ".jpg"]
FOLDERS = ("a", "b/deep")
ERRORS = (
    errno.EIO, errno.ENOSPC, errno.EACCES, errno.ESTALE, errno.EROFS, errno.EINTR, errno.ENOLCK
)  # fmt: skip
SCAN = ("scan", "--quiet", "--yes", "--action", "quarantine")


class Place(NamedTuple):
    """Where a picture is: a volume's number, and a path below its top."""

    volume: int
    path: str


class Word(NamedTuple):
    """Something a person said about a content."""

    at: float
    turn: int
    what: str


class World:
    """The folders and volumes that all sequences use in turn."""

    def __init__(self, kind: str, mounts: bool, base: Path) -> None:
        self.kind, self.mounts, self.base = kind, mounts, base
        self.disks: list[Disk] = []
        top = base / "top"
        if mounts:
            Disk("tmpfs", base, base)
            self.disks = [Disk(kind, top / "pics", base / "store0")]
            self.disks += [
                Disk(kind, top / f"media/{number}", base / f"store{number}") for number in (1, 2)
            ]
        self.tops = [top / "pics", top / "media/1", top / "media/2"]
        self.home = top / "home"
        os.environ["NSFWSCAN_HOME"] = str(self.home / "ns")
        os.environ["HOME"] = str(self.home)
        self.call = Caller(base)
        self.sequences = self.pictures = self.losses = 0
        self.home.mkdir(parents=True)
        tiny_model.write_package(str(base / "models"))
        picture = self.fresh()[0] / "x.jpg"  # type: ignore[operator]
        picture.write_bytes(CONTENTS[0])
        chosen = ["--quarantine", base / "top/q"]
        warm_up(
            [*SCAN, *chosen, picture], ["quarantine", "list"], ["quarantine", "restore", "--all"],
            [*SCAN, *chosen, "--again", picture], ["quarantine", "delete", "--all", "--yes"],
            ["quarantine", "verify"], ["deny", top], ["allow", top],
        )  # fmt: skip

    def fresh(self) -> list[Path | None]:
        """Begin anew and return where each volume is."""
        for number, disk in enumerate(self.disks):
            if disk.at != self.tops[number]:
                if disk.at is not None:
                    disk.unplug()
                disk.plug_in(self.tops[number])
            disk.wipe()
        if not self.mounts:
            shutil.rmtree(self.tops[0], ignore_errors=True)
        for top in self.tops[: max(1, len(self.disks))]:
            for folder in FOLDERS:
                (top / folder).mkdir(parents=True)
        for stray in (self.home, self.base / "top/moved", self.base / "top/q"):
            shutil.rmtree(stray, ignore_errors=True)
        (self.home / "ns").mkdir(parents=True)
        (self.home / "ns/models").symlink_to(self.base / "models")
        return list(self.tops[: max(1, len(self.disks))])


class Oracle:
    """What must be true after each command, and what is known for that."""

    world: World

    def __init__(self) -> None:
        super().__init__()  # the state machine's
        self.world.sequences += 1
        self.world.call.log = []
        self.at = self.world.fresh()
        self.expected: Counter[bytes] = Counter()
        self.away: dict[int, list[tuple[Place, bytes, bool]]] = {}
        """Of volumes that are away: what is on them."""
        self.origins: Counter[tuple[bytes, int, str]] = Counter()
        """Folders that held pictures came from: content, volume, folder."""
        self.lost: Counter[Path] = Counter()
        """Of each quarantine: pictures that were taken away behind its back."""
        self.words: dict[bytes, list[Word]] = {one: [] for one in CONTENTS}
        self.ahead_s = 0.0
        self.turn = 0
        # `unknown`: there is a quarantine that is not where the list of quarantines says.
        self.damaged = self.unknown = self.unsure_what_is_lost = False
        self.torn: set[bytes] = set()
        """Contents of which two processes said something at the same time."""

    # What there is

    def census(self) -> list[tuple[Place, bytes, bool]]:
        """Return each picture that there is: its place, its content, whether it is held."""
        found = list(itertools.chain.from_iterable(self.away.values()))
        for number, top in enumerate(self.at):
            if top is not None:
                found += self._below(number, top)
        found += self._below(-1, self.world.base / "top/q")
        return found

    def _below(self, number: int, top: Path) -> list[tuple[Place, bytes, bool]]:
        found = []
        for folder, _, names in os.walk(top):
            for name in names:
                path = Path(folder, name)
                if name in {"lock", "journal.jsonl"} or path.is_symlink():
                    continue
                if name.endswith(GONE):  # deleted, as was told; the next use tries once more
                    continue
                content = path.read_bytes()
                assert content in self.words, f"{path} holds {content[:40]!r}"
                held = f"/{QUARANTINE}/" in str(path)
                found.append((Place(number, str(path.relative_to(top))), content, held))
        return found

    def present(self) -> list[int]:
        return [number for number, top in enumerate(self.at) if top is not None]

    def outside(self) -> list[tuple[Place, bytes]]:
        """Return the pictures outside a quarantine on volumes that are there."""
        return [
            (place, content)
            for place, content, held in self.census()
            if not held and place.volume in self.present()
        ]

    def path(self, place: Place) -> Path:
        top = self.world.base / "top/q" if place.volume < 0 else self.at[place.volume]
        assert top is not None
        return top / place.path

    def journals(self) -> list[Path]:
        tops = [self.world.base / "top/q", *(top for top in self.at if top is not None)]
        return [path for top in tops for path in top.rglob(f"{QUARANTINE}/journal.jsonl")]

    def held(self) -> int:
        """Return how many pictures are in quarantines on volumes that are there."""
        return sum(
            held and place.volume in {-1, *self.present()} for place, _, held in self.census()
        )

    # Commands

    def call(self, *arguments: str | Path, cwd: Path | None = None, **options: Any) -> Done:
        self.turn += 1
        self.ahead_s += 3
        where = cwd or self.world.home
        return self.world.call(*arguments, cwd=where, ahead_s=self.ahead_s, **options)

    def said(self, content: bytes, what: str) -> None:
        self.words[content].append(Word(self.ahead_s, self.turn, what))

    def last_word(self, content: bytes) -> str:
        """Return the last word about a content; `?` where clocks make that a matter of opinion."""
        words = self.words[content]
        if self.damaged or self.away or self.unknown or content in self.torn:
            return "?"
        if not words:
            return ""
        by_time = max(words, key=lambda one: (one.at, one.turn))
        return by_time.what if by_time is words[-1] else "?"

    def is_flagged(self, content: bytes) -> bool:
        """Return True if a scan flags a content: by a person's last decision, else by its score."""
        decisions = [one.what for one in self.words[content] if one.what in {"allowed", "denied"}]
        return decisions[-1] == "denied" if decisions else content != SAFE

    def follow(self, before: list[tuple[Place, bytes, bool]], *, deleting: bool = False) -> None:
        """Note what a command did, and fail if it may not do that."""
        after = self.census()
        old, new = Counter(before), Counter(after)
        gone, came = list((old - new).elements()), list((new - old).elements())
        for place, content, held in gone:
            if not held:
                self.origins[content, place.volume, os.path.dirname(place.path)] += 1
            elif deleting:
                assert not [one for one in came if one[1] == content]
                self.expected[content] -= 1
                self.said(content, "deleted")
        for place, content, held in came:
            if held:
                self.said(content, "moved")
            else:
                origin = self._origin(place, content)
                assert origin is not None or self.damaged, (
                    f"{place} is not where it came from: {+self.origins}"
                )
                if origin is not None:
                    self.origins[origin] -= 1
                self.said(content, "restored")

    def _origin(self, place: Place, content: bytes) -> tuple[bytes, int, str] | None:
        """Return where a picture at `place` came from, perhaps by a link on its own volume."""
        folder = self.path(place).parent
        for origin in +self.origins:
            top = self.at[place.volume]
            same = origin[:2] == (content, place.volume) and top is not None
            if same and (top / origin[2]).resolve() == folder:  # type: ignore[operator]
                return origin
        return None

    def finish(self, before: list[tuple[Place, bytes, bool]], *, deleting: bool = False) -> None:
        """Let the next command end what was cut short, and note what became of it."""
        for cwd in [self.world.home, *(top for top in self.at if top is not None)]:
            self.call("quarantine", "restore", "0" * 32, cwd=cwd)
        self.follow(before, deleting=deleting)

    def each_picture_is_in_exactly_one_place(self) -> None:
        found = Counter(content for _, content, _ in self.census())
        assert found == +self.expected, (
            f"there are {[found[one] for one in CONTENTS]} names of each content, "
            f"and should be {[self.expected[one] for one in CONTENTS]}"
        )

    @staticmethod
    def trouble(kill: int, at: int) -> Trouble | None:
        if not kill:
            return None
        return Trouble(at) if kill == 1 else Trouble(at, ERRORS[at % len(ERRORS)])
