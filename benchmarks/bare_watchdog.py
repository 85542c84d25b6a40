"""Prints the path of each file that was closed after writing, as watchdog reports it.

A part of `benchmarks.watch_latency`: no watcher that relies on these events can be faster.
"""

from __future__ import annotations

import os
import sys

from watchdog.events import FileClosedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer


class _Printer(FileSystemEventHandler):
    def on_closed(self, event: FileSystemEvent) -> None:
        print(os.fsdecode(event.src_path), flush=True)


def main() -> None:
    """Observe the folder given as the only argument until standard input ends."""
    observer = Observer()
    observer.schedule(_Printer(), sys.argv[1], recursive=True, event_filter=[FileClosedEvent])
    observer.start()
    print("ready", flush=True)
    sys.stdin.read()
    observer.stop()
    observer.join()


if __name__ == "__main__":
    main()
