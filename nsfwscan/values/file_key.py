"""`FileKey`: the `stat` fields by which a file is recognised without opening it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator


_KEY = struct.Struct("<qqqQ")
_PACK = _KEY.pack
KEY_BYTES = _KEY.size
_INODE_BYTES = 8
_RACY_NS = 3_000_000_000
"""A file changed less than this before it was read may change again within the same tick of its
file system's clock (FAT counts in 2 s) and show the same stat, so its stat is not trusted."""
_AHEAD_NS = 3_600_000_000_000
"""A time this far ahead was not set by this computer's clock as it is now, but by a camera's, say,
or before the clock was corrected. Any later write sets another time."""
_AHEAD_LOOSE_NS = 48 * _AHEAD_NS
"""The same where times may come from a server's clock, or are FAT's local time: no clock today is
wrong by days. Until that time has come, each scan reads such a file again."""
_HALF, _FULL = 1 << 63, 1 << 64


class FileKey(NamedTuple):
    """The `stat` fields that, with the path, recognise a file without opening it.

    The device is left out: its number changes when a disk is plugged in elsewhere, and all of its
    pictures would be read again.
    """

    size: int
    """Bytes."""
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> FileKey:
        """Return the key of a file; numbers over 64 bits (ReFS inodes have 128) are truncated."""
        return cls.unpack(pack_key(found))

    @classmethod
    def unpack(cls, packed: bytes) -> FileKey:
        """Return the key that `pack` or `pack_key` packed."""
        return cls._make(_KEY.unpack(packed))

    @classmethod
    def unpack_all(cls, packed: bytes) -> Iterator[FileKey]:
        """Return the keys in a concatenation of packed keys."""
        return map(cls._make, _KEY.iter_unpack(packed))

    def pack(self) -> bytes:
        """Return the key as `KEY_BYTES` bytes, for storing and comparing."""
        return _pack(*self)


NEVER = FileKey(0, 0, 0, 0)
"""No picture has this key: a file located with it is read again by all who come across it."""
UNTRUSTED = NEVER._replace(inode=1)
"""The same, for a file that a scan has read moments after it was written: unlike one with `NEVER`,
no watcher has reported it."""


def pack_key(found: os.stat_result) -> bytes:
    """Return `FileKey.of(found).pack()` without building a key: a re-scan does this per file."""
    try:
        return _PACK(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    except struct.error:
        return _pack(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def is_racy(key: FileKey, began_ns: int, loose: int = 0) -> bool:
    """Return True if a file read at `began_ns` could change again and show the same stat.

    `loose` is `Listing.loose`, 0 on a local disk. If it is set, times may come from a server's
    clock, and a time less than two days ahead of ours may be the server's present.
    """
    young, ahead = began_ns - _RACY_NS, began_ns + (_AHEAD_LOOSE_NS if loose else _AHEAD_NS)
    return young < key.mtime_ns <= ahead or young < key.ctime_ns <= ahead


def stamped(packed: bytes, stamp: int) -> bytes:
    """Return a packed key with a file system's stamp (see `media.volumes`) as the inode."""
    return packed[:-_INODE_BYTES] + stamp.to_bytes(_INODE_BYTES, "little")


def _pack(size: int, mtime_ns: int, ctime_ns: int, inode: int) -> bytes:
    try:
        return _KEY.pack(size, mtime_ns, ctime_ns, inode)
    except struct.error:
        signed = ((number + _HALF) % _FULL - _HALF for number in (size, mtime_ns, ctime_ns))
        return _KEY.pack(*signed, inode % _FULL)
