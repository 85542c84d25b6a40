"""Volumes that can be unplugged and plugged in elsewhere, for a process with mounts of its own.

A volume that is away is kept by an open clone of its mount, which no list of mounts shows. The
process must have called `unshare --mount` first; see `shell.own_mounts`.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

_OPEN_TREE, _MOVE_MOUNT = 428, 429
"""Numbers of system calls, the same on all of Linux's architectures but one."""
_AT_FDCWD, _CLONE, _EMPTY_PATH, _DETACH = -100, 1, 4, 2
KINDS = ("tmpfs", "ext4", "vfat", "overlay")


def _called(number: int, *arguments: int | bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    made = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    found = int(libc.syscall(ctypes.c_long(number), *made))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


class Disk:
    """One file system, mounted at `at`, or away."""

    def __init__(self, kind: str, at: Path, store: Path) -> None:
        """Make it and mount it. `store` is a folder for what it consists of."""
        self.at: Path | None = at
        self._away = -1
        at.mkdir(parents=True, exist_ok=True)
        store.mkdir(parents=True, exist_ok=True)
        match kind:
            case "tmpfs":
                what = ["-t", "tmpfs", "none"]
            case "overlay":
                for part in ("lower", "upper", "work"):
                    (store / part).mkdir()
                options = f"lowerdir={store}/lower,upperdir={store}/upper,workdir={store}/work"
                what = ["-t", "overlay", "none", "-o", options]
            case _:
                image = store / "image"
                image.write_bytes(b"")
                os.truncate(image, 16 << 20)
                quiet = ["-q"] if kind == "ext4" else []
                self._run(f"mkfs.{kind}", *quiet, str(image))
                what = ["-o", "loop", str(image)]
        self._run("mount", *what, str(at))

    @staticmethod
    def _run(*command: str) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)

    def unplug(self) -> None:
        assert self.at is not None
        path = os.fsencode(self.at)
        self._away = _called(_OPEN_TREE, _AT_FDCWD, path, _CLONE | os.O_CLOEXEC)
        self.detach(self.at)
        self.at = None

    def plug_in(self, at: Path) -> None:
        assert self.at is None
        at.mkdir(parents=True, exist_ok=True)
        _called(_MOVE_MOUNT, self._away, b"", _AT_FDCWD, os.fsencode(at), _EMPTY_PATH)
        os.close(self._away)
        self.at = at

    @staticmethod
    def detach(path: Path) -> None:
        """Take a mount out of sight, though something on it is in use."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(os.fsencode(path), _DETACH):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def wipe(self) -> None:
        """Remove all that is on it; it must be there."""
        assert self.at is not None
        for one in self.at.iterdir():
            shutil.rmtree(one) if one.is_dir() and not one.is_symlink() else one.unlink()
