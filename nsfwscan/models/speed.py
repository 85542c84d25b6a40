"""How an installed model runs on this computer, and how fast."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsfwscan.models import catalogue, probes
from nsfwscan.models.classifier import OrtClassifier
from nsfwscan.models.manifest import PUBLISHED, WeightForm
from nsfwscan.models.provider import Provider

if TYPE_CHECKING:
    from nsfwscan.models.package import InstalledModel

_SECONDS = 1.0
_MOST_RUNS = 200


@dataclass(frozen=True, slots=True)
class Speed:
    """What runs, and how fast on one core."""

    runs: str
    """The form of the graph, in words."""
    pictures_a_second: float
    """Of one thread, without decoding: by the fastest run of about a second."""
    faster: str
    """What would be faster; empty if nothing is known to be."""


def measure(model: InstalledModel) -> Speed:
    """Run a model for about a second on the processor. Raises `ModelError`."""
    classifier = OrtClassifier(model, threads=1, provider=Provider.CPU, warn=lambda _: None)
    geometry = model.manifest.input.geometry
    pixels = probes.noise(geometry.crop_height * geometry.crop_width * 3, seed=0)
    taken: list[float] = []
    end = time.perf_counter() + _SECONDS
    while not taken or (time.perf_counter() < end and len(taken) < _MOST_RUNS):
        begun = time.perf_counter()
        classifier.classify(pixels, 1)
        taken.append(time.perf_counter() - begun)
    return Speed(
        _in_words(model, classifier.form),
        1 / min(taken),  # what other programs do on this computer is not the model's speed
        _faster(model, classifier.form),
    )


def _in_words(model: InstalledModel, form: str) -> str:
    recipe = model.manifest.recipe
    if form:
        return f"rewritten, {form} weights, the published scores"
    return "as published" if recipe == PUBLISHED else f"built, {recipe}"


def _faster(model: InstalledModel, form: str) -> str:
    manifest = model.manifest
    build = f"`nsfwscan models build {manifest.name}` builds a faster one"
    if form == WeightForm.UINT8:
        return f"this processor has no 8-bit dot products (VNNI); {build}"
    rewriting = manifest.rewriting
    if form or manifest.recipe != PUBLISHED:
        return ""
    known = catalogue.load().get(manifest.name)
    if known is not None and known.conversion is not None:  # an earlier version installed float
        return f"`nsfwscan models pull {manifest.name}` installs its INT8 form"
    if rewriting is None:
        return "the next scan with it tries to build a faster graph from the published one"
    if rewriting.graph:
        return "its fast graph is for another processor; the next scan builds one for this"
    if not rewriting.problem:
        return ""
    return f"the published graph could not be made faster: {rewriting.problem}"
