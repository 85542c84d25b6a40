"""Where the watched folders are: which file systems, and whether they are there at all.

An unplugged disk looks like a folder whose pictures were all deleted. So the root of each watched
tree, and of each file system mounted inside it, is known by an identity; what is known below it is
only said to be gone while the same file system is in its place.
"""

from __future__ import annotations

import os
import stat
from enum import Enum
from typing import TYPE_CHECKING

from nsfwscan.media.volumes import Mount, mounts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MOUNTED, _FOLDER = "mount", "folder"


class Presence(Enum):
    """What became of a place."""

    SAME = "same"
    AWAY = "away"
    """Nothing is there, or only the empty folder on which a file system used to be mounted."""
    OTHER = "other"
    """Something else is there than before: another disk, or a folder that was made anew."""


class WatchedPlaces:
    """The roots, and the file systems mounted inside them."""

    def __init__(self, roots: Sequence[str], remembered: Mapping[str, str]) -> None:
        """`remembered` holds identities of an earlier run, by path."""
        self.roots = tuple(roots)
        self._identities = dict(remembered)
        self._mounts: list[Mount] = []
        self._inside: frozenset[Mount] = frozenset()
        self.look()

    @property
    def identities(self) -> dict[str, str]:
        """What to remember."""
        return dict(self._identities)

    def look(self) -> bool:
        """Read what is mounted where; tell whether that changed below or at a root.

        What is known stays where the list cannot be read for the moment.
        """
        self._mounts = mounts() or self._mounts
        inside = set()
        for root in self.roots:
            real = os.path.realpath(root)  # mounts are listed without links, roots may be links
            for mount in self._mounts:
                if is_below(mount.path, real):
                    spelled = root + mount.path[len(real) :]
                    inside.add(mount._replace(path=spelled))
        found = frozenset(inside)
        changed, self._inside = found != self._inside, found
        return changed

    def presence(self, place: str) -> Presence:
        """Tell what is at a root or another place whose identity is known.

        One that is looked at for the first time is `OTHER`.
        """
        now = self._identity(place)
        before = self._identities.get(place)
        if not now:
            return Presence.AWAY
        if now == before:
            return Presence.SAME
        was_mounted = before is not None and before.startswith(_MOUNTED)
        if was_mounted and not now.startswith(_MOUNTED) and _is_empty(place):
            return Presence.AWAY
        return Presence.OTHER

    def identity(self, place: str) -> str:
        """Return what tells what is at `place` now from all else; empty when nothing is there."""
        return self._identity(place)

    def accept(self, place: str, identity: str) -> None:
        """Let what was at `place` be what is expected there.

        `identity` is that of the moment when it was looked at: it may have changed meanwhile.
        """
        if identity:
            self._identities[place] = identity

    def inner(self, root: str) -> list[str]:
        """Return the places below `root` at which file systems are mounted, or were."""
        now = {mount.path for mount in self._inside}
        return sorted(
            place
            for place in now | set(self._identities)
            if place != root and is_below(place, root)
        )

    def holding(self, path: str) -> str:
        """Return the innermost place that holds `path`; empty when none does."""
        return max(
            (place for place in {*self._identities, *self.roots} if is_below(path, place)),
            key=len,
            default="",
        )

    def is_silent(self, root: str) -> bool:
        """Tell whether something at or below `root` changes without the kernel's knowledge."""
        real = os.path.realpath(root)
        at = max(
            (mount for mount in self._mounts if is_below(real, mount.path)),
            key=lambda mount: len(mount.path),
            default=None,
        )
        inside = (mount.silent for mount in self._inside if is_below(mount.path, root))
        return any(inside) or (at is not None and at.silent)

    def _identity(self, place: str) -> str:
        """Return what tells one folder on one file system from all others; empty without one."""
        try:
            found = os.stat(place)
            if not os.path.isdir(place):
                return ""
            # The number of a device changes when a disk is plugged in again; the number of a file
            # system does not, where it has one.
            number = os.statvfs(place).f_fsid if hasattr(os, "statvfs") else 0
        except OSError:
            return ""
        real = os.path.realpath(place)
        is_mount = any(mount.path == real for mount in self._mounts) or os.path.ismount(real)
        loose = any(mount.loose for mount in self._mounts if mount.device == found.st_dev)
        volume = f"{number:x}" if number else f"device-{found.st_dev:x}"
        inode = 0 if loose and is_mount else found.st_ino
        return f"{_MOUNTED if is_mount else _FOLDER}:{volume}:{inode:x}"


def _is_empty(folder: str) -> bool:
    """Return True unless `folder` holds something: then it is used without the disk."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return True


def is_below(path: str, folder: str) -> bool:
    """Tell whether `path` is `folder` or below it."""
    return path == folder or path.startswith(folder if folder.endswith(os.sep) else folder + os.sep)


def is_there(path: str) -> bool:
    """Return True if something other than a folder is at `path`, also when that is in doubt."""
    try:
        return not stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
