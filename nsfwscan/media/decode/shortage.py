"""Whether a failure may be the machine's fault and not the picture's.

Memory, threads or descriptors that the system refuses look like a broken picture to a codec. These
functions are asked after a failure only, and answer "maybe": then it is not remembered.
"""

from __future__ import annotations

import contextlib
import os
import sys

from nsfwscan.system.reading import open_bytes

if sys.platform != "win32":
    import resource

_AMPLE_BYTES = 1 << 30
"""What one picture may take. With less to be had, a picture that fails might not have."""
_CGROUP = "/sys/fs/cgroup"
_ENDLESS = 1 << 60


def memory_may_be_short() -> bool:
    """Return True unless the system, the container and this process have memory for a picture."""
    if sys.platform != "win32":
        for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
            if resource.getrlimit(limit)[0] != resource.RLIM_INFINITY:
                return True
    # The last for a system that promises no more than it has, whatever is free.
    return min(_available(), _left_in_container()) < _AMPLE_BYTES or is_short_here(_AMPLE_BYTES)


def _available() -> int:
    """Return the bytes that can be had without swapping; endless where Linux does not tell."""
    with contextlib.suppress(OSError, ValueError), open_bytes("/proc/meminfo") as file:
        for line in file:
            if line.startswith(b"MemAvailable:"):
                return int(line.split()[1]) << 10
    return _ENDLESS


def _left_in_container() -> int:
    """Return the bytes left below the tightest limit of the control groups of this process."""
    left = _ENDLESS
    with contextlib.suppress(OSError, ValueError), open_bytes("/proc/self/cgroup") as file:
        for line in file:
            if line.startswith(b"0::/"):
                group = os.fsdecode(line[4:].strip())
                while True:
                    left = min(left, _left_in(os.path.join(_CGROUP, group)))
                    if not group:
                        break
                    group = os.path.dirname(group)
    return left


def _left_in(folder: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        with open_bytes(os.path.join(folder, "memory.max")) as file:
            most = int(file.read())  # "max" is no number: no limit
        with open_bytes(os.path.join(folder, "memory.current")) as file:
            left = most - int(file.read())
        with open_bytes(os.path.join(folder, "memory.stat")) as file:
            # Files that were read fill the rest of any container, and make room at once.
            return left + sum(int(line.split()[1]) for line in file if b"inactive_file" in line)
    return _ENDLESS


def is_short_here(room: int) -> bool:
    """Return True if this process is refused `room` bytes, a descriptor or a thread just now.

    For a decode worker: it looks at what it can have, takes it and gives it back.
    """
    import _thread
    import mmap

    try:
        mmap.mmap(-1, room).close()  # never touched, so it costs the machine nothing
        for end in os.pipe():
            os.close(end)
        _thread.start_new_thread(lambda: None, ())
    except (OSError, MemoryError, RuntimeError, ValueError):
        return True
    return False
