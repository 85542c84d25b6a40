"""What the bundled program does that an installed one does not, on a bundle made of a few files."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_model
from bundle import contents
from conftest import Paint
from shell import Call
from tiny_model import RED

from nsfwscan.cli import main as command_line
from nsfwscan.cli.shared.codes import UNSOUND, code_of
from nsfwscan.media.decode import pool as decode_pool
from nsfwscan.media.decode.pool import DecodePool
from nsfwscan.models.fetch import index
from nsfwscan.models.store import ModelStore
from nsfwscan.service import spec
from nsfwscan.system import bundled, locations
from nsfwscan.values.errors import BundleDamaged, NsfwscanError, UsageError

ROOT = Path(__file__).parents[1]
LIBRARY = "_internal/numpy/core.so"
NEEDED = "_internal/numpy.libs/openblas.so"
PROGRAM = "nsfwscan"


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder like a bundle, and let this process seem to run from it."""
    folder = tmp_path / "nsfwscan-1"
    for name in (LIBRARY, NEEDED, PROGRAM, "_internal/base_library.zip", "models/one/model.onnx"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 100)
    monkeypatch.setattr(contents, "needs", lambda _f, path, *_: [NEEDED] if path == LIBRARY else [])
    contents.write(str(folder))
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(folder / PROGRAM))
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(sys, "path", [str(folder / "_internal/numpy"), *sys.path])
    return folder


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)


def test_an_installed_nsfwscan_is_no_bundle() -> None:
    assert bundled.folder() is None
    assert bundled.package_index() is None
    assert locations.shipped_models_folder() is None
    with pytest.raises(RuntimeError, match="no bundle"):
        bundled.prepare(worker=False)


def test_a_whole_bundle_is_whole(bundle: Path) -> None:
    assert bundled.folder() == str(bundle)
    assert bundled.look_over(str(bundle)) == (5, [])
    bundled.prepare(worker=False)


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
@pytest.mark.parametrize("name", [LIBRARY, NEEDED, PROGRAM, "models/one/model.onnx"])
def test_every_damage_is_found_by_looking_over(bundle: Path, damage, name: str) -> None:
    damage(bundle / name)
    files, problems = bundled.look_over(str(bundle))
    assert files == 5
    (problem,) = problems
    assert str(bundle / name) in problem
    error = bundled.refuse(str(bundle))
    assert str(bundle / name) in str(error)
    assert "unpack the archive again" in error.hint
    assert code_of(error) == UNSOUND


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_a_damaged_list_is_found(bundle: Path, damage) -> None:
    damage(bundle / bundled.CONTENTS)
    assert bundled.look_over(str(bundle))[1]
    with pytest.raises(BundleDamaged, match=r"contents\.tsv"):
        bundled.prepare(worker=False)


@pytest.mark.parametrize("damage", [cut, Path.unlink])
def test_a_missing_or_short_file_ends_the_start(bundle: Path, damage) -> None:
    damage(bundle / NEEDED)
    with pytest.raises(BundleDamaged, match=r"openblas\.so"):
        bundled.prepare(worker=True)


@pytest.mark.parametrize("name", [PROGRAM, "_internal/base_library.zip"])
def test_a_changed_program_ends_the_start(bundle: Path, name: str) -> None:
    flip(bundle / name)
    with pytest.raises(BundleDamaged, match="not as it was packed"):
        bundled.prepare(worker=False)


def test_what_the_launcher_checked_in_this_process_is_not_checked_again(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(bundle / PROGRAM)
    monkeypatch.setenv(bundled.CHECKED, str(os.getpid()))
    bundled.prepare(worker=False)
    assert bundled.CHECKED not in os.environ, "programs that are started from here have their own"
    monkeypatch.setenv(bundled.CHECKED, str(os.getppid()))
    with pytest.raises(BundleDamaged, match="not as it was packed"):
        bundled.prepare(worker=False)


def test_a_service_starts_the_launcher(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert spec.program() == (str(bundle / "nsfwscan"),)
    monkeypatch.setattr(sys, "executable", str(bundle / bundled.LAUNCHED))
    assert spec.program() == (str(bundle / "nsfwscan"),)


@pytest.mark.parametrize("name", [LIBRARY, NEEDED])
def test_a_changed_library_is_never_loaded(bundle: Path, name: str) -> None:
    bundled.prepare(worker=False)
    flip(bundle / name)
    with pytest.raises(BundleDamaged, match=os.path.basename(name)):
        importlib.import_module("core")


def test_a_decode_worker_ends_before_it_loads_a_changed_library(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where whoever imports it would go on without, as Pillow does."""
    bundled.prepare(worker=True)
    flip(bundle / NEEDED)
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as ended, contextlib.suppress(Exception):
        importlib.import_module("core")
    assert ended.value.code == bundled.DAMAGED


def test_a_sound_library_goes_to_pythons_own_loader(bundle: Path) -> None:
    bundled.prepare(worker=False)
    with pytest.raises(ImportError, match=r"core\.so"):  # its bytes are no library
        importlib.import_module("core")


def test_a_library_from_elsewhere_is_not_loaded(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled.prepare(worker=False)
    (tmp_path / "evil.so").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BundleDamaged, match="no part of it"):
        importlib.import_module("evil")


def test_modules_in_python_and_those_that_are_missing_are_found_as_ever(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled.prepare(worker=False)
    (tmp_path / "plain_module.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    spec = importlib.util.find_spec("plain_module")
    assert spec is not None
    assert spec.origin == str(tmp_path / "plain_module.py")
    assert importlib.util.find_spec("module_that_is_missing") is None


def test_programs_of_the_system_do_not_find_the_bundles_libraries(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(bundle / "_internal"))
    monkeypatch.delenv("LD_LIBRARY_PATH_ORIG", raising=False)
    bundled.prepare(worker=False)
    assert "LD_LIBRARY_PATH" not in os.environ
    monkeypatch.setenv("LD_LIBRARY_PATH", str(bundle / "_internal"))
    monkeypatch.setenv("LD_LIBRARY_PATH_ORIG", "/opt/lib")
    bundled.prepare(worker=False)
    assert os.environ["LD_LIBRARY_PATH"] == "/opt/lib"
    assert "LD_LIBRARY_PATH_ORIG" not in os.environ


def test_a_decode_worker_that_meets_a_damaged_library_ends_the_scan(bundle: Path) -> None:
    flip(bundle / NEEDED)
    ending = [sys._base_executable, "-c", f"raise SystemExit({bundled.DAMAGED})"]
    geometry = tiny_model.manifest(b"").input.geometry
    with DecodePool(1, command=ending) as pool, pytest.raises(NsfwscanError) as caught:
        pool.decode(b"a picture", geometry)
    assert isinstance(caught.value, BundleDamaged)
    assert "openblas.so" in str(caught.value)


def test_the_worker_of_a_bundle_is_the_program_itself(bundle: Path) -> None:
    command = decode_pool.worker_command(8, 100)
    assert command == [str(bundle / PROGRAM), bundled.WORKER_FLAG, "8", "100"]
    assert bundled.WORKER_FLAG in (ROOT / "packaging" / "program.py").read_text("utf-8")
    assert f"sys.exit({UNSOUND})" in (ROOT / "packaging" / "program.py").read_text("utf-8")
    assert f"os._exit({bundled.DAMAGED})" in (ROOT / "packaging" / "program.py").read_text("utf-8")


def test_damage_is_named_also_before_there_is_a_command(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first module that the command line imports needs a native one."""

    def damaged() -> None:
        raise bundled.refuse(str(bundle), "select.so is not as it was packed")

    monkeypatch.setattr("nsfwscan.cli.shared.streams.prepare", damaged)
    assert command_line._answered() == UNSOUND
    assert capfd.readouterr().err == (
        "nsfwscan: this copy of nsfwscan is damaged: select.so is not as it was packed\n"
        f"  {bundled.HINT}\n"
    )


def test_doctor_and_selftest_name_the_damaged_file(bundle: Path, capfd) -> None:
    call = Call(capfd)
    assert "5 files as they were packed" in " ".join(call("doctor").out.split())
    flip(bundle / NEEDED)
    for command in ("doctor", "selftest"):
        done = call(command)
        assert done.code == 7
        assert "openblas.so" in "".join((done.out + done.err).split())


def test_a_damaged_model_of_the_bundle_is_named(
    bundle: Path, capfd: pytest.CaptureFixture[str], paint: Paint, tmp_path: Path
) -> None:
    """The error is that no model can be had; that one came along and is damaged explains it."""
    call = Call(capfd)
    command = ("scan", "--offline", "--model", "falconsai", paint(tmp_path / "one.png", RED))
    assert "damaged" not in call(*command).err
    flip(bundle / "models/one/model.onnx")
    done = call(*command)
    assert done.code == 7
    assert "is damaged" in done.err
    assert "model.onnx is not as it was packed" in done.err
    assert bundled.HINT in done.err


def test_the_address_of_the_package_index(bundle: Path) -> None:
    assert index.address({}) is None
    (bundle / bundled.PACKAGE_INDEX).write_text("https://index.example/simple/\n")
    assert index.address({}) == "https://index.example/simple"
    assert index.address({"PIP_INDEX_URL": "http://other/"}) == "http://other"


# Models that came with a bundle


@pytest.fixture
def shipped(bundle: Path) -> Path:
    return Path(tiny_model.write_package(str(bundle / "models")))


def test_a_shipped_model_is_found_and_stays(shipped: Path, home: Path) -> None:
    store = ModelStore(locations.models_folder(), offline=True)
    assert store.best() is not None
    assert store.find("tiny").folder == str(shipped)
    store.find("tiny-1").verify()
    assert store.find("tiny-1").folder == str(shipped)
    with pytest.raises(UsageError, match="is part of this bundle"):
        store.remove("tiny")
    assert shipped.is_dir()
    assert not (home / "models" / "tiny-1").exists()


def test_the_users_own_package_counts_before_the_shipped_one(shipped: Path, home: Path) -> None:
    own = Path(tiny_model.write_package(str(home / "models")))
    store = ModelStore(locations.models_folder(), offline=True)
    assert [one.folder for one in store.installed()] == [str(own)]
    (own / "model.onnx").write_bytes(b"broken")  # a broken one does not hide the shipped one
    assert store.find("tiny").folder == str(shipped)
    assert store.remove("tiny-1") == str(own)
    assert store.find("tiny").folder == str(shipped)


# The folder that is called like a package


@pytest.mark.parametrize("folder", [".", "packaging"])
def test_the_folder_packaging_hides_no_package_of_that_name(folder: str) -> None:
    code = "import packaging.version as v; print(v.Version('1.2') < v.Version('1.10'), v.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("True ")
    assert str(ROOT / "packaging") not in done.stdout
    assert not (ROOT / "packaging" / "__init__.py").exists()
