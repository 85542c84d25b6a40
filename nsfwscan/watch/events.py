"""Hints from the system about which paths to look at. The one module that knows watchdog.

In: what watchdog's observers report, in their threads. Out: `Hints`, taken by the watcher whenever
it likes. They are only hints: watchdog and the kernel lose events (a full queue, no watches left, a
folder that fills before it is watched), and the watcher looks for itself at what they name. All
that can fail here ends as `Hints.lost`, whereupon the watcher looks at everything.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import sys
import threading
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileAttribEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from nsfwscan.system import interrupts
from nsfwscan.system.reading import open_text
from nsfwscan.system.threads import require_room

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchdog.observers.api import BaseObserver

# Neither opened nor closed without writing: our own reading must not come back as an event.
_WANTED: list[type[FileSystemEvent]] = [
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileAttribEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
]
_MOST_HINTS = 50_000
"""Above this, looking at everything is cheaper than remembering what to look at."""
_MOST_QUEUED = 200_000
"""watchdog's own queue has no bound. Beyond this it is thrown away, with its observer."""
_HAS_CLOSED = sys.platform == "linux"
"""Whether the end of a writing program's access is reported."""
_log = logging.getLogger(__name__)
_OVERFLOW_LOGGER = "watchdog.observers.inotify_c"
"""Where watchdog tells of a queue that overflowed: as a warning, and in no other way."""


@dataclass(slots=True)
class Hints:
    """What to look at."""

    paths: dict[str, None] = field(default_factory=dict)
    """Below some root, as that is spelled."""
    written: dict[str, bool] = field(default_factory=dict)
    """Files that were written to: True while the program that did so has not closed them."""
    lost: str = ""
    """Why hints are missing; empty when none are known to be."""

    def __bool__(self) -> bool:
        return bool(self.paths or self.lost)


class Events:
    """Observers of any number of roots, and the hints they gave."""

    def __init__(self, wants: Callable[[str], bool]) -> None:
        """`wants` tells of a file's name whether it is worth a hint; called in other threads."""
        self._wants = wants
        self._lock = threading.Lock()
        self._hints = Hints()
        # No Event: a signal handler that sets one may come while the same thread holds its lock.
        self._ear, self._bell = socket.socketpair()
        self._bell.setblocking(False)
        self._rung = False
        self._observers: dict[str, BaseObserver] = {}
        self._real: dict[str, str] = {}
        """Where each of them leads."""
        self._overflows = _OverflowHandler(self)
        logger = logging.getLogger(_OVERFLOW_LOGGER)
        logger.addHandler(self._overflows)
        # Without a handler of its own, logging would print watchdog's warnings on stderr.
        self._propagated, logger.propagate = logger.propagate, False
        self._hook_before, threading.excepthook = threading.excepthook, self._thread_ended

    def observe(self, root: str) -> str:
        """Begin to observe the folder `root` and all below it; return why not, or nothing.

        An observer that is there already is replaced.
        """
        self.forget(root)
        # It warns of folders that it came to twice, which happens when they move while it walks.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"watchdog\.")
        observer: BaseObserver | None = None
        try:
            require_room()
            # An observer does not follow a link, not even the one it is given.
            real = os.path.realpath(root)
            handler = _EventHandler(self, root, real, self._wants)
            with interrupts.bounded_start():
                observer = Observer()  # which starts a thread, too
            observer.schedule(handler, real, recursive=True, event_filter=_WANTED)
            with interrupts.bounded_start():
                observer.start()
        except OSError as error:  # gone, forbidden, or no more watches, instances or descriptors
            _end(observer)
            if error.errno == errno.EMFILE:  # "Too many open files", of which nobody has opened any
                return "other programs, or this one, use all the system allows (inotify instances)"
            return error.strerror or str(error)
        except (MemoryError, RuntimeError) as error:  # no thread can be started
            _end(observer)
            return str(error) or "the system is out of memory"
        self._observers[root], self._real[root] = observer, real
        return ""

    def leads_elsewhere(self, root: str) -> bool:
        """Return True if `root` is observed and is, or lies below, a link that was turned since."""
        return root in self._real and os.path.realpath(root) != self._real[root]

    def forget(self, root: str) -> None:
        """Observe `root` no longer."""
        self._real.pop(root, None)
        observer = self._observers.pop(root, None)
        if observer is not None:
            _end(observer)

    def close(self) -> None:
        """End all observers."""
        for root in list(self._observers):
            self.forget(root)
        logger = logging.getLogger(_OVERFLOW_LOGGER)
        logger.removeHandler(self._overflows)
        logger.propagate = self._propagated
        threading.excepthook = self._hook_before
        self._ear.close()
        self._bell.close()

    def observes(self, root: str) -> bool:
        """Tell whether `root` is observed, by threads that all live."""
        observer = self._observers.get(root)
        if observer is None or not observer.is_alive():
            return False
        reader = getattr(observer, "_inotify_fd", None)  # a thread, and watchdog hides it
        return all(emitter.is_alive() for emitter in observer.emitters) and (
            reader is None or reader.is_alive()
        )

    def _thread_ended(self, ended: threading.ExceptHookArgs) -> None:
        """Take what the system refused a thread of watchdog as lost changes.

        `observes` says so from then on. Any other error in a thread stays what it is.
        """
        ours = type(ended.thread).__module__.startswith("watchdog.")
        if ours and isinstance(ended.exc_value, OSError):
            _log.warning("an observer of changes ended: %s", ended.exc_value)
            self.lose("an observer of changes ended")
        else:
            self._hook_before(ended)

    def is_swamped(self, root: str) -> bool:
        """Tell whether events come faster than they can be taken."""
        observer = self._observers.get(root)
        return observer is not None and observer.event_queue.qsize() > _MOST_QUEUED

    def take(self) -> Hints:
        """Return the hints since the last call."""
        with self._lock:
            hints, self._hints = self._hints, Hints()
            if self._rung:
                self._rung = False
                self._ear.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    self._ear.recv(1 << 12)
            return hints

    def wait(self, timeout_s: float) -> None:
        """Wait for hints, or for `wake`."""
        self._ear.settimeout(max(timeout_s, 0.001))
        with contextlib.suppress(TimeoutError, BlockingIOError):
            self._ear.recv(1, socket.MSG_PEEK)

    def wake(self) -> None:
        """End a `wait`. May be called from a signal handler."""
        self._rung = True
        with contextlib.suppress(OSError):  # it is full of rings, or closed
            self._bell.send(b"!")

    def lose(self, why: str) -> None:
        """Note that hints are missing; those that are kept are no use any more."""
        with self._lock:
            self._hints = Hints(lost=why)
        self.wake()

    def add(self, path: str, *, writing: bool | None = None) -> None:
        """Add a hint. `writing` tells that the file was written to, and is still open or not."""
        with self._lock:
            hints = self._hints
            if hints.lost:
                return
            hints.paths[path] = None
            if writing is not None:
                hints.written[path] = writing
            if len(hints.paths) > _MOST_HINTS:
                self._hints = Hints(lost="more changes at once than are kept in mind")
            if not self._rung:
                self.wake()


class _EventHandler(FileSystemEventHandler):
    """Turns the events of one root into hints, with paths spelled as the root is."""

    def __init__(self, events: Events, root: str, real: str, wants: Callable[[str], bool]) -> None:
        self._events = events
        self._root = root
        self._real = real
        self._wants = wants

    def dispatch(self, event: FileSystemEvent) -> None:
        """Take one event, in the observer's thread."""
        writing = None
        if _HAS_CLOSED and isinstance(event, FileModifiedEvent):
            writing = True
        elif isinstance(event, FileClosedEvent):
            writing = False
        for reported in (event.src_path, event.dest_path):
            path = os.fsdecode(reported)
            # Programs write to logs and databases all the time.
            if path and (event.is_directory or self._wants(os.path.basename(path))):
                self._add(path, writing)

    def _add(self, path: str, writing: bool | None) -> None:
        if self._root != self._real and path.startswith(self._real):
            path = self._root + path[len(self._real) :]
        self._events.add(path, writing=writing)


class _OverflowHandler(logging.Handler):
    """Hears of overflows of the kernel's queue."""

    def __init__(self, events: Events) -> None:
        super().__init__(logging.WARNING)
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        """Take one of watchdog's warnings."""
        if "overflow" in record.getMessage():
            self._events.lose("the system's queue of changes overflowed")


def _end(observer: BaseObserver | None) -> None:
    if observer is None:
        return
    alive = observer.is_alive()
    try:
        observer.stop()
        if not alive:  # It failed to start, or died: what it began must not stay behind.
            observer.on_thread_stop()
    except OSError as error:  # its threads hear of nothing more, and end with the process
        _log.warning("an observer of changes could not be stopped: %s", error)
        return
    if alive:
        observer.join()


def watched_inodes() -> list[int] | None:
    """Return the inode number of everything this process watches; None where nothing tells.

    Linux lists its watches; the only way to learn that there were not enough, for watchdog goes on
    without a word.
    """
    found: list[int] = []
    try:
        for number in os.listdir("/proc/self/fdinfo"):
            try:
                if "inotify" not in os.readlink(f"/proc/self/fd/{number}"):
                    continue
                with open_text(f"/proc/self/fdinfo/{number}", "ascii") as file:
                    # A line a watch, in hexadecimal: inotify wd:3 ino:9e7e sdev:800013 ...
                    found += [
                        int(line.split()[2][4:], 16) for line in file if line.startswith("inotify")
                    ]
            except FileNotFoundError:
                continue  # the descriptor of the listing itself
    except (OSError, ValueError, IndexError):
        return None
    return found
