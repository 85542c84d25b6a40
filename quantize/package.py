"""Writes the chosen candidate as a model package, which `nsfwscan models add` installs.

Equal inputs and a named recipe give equal bytes. A search also measures times, which are in
`quantization.json`; graph and weights do not depend on them.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from nsfwscan.models import probes
from nsfwscan.models.classifier import OrtClassifier
from nsfwscan.models.graphs import onnx_file
from nsfwscan.models.manifest import (
    LICENCE_NAME,
    MANIFEST_NAME,
    Artefact,
    ModelManifest,
    Probe,
)
from nsfwscan.models.package import open_package
from nsfwscan.models.provider import Provider
from nsfwscan.system.hashing import Sha256, pieces
from nsfwscan.system.reading import open_bytes
from nsfwscan.values.errors import UsageError
from quantize import pictures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quantize.search import Candidate, TrialOutcome
    from quantize.verify import Agreement

TABLE_NAME = "quantization.json"
"""All candidates and their measurements, for people."""
INTROSPECTION_NAME = "introspection.onnx"
INTROSPECTION_WEIGHTS_NAME = "introspection.bin"

_CHUNK = 1 << 20


def write(
    folder: str, draft: ModelManifest, outcome: TrialOutcome, licence: str, notes: str
) -> ModelManifest:
    """Write the package of `outcome` into the new `folder` and return its manifest.

    `draft` is the manifest without files, recipe, agreement and probes. The folder gets its name
    only when it is complete, so other programs never see part of it. Raises `UsageError` if the
    folder exists or cannot be written, `ModelUnusable` if the scanner's own classifier refuses the
    result.
    """
    folder = check_room(folder)
    # A random name, because other files beside the package are not ours to delete.
    partial = f"{folder}.{secrets.token_hex(4)}.partial"
    try:
        os.makedirs(partial)
        try:
            manifest = _fill(partial, draft, outcome, licence, notes)
            os.rename(partial, folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror or error}") from error
    return manifest


def check_room(folder: str) -> str:
    """Return the absolute path of the package's folder, before a long build.

    Raises `UsageError` if it exists or cannot be created.
    """
    folder = os.path.abspath(folder)
    if os.path.lexists(folder):
        raise UsageError(f"{folder} already exists", hint="name a folder that does not exist")
    above = os.path.dirname(folder)
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above) or not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(f"{folder} cannot be created: {above} is not a writable folder")
    return folder


def _fill(
    folder: str, draft: ModelManifest, outcome: TrialOutcome, licence: str, notes: str
) -> ModelManifest:
    chosen = outcome.chosen
    for name in os.listdir(chosen.folder):
        # A copy, not a link: the scanner refuses weights with a second hard link.
        shutil.copyfile(os.path.join(chosen.folder, name), os.path.join(folder, name))
    _text(os.path.join(folder, LICENCE_NAME), licence)
    table = [_row(one, one is chosen) for one in outcome.candidates]
    _text(os.path.join(folder, TABLE_NAME), json.dumps(table, indent=2) + "\n")
    files = {name: _artefact(folder, name) for name in sorted(os.listdir(folder))}
    manifest = replace(
        draft,
        files=files,
        external_data=onnx_file.WEIGHTS_NAME if onnx_file.WEIGHTS_NAME in files else "",
        recipe=chosen.recipe.name,
        agreement=_figures(chosen.agreement),
        notes=notes,
    )
    _text(os.path.join(folder, MANIFEST_NAME), manifest.dump())
    manifest = replace(manifest, probes=_probes(folder))
    _text(os.path.join(folder, MANIFEST_NAME), manifest.dump())
    _sync(folder)
    return manifest


def _probes(folder: str) -> tuple[Probe, ...]:
    """Score the probes with the scanner's own classifier, which also tests the package."""
    model = open_package(folder)
    classifier = OrtClassifier(model, threads=1, provider=Provider.CPU, warn=lambda _: None)
    found = []
    for name in probes.PROBES:
        pixels = pictures.probe(name, model.manifest.input.geometry)
        (scores,) = classifier.classify(pixels.tobytes(), 1)
        found.append(Probe(name, round(scores.unsafe, 6)))
    return tuple(found)


def _figures(found: Agreement) -> dict[str, float]:
    return {
        "pictures": float(found.pictures),
        "max_difference": round(found.max_difference, 6),
        "mean_difference": round(found.mean_difference, 6),
        "equal_decisions": round(found.equal_decisions, 6),
    }


def _row(one: Candidate, chosen: bool) -> dict[str, object]:
    timed = not math.isnan(one.milliseconds)
    return {
        "recipe": asdict(one.recipe),
        "chosen": chosen,
        "milliseconds_one_thread": round(one.milliseconds, 2) if timed else None,
        "agreement": _figures(one.agreement),
        "shortcomings": list(one.shortcomings),
    }


def _artefact(folder: str, name: str) -> Artefact:
    path = os.path.join(folder, name)
    with open_bytes(path) as stream:
        found = Sha256().take(pieces(stream))
    return Artefact(found.hexdigest(), found.bytes)


def _text(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)


def _sync(folder: str) -> None:
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb+") as stream:
            os.fsync(stream.fileno())


def table(outcome: TrialOutcome) -> Sequence[tuple[str, ...]]:
    """Return the rows of the table of candidates, header first."""
    rows = [("recipe", "ms", "max", "mean", "same decision", "gate")]
    for one in outcome.candidates:
        found = one.agreement
        rows.append(
            (
                ("* " if one is outcome.chosen else "  ") + one.recipe.name,
                "-" if math.isnan(one.milliseconds) else f"{one.milliseconds:.1f}",
                f"{found.max_difference:.4f}",
                f"{found.mean_difference:.4f}",
                f"{found.equal_decisions:.1%}",
                "passed" if not one.shortcomings else "missed",
            )
        )
    return rows
