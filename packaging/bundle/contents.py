"""The list of a bundle's files, with what `nsfwscan.bundled` needs to find a damaged one."""

from __future__ import annotations


def write(folder: str) -> None:
    """Write it."""
