"""A real bundle: built once from this environment, and driven as a person would.

Building takes half a minute. At full size it comes from a clean environment, and every file of it
is damaged in turn, which takes some minutes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import sizes
import tiny_model
from bundle import bare_root, check, contents, damage, smoke
from bundle.driven import Driven
from bundle.errors import BuildError
from conftest import Run
from shell import tool

from nsfwscan.models import probes
from nsfwscan.models.manifest import Artefact, Probe

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "packaging" / "build"
FEW = (
    "libavif", "libscipy_openblas", "onnxruntime_pybind11_state", "base_library.zip", "model.onnx",
    "libpython", "zlib.cpython", "_typing.cpython",
)  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # the first test that runs waits for the build
    pytest.mark.skipif(sys.platform != "linux", reason="a bundle was only tried on Linux"),
    *(
        pytest.mark.skipif(True, reason=f"{name} is not installed (Debian: {package})")
        for name, package in check.missing_tools().items()
    ),
]


def write_model(folder: Path, nsfwscan: Run) -> Path:
    """Write the tiny model with the scores of the probes that `selftest` compares."""
    package = Path(tiny_model.write_package(str(folder)))
    pictures = folder / "probes"
    pictures.mkdir()
    for name in probes.PROBES:
        (pictures / f"{name}.png").write_bytes(probes.render(name))
    done = nsfwscan("scan", "--exit-zero", "-f", "jsonl", "--model", package, pictures)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    measured = tuple(Probe(Path(one["path"]).stem, round(one["nsfw_score"], 6)) for one in records)
    described = tiny_model.manifest((package / "model.onnx").read_bytes())
    licence = b"Made by a test.\n"
    (package / "LICENSE").write_bytes(licence)
    files = {**described.files, "LICENSE": Artefact(sha256(licence).hexdigest(), len(licence))}
    whole = dataclasses.replace(described, probes=measured, files=files)
    (package / "manifest.json").write_text(whole.dump())
    return package.rename(folder / "a package of mine")  # what it is called stands inside


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a bundle with the tiny model and return its folder."""
    folder = tmp_path_factory.mktemp("bundle")
    home = folder / "home"

    def nsfwscan(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "nsfwscan", *arguments],
            env={**os.environ, "NSFWSCAN_HOME": str(home)}, capture_output=True, check=True,
        )  # fmt: skip

    model = write_model(folder, nsfwscan)
    options = ["--no-archive"] if sizes.AT_FULL_SIZE else ["--no-archive", "--here"]
    done = subprocess.run(
        [sys.executable, BUILD, "--model", model, "--output", folder / "dist", *options],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = Path(done.stdout.splitlines()[-1])
    assert made.parent == folder / "dist"
    assert "onnxruntime" in done.stdout, "what the parts weigh is told"
    return made


def test_the_bundle_does_what_a_person_wants_of_it(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = smoke.run(Driven(str(built), str(tmp_path)), [*smoke.STEPS])
    assert failed == [], capsys.readouterr().out


@pytest.mark.timeout(6000)
def test_a_damaged_file_is_named(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = damage.targets(str(built))
    if not sizes.AT_FULL_SIZE:
        files = [name for name in files if any(part in name for part in FEW)]
        assert len(files) >= len(FEW) - 1  # zlib is part of Debian's Python
    kinds = tuple(damage.DAMAGES) if sizes.AT_FULL_SIZE else ("cut", "flipped")
    wrong = damage.run(str(built), str(tmp_path), files, kinds)
    assert wrong == [], capsys.readouterr().out


def test_the_bundle_scores_alike_where_there_is_no_python(built: Path, tmp_path: Path) -> None:
    tried = subprocess.run(
        [tool("unshare", "util-linux"), *bare_root.namespaces(), "true"],
        capture_output=True,
        check=False,
    )
    if tried.returncode:
        pytest.skip("this machine allows no user namespaces")
    found = bare_root.compare(str(built), damage.SAMPLES, sys.executable, str(tmp_path), at_least=8)
    assert found.equal, "\n".join(found.lines)


def test_what_must_not_be_inside_is_found(built: Path, tmp_path: Path) -> None:
    check.leaks(str(built), ["numpy", "onnxruntime.capi", "nsfwscan.cli.main"])
    for module in ("torch", "onnx.helper", "numpy.f2py.crackfortran", "PIL.ImageTk", "rich.tests"):
        with pytest.raises(BuildError, match=module.replace(".", r"\.")):
            check.leaks(str(built), [module])


def test_a_library_that_is_missing_is_found(built: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(built, copy, symlinks=True, copy_function=os.link)
    check.natives(str(copy))
    for path in (copy / "_internal").rglob("libwebp-*"):
        path.unlink()
    with pytest.raises(BuildError, match=r"libwebp-.*: none"):
        check.natives(str(copy))


def test_a_module_that_is_missing_is_found(tmp_path: Path) -> None:
    note = tmp_path / "warn.txt"
    note.write_text(
        "missing module named winreg - imported by platform (optional)\n"
        "missing module named ctypes.macholib - imported by ctypes.util (conditional)\n"  # Debian
    )
    check.warnings(str(note))
    note.write_text("missing module named 'nsfwscan.gone' - imported by x (top-level)\n")
    with pytest.raises(BuildError, match=r"nsfwscan\.gone"):
        check.warnings(str(note))


def test_a_data_file_that_is_missing_is_found(built: Path) -> None:
    package = ROOT / "nsfwscan"
    check.data_files(str(built), str(package))
    with pytest.raises(BuildError, match=r"catalogue\.toml"):
        check.data_files(str(built / "models"), str(package))


def test_the_list_of_contents_names_every_file(built: Path) -> None:
    listed = {
        line.split("\t")[3] for line in (built / contents.CONTENTS).read_text().splitlines()[1:]
    }
    there = {
        path.relative_to(built).as_posix()
        for path in built.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    assert there - listed == {contents.CONTENTS}
    assert listed <= there
