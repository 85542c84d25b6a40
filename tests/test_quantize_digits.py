"""A ViT that learned something: what rounding costs in accuracy, and what smoothing is for.

`benchmarks/vit_digits.py` trained it on two thirds of scikit-learn's handwritten digits (Alpaydin
and Kaynak, 1998, CC BY 4.0). The other 599 digits are beside it.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import small_vits
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file

from quantize import int8, recipes
from quantize.__main__ import main
from quantize.calibrate import calibrate
from quantize.recipes import Recipe, Scales

DIGITS = Path(__file__).parent / "data" / "digits"
_HALF_A_POINT = 0.005
_OUTLIERS = (3, 11, 29, 40)
UNSAFE = tuple(f"digit-{digit}" for digit in range(5, 10))


def read_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    with np.load(DIGITS / "test.npz") as data:
        return np.repeat(data["pixels"][..., None], 3, axis=3), data["shown"]


def accuracy(graph_folder: Path, graph: small_vits.Graph) -> float:
    pixels, shown = read_digits()
    running = small_vits.session(graph, graph_folder)
    rows = [running.run(one[None], ["logits"])[0][0] for one in pixels]
    return float(np.mean(np.argmax(rows, axis=1) == shown))


def with_outliers(folder: Path, factor: float = 30.0) -> Path:
    """Plant channels that are 30 times as large behind each LayerNorm; the function stays."""
    shutil.copytree(DIGITS, folder)
    path = str(folder / "model.safetensors")
    tensors = {name: value.copy() for name, value in load_file(path).items()}
    channels = list(_OUTLIERS)
    for at in range(3):
        layer = f"vit.encoder.layer.{at}"
        followers = {
            "layernorm_before": [f"attention.attention.{w}" for w in ("query", "key", "value")],
            "layernorm_after": ["intermediate.dense"],
        }
        for norm, linears in followers.items():
            tensors[f"{layer}.{norm}.weight"][channels] *= factor
            tensors[f"{layer}.{norm}.bias"][channels] *= factor
            for linear in linears:
                tensors[f"{layer}.{linear}.weight"][:, channels] /= factor
    os.unlink(path)
    save_file(tensors, path)
    return folder


def as_files(folder: Path, count: int) -> Path:
    pixels, shown = read_digits()
    for at, (one, digit) in enumerate(zip(pixels[:count], shown[:count], strict=True)):
        below = folder / ("unsafe" if digit >= 5 else "safe")
        below.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one).save(below / f"{at:03}.png")
    return folder


@pytest.mark.parametrize(
    "recipe", [one for one in recipes.load().recipes if one.candidate], ids=lambda one: one.name
)
def test_every_recipe_is_within_half_a_point_of_float(recipe: Recipe, tmp_path: Path) -> None:
    _, graph = small_vits.graph(DIGITS)
    reference = accuracy(tmp_path / "float", graph)
    assert reference > 0.95
    if recipe.scales is Scales.NONE:
        return
    graph = int8.smooth(graph, recipe.smoothing)
    pixels, _ = read_digits()
    made = int8.quantize(graph, recipe, calibrate(graph, list(pixels[:60]))[recipe.clip])
    assert accuracy(tmp_path / "int8", made) >= reference - _HALF_A_POINT


def build(checkpoint: Path, output: Path, pictures: Path, *more: str) -> int:
    labels = [word for label in UNSAFE for word in ("--unsafe-label", label)]
    arguments = [str(checkpoint), "-o", str(output), "--pictures", str(pictures)]
    return main([*arguments, *labels, *more])


def test_outliers_pass_the_gate_smoothed_and_only_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = with_outliers(tmp_path / "outliers")
    _, plain = small_vits.graph(DIGITS)
    _, planted = small_vits.graph(folder)
    pixels, _ = read_digits()
    one, other = (
        small_vits.session(graph, tmp_path / name).run(pixels[:8], ["logits"])[0]
        for name, graph in (("plain", plain), ("planted", planted))
    )
    assert np.abs(one - other).max() < 1e-4  # planting changed no score
    pictures = as_files(tmp_path / "pictures", 120)
    assert build(folder, tmp_path / "smoothed", pictures, "--recipe", "static") == 0
    capsys.readouterr()
    assert build(folder, tmp_path / "plain-package", pictures, "--recipe", "static-plain") == 2
    assert "fails the gate" in capsys.readouterr().err
    assert not (tmp_path / "plain-package").exists()


def test_the_search_measures_labelled_pictures_and_sets_a_threshold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = as_files(tmp_path / "pictures", 120)
    output = tmp_path / "package"
    more = ("--labelled", str(pictures), "--wanted-fpr", "0.05")
    assert build(DIGITS, output, pictures, *more) == 0
    printed = capsys.readouterr().out
    for recipe in recipes.load().recipes:
        assert (recipe.name in printed.split()) == recipe.candidate
    assert "float: accuracy 0.9" in printed
    manifest = json.loads((output / "manifest.json").read_text())
    assert "5.00% false alarms" in manifest["thresholds"]["source"]
    table = json.loads((output / "quantization.json").read_text())
    assert [one["chosen"] for one in table].count(True) == 1
    assert all(one["milliseconds_one_thread"] > 0 for one in table)
