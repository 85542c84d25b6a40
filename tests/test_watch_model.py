"""Random operations on a watched tree; what was told must become what is there."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import pytest
import scan_fakes
import watch_fakes
from sizes import trials
from watch_fakes import picture, watching

from nsfwscan.cache.cache import Cache
from nsfwscan.watch import settle

_NAMES = [f"{word}.jpg" for word in ("a", "b", "c", "d\n", "e")] + ["x.part", "y.txt", ".h.jpg"]


class Player:
    """Does one random thing after the other to a tree."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.random = random.Random(seed)
        self.log: list[str] = []
        self._serial = 0

    def play(self) -> None:
        """Do one thing. What cannot be done, because nothing is there, is left."""
        deeds = [
            self.create, self.create, self.create, self.rewrite, self.replace, self.rename,
            self.rename, self.delete, self.make_folders, self.move_folder, self.remove_folder,
            self.link, self.symlink, self.copy_folder, self.swap, self.same_size, self.truncate,
        ]  # fmt: skip
        deed = self.random.choice(deeds)
        self.log.append(deed.__name__)
        try:
            deed()
        except OSError as error:
            self.log[-1] += f" ({error.strerror})"

    def content(self) -> bytes:
        self._serial += 1
        # Now and then a content that is there already.
        number = self.random.choice([self._serial, self._serial, self.random.randrange(5)])
        return b"broken" if self.random.random() < 0.05 else bytes([number % 256]) + b"%d" % number

    def folder(self) -> Path:
        folders = [Path(one) for one, _folders, _names in os.walk(self.root)]
        return self.random.choice(folders)

    def file(self) -> Path:
        files = [Path(one, name) for one, _, names in os.walk(self.root) for name in names]
        return self.random.choice(files) if files else self.root / "nothing.jpg"

    def name(self) -> str:
        return self.random.choice(_NAMES)

    def create(self) -> None:
        path = self.folder() / self.name()
        if not path.is_symlink():
            picture(path, self.content())

    def rewrite(self) -> None:
        path = self.file()
        if not path.is_symlink():
            path.write_bytes(self.content())

    def same_size(self) -> None:
        path = self.file()
        if not path.is_symlink():
            before = path.stat()
            path.write_bytes(self.random.randbytes(before.st_size))
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def replace(self) -> None:
        path = self.folder() / self.name()
        beside = path.with_name(f".{path.name}.tmp")
        beside.write_bytes(self.content())
        beside.replace(path)

    def rename(self) -> None:
        os.rename(self.file(), self.folder() / self.name())

    def swap(self) -> None:
        one, two, between = self.file(), self.file(), self.root / "between.jpg"
        os.rename(one, between)
        os.rename(two, one)
        os.rename(between, two)

    def truncate(self) -> None:
        path = self.file()
        if not path.is_symlink():
            os.truncate(path, 1)

    def delete(self) -> None:
        self.file().unlink()

    def make_folders(self) -> None:
        path = self.folder() / f"f{self.random.randrange(3)}" / f"g{self.random.randrange(3)}"
        if len(path.relative_to(self.root).parts) < 8:
            path.mkdir(parents=True)
            picture(path / self.name(), self.content())

    def move_folder(self) -> None:
        folder = self.folder()
        if folder != self.root:
            os.rename(folder, self.folder() / f"m{self.random.randrange(4)}")

    def remove_folder(self) -> None:
        folder = self.folder()
        if folder != self.root and self.random.random() < 0.4:
            shutil.rmtree(folder)

    def copy_folder(self) -> None:
        source, target = self.folder(), self.root / f"copy{self.random.randrange(4)}"
        if source != self.root and len(list(source.rglob("*"))) < 50:
            shutil.copytree(source, target, symlinks=True)

    def link(self) -> None:
        os.link(self.file(), self.folder() / self.name())

    def symlink(self) -> None:
        # Loops among them: a folder that holds a link to one above it.
        os.symlink(self.folder(), self.folder() / self.random.choice(["loop", "loop.jpg"]))


@pytest.mark.parametrize("seed", range(trials(2, 60)))
def test_random_operations_converge(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan_fakes.install_pool(monkeypatch)
    monkeypatch.setattr(settle, "_RETRY_S", (0.05, 0.1))
    monkeypatch.setattr(settle, "WRITING_S", 0.3)  # a truncated file is never closed
    root = tmp_path / "tree"
    player = Player(root, seed)
    picture(root / "a.jpg", b"first")
    with (
        Cache.open(str(tmp_path / "library.sqlite3"), warn=pytest.fail) as cache,
        watching(root, cache=cache, settle_ms=60) as running,
    ):
        for _ in range(trials(5, 30)):
            for _ in range(player.random.randrange(1, 40)):
                player.play()
                if player.random.random() < 0.1:
                    time.sleep(player.random.uniform(0, 0.15))
            running.until_as(root)
        told = running.told.tree
    assert told == watch_fakes.tree(root)
    # And without events: a watcher that begins with what the cache knows finds the same.
    with (
        Cache.open(str(tmp_path / "library.sqlite3"), warn=pytest.fail) as cache,
        watching(root, cache=cache, settle_ms=60) as running,
    ):
        running.told.know(cache, root)
        running.until_as(root)
