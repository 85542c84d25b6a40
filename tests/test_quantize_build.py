"""`python -m quantize` from the command to the package, and everything it must refuse."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import loopback_hub
import numpy as np
import pytest
import small_vits
from PIL import Image
from safetensors.numpy import load_file, save_file
from sizes import AT_FULL_SIZE
from test_quantize_tensors import malformed

from benchmarks import vit_fixture
from nsfwscan.models import catalogue
from nsfwscan.models.catalogue import HubFile, HubSource
from nsfwscan.models.classifier import OrtClassifier
from nsfwscan.models.package import open_package
from nsfwscan.models.provider import Provider
from nsfwscan.models.store import ModelStore
from nsfwscan.system import installation
from nsfwscan.values.errors import UsageError
from quantize.__main__ import main


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return small_vits.transformers(tmp_path / "checkpoint")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for at, one in enumerate(small_vits.pixels(32, 12)):
        Image.fromarray(one).save(folder / f"{at:02}.png")
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in folder.iterdir()}


def test_a_package_is_one_the_scanner_takes(
    checkpoint: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "package"
    assert main([str(checkpoint), "-o", str(output), "--accept-worse"]) == 0
    said = capsys.readouterr()
    assert "nsfwscan models add" in said.out
    assert " s, " in said.err
    assert " MB at the peak" in said.err or sys.platform == "win32"
    store = ModelStore(str(home / "models"), offline=True, say=print, progress=lambda *_: None)
    model = store.add(str(output))
    model.verify()
    assert {"embedding", "cls_attention"} == {
        model.manifest.output.embedding,
        model.manifest.output.cls_attention,
    }
    classifier = OrtClassifier(model, threads=1, provider=Provider.CPU, warn=print)
    pixels = small_vits.pixels(32, 3)
    together = classifier.classify(pixels.tobytes(), 3)
    assert together == [classifier.classify(one.tobytes(), 1)[0] for one in pixels]
    assert [probe.name for probe in model.manifest.probes] == ["sunset", "checks", "disc", "noise"]
    assert model.manifest.agreement["pictures"] == 12
    assert "generated pictures only" in model.manifest.notes


def test_equal_inputs_give_equal_bytes(checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    found = []
    for name in ("one", "other"):
        output = tmp_path / name
        more = ["--pictures", str(pictures), "--recipe", "static-attention", "--accept-worse"]
        assert main([str(checkpoint), "-o", str(output), "--introspect", *more]) == 0
        found.append(contents(output))
    assert found[0] == found[1]
    assert "introspection.onnx" in found[0]


def test_timm_naming_and_introspection(tmp_path: Path) -> None:
    output = tmp_path / "package"
    folder = small_vits.timm(tmp_path / "checkpoint")
    assert main([str(folder), "-o", str(output), "--introspect", "--recipe", "float"]) == 0
    manifest = open_package(str(output)).manifest
    assert manifest.output.labels == ("NSFW", "SFW")
    assert manifest.output.unsafe_labels == ("NSFW",)
    assert manifest.input.geometry.resize == "shortest-edge"
    assert {"introspection.onnx", "introspection.bin"} <= set(manifest.files)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--recipe", "none-such"], "unknown recipe"),
        (["--recipe", "static"], "needs pictures"),
        (["--wanted-fpr", "0.1"], "needs labelled pictures"),
        (["--unsafe-label", "porn"], "which of the labels"),
        (["--pictures", "absent"], "no files"),
        (["--revision", "0" * 40], "--revision and --sha256 pin a hub repository"),
        (["--sha256", f"model.safetensors={'0' * 64}"], "pin a hub repository"),
        (["--licence", "\x1b[31m"], "is not an SPDX expression"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    more: list[str], word: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "package"
    assert main([str(checkpoint), "-o", str(output), *more]) == 2
    assert word in capsys.readouterr().err
    assert not output.exists()


def test_an_odd_name_and_an_empty_licence_still_make_a_package(tmp_path: Path) -> None:
    folder = small_vits.transformers(tmp_path / "Mini\u200bViT \u00fc")
    (folder / "LICENSE").write_text("")
    output = tmp_path / "package"
    assert main([str(folder), "-o", str(output), "--recipe", "float"]) == 0
    manifest = open_package(str(output)).manifest
    assert (manifest.name, manifest.title) == ("mini-vit", "Mini?ViT \u00fc, built")
    assert "did not name its licence" in (output / "LICENSE").read_text()


def test_tensors_that_only_other_tasks_use_are_left_out(checkpoint: Path, tmp_path: Path) -> None:
    weights = checkpoint / "model.safetensors"
    more = ("vit.pooler.dense.weight", "vit.embeddings.mask_token")
    tensors = load_file(str(weights))
    save_file({**tensors, **dict.fromkeys(more, np.ones(3, np.float32))}, str(weights))
    output = tmp_path / "package"
    assert main([str(checkpoint), "-o", str(output), "--recipe", "float"]) == 0


def test_an_existing_folder_is_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "package"
    output.mkdir()
    (output / "mine").write_text("x")
    assert main([str(checkpoint), "-o", str(output)]) == 2
    assert [one.name for one in output.iterdir()] == ["mine"]


def test_what_lies_beside_the_package_is_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    beside = tmp_path / "package.partial"
    beside.mkdir()
    (beside / "mine").write_text("x")
    before = set(os.listdir(tmp_path))
    for output in (f"{tmp_path}/package/", f"{tmp_path}/new/folder"):
        assert main([str(checkpoint), "-o", output, "--recipe", "float"]) == 0
        assert open_package(output).manifest.recipe == "float"
    assert set(os.listdir(tmp_path)) == before | {"package", "new"}
    assert os.listdir(tmp_path / "new") == ["folder"]
    assert (beside / "mine").read_text() == "x"


@pytest.mark.parametrize("output", ["file/package", "dangling"])
def test_a_place_that_cannot_take_a_package_is_refused_at_once(
    output: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "absent")
    assert main([str(checkpoint), "-o", str(tmp_path / output)]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / output) in said
    assert "scores move" not in said  # nothing was built


def test_a_misspelt_field_of_a_recipe_is_refused() -> None:
    from quantize import recipes

    table = {"name": "mine", "scales": "dynamic"}
    assert recipes.recipe(table).smoothing == 0
    with pytest.raises(UsageError, match=r"mine.*'smoothng'"):
        recipes.recipe({**table, "smoothng": 0.5})
    for name in ("name", "scales"):
        with pytest.raises(UsageError, match=name):
            recipes.recipe({key: one for key, one in table.items() if key != name})
    gate = {"max_difference": 0.1, "mean_difference": 0.1, "equal_decisions": 0.9}
    conv = {"name": "small", "integer_sums": 1}
    document = {"gate": gate, "recipe": [table], "conv_gate": gate, "conv_recipe": [conv]}
    assert [one.name for one in recipes.read(document).recipes] == ["mine"]
    with pytest.raises(UsageError, match="'recipes'"):
        recipes.read({**document, "recipes": []})
    with pytest.raises(UsageError, match=r"gate.*'max_diference'"):
        recipes.read({**document, "gate": {**gate, "max_diference": 0.2}})
    with pytest.raises(UsageError, match=r"gate has no mean_difference"):
        recipes.read({**document, "gate": {"max_difference": 0.1, "equal_decisions": 0.9}})
    with pytest.raises(UsageError, match=r"conv_recipe small .*'trails'"):
        recipes.read({**document, "conv_recipe": [{**conv, "trails": 3}]})


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_build_that_is_told_to_end_leaves_nothing(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    vit_fixture.make(str(folder), size="tiny", image=224)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    # Whatever started the tests may ignore these signals.
    code = (
        "import os, signal, sys\n"
        f"signal.signal(signal.{name}, signal.SIG_DFL)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'quantize', *sys.argv[1:]])"
    )
    builder = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), "-o", str(tmp_path / "package")],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    assert builder.stderr is not None
    with builder.stderr as said:
        assert "unsafe: nsfw" in said.readline()  # it has begun
        assert os.listdir(scratch)
        builder.send_signal(getattr(signal, name))
        assert "Traceback" not in said.read()
    assert builder.wait(60) == 130
    assert os.listdir(scratch) == []
    assert sorted(os.listdir(tmp_path)) == ["checkpoint", "scratch"]


def test_below_the_bar_nothing_is_written_unless_asked(
    checkpoint: Path, pictures: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quantize import recipes

    real = recipes.load()
    strict = dataclasses.replace(real, gate=recipes.Gate(1e-9, 1e-9, 1.0))
    monkeypatch.setattr(recipes, "load", lambda: strict)
    output = tmp_path / "package"
    arguments = [str(checkpoint), "-o", str(output), "--pictures", str(pictures)]
    assert main([*arguments, "--recipe", "static"]) == 2
    assert not output.exists()
    assert main([*arguments, "--recipe", "static", "--accept-worse"]) == 0
    assert "fails the gate" in open_package(str(output)).manifest.notes
    for origin in ("12 pictures in", ", from the cache."):
        done = nsfwscan("scan", str(pictures), "--model", str(output), "--exit-zero")
        assert done.returncode == 0, done.stderr
        assert origin in done.stderr
        assert "Accepted although it fails the gate: a score moves by" in done.stderr
    # A search never needs the option: float is its own reference.
    searched = tmp_path / "searched"
    assert main([str(checkpoint), "-o", str(searched), "--pictures", str(pictures)]) == 0
    assert open_package(str(searched)).manifest.recipe == "float"


def test_500_damaged_checkpoints_are_refused_and_nothing_is_written(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = checkpoint / "model.safetensors"
    data = weights.read_bytes()
    output = tmp_path / "package"
    before = sorted(os.listdir(tmp_path))
    for seed in range(500):
        weights.write_bytes(malformed(data, seed))
        assert main([str(checkpoint), "-o", str(output)]) == 2, seed
        error = capsys.readouterr().err
        assert str(weights) in error
        assert "Traceback" not in error
    assert sorted(os.listdir(tmp_path)) == before


def test_a_missing_extra_or_misshaped_tensor_is_named(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = checkpoint / "model.safetensors"
    tensors = load_file(str(weights))
    for name in sorted(tensors):
        wrong = {
            "missing": {key: one for key, one in tensors.items() if key != name},
            "misshaped": {**tensors, name: np.append(tensors[name].reshape(-1), np.float32(1))},
        }
        for case, changed in wrong.items():
            save_file(changed, str(weights))
            assert main([str(checkpoint), "-o", str(tmp_path / "package")]) == 2
            assert repr(name) in capsys.readouterr().err, case
    save_file({**tensors, "vit.more": np.zeros(1, np.float32)}, str(weights))
    assert main([str(checkpoint), "-o", str(tmp_path / "package")]) == 2
    assert "'vit.more'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_configuration_that_is_not_understood_is_refused(
    name: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint / name
    good = json.loads(path.read_text())
    harmless = {"architectures", "label2id", "image_processor_type"}
    # Fields that stand at their default value may be left out.
    defaults = {"hidden_act", "num_channels", "qkv_bias", "do_normalize", "do_rescale", "do_resize"}
    defaults |= {"rescale_factor", "resample"}
    for field in sorted(set(good) - harmless):
        for value in (None, -3, "x", [1], {"a": 1}, 10**30, 0.37):
            if (field, value) == ("rescale_factor", 0.37):
                continue  # unusual, but clear
            path.write_text(json.dumps({**good, field: value}))
            assert main([str(checkpoint), "-o", str(tmp_path / "package")]) == 2, (field, value)
            assert "Traceback" not in capsys.readouterr().err
        if field not in defaults:
            path.write_text(json.dumps({k: v for k, v in good.items() if k != field}))
            assert main([str(checkpoint), "-o", str(tmp_path / "package")]) == 2, field
    for text in ("", "[]", "{", '"a"', "[" * 100_000, "nul"):
        path.write_text(text)
        assert main([str(checkpoint), "-o", str(tmp_path / "package")]) == 2
    capsys.readouterr()
    path.unlink()
    assert main([str(checkpoint), "-o", str(tmp_path / "package")]) == 2
    assert name in capsys.readouterr().err
    assert not (tmp_path / "package").exists()


def published(name: str, folder: Path, size: str) -> Path:
    """Make what the publisher of a catalogue entry has on the hub, with weights of our own."""
    entry = catalogue.load()[name]
    vit_fixture.make(
        str(folder),
        size=size,
        image=entry.input.geometry.crop_width,
        naming="timm" if name == "marqo" else "transformers",
        labels=entry.output.labels,
    )
    return folder


def put(hub: loopback_hub.LoopbackHub, source: HubSource, folder: Path) -> tuple[HubFile, ...]:
    """Serve the files of `folder` at the pinned layout and return them with their checksums."""
    files = []
    for file in source.files:
        data = (folder / file.name).read_bytes()
        digest = hub.put(source.repo, source.revision, file.path, data)
        files.append(HubFile(file.path, file.name, digest, len(data)))
    return tuple(files)


@pytest.mark.parametrize(("name", "size"), [("falconsai", "mini"), ("marqo", "tiny")])
def test_a_catalogue_entry_is_built_from_a_hub(
    name: str,
    size: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The pinned layout, with checkpoints of this test's own and their checksums."""
    folder = published(name, tmp_path / "published", size)
    entry = catalogue.load()[name]
    assert entry.checkpoint is not None
    with loopback_hub.running() as hub:
        source = dataclasses.replace(entry.checkpoint, files=put(hub, entry.checkpoint, folder))
        known = {**catalogue.load(), name: dataclasses.replace(entry, checkpoint=source)}
        monkeypatch.setattr(catalogue, "load", lambda: known)
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        output = tmp_path / "package"
        assert main([name, "-o", str(output), "--recipe", "dynamic", "--accept-worse"]) == 0
        manifest = open_package(str(output)).manifest
        assert manifest.name == name
        assert manifest.revision == entry.checkpoint.revision
        assert manifest.output.labels == entry.output.labels
        assert manifest.input.geometry == entry.input.geometry
        assert "Apache License" in (output / "LICENSE").read_text()
        hub.faults.wrong_bytes = True
        capsys.readouterr()
        assert main([name, "-o", str(tmp_path / "other")]) == 2
        assert "the file was changed at its source" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


BUILD_FROM_A_HUB = """
import dataclasses, json, sys
from nsfwscan.models import catalogue
from nsfwscan.models.catalogue import HubFile, HubSource
from quantize.__main__ import main

name, files, *arguments = sys.argv[1:]
known = dict(catalogue.load())
files = tuple(HubFile(*one) for one in json.loads(files))
source = dataclasses.replace(known[name].checkpoint, files=files)
known[name] = dataclasses.replace(known[name], checkpoint=source)
catalogue.load = lambda: known
sys.exit(main([name, *arguments]))
"""
"""`python -m quantize`, but that the catalogue has other checksums."""


@pytest.mark.timeout(600 if AT_FULL_SIZE else 120)
@pytest.mark.parametrize(
    ("name", "size"),
    [("falconsai", "base" if AT_FULL_SIZE else "mini"), ("marqo", "tiny")],
)
def test_the_one_command_stays_below_a_minute_and_two_gigabytes(
    name: str, size: str, tmp_path: Path, home: Path
) -> None:
    """Download, search and package, in a process of its own; real size with TESTS_AT_FULL_SIZE.

    The minute is one of processor time: other work on the computer does not spoil it, and where
    there is none, two cores are done sooner.
    """
    folder = published(name, tmp_path / "published", size)
    entry = catalogue.load()[name]
    assert entry.checkpoint is not None
    if size != "mini":
        pinned = {file.name: file.bytes for file in entry.checkpoint.files}
        # The names and shapes are the real ones.
        assert os.path.getsize(folder / "model.safetensors") == pinned["model.safetensors"]
    seen = tmp_path / "pictures"
    seen.mkdir()
    for at, one in enumerate(small_vits.pixels(entry.input.geometry.crop_width, 16)):
        Image.fromarray(one).save(seen / f"{at:02}.png")
    output = tmp_path / "package"
    resource = pytest.importorskip("resource", reason="Windows does not count this")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with loopback_hub.running() as hub:
        files = [dataclasses.astuple(one) for one in put(hub, entry.checkpoint, folder)]
        shutil.rmtree(folder)
        arguments = [name, json.dumps(files), "-o", str(output), "--pictures", str(seen)]
        done = subprocess.run(
            [sys.executable, "-c", BUILD_FROM_A_HUB, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HF_ENDPOINT": hub.endpoint},
        )
    assert done.returncode == 0, done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(done.stdout, done.stderr, f"{worked:.1f} s of processor time", sep="\n")
    took = re.search(r"took ([0-9.]+) s, ([0-9]+) MB at the peak", done.stderr)
    assert took is not None
    assert worked < 60
    assert float(took[2]) < 2000
    scanned = nsfwscan("scan", str(seen), "--model", str(output), "--exit-zero")
    assert scanned.returncode == 0, scanned.stderr
    assert "16 pictures in " in scanned.stderr


def test_a_hub_repository_has_to_be_pinned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["someone/model", "-o", str(tmp_path / "package")]) == 2
    assert "--revision" in capsys.readouterr().err
    assert main(["opennsfw", "-o", str(tmp_path / "package")]) == 2
    assert "models pull opennsfw" in capsys.readouterr().err
    assert main(["no-such", "-o", str(tmp_path / "package")]) == 2


def test_offline_nothing_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["falconsai", "-o", str(tmp_path / "package")]) == 2
    assert "the network must not be used" in capsys.readouterr().err


@pytest.mark.parametrize(("module", "extra"), [("optimum", "export")])
def test_a_missing_extra_is_named(
    module: str, extra: str, checkpoint: Path, tmp_path: Path
) -> None:
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from quantize.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = [str(checkpoint), "-o", str(tmp_path / "package")]
    if extra == "export":
        arguments += ["--frontend", "optimum"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert f"quantize: {module}" in done.stderr
    assert done.stderr.endswith(f"  {installation.installing_extra(extra)}\n")


def test_torch_and_its_kin_are_never_loaded(checkpoint: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from quantize.__main__ import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "bad = {'torch', 'transformers', 'optimum', 'pickle5'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    arguments = [str(checkpoint), "-o", str(tmp_path / "package"), "--recipe", "dynamic"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--accept-worse"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_weights_file_with_a_second_link_is_not_run(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "package"
    assert main([str(checkpoint), "-o", str(output), "--recipe", "float"]) == 0
    os.link(output / "weights.bin", tmp_path / "elsewhere")
    with pytest.raises(Exception, match="second hard link"):
        OrtClassifier(open_package(str(output)), threads=1, provider=Provider.CPU, warn=print)


def test_changed_weights_are_not_run(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "package"
    assert main([str(checkpoint), "-o", str(output), "--recipe", "float"]) == 0
    with open(output / "weights.bin", "r+b") as stream:
        stream.seek(5000)
        (byte,) = struct.unpack("B", stream.read(1))
        stream.seek(5000)
        stream.write(struct.pack("B", byte ^ 1))
    with pytest.raises(Exception, match="checksum"):
        OrtClassifier(open_package(str(output)), threads=1, provider=Provider.CPU, warn=print)


def nsfwscan(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nsfwscan", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_models_build_installs_what_was_built(checkpoint: Path, home: Path) -> None:
    done = nsfwscan("models", "build", str(checkpoint))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    (package,) = (one for one in (home / "models").iterdir() if not one.name.startswith("."))
    assert package.name.startswith("checkpoint-")
    done = nsfwscan("selftest", "--model", "checkpoint")
    equal = [line for line in done.stdout.splitlines() if line.split()[-1:] == ["0.0000"]]
    assert (done.returncode, len(equal)) == (0, 4), done.stdout
    manifest = json.loads((package / "manifest.json").read_text())
    del manifest["checksum"]  # which an edit on purpose leaves out
    manifest["probes"][2]["unsafe"] += 0.2 if manifest["probes"][2]["unsafe"] < 0.5 else -0.2
    (package / "manifest.json").write_text(json.dumps(manifest))
    done = nsfwscan("selftest", "--model", "checkpoint")
    assert (done.returncode, "a score differs by 0.2000" in done.stdout) == (7, True), done.stdout


def test_models_build_says_why_it_could_not(home: Path) -> None:
    done = nsfwscan("models", "build", "falconsai", "--offline")
    assert done.returncode == 4
    assert "the network must not be used" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (home / "models").exists() or not list((home / "models").glob("falconsai*"))
