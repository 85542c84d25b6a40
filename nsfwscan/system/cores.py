"""How many processor cores this process may use."""

from __future__ import annotations

import os

from nsfwscan.system.reading import open_text


def available() -> int:
    """Return the number of cores, at least 1, with regard to affinity and a container's quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min(cores, _quota(cores)))


def _quota(otherwise: int) -> int:
    """Read the cgroup (version 2) limit of a container, in whole cores, rounded up."""
    try:
        with open_text("/sys/fs/cgroup/cpu.max", "ascii") as file:
            limit, period = file.read().split()
        return otherwise if limit == "max" else -(-int(limit) // int(period))
    except (OSError, ValueError):
        return otherwise
