"""Volumes: which one a folder is on, and how a journal identifies it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.media.volumes import mounts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsfwscan.media.volumes import Mount
    from nsfwscan.system.json_lines import Json

_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


class Volume(NamedTuple):
    """One file system, as it is or was mounted."""

    mount: str
    """Its topmost folder."""
    kind: str = ""
    """The file system's type as Linux calls it, such as `ext4`; empty if not known."""
    source: str = ""
    """What is mounted: a device, `server:/path`."""
    name: str = ""
    """What identifies it wherever it is mounted, such as its UUID; empty without one."""

    def record(self) -> dict[str, Json]:
        """Return the volume as a journal's field."""
        return {
            "mount": self.mount,
            "kind": self.kind,
            "source": self.source,
            "name": self.name,
        }

    def may_be(self, now: Volume) -> bool:
        """Return True unless `now` is known to be another file system, wherever it is mounted."""
        return self.name == now.name if self.name and now.name else self.kind == now.kind

    def is_known_as(self, now: Volume) -> bool:
        """Return True if `now` is this file system: by name, or by kind, source and mount point.

        On systems that report neither kind nor source, the mount point alone decides.
        """
        return self.name == now.name if self.name and now.name else self[:3] == now[:3]


def from_record(found: object) -> Volume | None:
    """Return a volume from a journal's field; None if missing or not understood."""
    if not isinstance(found, dict):
        return None
    values = [found.get(field, "") for field in Volume._fields]
    return Volume(*values) if values[0] and all(isinstance(one, str) for one in values) else None


class KnownVolumes:
    """Finds the volumes of folders. Short-lived, because mounts change."""

    def __init__(self) -> None:
        self._mounts: dict[str, Mount] | None = None
        self._found: dict[tuple[str, int], Volume] = {}

    def of(self, folder: str) -> Volume:
        """Return the volume that an existing folder is on. Raises OSError."""
        device = os.stat(folder).st_dev
        top = folder
        while (upper := os.path.dirname(top)) != top:  # ends at the root
            try:
                if os.stat(upper).st_dev != device:
                    break
            except PermissionError:  # this user may not search it
                break
            top = upper
        volume = self._found.get((top, device))
        if volume is None:
            volume = self._found[top, device] = self._describe(top, device)
        return volume

    def _describe(self, top: str, device: int) -> Volume:
        if self._mounts is None:
            self._mounts = {one.path: one for one in mounts()}  # the last one covers the others
        mount = self._mounts.get(top)
        if mount is None:
            return Volume(top)
        name = mount.name
        if mount.kind in _IN_MEMORY:
            name = f"{os.statvfs(top).f_fsid:x} {device:x}"
        return Volume(top, mount.kind, mount.source, name)


def volume_fields(record: Mapping[str, object]) -> tuple[str, Volume | None]:
    """Return base and volume from an intent's record; earlier journals have neither."""
    base = record.get("base", "")
    return (base if isinstance(base, str) else ""), from_record(record.get("volume"))
