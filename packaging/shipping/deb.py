"""A Debian package from a staged folder.

The program goes whole to /usr/lib/nsfwscan, and what Debian keeps elsewhere (manual, completions,
menu entries) to where Debian keeps it. dpkg-deb writes the package; there is no source package,
because what is packed is a bundle and not built from Debian's own parts.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING

from nsfwscan._version import __version__
from nsfwscan.system.installation import REMOVE_NOTE
from shipping import licences, sbom
from shipping.archive import compress_gzip
from shipping.errors import ShippingError
from shipping.stage import CHECKOUT, PACKAGING

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOME = "usr/lib/nsfwscan"
_DOC = "usr/share/doc/nsfwscan"
_MOVED = {
    "share/applications": "usr/share/applications",
    "share/icons": "usr/share/icons",
    "share/metainfo": "usr/share/metainfo",
    "share/kio": "usr/share/kio",
    "share/nemo": "usr/share/nemo",
    "share/bash-completion": "usr/share/bash-completion",
    "share/fish": "usr/share/fish",
    "share/zsh/site-functions": "usr/share/zsh/vendor-completions",
    "share/man": "usr/share/man",
    "README.md": f"{_DOC}/README.md",
    sbom.NAME: f"{_DOC}/{sbom.NAME}",
    licences.NAME: f"{_DOC}/{licences.NAME}",
}
_LEFT_OUT = ("install.sh", "LICENSE", "share/zsh")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MAINTAINER = "The nsfwscan authors <nsfwscan@users.noreply.github.com>"


def write(folder: str, out: str, epoch_s: int) -> str:
    """Make nsfwscan_<version>_<architecture>.deb in `out` from a staged folder; return its path.

    Raises `ShippingError` when dpkg-deb is missing or refuses.
    """
    builder = shutil.which("dpkg-deb")
    if builder is None:
        raise ShippingError("dpkg-deb is not here, so no Debian package can be made")
    architecture = _architecture(folder)
    target = os.path.join(out, f"nsfwscan_{__version__}_{architecture}.deb")
    with tempfile.TemporaryDirectory(dir=out, prefix=".deb-") as root:
        _lay_out(folder, root, epoch_s)
        _write_control(root, architecture)
        _make_uniform(root, epoch_s)
        # One thread, because what several write depends on how many there are.
        command = [builder, "--root-owner-group", "-Zxz", "-z6", "--threads-max=1", "--build"]
        env = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch_s), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [*command, root, f"{target}.part"], env=env, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ShippingError(f"dpkg-deb failed: {done.stderr.strip()}")
        os.replace(f"{target}.part", target)
    return target


def _architecture(folder: str) -> str:
    """Return Debian's name for the machine that the program in `folder` is for."""
    machine = os.path.basename(folder).rpartition("-")[2]
    if machine not in _ARCHITECTURES:
        raise ShippingError(
            f"the name of {folder} does not end with a machine ({', '.join(_ARCHITECTURES)})"
        )
    return _ARCHITECTURES[machine]


def _lay_out(folder: str, root: str, epoch_s: int) -> None:
    os.chmod(root, 0o755)  # a scratch folder is for nobody else to see, and / is for all
    home = os.path.join(root, _HOME)
    shutil.copytree(folder, home, symlinks=True)
    for name, place in _MOVED.items():
        target = os.path.join(root, place)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.rename(os.path.join(home, name), target)
    for name in _LEFT_OUT:
        path = os.path.join(home, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    for name in (licences.NAME, sbom.NAME, "man"):
        _compress_below(root, name)
    os.makedirs(os.path.join(root, "usr/bin"))
    os.symlink("../lib/nsfwscan/nsfwscan", os.path.join(root, "usr/bin/nsfwscan"))
    _write(root, f"{_HOME}/{REMOVE_NOTE}", "sudo apt-get remove nsfwscan\n")
    _write(root, f"{_DOC}/changelog.gz", compress_gzip(_changelog(epoch_s).encode()))
    with open(os.path.join(CHECKOUT, "CHANGELOG.md"), "rb") as file:
        _write(root, f"{_DOC}/NEWS.md.gz", compress_gzip(file.read()))
    for name, place in (
        ("copyright", f"{_DOC}/copyright"),
        ("lintian-overrides", "usr/share/lintian/overrides/nsfwscan"),
    ):
        with open(os.path.join(PACKAGING, "debian", name), "rb") as file:
            _write(root, place, file.read())


def _compress_below(root: str, name: str) -> None:
    """Compress a document, or every page of the manual, as Debian wants it."""
    start = os.path.join(root, "usr/share/man" if name == "man" else f"{_DOC}/{name}")
    paths = [start] if os.path.isfile(start) else [os.path.join(root, one) for one in _files(start)]
    for path in paths:
        with open(path, "rb") as file:
            data = compress_gzip(file.read())
        os.unlink(path)
        with open(f"{path}.gz", "wb") as out:
            out.write(data)


def _changelog(epoch_s: int) -> str:
    day = format_datetime(datetime.fromtimestamp(epoch_s, UTC))
    return (
        f"nsfwscan ({__version__}) unstable; urgency=medium\n\n"
        f"  * Release {__version__}; NEWS.md.gz tells what is new.\n\n"
        f" -- {_MAINTAINER}  {day}\n"
    )


def _write_control(root: str, architecture: str) -> None:
    paths = sorted(os.path.relpath(path, root) for path in _files(root))
    size_kib = sum(os.lstat(os.path.join(root, path)).st_size + 1023 >> 10 for path in paths)
    with open(os.path.join(PACKAGING, "debian", "control.in"), encoding="utf-8") as file:
        control = file.read()
    for word, value in (
        ("@VERSION@", __version__),
        ("@ARCHITECTURE@", architecture),
        ("@MAINTAINER@", _MAINTAINER),
        ("@INSTALLED_SIZE@", str(size_kib)),
        ("@GLIBC@", _newest_glibc(root)),
    ):
        control = control.replace(word, value)
    sums = []
    for path in paths:
        if not os.path.islink(os.path.join(root, path)):
            with open(os.path.join(root, path), "rb") as data:
                digest = hashlib.file_digest(data, lambda: hashlib.md5(usedforsecurity=False))
            sums.append(f"{digest.hexdigest()}  {path}\n")
    _write(root, "DEBIAN/control", control)
    _write(root, "DEBIAN/md5sums", "".join(sums))


def _newest_glibc(root: str) -> str:
    """Return the newest version of the C library that any program or library in `root` asks for.

    Everything else they need is in the bundle, so this is the one dependency.
    """
    newest = (2, 17)
    for path in _files(os.path.join(root, _HOME)):
        if os.path.islink(path):
            continue
        with open(path, "rb") as file:
            if file.read(4) != b"\x7fELF":
                continue
            asked = re.findall(rb"\0GLIBC_(\d+)\.(\d+)(?:\.\d+)?(?=\0)", file.read())
        newest = max([newest, *((int(one), int(two)) for one, two in asked)])
    return ".".join(map(str, newest))


def _make_uniform(root: str, epoch_s: int) -> None:
    """Give everything the same time and the usual modes, whoever builds this."""
    for parent, below, names in os.walk(root, topdown=False):
        for name in [*names, *below]:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                runs = os.path.isdir(path) or (
                    os.stat(path).st_mode & 0o100 and not _is_library(path)
                )
                os.chmod(path, 0o755 if runs else 0o644)
            os.utime(path, (epoch_s, epoch_s), follow_symlinks=False)
    os.utime(root, (epoch_s, epoch_s))


def _is_library(path: str) -> bool:
    return re.search(r"\.so(\.[\d.]+)?$", path) is not None


def _files(folder: str) -> Iterator[str]:
    for parent, below, names in os.walk(folder):
        links = [one for one in below if os.path.islink(os.path.join(parent, one))]
        below.sort()
        yield from (os.path.join(parent, name) for name in sorted(names + links))


def _write(root: str, name: str, data: str | bytes) -> None:
    path = os.path.join(root, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
