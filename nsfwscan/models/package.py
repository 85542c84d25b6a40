"""Reading a model package: a folder with `manifest.json`, `model.onnx` and `LICENSE`.

Nothing of a package is trusted. The manifest is checked field by field, and the bytes of a file
are only handed out after their size and sha256 were found right, on those very bytes, so that
onnxruntime never parses anything else.
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
"""An ONNX file is a protobuf message, which cannot be larger; more weights are external data."""

_REINSTALL = "install the model again with `nsfwscan models pull` or `nsfwscan models add`"


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A package whose manifest is sound and whose files have the right sizes."""

    folder: str
    manifest: ModelManifest

    def read_artefact(self, name: str) -> bytes:
        """Return the bytes of the file `name`, exactly those that were verified.

        Raises `ModelTampered` when they are not what the manifest says, `ModelError` when the
        manifest does not list the file, or it is larger than `MAX_READ_BYTES`.
        """
        expected = self._expected(name)
        if expected.bytes > MAX_READ_BYTES:
            raise ModelError(f"{os.path.join(self.folder, name)} is too large to be read at once")
        with _verified_size(self.folder, name, expected) as stream:
            data = stream.read(expected.bytes + 1)  # one more shows a file that grew meanwhile
        if len(data) != expected.bytes or hashlib.sha256(data).hexdigest() != expected.sha256:
            raise _tampered(self.folder, name, "does not have the checksum its manifest names")
        return data

    def check_artefact(self, name: str) -> str:
        """Hash the file `name` in pieces and return its path.

        For the external data of a graph, which onnxruntime maps by path. Raises `ModelTampered`
        also for a file with a second hard link, through which it could be changed from outside
        the package: onnxruntime refuses links that are symbolic, but not hard ones.
        """
        expected = self._expected(name)
        with _verified_size(self.folder, name, expected) as stream:
            if name == self.manifest.external_data and os.fstat(stream.fileno()).st_nlink != 1:
                raise _tampered(self.folder, name, "has a second hard link")
            found = Sha256().take(pieces(stream, expected.bytes + 1))
        if (found.bytes, found.hexdigest()) != (expected.bytes, expected.sha256):
            raise _tampered(self.folder, name, "does not have the checksum its manifest names")
        return os.path.join(self.folder, name)

    def verify(self) -> None:
        """Hash every file. Raises `ModelTampered` for the first that is wrong."""
        for name in self.manifest.files:
            self.check_artefact(name)

    def _expected(self, name: str) -> Artefact:
        try:
            return self.manifest.files[name]
        except KeyError:
            raise ModelError(f"{self.manifest.package} has no file {name!r}") from None


@dataclass(frozen=True, slots=True)
class BrokenPackage:
    """A folder of the store that cannot be used, and why."""

    folder: str
    problem: ModelError

    @property
    def package(self) -> str:
        """The name of the folder, all that is known of it."""
        return os.path.basename(self.folder)


def open_package(folder: str) -> InstalledModel:
    """Read the manifest of a package and look whether its files are there, with the right sizes.

    Raises `ManifestError` or `ModelTampered`.
    """
    model = InstalledModel(folder, manifests.parse(_manifest(folder), where=_manifest_path(folder)))
    for name, expected in model.manifest.files.items():
        with _verified_size(folder, name, expected):
            pass
    return model


def _manifest(folder: str) -> bytes:
    try:
        with _regular(folder, MANIFEST_NAME) as stream:
            text = stream.read(MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError:
        raise ManifestError(
            f"{folder} is not a model package: it has no {MANIFEST_NAME}",
            hint="give the folder that `python -m quantize` wrote, or the name of a model",
        ) from None
    if len(text) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"{_manifest_path(folder)} is larger than a manifest can be")
    return text


def _manifest_path(folder: str) -> str:
    return os.path.join(folder, MANIFEST_NAME)


@contextlib.contextmanager
def _verified_size(folder: str, name: str, expected: Artefact) -> Iterator[BinaryIO]:
    try:
        with _regular(folder, name) as stream:
            found = os.fstat(stream.fileno()).st_size
            if found != expected.bytes:
                wrong = f"has {found} bytes where its manifest says {expected.bytes}"
                raise _tampered(folder, name, wrong)
            yield stream
    except FileNotFoundError:
        raise _tampered(folder, name, "is missing") from None


@contextlib.contextmanager
def _regular(folder: str, name: str) -> Iterator[BinaryIO]:
    """Open a regular file of a package: no symbolic link out of it, no FIFO that blocks for ever.

    Raises `FileNotFoundError` when there is none, else `ModelTampered` or `ModelError`.
    """
    path = os.path.join(folder, name)
    flags = os.O_RDONLY
    for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):  # Windows has only the last one
        flags |= getattr(os, flag, 0)
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):  # the check that Windows has
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
