"""Archives that depend on nothing but the bytes and the names that go into them.

Same folder and same time, same archive: names are sorted, owners and modes are fixed, times are
`epoch_s`, and the compressor is told every parameter. Two runs of two builds can be compared with
`cmp`, and so can what one downloads with what one builds.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import tarfile
import time
import zipfile
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHECKSUMS = "SHA256SUMS"
_XZ = [
    {"id": lzma.FILTER_X86},  # turns relative calls into absolute ones: 4 % of machine code
    {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 26},
]
"""What `xz -d` of any system undoes with 65 MB of memory."""
_ZIP_EPOCH_S = 315_532_800
"""1980: the zip format knows no earlier time."""


def write_tar(folder: str, target: str, epoch_s: int) -> str:
    """Pack `folder` under its own name into the path `target` (.tar.xz, .tar.gz or .tar)."""
    with open(f"{target}.part", "wb") as out, _compressing(out, target) as stream:
        add_tree(stream, folder, os.path.basename(folder), epoch_s)
    os.replace(f"{target}.part", target)
    return target


def add_tree(stream: IO[bytes], folder: str, name: str, epoch_s: int) -> None:
    """Write `folder` as a tar archive, in which it is called `name`."""
    # GNU's format: nothing in it varies, and dpkg reads it, which cannot read pax headers.
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT) as tar:
        for path, inner in _walk(folder, name):
            entry = tar.gettarinfo(path, inner)
            if entry.islnk():  # a second name of a file: stored again, so that it stands alone
                entry = _regular(tar, path, inner)
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            entry.mtime = epoch_s
            entry.mode = _mode(path)
            if entry.isreg():
                with open(path, "rb") as content:
                    tar.addfile(entry, content)
            else:
                tar.addfile(entry)


def write_zip(folder: str, target: str, epoch_s: int) -> str:
    """Pack `folder` under its own name as a zip archive. Links become copies of their targets."""
    moment = time.gmtime(max(epoch_s, _ZIP_EPOCH_S))[:6]
    with zipfile.ZipFile(f"{target}.part", "w") as out:
        for path, inner in _walk(folder, os.path.basename(folder)):
            if os.path.isdir(path):
                continue
            entry = zipfile.ZipInfo(inner, moment)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, whatever runs this
            entry.external_attr = (0o100000 | _mode(path)) << 16
            with open(path, "rb") as content:
                out.writestr(entry, content.read(), compresslevel=9)
    os.replace(f"{target}.part", target)
    return target


def write_checksums(paths: Iterable[str], folder: str) -> str:
    """Write the file that `sha256sum --check` reads, about files that lie in `folder`."""
    lines = []
    for path in sorted(paths, key=os.path.basename):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append(f"{digest}  {os.path.basename(path)}\n")
    target = os.path.join(folder, CHECKSUMS)
    with open(target, "w", encoding="utf-8", newline="\n") as out:
        out.writelines(lines)
    return target


def compress_gzip(data: bytes) -> bytes:
    """Return `data` as gzip without a name and a time, as Debian wants manuals and changelogs."""
    out = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=out, mtime=0) as stream:
        stream.write(data)
    return out.getvalue()


def _compressing(out: IO[bytes], target: str) -> IO[bytes]:
    if target.endswith(".xz"):
        return lzma.LZMAFile(out, "wb", check=lzma.CHECK_CRC64, filters=_XZ)
    if target.endswith(".gz"):
        packed = gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=out, mtime=0)
        return io.BufferedWriter(packed)
    return io.BufferedWriter(_Plain(out))


class _Plain(io.RawIOBase):
    """Passes bytes on, and leaves its target open when it is closed, as the compressors do."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        return self._out.write(data)  # type: ignore[call-overload, no-any-return]  # any buffer


def _walk(folder: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield (path, name in the archive) of a folder and all below it, in one order everywhere."""
    yield folder, name
    for parent, below, names in os.walk(folder):
        links = [one for one in below if os.path.islink(os.path.join(parent, one))]
        below.sort()
        inside = os.path.relpath(parent, folder)
        prefix = name if inside == "." else f"{name}/{inside.replace(os.sep, '/')}"
        if inside != ".":
            yield parent, prefix
        for one in sorted(names + links):
            yield os.path.join(parent, one), f"{prefix}/{one}"


def _regular(tar: tarfile.TarFile, path: str, inner: str) -> tarfile.TarInfo:
    tar.inodes.clear()  # type: ignore[attr-defined]  # what it takes for links; not in its types
    return tar.gettarinfo(path, inner)


def _mode(path: str) -> int:
    """Return the mode everybody gets: only whether a file is a program is taken from the disk."""
    if os.path.islink(path):
        return 0o777
    if os.path.isdir(path) or os.stat(path).st_mode & 0o100:
        return 0o755
    return 0o644
