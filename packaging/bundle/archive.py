"""The archive of a bundle, with names in order and no times, owners or odd modes."""

from __future__ import annotations

import os
import tarfile


def write(folder: str) -> str:
    """Pack `folder` beside itself and return the path of the archive."""
    target = f"{folder}.tar.xz"
    with tarfile.open(f"{target}.part", "w:xz", format=tarfile.PAX_FORMAT) as stream:
        top = os.path.basename(folder)
        for path in sorted(_paths(folder)):
            member = stream.gettarinfo(path, os.path.join(top, os.path.relpath(path, folder)))
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            if member.isreg():
                with open(path, "rb") as file:
                    stream.addfile(member, file)
            else:
                stream.addfile(member)
    os.replace(f"{target}.part", target)
    return target


def _paths(folder: str) -> list[str]:
    return [
        os.path.join(parent, name)
        for parent, folders, files in os.walk(folder)
        for name in (*folders, *files)
    ]
