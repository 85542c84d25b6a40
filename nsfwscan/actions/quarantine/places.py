"""Where the pictures of a quarantine go back to.

A path does not identify a place: a USB stick may be mounted elsewhere, or a server not at all, and
its mount point is then an empty folder on the disk below. So the journal has, for each picture, its
file system, and whether the quarantine was on the same one. If it was, the picture goes back to the
same place below the quarantine's folder, wherever that is mounted now. Otherwise the file system
must be recognised. No picture is put on a different one.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.actions.quarantine.volume import KnownVolumes

if TYPE_CHECKING:
    from nsfwscan.actions.quarantine.entries import Entry
    from nsfwscan.actions.quarantine.volume import Volume
    from nsfwscan.system.json_lines import Json


class Destination(NamedTuple):
    """Where a picture goes back to."""

    path: str
    """Absolute."""
    why_not: str = ""
    """Why it cannot go there now, without a full stop; empty if its volume is available."""
    away: bool = False
    """It can go there when its volume is back."""


class Places:
    """Finds where the pictures of a quarantine go back to. Short-lived, like `KnownVolumes`."""

    def __init__(self, quarantine: str) -> None:
        """`quarantine` is the path of the quarantine's own folder."""
        self._quarantine = quarantine
        self.base = os.path.realpath(os.path.dirname(quarantine))
        self.volumes = KnownVolumes()
        self._known: dict[tuple[str, Volume | None, str], Destination] = {}
        self._device: int | None = None

    def of(self, entry: Entry, path: str | None = None) -> Destination:
        """Return where an entry's picture belongs, or where `path` (of that time) is now.

        Never raises: a volume that cannot be read is `away`.
        """
        folder, name = os.path.split(entry.path if path is None else path)
        key = entry.base, entry.volume, folder
        place = self._known.get(key)
        if place is None:
            try:
                place = self._find(entry, folder)
            except OSError as error:
                why = f"{error.filename or folder}: {error.strerror or error}"
                place = Destination(folder, f"its volume cannot be read: {why}", away=True)
            self._known[key] = place
        return place._replace(path=os.path.join(place.path, name))

    def record(self, folder: str) -> dict[str, Json]:
        """Return the journal's fields about a picture's folder. Raises OSError."""
        record: dict[str, Json] = {"volume": self.volumes.of(folder).record()}
        if os.stat(folder).st_dev == self._own_device() and _below(folder, self.base) is not None:
            record["base"] = self.base
        return record

    def _find(self, entry: Entry, folder: str) -> Destination:
        if entry.base:
            if entry.base == self.base or self._is_on_ours(entry.base):
                return self._beside_us(folder)
            inside = _below(folder, entry.base)
            own = self.volumes.of(self._quarantine)
            moved = entry.volume is not None and entry.volume.may_be(own)
            if inside is not None and moved and not self._is_elsewhere(entry, folder):
                return self._beside_us(os.path.join(self.base, inside).rstrip(os.sep) or os.sep)
        there = existing(folder)
        if entry.volume is None:  # from an earlier version
            if there == folder or os.stat(there).st_dev == self._own_device():
                return Destination(folder)
            why = f"its folder {folder} is gone, and its volume is not known"
            return Destination(folder, why, away=True)
        now = self.volumes.of(there)
        if entry.volume.is_known_as(now):
            return Destination(folder)
        return Destination(folder, _why_other(entry.volume, now), away=True)

    def _beside_us(self, folder: str) -> Destination:
        """Return the place for a folder that was on the quarantine's volume."""
        there = existing(folder)
        if os.stat(there).st_dev == self._own_device():
            return Destination(folder)
        own, now = self.volumes.of(self._quarantine), self.volumes.of(there)
        return Destination(folder, _why_other(own, now), away=True)

    def _is_elsewhere(self, entry: Entry, folder: str) -> bool:
        """Return True if the volume is where it was, but the quarantine was copied to another."""
        try:
            there = existing(folder)
            now = self.volumes.of(there)
            ours = os.stat(there).st_dev == self._own_device()
        except OSError:  # the old place does not respond
            return False
        return not ours and entry.volume is not None and entry.volume.is_known_as(now)

    def _is_on_ours(self, folder: str) -> bool:
        try:
            return os.stat(folder).st_dev == self._own_device()
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR}:
                return False
            raise

    def _own_device(self) -> int:
        if self._device is None:
            self._device = os.stat(self._quarantine).st_dev
        return self._device


def _why_other(then: Volume, now: Volume) -> str:
    if now.mount != then.mount and _below(then.mount, now.mount) is not None:
        return f"its volume is not mounted at {then.mount} now"
    return f"another volume is mounted at {now.mount} now"


def _below(path: str, folder: str) -> str | None:
    """Return `path` relative to `folder`, "" for `folder` itself; None if it is not below it."""
    if path == folder:
        return ""
    start = os.path.join(folder, "")
    return path[len(start) :] if path.startswith(start) else None


def existing(folder: str) -> str:
    """Return a folder, or the nearest one above it that exists. Raises OSError."""
    while True:  # ends at the root, which exists
        try:
            if stat.S_ISDIR(os.stat(folder).st_mode):
                return folder
        except OSError as error:
            upper = os.path.dirname(folder)
            if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP} or upper == folder:
                raise
        folder = os.path.dirname(folder)
