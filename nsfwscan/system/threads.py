"""Room for threads that are about to start."""

from __future__ import annotations

_ROOM_BYTES = 64 << 20
"""Some stacks of 8 MB, and what the threads begin with."""


def require_room() -> None:
    """Raise `MemoryError` unless there is memory for a few threads to start.

    A new thread that finds none may end before it says that it runs. Whoever started it then waits
    for it forever, also when memory is there again: `Thread.start` of Python does.
    """
    bytes(_ROOM_BYTES)  # never touched, so it costs the machine nothing
