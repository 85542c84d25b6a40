"""Which file systems keep their inode numbers: on the others a file is known by less."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

_LOOSE = frozenset(
    {"9p", "afs", "ceph", "cifs", "exfat", "fuse", "fuseblk", "glusterfs", "lustre", "msdos"}
    | {"ncpfs", "nfs", "nfs4", "ntfs3", "smb3", "smbfs", "vfat", "virtiofs"}
)
"""File systems, as Linux calls them, that make inode numbers up at each mount, or whose other
clients change files while a server's times lag behind."""
_LOCAL = frozenset({"exfat", "msdos", "ntfs3", "vfat"})
"""Those of them that only this computer writes to, so that its kernel tells of each change."""


class Mount(NamedTuple):
    """One file system in its place."""

    path: str
    device: int
    """`st_dev` of what is on it."""
    kind: str

    @property
    def loose(self) -> bool:
        """Whether inode numbers and times cannot be relied on."""
        return self.kind in _LOOSE or self.kind.startswith("fuse.")

    @property
    def silent(self) -> bool:
        """Whether it changes without this computer's kernel hearing of it."""
        return self.loose and self.kind not in _LOCAL


def mounts(source: str = "/proc/self/mountinfo") -> list[Mount]:
    """Return what is mounted where; empty where there is no such list."""
    found = []
    try:
        with open(source, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                # "36 35 98:0 /root /mnt options - ext3 /dev/root rw"; see proc_pid_mountinfo(5)
                before, _, after = line.partition(" - ")
                fields = before.split()
                major, _, minor = fields[2].partition(":")
                device = os.makedev(int(major), int(minor))
                found.append(Mount(_OCTAL.sub(_unescaped, fields[4]), device, after.split()[0]))
    except (OSError, ValueError, IndexError):
        # Windows reports no change time and macOS keeps inodes on all its own file systems.
        return []
    return found


_OCTAL = re.compile(r"\\([0-7]{3})")
"""Blanks and their like in a path, as the kernel writes them."""


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 8))


class Volumes:
    """Tells of a device whether its inode numbers and times can be relied on."""

    def __init__(self, mounts: str = "/proc/self/mountinfo") -> None:
        """`mounts` names the kernel's list of mounts; where there is none, all are relied on."""
        self._mounts = mounts
        self._loose: dict[int, bool] = {}

    def is_loose(self, device: int) -> bool:
        """Tell whether files on `device`, a `st_dev`, are known by size and times only.

        And not for ever: see `scanner`.
        """
        if device not in self._loose:
            self._loose |= self._read()
            self._loose.setdefault(device, False)
        return self._loose[device]

    def _read(self) -> dict[int, bool]:
        return {mount.device: mount.loose for mount in mounts(self._mounts)}
