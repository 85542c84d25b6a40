"""`nsfwscan selftest`: checks that this computer computes the expected scores."""

from __future__ import annotations

import typer

from nsfwscan.cli.shared.codes import OK, UNSOUND
from nsfwscan.cli.shared.options import ModelName, Offline, ProviderName
from nsfwscan.cli.shared.tables import print_table
from nsfwscan.cli.shared.talk import Talk
from nsfwscan.models import probes, select
from nsfwscan.models.provider import Provider
from nsfwscan.models.store import ModelStore
from nsfwscan.system import bundled, locations
from nsfwscan.values.errors import UsageError

_TOLERANCE = 0.01
"""Processors round differently; a difference up to this is expected."""


def selftest(
    model: ModelName = select.AUTO,
    offline: Offline = False,
    provider: ProviderName = Provider.AUTO,
) -> None:
    """Score generated test pictures and compare with the scores recorded for the model.

    This checks that the model, onnxruntime, the decoder and this processor give the same scores as
    on the computer that recorded them. Exits with 7 if a score differs by more than 0.01.

    In a bundle, every file is first compared with its checksum.
    """
    if bundle := bundled.folder():
        files, problems = bundled.look_over(bundle)
        if problems:
            raise bundled.refuse(bundle, problems[0])
        typer.echo(f"bundle: {files} files are as they were packed.\n")
    from nsfwscan.media.decode.pool import DecodePool
    from nsfwscan.models.classifier import OrtClassifier

    talk = Talk(quiet=False)
    store = ModelStore(
        locations.models_folder(), offline=offline, say=talk.say, progress=talk.download
    )
    with talk:
        found = select.resolve_model(store, model)
    recorded = found.manifest.probes
    if not recorded:
        raise UsageError(
            f"no scores are recorded for {found.manifest.package}",
            hint="opennsfw and packages built by `nsfwscan models build` have them",
        )
    rows, worst = [], 0.0
    with DecodePool(1) as pool:
        classifier = OrtClassifier(found, threads=1, provider=provider, warn=talk.warn)
        for probe in recorded:
            decoded = pool.decode(probes.render(probe.name), found.manifest.input.geometry)
            scores = classifier.read(decoded.pixels, decoded.views).scores
            off = abs(scores.unsafe - probe.unsafe)
            worst = max(worst, off)
            rows.append((probe.name, f"{probe.unsafe:.4f}", f"{scores.unsafe:.4f}", f"{off:.4f}"))
    print_table(("probe", "recorded", "here", "difference"), rows)
    sound = worst <= _TOLERANCE
    typer.echo(
        f"\n{found.manifest.package} on {classifier.provider}: "
        + ("all is well." if sound else f"a score differs by {worst:.4f}, more than {_TOLERANCE}.")
    )
    raise typer.Exit(OK if sound else UNSOUND)
