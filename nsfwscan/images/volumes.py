"""Which file systems keep their inode numbers: on the others a file is known by less."""

from __future__ import annotations

import os

_LOOSE = frozenset(
    {"9p", "afs", "ceph", "cifs", "exfat", "fuse", "fuseblk", "glusterfs", "lustre", "msdos"}
    | {"ncpfs", "nfs", "nfs4", "ntfs3", "smb3", "smbfs", "vfat", "virtiofs"}
)
"""File systems, as Linux calls them, that make inode numbers up at each mount, or whose other
clients change files while a server's times lag behind."""


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
        found = {}
        try:
            with open(self._mounts, encoding="utf-8", errors="surrogateescape") as file:
                for line in file:
                    # "36 35 98:0 /root /mnt options - ext3 /dev/root rw"; see proc_pid_mountinfo(5)
                    before, _, after = line.partition(" - ")
                    major, _, minor = before.split()[2].partition(":")
                    kind = after.split()[0]
                    found[os.makedev(int(major), int(minor))] = kind in _LOOSE or kind.startswith(
                        "fuse."
                    )
        except (OSError, ValueError, IndexError):
            # Windows reports no change time and macOS keeps inodes on all its own file systems.
            return {}
        return found
