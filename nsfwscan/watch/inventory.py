"""What the watcher knows of each file, in memory, so that it can tell what changed.

It begins with what the cache knows, and holds when the cache fails. A hundred thousand files
take about 15 MB: columns a folder, as in `FolderView`, and a few rows beside them that are not
merged yet.
"""

from __future__ import annotations

import math
import os
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.cache.rows import SHA256_BYTES
from nsfwscan.values.file_key import KEY_BYTES, UNTRUSTED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsfwscan.cache.folder_view import FolderView
    from nsfwscan.media.discover import Listing

_UNTRUSTED = UNTRUSTED.pack()
NO_DIGEST = bytes(SHA256_BYTES)
"""Stands for the content of a file that could not be read."""
NO_PICTURE = b"\xff" * SHA256_BYTES
"""Stands for the content of a file that is no picture: known, so that it is not read each time, and
never spoken of."""
_MERGE_ABOVE = 64


class Tracked(NamedTuple):
    """One file as it was when it was looked at last."""

    key: bytes
    """The packed `FileKey`."""
    sha256: bytes
    unsafe: float
    """NaN for a file without a score."""


class Inventory:
    """Files by folder and name."""

    def __init__(self) -> None:
        self.inodes: dict[str, int] = {}
        """Each folder that a walk came to, and its inode number: also folders without pictures."""
        self._folders: dict[str, _Folder] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def load(self, folder: str, view: FolderView) -> None:
        """Take over what the library knows of a folder, except what this scorer has not seen.

        Files that only a scan has seen, just after they were written, are left out, too.
        """
        known = _Folder()
        rows = zip(view.names, view.unsafe, strict=True)
        keep = [
            at
            for at, (name, unsafe) in enumerate(rows)
            if (not math.isnan(unsafe) or view[name].outcome is not None)
            and not view.stats.startswith(_UNTRUSTED, KEY_BYTES * at)
        ]
        if len(keep) == len(view.names):
            known.names, known.stats, known.digests = view.names, view.stats, view.digests
            known.unsafe = view.unsafe
        else:
            for at in keep:
                known.append(
                    view.names[at],
                    Tracked(
                        view.stats[KEY_BYTES * at : KEY_BYTES * (at + 1)],
                        view.digests[SHA256_BYTES * at : SHA256_BYTES * (at + 1)],
                        view.unsafe[at],
                    ),
                )
        known.count = len(known.names)
        self._count += known.count - self._size(folder)
        if known.count:
            self._folders[folder] = known

    def get(self, path: str) -> Tracked | None:
        """Return what is known of the file at `path`."""
        folder, name = os.path.split(path)
        known = self._folders.get(folder)
        return None if known is None else known.get(name)

    def put(self, path: str, entry: Tracked) -> None:
        """Remember a file as it is now."""
        folder, name = os.path.split(path)
        known = self._folders.get(folder)
        if known is None:
            known = self._folders[folder] = _Folder()
        self._count += known.get(name) is None
        known.put(name, entry)

    def drop(self, path: str) -> None:
        """Forget a file."""
        folder, name = os.path.split(path)
        known = self._folders.get(folder)
        if known is None or known.get(name) is None:
            return
        self._count -= 1
        known.put(name, None)
        if not known.count:
            del self._folders[folder]

    def is_unchanged(self, listing: Listing) -> bool:
        """Tell whether a whole folder holds what is known of it, and nothing else."""
        known = self._folders.get(listing.folder)
        if known is None:
            return not listing.names
        known.merged()
        return known.names == listing.names and known.stats == b"".join(listing.keys)

    def names(self, folder: str) -> list[str]:
        """Return the known names of a folder, sorted."""
        known = self._folders.get(folder)
        return [] if known is None else known.merged().names

    def folders_below(self, path: str) -> Iterator[str]:
        """Yield the folders with known files at and below `path`."""
        prefix = path if path.endswith(os.sep) else path + os.sep
        for folder in list(self._folders):
            if folder == path or folder.startswith(prefix):
                yield folder

    def forget_below(self, path: str) -> None:
        """Forget all files at and below `path`."""
        for folder in self.folders_below(path):
            self._count -= self._size(folder)
            del self._folders[folder]

    def _size(self, folder: str) -> int:
        known = self._folders.get(folder)
        return 0 if known is None else known.count


class _Folder:
    """The files of one folder: columns in the order of the names, and what came since."""

    __slots__ = ("_recent", "count", "digests", "names", "stats", "unsafe")

    def __init__(self) -> None:
        self.count = 0
        self.names: list[str] = []
        self.stats = b""
        self.digests = b""
        self.unsafe = array("d")
        self._recent: dict[str, Tracked | None] = {}

    def get(self, name: str) -> Tracked | None:
        if name in self._recent:
            return self._recent[name]
        at = bisect_left(self.names, name)
        return self._at(at) if at < len(self.names) and self.names[at] == name else None

    def put(self, name: str, entry: Tracked | None) -> None:
        self.count += (entry is not None) - (self.get(name) is not None)
        self._recent[name] = entry
        # A quarter: so that to fill a folder one by one does not cost the square of its size.
        if len(self._recent) > max(_MERGE_ABOVE, len(self.names) // 4):
            self.merged()

    def append(self, name: str, entry: Tracked) -> None:
        """Add what comes last in the order of names."""
        self.names.append(name)
        self.stats += entry.key
        self.digests += entry.sha256
        self.unsafe.append(entry.unsafe)

    def merged(self) -> _Folder:
        """Return the folder with all its rows in the columns."""
        if self._recent:
            rows: dict[str, Tracked | None] = dict(self._rows())
            rows |= self._recent
            kept = sorted((name, entry) for name, entry in rows.items() if entry is not None)
            self.names = [name for name, _entry in kept]
            self.stats = b"".join([entry.key for _name, entry in kept])
            self.digests = b"".join([entry.sha256 for _name, entry in kept])
            self.unsafe = array("d", [entry.unsafe for _name, entry in kept])
            self._recent = {}
        return self

    def _rows(self) -> Iterator[tuple[str, Tracked]]:
        return ((name, self._at(at)) for at, name in enumerate(self.names))

    def _at(self, at: int) -> Tracked:
        return Tracked(
            self.stats[KEY_BYTES * at : KEY_BYTES * (at + 1)],
            self.digests[SHA256_BYTES * at : SHA256_BYTES * (at + 1)],
            self.unsafe[at],
        )
