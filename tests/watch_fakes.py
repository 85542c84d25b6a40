"""A watcher in a thread, without processes and without a model, and what it told so far.

What a file holds says what becomes of it, as in `scan_fakes`. What the watcher told is replayed
into the tree as it sees it, which must become the tree as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, assert_never

import scan_fakes
from scan_fakes import MANIFEST, POLICY

from nsfwscan.judge import RulingBook
from nsfwscan.scanning.examine import Read, identify
from nsfwscan.scanning.scanner import ScanOptions
from nsfwscan.scanning.session import Session
from nsfwscan.system import locations
from nsfwscan.values.changes import Again, BatchDone, Change, Event, WatchState
from nsfwscan.values.outcome import Scorer
from nsfwscan.values.results import Failed, Scanned
from nsfwscan.watch.consume import hand_on
from nsfwscan.watch.manners import Pace, When
from nsfwscan.watch.watcher import Watcher, WatchOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nsfwscan.cache.cache import Cache
    from nsfwscan.values.changes import Told as WhatIsTold
    from nsfwscan.values.results import ScanResult

SCORER = Scorer(MANIFEST.fingerprint, 1)
OPTIONS = WatchOptions(ScanOptions(jobs=2), settle_ms=150)


class Told:
    """A consumer that replays changes: the tree as the watcher told it."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.tree: dict[str, str | None] = {}
        """Each picture to the hash of its content, None where there is none."""
        self.once_more: list[ScanResult] = []
        self.batches = 0
        self.wrong: list[str] = []

    def take(self, told: WhatIsTold) -> None:
        match told:
            case Change():
                self.change(told)
            case Again():
                self.once_more.append(told.result)
            case BatchDone():
                self.batches += 1
            case WatchState():
                pass
            case _:
                assert_never(told)

    def change(self, change: Change) -> None:
        self.changes.append(change)
        known = change.path in self.tree
        if change.event is Event.NEW and known:
            self.wrong.append(f"new twice: {change}")
        if change.event in {Event.CHANGED, Event.GONE} and not known:
            self.wrong.append(f"not known: {change}")
        if change.event is Event.MOVED and self.tree.pop(change.came_from, "") == "":
            self.wrong.append(f"moved from nowhere: {change}")
        if change.event is Event.GONE:
            self.tree.pop(change.path, None)
        elif isinstance(change.result, Scanned | Failed):
            sha256 = change.result.sha256
            self.tree[change.path] = sha256.hex() if sha256 else None
        else:
            self.tree.pop(change.path, None)

    def know(self, cache: Cache, root: Path) -> None:
        """Begin with what the library knows, as a watcher does."""
        for folder in cache.folders_below(str(root)):
            for name, known in cache.folder(folder, SCORER).items():
                if known.outcome is not None:
                    self.tree[os.path.join(folder, name)] = known.sha256.hex()

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Event and name of each change."""
        return [(one.event.value, os.path.basename(one.path)) for one in self.changes]


class Watching:
    """A watcher that runs in a thread."""

    def __init__(self, watcher: Watcher, told: Told) -> None:
        self.watcher = watcher
        self.told = told
        self.warnings: list[str] = []
        self.remarks: list[str] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="test-watcher")

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            hand_on(self.watcher.run(), self.told.take)
        except BaseException as error:
            self.error = error

    def finish(self) -> None:
        self.watcher.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error

    def until(self, true: Callable[[], bool], *, within_s: float = 20) -> float:
        """Wait until something is so; return for how long that took."""
        began = time.monotonic()
        while not true():
            assert self._thread.is_alive(), f"the watcher ended: {self.error!r}"
            if time.monotonic() - began > within_s:
                raise AssertionError(
                    f"not so: {self.watcher.state()}, {self.told.lines[-5:]} {self.remarks}"
                )
            time.sleep(0.01)
        return time.monotonic() - began

    def until_first_look(self) -> None:
        """Wait for the end of the first reconcile, which may have ended already."""
        self.until(lambda: self.watcher.state().reconciled_at is not None)

    def until_reconciled(self, *, within_s: float = 30) -> float:
        """Wait for the end of a reconcile that ends after now."""
        now = time.time()
        return self.until(
            lambda: (self.watcher.state().reconciled_at or 0) > now, within_s=within_s
        )

    def until_as(self, root: Path, *, within_s: float = 30) -> float:
        """Wait until what was told is what is there."""
        took = self.until(lambda: self.told.tree == tree(root), within_s=within_s)
        assert self.told.wrong == []
        return took


def tree(root: Path) -> dict[str, str | None]:
    """Return what a scan of `root` would have to find: each picture and the hash of its content."""
    found: dict[str, str | None] = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".jpg") and not name.startswith(".") and not os.path.islink(path):
                with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
                    data = file.read()
                    found[path] = hashlib.sha256(data).hexdigest() if data else None
    return found


@contextlib.contextmanager
def opened(
    *roots: Path,
    cache: Cache | None = None,
    options: WatchOptions = OPTIONS,
    pace: Callable[[], Pace] = lambda: Pace(When.RUN, ""),
    say: Callable[[str], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
    read: Read = identify,
    owed_file: str | None = None,
    **changed: Any,
) -> Iterator[Watcher]:
    """Make a watcher of `roots`. `scan_fakes.install_pool` must have been called."""
    options = replace(options, **changed)
    with scan_fakes.engine() as engine:
        book = RulingBook(locations.rulings_file())
        session = Session(
            MANIFEST, POLICY, engine, cache, SCORER, book, warn,
            read=read, clock=scan_fakes.Surroundings.clock,
        )  # fmt: skip
        paths = [str(root) for root in roots]
        yield Watcher(session, paths, options, say=say, warn=warn, pace=pace, owed_file=owed_file)
    assert not [one for one in threading.enumerate() if "otify" in type(one).__name__]


@contextlib.contextmanager
def watching(*roots: Path, told: Told | None = None, **given: Any) -> Iterator[Watching]:
    """Watch `roots` while the block runs; `given` as for `opened`."""
    warnings: list[str] = []
    remarks: list[str] = []
    with opened(*roots, say=remarks.append, warn=warnings.append, **given) as watcher:
        running = Watching(watcher, told or Told())
        running.warnings, running.remarks = warnings, remarks
        running.start()
        try:
            yield running
        finally:
            running.finish()


def picture(path: Path, content: bytes) -> Path:
    """Write a picture of this content in one go."""
    return scan_fakes.write(path, content)
