"""Which file systems have reliable inode numbers; on others a file is recognised by less.

On most local file systems, a path with the same size, times and inode number is the same file,
because the kernel sets ctime. Elsewhere these may repeat: two memory cards, or two file system
images (squashfs, ISO, archives by FUSE) that are mounted at the same place in turn, may have equal
names, sizes and times for different contents. There the identity of the file system, its *stamp*,
replaces the inode number in a `FileKey`.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import NamedTuple

from nsfwscan.system.reading import open_text

RELIABLE = 0
"""The stamp of file systems with reliable inode numbers and times."""
UNKNOWN = 2**64 - 1
"""The stamp of file systems that cannot be told apart: their files are always read again."""

_LOOSE = frozenset(
    {"9p", "afs", "ceph", "cifs", "exfat", "fuse", "fuseblk", "glusterfs", "lustre", "msdos"}
    | {"ncpfs", "nfs", "nfs4", "ntfs3", "smb3", "smbfs", "vfat", "virtiofs"}
)
"""File systems, by Linux's names, that invent inode numbers at each mount, or whose other clients
change files while the server's times lag behind."""
_LOCAL = frozenset({"exfat", "msdos", "ntfs3", "vfat"})
"""Those of them to which only this computer writes, so that its kernel reports each change."""


_IMAGES = frozenset({"cramfs", "erofs", "iso9660", "romfs", "squashfs", "udf"})
"""Image formats, created as a whole with arbitrary times; two volumes may have the same id."""


class Mount(NamedTuple):
    """One mounted file system."""

    path: str
    device: int
    """`st_dev` of its files."""
    kind: str
    source: str = ""
    """What is mounted: a device, `server:/path`, or what a FUSE program reports."""

    @property
    def loose(self) -> bool:
        """Return True if inode numbers and times are unreliable."""
        return self.kind in _LOOSE or self.kind.startswith("fuse.")

    @property
    def silent(self) -> bool:
        """Return True if it may change without this computer's kernel being informed."""
        return self.loose and self.kind not in _LOCAL

    @property
    def name(self) -> str:
        """Return what identifies the file system wherever it is mounted; empty if nothing does."""
        on_a_server = ":" in self.source or self.source.startswith("//")
        return _uuid(self.source) or (self.source if on_a_server else "")

    def stamp(self) -> int:
        """Return a number that distinguishes this file system from others mounted in its place."""
        if self.kind in _IMAGES:
            identity = _backing_file(self.source)
        elif not self.loose:
            return RELIABLE
        elif self.kind == "fuse" or self.kind.startswith("fuse."):
            # `squashfuse` or `archivemount` identify nothing, `user@host:/path` does.
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
    """Return the size, times and inode of a regular file, such as an image; otherwise empty."""
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
    """Return all mounts; empty on systems without such a list."""
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
"""Whitespace and backslashes in a path, as the kernel escapes them."""


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 8))


class Volumes:
    """Finds the stamps of devices."""

    def __init__(self, mounts: str = "/proc/self/mountinfo") -> None:
        """`mounts` is the path of the kernel's list of mounts; without one, all are reliable."""
        self._list = mounts
        self._mounts: dict[int, Mount] = {}
        self._stamps: dict[int, int] = {}

    def stamp(self, device: int) -> int:
        """Return the stamp of a device (`st_dev`): see the top of this module."""
        if device not in self._stamps:
            if device not in self._mounts:
                self._mounts = {mount.device: mount for mount in mounts(self._list)}
            mount = self._mounts.get(device)
            self._stamps[device] = RELIABLE if mount is None else mount.stamp()
        return self._stamps[device]
