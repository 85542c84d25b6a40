"""Reading a model package: a folder with `manifest.json`, `model.onnx` and `LICENSE`.

Packages are not trusted. The manifest is checked field by field, and a file's bytes are returned
only after the size and sha256 of those bytes were verified, so onnxruntime never parses others.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from nsfwscan.models import manifest as manifests
from nsfwscan.models.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Artefact, ModelManifest
from nsfwscan.system.hashing import Sha256, pieces
from nsfwscan.system.reading import open_bytes
from nsfwscan.values.errors import ManifestError, ModelError, ModelTampered

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_READ_BYTES = 1 << 31
"""An ONNX file is a protobuf message, which cannot be larger; larger weights are external data."""

_REINSTALL = "install the model again with `nsfwscan models pull` or `nsfwscan models add`"


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A package with a valid manifest and files of the right sizes."""

    folder: str
    manifest: ModelManifest

    def read_artefact(self, name: str) -> bytes:
        """Return the verified bytes of the file `name`.

        Raises `ModelTampered` if they do not match the manifest, `ModelError` if the manifest does
        not list the file or it is larger than `MAX_READ_BYTES`.
        """
        expected = self._expected(name)
        if expected.bytes > MAX_READ_BYTES:
            raise ModelError(f"{os.path.join(self.folder, name)} is too large to read at once")
        with _verified_size(self.folder, name, expected) as stream:
            data = stream.read(expected.bytes + 1)  # one more byte reveals a file that has grown
        if len(data) != expected.bytes or hashlib.sha256(data).hexdigest() != expected.sha256:
            raise _tampered(self.folder, name, "does not have the checksum in its manifest")
        return data

    def check_artefact(self, name: str) -> str:
        """Hash the file `name` in pieces and return its path.

        For a graph's external data, which onnxruntime maps by path. Raises `ModelTampered`, also
        for a file with a second hard link, through which it could be changed from outside the
        package: onnxruntime refuses symbolic links, but not hard links.
        """
        expected = self._expected(name)
        with _verified_size(self.folder, name, expected) as stream:
            if name in self.manifest.mapped_files and os.fstat(stream.fileno()).st_nlink != 1:
                raise _tampered(self.folder, name, "has a second hard link")
            found = Sha256().take(pieces(stream, expected.bytes + 1))
        if (found.bytes, found.hexdigest()) != (expected.bytes, expected.sha256):
            raise _tampered(self.folder, name, "does not have the checksum in its manifest")
        return os.path.join(self.folder, name)

    def verify(self) -> None:
        """Hash every file. Raises `ModelTampered` for the first mismatch."""
        for name in self.manifest.files:
            self.check_artefact(name)

    def _expected(self, name: str) -> Artefact:
        try:
            return self.manifest.files[name]
        except KeyError:
            raise ModelError(f"{self.manifest.package} has no file {name!r}") from None


@dataclass(frozen=True, slots=True)
class BrokenPackage:
    """A folder in the store that cannot be used, and why."""

    folder: str
    problem: ModelError

    @property
    def package(self) -> str:
        """Return the folder's name, which is all that is known."""
        return os.path.basename(self.folder)


def open_package(folder: str) -> InstalledModel:
    """Read a package's manifest, and check that its files exist and have the right sizes.

    Raises `ManifestError` or `ModelTampered`.
    """
    model = InstalledModel(folder, manifests.parse(_manifest(folder), where=_manifest_path(folder)))
    for name, expected in model.manifest.files.items():
        with _verified_size(folder, name, expected):
            pass
    return model


def as_published(model: InstalledModel) -> InstalledModel:
    """Return the package without what was built from its graph."""
    return InstalledModel(model.folder, model.manifest.as_published)


def _manifest(folder: str) -> bytes:
    try:
        with _regular(folder, MANIFEST_NAME) as stream:
            text = stream.read(MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError:
        raise ManifestError(
            f"{folder} is not a model package: it has no {MANIFEST_NAME}",
            hint="give the folder written by `python -m quantize`, or the name of a model",
        ) from None
    if len(text) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"{_manifest_path(folder)} is too large for a manifest")
    return text


def _manifest_path(folder: str) -> str:
    return os.path.join(folder, MANIFEST_NAME)


@contextlib.contextmanager
def _verified_size(folder: str, name: str, expected: Artefact) -> Iterator[BinaryIO]:
    try:
        with _regular(folder, name) as stream:
            found = os.fstat(stream.fileno()).st_size
            if found != expected.bytes:
                wrong = f"has {found} bytes, but its manifest says {expected.bytes}"
                raise _tampered(folder, name, wrong)
            yield stream
    except FileNotFoundError:
        raise _tampered(folder, name, "is missing") from None


@contextlib.contextmanager
def _regular(folder: str, name: str) -> Iterator[BinaryIO]:
    """Open a regular file of a package: not a symbolic link out of it, or a FIFO that would block.

    Raises FileNotFoundError if it does not exist, otherwise `ModelTampered` or `ModelError`.
    """
    path = os.path.join(folder, name)
    flags = os.O_RDONLY
    for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):  # Windows has only the last
        flags |= getattr(os, flag, 0)
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):  # the only such check on Windows
            raise _tampered(folder, name, "is not a regular file")
        with open_bytes(os.open(path, flags)) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise _tampered(folder, name, "is not a regular file")
            yield stream
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _tampered(folder, name, "is not a regular file") from None
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error


def _tampered(folder: str, name: str, what: str) -> ModelTampered:
    return ModelTampered(f"{os.path.join(folder, name)} {what}", hint=_REINSTALL)
