"""The front end that needs torch. `pip install -e '.[export]'` brings what these tests need."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import loopback_hub
import numpy as np
import pytest
import small_vits

from benchmarks import vit_fixture
from nsfwscan.models import catalogue
from nsfwscan.models.package import open_package
from quantize.__main__ import main

pytest.importorskip("optimum.exporters.onnx", reason="the extra `export` is not installed")

# torch, transformers and optimum warn of each other's coming changes.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


def test_the_direct_graph_is_what_optimum_exports(tmp_path: Path) -> None:
    from quantize import optimum_export

    folder = small_vits.transformers(tmp_path / "checkpoint")
    _, direct = small_vits.graph(folder)
    exported = optimum_export.export(str(folder), None)
    stack = small_vits.pixels(32, 8)
    one, other = (
        small_vits.session(graph, tmp_path / name).run(stack, ["logits"])[0]
        for name, graph in (("direct", direct), ("exported", exported))
    )
    assert np.abs(one - other).max() < 1e-4


def test_freepik_is_built_from_its_weights_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hub repository pins no config.json; a smaller network of its kind stands in for it."""
    import timm
    import torch
    from safetensors.torch import save_file

    entry = catalogue.load()["freepik"]
    assert entry.checkpoint is not None
    assert timm.is_model(entry.checkpoint.architecture)
    model = timm.create_model("eva02_tiny_patch14_224", num_classes=4)
    path = tmp_path / "model.safetensors"
    weights = {name: one.to(torch.bfloat16) for name, one in model.state_dict().items()}
    save_file(weights, path, {"format": "pt"})
    geometry = dataclasses.replace(
        entry.input.geometry, resize_width=224, resize_height=224, crop_width=224, crop_height=224
    )
    with loopback_hub.running() as hub:
        (pinned,) = entry.checkpoint.files
        data = path.read_bytes()
        digest = hub.put(entry.checkpoint.repo, entry.checkpoint.revision, pinned.path, data)
        small = dataclasses.replace(
            entry,
            input=dataclasses.replace(entry.input, geometry=geometry),
            checkpoint=dataclasses.replace(
                entry.checkpoint,
                architecture="eva02_tiny_patch14_224",
                files=(dataclasses.replace(pinned, sha256=digest, bytes=len(data)),),
            ),
        )
        monkeypatch.setattr(catalogue, "load", lambda: {"freepik": small})
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        output = tmp_path / "package"
        assert main(["freepik", "-o", str(output), "--recipe", "dynamic", "--accept-worse"]) == 0
    manifest = open_package(str(output)).manifest
    assert manifest.output.labels == ("neutral", "low", "medium", "high")
    assert manifest.output.unsafe_labels == ("low", "medium", "high")
    assert manifest.input.geometry == geometry


def test_an_export_goes_the_rest_of_the_way(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"  # of an architecture that timm knows
    vit_fixture.make(str(folder), size="tiny", naming="timm", labels=("NSFW", "SFW"))
    output = tmp_path / "package"
    arguments = [str(folder), "-o", str(output), "--frontend", "optimum"]
    assert main([*arguments, "--recipe", "dynamic", "--accept-worse"]) == 0
    assert (output / "manifest.json").exists()
