"""Whether a failure may be the machine's fault rather than the picture's.

If the system refuses memory, threads or descriptors, a codec reports a broken picture. These
functions are only called after a failure; if they return True, the failure is not cached.
"""

from __future__ import annotations

import contextlib
import os
import sys

from nsfwscan.system.reading import open_bytes

if sys.platform != "win32":
    import resource

_AMPLE_BYTES = 1 << 30
"""The memory that one picture may take. With less available, a good picture might fail."""
_CGROUP = "/sys/fs/cgroup"
_ENDLESS = 1 << 60


def memory_may_be_short() -> bool:
    """Return True unless the system, the container and this process have memory for a picture."""
    if sys.platform != "win32":
        for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
            if resource.getrlimit(limit)[0] != resource.RLIM_INFINITY:
                return True
    # The last is for systems that promise no more memory than they have, however much is free.
    return min(_available(), _left_in_container()) < _AMPLE_BYTES or is_short_here(_AMPLE_BYTES)


def _available() -> int:
    """Return the bytes available without swapping; infinite if Linux does not say."""
    with contextlib.suppress(OSError, ValueError), open_bytes("/proc/meminfo") as file:
        for line in file:
            if line.startswith(b"MemAvailable:"):
                return int(line.split()[1]) << 10
    return _ENDLESS


def _left_in_container() -> int:
    """Return the bytes left under the tightest limit of this process's control groups."""
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
            most = int(file.read())  # "max" is not a number and means no limit
        with open_bytes(os.path.join(folder, "memory.current")) as file:
            left = most - int(file.read())
        with open_bytes(os.path.join(folder, "memory.stat")) as file:
            # The rest of a container fills with cached files, which are dropped at once if needed.
            return left + sum(int(line.split()[1]) for line in file if b"inactive_file" in line)
    return _ENDLESS


def is_short_here(room: int) -> bool:
    """Return True if this process is now refused `room` bytes, a descriptor or a thread.

    For a decode worker: it tries to allocate them and releases them again.
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
