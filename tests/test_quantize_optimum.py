"""The front end that needs torch. `pip install -e '.[export]'` brings what these tests need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_vits

from benchmarks import vit_fixture
from quantize.__main__ import main

pytest.importorskip("optimum.exporters.onnx", reason="the extra `export` is not installed")

# torch, transformers and optimum warn of each other's coming changes.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


def test_the_direct_graph_is_what_optimum_exports(tmp_path: Path) -> None:
    from quantize import optimum_export

    folder = small_vits.transformers(tmp_path / "checkpoint")
    _, direct = small_vits.graph(folder)
    exported = optimum_export.export(str(folder), None)
    assert exported.labels == ("normal", "nsfw")
    stack = small_vits.pixels(32, 8)
    one, other = (
        small_vits.session(graph, tmp_path / name).run(stack, ["logits"])[0]
        for name, graph in (("direct", direct), ("exported", exported.graph))
    )
    assert np.abs(one - other).max() < 1e-4


def test_an_export_goes_the_rest_of_the_way(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"  # of an architecture that timm knows
    vit_fixture.make(str(folder), size="tiny", naming="timm", labels=("NSFW", "SFW"))
    output = tmp_path / "package"
    arguments = [str(folder), "-o", str(output), "--frontend", "optimum"]
    assert main([*arguments, "--recipe", "dynamic", "--accept-worse"]) == 0
    assert (output / "manifest.json").exists()
