"""Which file systems keep their inode numbers: on the others a file is known by less.

On most file systems of a disk of this computer, a path with the same size, times and inode number
is the same file: the kernel sets the time of the last change. Elsewhere these may repeat. Two
memory cards, or two images of a file system (squashfs, ISO, archives by FUSE) that are mounted at
the same place in turn, may have equal names, sizes and times for different contents. There the
identity of the file system takes the place of the inode number in a `FileKey`: its *stamp*.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import NamedTuple

from nsfwscan.system.reading import open_text

RELIABLE = 0
"""The stamp of file systems whose inode numbers and times are relied on."""
UNKNOWN = 2**64 - 1
"""The stamp of file systems that cannot be told apart: what is on them is always read again."""

_LOOSE = frozenset(
    {"9p", "afs", "ceph", "cifs", "exfat", "fuse", "fuseblk", "glusterfs", "lustre", "msdos"}
    | {"ncpfs", "nfs", "nfs4", "ntfs3", "smb3", "smbfs", "vfat", "virtiofs"}
)
"""File systems, as Linux calls them, that make inode numbers up at each mount, or whose other
clients change files while a server's times lag behind."""
_LOCAL = frozenset({"exfat", "msdos", "ntfs3", "vfat"})
"""Those of them that only this computer writes to, so that its kernel tells of each change."""


_IMAGES = frozenset({"cramfs", "erofs", "iso9660", "romfs", "squashfs", "udf"})
"""Kinds that are made as a whole, with times of the maker's choice; a volume's number need not
differ between two of them."""


class Mount(NamedTuple):
    """One file system in its place."""

    path: str
    device: int
    """`st_dev` of what is on it."""
    kind: str
    source: str = ""
    """What is mounted: a device, `server:/path`, or whatever a FUSE program says."""

    @property
    def loose(self) -> bool:
        """Whether inode numbers and times cannot be relied on."""
        return self.kind in _LOOSE or self.kind.startswith("fuse.")

    @property
    def silent(self) -> bool:
        """Whether it changes without this computer's kernel hearing of it."""
        return self.loose and self.kind not in _LOCAL

    @property
    def name(self) -> str:
        """What the file system is known by wherever it is mounted; empty without such a thing."""
        on_a_server = ":" in self.source or self.source.startswith("//")
        return _uuid(self.source) or (self.source if on_a_server else "")

    def stamp(self) -> int:
        """Return what tells this file system from others that may be mounted in its place."""
        if self.kind in _IMAGES:
            identity = _backing_file(self.source)
        elif not self.loose:
            return RELIABLE
        elif self.kind == "fuse" or self.kind.startswith("fuse."):
            # `squashfuse` or `archivemount` say nothing, `user@host:/path` does.
            named = "/" in self.source or ":" in self.source
            identity = f"{self.source} {_state_of(self.source)}" if named else ""
        else:
            identity = _uuid(self.source) or self.source
        if not identity:
            return UNKNOWN
        text = f"{self.kind} {identity}".encode(errors="surrogateescape")
        return int.from_bytes(hashlib.sha256(text).digest()[:7], "little") + 1


def _backing_file(device: str) -> str:
    """Return the file behind a loop device and its state; empty for other devices."""
    found = re.fullmatch(r"/dev/(loop\d+)(p\d+)?", device)
    if found is None:
        return ""
    try:
        with open_text(f"/sys/block/{found[1]}/loop/backing_file") as file:
            path = file.read().rstrip("\n")
    except (OSError, ValueError):
        return ""
    state = _state_of(path)
    return f"{path} {state} {found[2]}" if state else ""


def _state_of(path: str) -> str:
    """Return the size, times and inode of a regular file, which an image is; else empty."""
    if not os.path.isfile(path):
        return ""
    found = os.stat(path)
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


def _uuid(device: str) -> str:
    """Return the name that a device's file system has in /dev/disk/by-uuid; empty without one."""
    folder = "/dev/disk/by-uuid"
    try:
        for name in os.listdir(folder):
            if os.path.samefile(os.path.join(folder, name), device):
                return name
    except OSError:
        pass
    return ""


def mounts(source: str = "/proc/self/mountinfo") -> list[Mount]:
    """Return what is mounted where; empty where there is no such list."""
    found = []
    try:
        with open_text(source, errors="surrogateescape") as file:
            for line in file:
                # "36 35 98:0 /root /mnt options - ext3 /dev/root rw"; see proc_pid_mountinfo(5)
                before, _, after = line.partition(" - ")
                fields = before.split()
                major, _, minor = fields[2].partition(":")
                device = os.makedev(int(major), int(minor))
                kind, what = after.split()[:2]
                path = _OCTAL.sub(_unescaped, fields[4])
                found.append(Mount(path, device, kind, _OCTAL.sub(_unescaped, what)))
    except (OSError, ValueError, IndexError):
        # Windows reports no change time and macOS keeps inodes on all its own file systems.
        return []
    return found


_OCTAL = re.compile(r"\\([0-7]{3})")
"""Blanks and their like in a path, as the kernel writes them."""


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 8))


class Volumes:
    """Tells of devices how far the inode numbers and times on them can be relied on."""

    def __init__(self, mounts: str = "/proc/self/mountinfo") -> None:
        """`mounts` names the kernel's list of mounts; where there is none, all are relied on."""
        self._list = mounts
        self._mounts: dict[int, Mount] = {}
        self._stamps: dict[int, int] = {}

    def stamp(self, device: int) -> int:
        """Return the stamp of what is on `device`, a `st_dev`: see the top of this module."""
        if device not in self._stamps:
            if device not in self._mounts:
                self._mounts = {mount.device: mount for mount in mounts(self._list)}
            mount = self._mounts.get(device)
            self._stamps[device] = RELIABLE if mount is None else mount.stamp()
        return self._stamps[device]
