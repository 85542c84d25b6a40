"""What people install: licences, SBOM, archives, Debian package, scripts, menus.

A stand-in of a few files takes the place of a bundle, which takes minutes to build. The real one
goes through `packaging/check-deb` and `packaging/container/check`.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import plistlib
import re
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import PIL
import pytest
import rich
import tiny_model
from conftest import settle
from shell import tool
from shipping import __main__ as ship
from shipping import archive, deb, elf, inventory, licences, manual, sbom, stage
from shipping.errors import ShippingError
from sizes import AT_FULL_SIZE
from test_help import ALL

from nsfwscan._version import __version__
from nsfwscan.media.sniff import PICTURE_ENDINGS

_PACKAGING = Path(__file__).parents[1] / "packaging"
_LINUX = _PACKAGING / "linux"
_EPOCH_S = 1_764_000_000
_NAME = f"nsfwscan-{__version__}-linux-x86_64"
_MODULES = {"nsfwscan.cli.main", "rich.table", "json", "PIL.Image", "pyimod02_importers"}


def run(*command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command, capture_output=True, text=True, timeout=100, check=False, **options
    )


def make_bundle(folder: Path) -> Path:
    """Write what a bundle looks like: a program, libraries, data, a model."""
    internal = folder / "_internal"
    for package, names in ((rich, ["py.typed"]), (PIL, ["py.typed"])):
        for name in names:
            source = Path(package.__path__[0]) / name
            target = internal / package.__name__ / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    native = next(Path(PIL.__path__[0]).glob("_imagingmath.*[!i]"))
    shutil.copyfile(native, internal / "PIL" / native.name)
    (internal / "base_library.zip").write_bytes(b"PK")
    os.symlink("PIL/py.typed", internal / "link")
    model = Path(tiny_model.write_package(str(folder / "models")))
    (model / "LICENSE").write_text("The licence of the tiny model.\n")
    program = folder / "nsfwscan"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nsfwscan "$@"\n')
    program.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_bundle(tmp_path_factory.mktemp("bundle") / _NAME)
    found = inventory.take(str(folder), _MODULES)
    inventory.save(found, f"{folder}.inventory.json")
    return folder


@pytest.fixture(scope="module")
def staged(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    before = snapshot(bundle)
    folder = Path(stage.stage(str(bundle), str(tmp_path_factory.mktemp("stage")), _EPOCH_S))
    assert snapshot(bundle) == before, "staging changed the bundle"
    return folder


def snapshot(folder: Path) -> dict[str, bytes | str]:
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


# What is inside


def test_every_part_has_an_owner_a_version_and_a_licence(bundle: Path) -> None:
    found = inventory.load(str(bundle), f"{bundle}.inventory.json")
    by_name = {part.key: part for part in found.parts}
    assert found.parts[0].key == "nsfwscan"
    assert {"cpython", "pyinstaller bootloader", "rich", "pillow", "tiny"} == by_name.keys() - {
        "nsfwscan"
    }
    assert by_name["pillow"].licence == "MIT-CMU"
    assert any("libjpeg" in one.text.lower() for one in by_name["pillow"].texts)
    assert by_name["tiny"].files == (
        "models/tiny-1/LICENSE", "models/tiny-1/manifest.json", "models/tiny-1/model.onnx",
    )  # fmt: skip
    assert all(part.version and part.licence for part in found.parts)


@pytest.mark.parametrize("name", ["_internal/mystery.dat", "_internal/libmystery.so.1", "odd.txt"])
def test_a_file_that_is_nobodys_stops_it(tmp_path: Path, name: str) -> None:
    folder = make_bundle(tmp_path / _NAME)
    (folder / name).write_bytes(b"?")
    with pytest.raises(ShippingError, match=re.escape(name)):
        inventory.take(str(folder), _MODULES)


def test_a_module_that_is_nobodys_stops_it(bundle: Path) -> None:
    with pytest.raises(ShippingError, match=r"module mystery\.inner"):
        inventory.take(str(bundle), {*_MODULES, "mystery.inner"})


def test_a_part_without_a_licence_text_stops_it(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / _NAME)
    (folder / "models" / "tiny-1" / "LICENSE").write_text(" \n")
    with pytest.raises(ShippingError, match="no licence text was found for tiny"):
        inventory.take(str(folder), _MODULES)


def test_a_changed_model_stops_it(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / _NAME)
    path = folder / "models" / "tiny-1" / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(Exception, match="checksum"):
        inventory.take(str(folder), _MODULES)


def test_an_inventory_of_another_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / _NAME)
    (folder / "_internal" / "new.so").write_bytes(b"")
    with pytest.raises(ShippingError, match=r"not about this bundle: _internal/new\.so"):
        inventory.load(str(folder), f"{bundle}.inventory.json")


def test_all_licences_are_in_one_file(staged: Path, bundle: Path) -> None:
    text = (staged / licences.NAME).read_text()
    for part in inventory.load(str(bundle), f"{bundle}.inventory.json").parts[1:]:
        assert f"{part.name} {part.version}" in text
        for one in part.texts:
            line = max(one.text.splitlines(), key=len).rstrip()
            assert line in text


def test_the_sbom_fits_its_schema_and_holds_the_models_checksum(staged: Path) -> None:
    text = (staged / sbom.NAME).read_text()
    sbom.validate(text)
    by_name = {one["name"]: one for one in sbom.components(text)}
    model = (staged / "models" / "tiny-1" / "model.onnx").read_bytes()
    digest = hashlib.sha256(model).hexdigest()
    assert by_name["tiny"]["type"] == "machine-learning-model"
    assert by_name["tiny"]["hashes"] == [{"alg": "SHA-256", "content": digest}]
    assert by_name["rich"]["purl"].startswith("pkg:pypi/rich@")
    document = json.loads(text)
    assert document["metadata"]["component"]["name"] == "nsfwscan"
    assert document["metadata"]["timestamp"].startswith("2025-11-24T16:00:00")
    # Pillow's publisher says what is compiled into it.
    assert any("jpeg" in one["name"].lower() for one in by_name["pillow"]["components"])
    refs = [one["bom-ref"] for one in sbom.components(text)]
    assert len(refs) == len(set(refs))


def test_a_wrong_sbom_is_refused() -> None:
    with pytest.raises(ShippingError, match="does not fit its schema"):
        sbom.validate('{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{}]}')


def test_the_libraries_for_sboms_and_bundles_have_one_owner_each() -> None:
    owners = {"cyclonedx": {"sbom.py"}, "packageurl": {"sbom.py"}, "PyInstaller": {"inventory.py"}}
    for library, owner in owners.items():
        importing = {
            path.name
            for path in (_PACKAGING / "shipping").glob("*.py")
            if re.search(rf"^\s*(from|import) {library}\b", path.read_text(), flags=re.MULTILINE)
        }
        assert importing == owner


# Equal input, equal bytes


def test_staging_twice_gives_equal_bytes(bundle: Path, staged: Path, tmp_path: Path) -> None:
    again = Path(stage.stage(str(bundle), str(tmp_path), _EPOCH_S))
    assert snapshot(again) == snapshot(staged)


def copy_that_looks_different(folder: Path, target: Path) -> Path:
    """Copy the bytes; times, modes, order on the disk and hard links are others."""
    for path in sorted(folder.rglob("*"), reverse=True):
        goal = target / path.relative_to(folder)
        goal.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            os.symlink(os.readlink(path), goal)
        elif path.is_file():
            shutil.copyfile(path, goal)
            goal.chmod(0o700 if os.access(path, os.X_OK) else 0o600)
            settle(goal)
        else:
            goal.mkdir(exist_ok=True)
            goal.chmod(0o700)
    os.link(target / "LICENSE", target / "zz-second-name")
    os.unlink(target / "zz-second-name")
    return target


@pytest.mark.parametrize("ending", ["tar.xz", "tar.gz", "tar", "zip"])
def test_archives_depend_on_bytes_and_names_alone(
    staged: Path, tmp_path: Path, ending: str
) -> None:
    write = archive.write_zip if ending == "zip" else archive.write_tar
    other = copy_that_looks_different(staged, tmp_path / "other" / _NAME)
    one, two = (
        write(str(folder), str(tmp_path / f"{at}.{ending}"), _EPOCH_S)
        for at, folder in enumerate((staged, other))
    )
    assert Path(one).read_bytes() == Path(two).read_bytes()
    (other / "README.md").write_text("changed")
    three = write(str(other), str(tmp_path / f"3.{ending}"), _EPOCH_S)
    assert Path(one).read_bytes() != Path(three).read_bytes()
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


def test_an_archive_holds_everything(staged: Path, tmp_path: Path) -> None:
    packed = archive.write_tar(str(staged), str(tmp_path / "a.tar.xz"), _EPOCH_S)
    with tarfile.open(packed) as tar:
        assert {one.mtime for one in tar} == {_EPOCH_S}
        assert {(one.uid, one.gid, one.uname, one.gname) for one in tar} == {(0, 0, "root", "root")}
        assert {one.mode for one in tar} == {0o755, 0o644, 0o777}
        tar.extraction_filter = lambda member, _path: member  # Python 3.11.3 and older have none
        tar.extractall(tmp_path / "out")
    assert snapshot(tmp_path / "out" / _NAME) == snapshot(staged)
    assert os.access(tmp_path / "out" / _NAME / "nsfwscan", os.X_OK)
    zipped = archive.write_zip(str(staged), str(tmp_path / "a.zip"), 0)
    with zipfile.ZipFile(zipped) as file:
        assert file.testzip() is None
        assert f"{_NAME}/_internal/link" in file.namelist()


def test_a_hard_link_in_a_folder_is_packed_as_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "a").write_text("x")
    os.link(folder / "a", folder / "b")
    packed = archive.write_tar(str(folder), str(tmp_path / "f.tar"), _EPOCH_S)
    with tarfile.open(packed) as tar:
        assert [one.isreg() for one in tar] == [False, True, True]


def test_checksums_are_what_sha256sum_reads(tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_bytes(b"b")
    (tmp_path / "a.deb").write_bytes(b"a")
    paths = [str(tmp_path / name) for name in ("b.tar", "a.deb")]
    archive.write_checksums(paths, str(tmp_path))
    done = run(tool("sha256sum", "coreutils"), "--check", archive.CHECKSUMS, cwd=tmp_path)
    assert done.stdout == "a.deb: OK\nb.tar: OK\n"


def test_search_paths_of_the_build_machine_go(tmp_path: Path) -> None:
    compiler = tool("cc", "gcc")
    source = tmp_path / "x.c"
    source.write_text("int x(void) { return 1; }\n")
    made = {"lib-dynload/bad.so": "/home/me/lib:$ORIGIN", "libpython3.so.1": "/home/me",
            "lib-dynload/good.so": "$ORIGIN/../libs", "wheel.so": "/home/them"}  # fmt: skip
    (tmp_path / "lib-dynload").mkdir()
    for name, path in made.items():
        command = [compiler, "-shared", "-fPIC", f"-Wl,-rpath,{path}", "-o", tmp_path / name]
        assert run(*command, source).returncode == 0
    before = {name: (tmp_path / name).read_bytes() for name in made}
    elf.tidy(str(tmp_path))
    for name in ("lib-dynload/bad.so", "libpython3.so.1"):
        assert elf.run("patchelf", "--print-rpath", str(tmp_path / name)).strip() == ""
        assert b"/home/me" not in (tmp_path / name).read_bytes()
    for name in ("lib-dynload/good.so", "wheel.so"):
        assert (tmp_path / name).read_bytes() == before[name]


# The one command


def test_ship(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    tool("dpkg-deb", "dpkg")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(_EPOCH_S))
    ship.ship(str(bundle), str(tmp_path / "one"))
    one = snapshot(tmp_path / "one")
    if AT_FULL_SIZE:
        ship.ship(str(bundle), str(tmp_path / "two"))
        assert snapshot(tmp_path / "two") == one
    assert {name.replace(__version__, "V") for name in one} == {
        "SHA256SUMS", "nsfwscan-V-linux-x86_64-THIRD-PARTY-LICENSES.txt",
        "nsfwscan-V-linux-x86_64.sbom.cdx.json", "nsfwscan-V-linux-x86_64.tar.xz",
        "nsfwscan_V_amd64.deb",
    }  # fmt: skip
    page = (_PACKAGING.parent / "docs" / "packages.md").read_text()
    assert all(f"`{name.replace(__version__, 'V')}`" in page for name in one)
    assert (
        run(tool("sha256sum", "coreutils"), "-c", "SHA256SUMS", cwd=tmp_path / "one").returncode
        == 0
    )
    assert "SHA256SUMS" in capsys.readouterr().out


def test_every_script_of_packaging_is_documented() -> None:
    page = (_PACKAGING.parent / "docs" / "packages.md").read_text()
    for path in _PACKAGING.rglob("*"):
        if path.is_file() and os.access(path, os.X_OK) and path.parent.name != "linux":
            name = path.relative_to(_PACKAGING.parent).as_posix()
            assert name in page, name


def test_times_come_from_the_variable_or_the_last_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(ShippingError, match="yesterday"):
        ship.source_date_epoch()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "12")
    assert ship.source_date_epoch() == 12


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a git checkout with a commit of the second 1,700,000,000, for `ship` to take."""
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.setattr(ship, "CHECKOUT", str(tmp_path))
    git = (tool("git", "git"), "-C", tmp_path, "-c", "user.name=A", "-c", "user.email=a@b")
    assert run(*git, "init", "-q").returncode == 0
    times = dict.fromkeys(("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"), "1700000000 +0000")
    commit = run(*git, "commit", "-q", "--allow-empty", "-m", "x", env={**os.environ, **times})
    assert commit.returncode == 0, commit.stderr
    return tmp_path


def test_the_time_of_the_last_commit_counts_whoever_owns_the_checkout(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ship.source_date_epoch() == 1_700_000_000
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert "dubious ownership" in run("git", "-C", checkout, "log").stderr
    assert ship.source_date_epoch() == 1_700_000_000


def test_what_git_says_is_passed_on(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / ".git" / "HEAD").unlink()
    with pytest.raises(ShippingError, match=r"set SOURCE_DATE_EPOCH .*: fatal: not a git repo"):
        ship.source_date_epoch()
    monkeypatch.setenv("PATH", str(checkout))
    with pytest.raises(ShippingError, match=r"set SOURCE_DATE_EPOCH .*No such file.*'git'"):
        ship.source_date_epoch()


def test_what_shipping_needs_is_said_in_one_sentence(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')  # without site-packages
    bare.chmod(0o755)
    done = run(_PACKAGING / "ship", "x", env={**os.environ, "PYTHON": str(bare), "PYTHONPATH": ""})
    assert done.returncode == 1
    assert done.stderr.startswith(f"ship: {sys.executable} has no module typer; ")
    assert "-m pip install '.[ship]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_no_bundle_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    with pytest.raises(ShippingError, match="there is no program called nsfwscan in it"):
        ship.ship(str(tmp_path / "bundle"), str(tmp_path / "out"))
    assert os.listdir(tmp_path / "out") == []


# The Debian package


@pytest.fixture(scope="module")
def unpacked(staged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tool("dpkg-deb", "dpkg")
    folder = tmp_path_factory.mktemp("deb")
    made = deb.write(str(staged), str(folder), _EPOCH_S)
    assert os.listdir(folder) == [os.path.basename(made)]
    root = folder / "root"
    assert run("dpkg-deb", "--raw-extract", made, root).returncode == 0
    return root


def test_the_package_has_everything_in_debians_places(unpacked: Path, staged: Path) -> None:
    assert os.readlink(unpacked / "usr/bin/nsfwscan") == "../lib/nsfwscan/nsfwscan"
    for name in (
        "usr/lib/nsfwscan/nsfwscan", "usr/lib/nsfwscan/models/tiny-1/model.onnx",
        "usr/share/applications/nsfwscan.desktop", "usr/share/man/man1/nsfwscan.1.gz",
        "usr/share/bash-completion/completions/nsfwscan",
        "usr/share/zsh/vendor-completions/_nsfwscan",
        "usr/share/fish/vendor_completions.d/nsfwscan.fish",
        "usr/share/kio/servicemenus/nsfwscan.desktop", "usr/share/doc/nsfwscan/copyright",
        "usr/share/metainfo/io.github.nsfwscan.nsfwscan.metainfo.xml",
        f"usr/share/doc/nsfwscan/{licences.NAME}.gz", f"usr/share/doc/nsfwscan/{sbom.NAME}.gz",
        "usr/share/nemo/actions/nsfwscan.nemo_action",
        "usr/share/icons/hicolor/scalable/apps/nsfwscan.svg",
    ):  # fmt: skip
        assert (unpacked / name).is_file(), name
    assert (
        unpacked / "usr/lib/nsfwscan/REMOVE.txt"
    ).read_text() == "sudo apt-get remove nsfwscan\n"
    inside = {path.name for path in (unpacked / "usr/lib/nsfwscan").iterdir()}
    assert inside == {"nsfwscan", "_internal", "models", "share", "REMOVE.txt"}
    for path in (unpacked / "usr").rglob("*"):
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & 0o100
            assert path.stat().st_mode & 0o777 == (0o755 if runs else 0o644), path


def test_the_package_describes_itself(unpacked: Path) -> None:
    control = (unpacked / "DEBIAN/control").read_text()
    fields = dict(re.findall(r"^([\w-]+): (.*)$", control, flags=re.MULTILINE))
    assert fields["Version"] == __version__
    assert fields["Architecture"] == "amd64"
    assert re.fullmatch(r"libc6 \(>= 2\.\d+\)", fields["Depends"])
    assert "@" not in control.replace("<nsfwscan@", "")
    done = run(tool("md5sum", "coreutils"), "--check", "--quiet", "DEBIAN/md5sums", cwd=unpacked)
    assert (done.returncode, done.stdout) == (0, "")
    listed = len((unpacked / "DEBIAN/md5sums").read_text().splitlines())
    assert listed == len([one for one in (unpacked / "usr").rglob("*")
                          if one.is_file() and not one.is_symlink()])  # fmt: skip


def test_every_override_of_lintian_has_a_reason() -> None:
    lines = (_PACKAGING / "debian" / "lintian-overrides").read_text().splitlines()
    assert lines[0].startswith("#")
    for line in lines:
        assert line.startswith(("# ", "nsfwscan: ")), line


def test_a_package_is_for_a_machine_that_is_known(staged: Path, tmp_path: Path) -> None:
    tool("dpkg-deb", "dpkg")
    other = tmp_path / "nsfwscan-1-linux-vax"
    other.mkdir()
    with pytest.raises(ShippingError, match="does not end with a machine"):
        deb.write(str(other), str(tmp_path), _EPOCH_S)


# The manual


def plain(page: str) -> str:
    text = re.sub(r"\\f[BRI]|\\&", "", page).replace("\\-", "-").replace("\\e", "\\")
    return " ".join(text.split())


def test_the_manual_tells_what_the_help_tells() -> None:
    page = manual.render(_EPOCH_S)
    text = plain(page)
    for words, command in ALL.items():
        assert " ".join(["nsfwscan", *words]) in text
        for parameter in command.params:
            if not getattr(parameter, "hidden", False):
                wanted = " ".join(re.sub(r"[`*]", "", parameter.help or "").split())
                # Stars are part of patterns in some sentences.
                assert wanted in text.replace("*", ""), (words, parameter.name)
                assert all(flag in text for flag in parameter.opts if flag.startswith("-"))
    for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "EXIT STATUS"):
        assert f"\n.SH {section}\n" in page
    assert manual.render(_EPOCH_S) == page


def test_the_manual_is_well_formed(tmp_path: Path) -> None:
    path = tmp_path / "nsfwscan.1"
    path.write_text(manual.render(_EPOCH_S))
    done = run(tool("mandoc", "mandoc"), "-T", "lint", "-W", "warning", path)
    assert done.stdout + done.stderr == ""


# Menus and shells


def desktop(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(_LINUX / name, encoding="utf-8")
    return parser


def test_the_menu_entry_is_valid() -> None:
    done = run(tool("desktop-file-validate", "desktop-file-utils"), _LINUX / "nsfwscan.desktop")
    assert done.stdout + done.stderr == ""


def test_dolphins_menu_is_what_kde_documents() -> None:
    """KDE's kind of file is no part of the standard, whose checker says so and nothing else."""
    done = run(
        tool("desktop-file-validate", "desktop-file-utils"), _LINUX / "nsfwscan-dolphin.desktop"
    )
    assert all('the type is "Service"' in line for line in done.stdout.splitlines())
    entry = desktop("nsfwscan-dolphin.desktop")
    assert entry["Desktop Entry"]["X-KDE-ServiceTypes"] == "KonqPopupMenu/Plugin"
    assert f"Desktop Action {entry['Desktop Entry']['Actions'].rstrip(';')}" in entry


def test_menus_offer_it_for_what_it_reads() -> None:
    entry = desktop("nsfwscan.desktop")["Desktop Entry"]
    offered = set(entry["MimeType"].rstrip(";").split(";"))
    kinds = {"jpeg", "png", "webp", "gif", "bmp", "tiff", "avif", "heic", "heif"}
    assert offered == {"inode/directory", *(f"image/{kind}" for kind in kinds)}
    nemo = desktop("nsfwscan.nemo_action")["Nemo Action"]
    endings = set(nemo["Extensions"].rstrip(";").split(";")) - {"dir"}
    assert endings <= PICTURE_ENDINGS


@pytest.mark.parametrize("name", ["nsfwscan.desktop", "nsfwscan-dolphin.desktop",
                                  "nsfwscan.nemo_action"])  # fmt: skip
def test_what_a_menu_starts_is_in_the_package(unpacked: Path, name: str) -> None:
    parser = desktop(name)
    starts = [section["Exec"] for section in parser.values() if "Exec" in section]
    assert starts
    for command in starts:
        path = re.match(r'"/([^"]+)" %F$', command)
        assert path
        assert os.access(unpacked / path[1], os.X_OK)


def test_the_metainfo_is_valid(staged: Path) -> None:
    path = staged / "share/metainfo/io.github.nsfwscan.nsfwscan.metainfo.xml"
    root = ET.parse(path).getroot()
    release = root.find("releases/release")
    assert release is not None
    assert release.attrib == {"version": __version__, "date": "2025-11-24"}
    done = run(tool("appstreamcli", "appstream"), "validate", "--no-net", path)
    assert done.returncode == 0, done.stdout


def test_the_icon_is_a_picture() -> None:
    root = ET.parse(_LINUX / "nsfwscan.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("viewBox") == "0 0 128 128"


def test_shell_scripts_are_clean() -> None:
    scripts = [
        path
        for path in sorted(_PACKAGING.rglob("*"))
        if path.is_file() and re.match(rb"#!/bin/(ba)?sh\n", path.read_bytes()[:20])
    ]
    assert {"install.sh", "ship", "check-deb", "make-app"} <= {path.name for path in scripts}
    done = run(tool("shellcheck", "shellcheck"), *scripts)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_come_from_the_program(staged: Path, shell: str) -> None:
    path = next(staged.glob(f"share/{shell}*/**/*nsfwscan*"))
    assert "_NSFWSCAN_COMPLETE" in path.read_text()


def test_a_program_without_completion_stops_it(tmp_path: Path) -> None:
    program = tmp_path / "nsfwscan"
    program.write_text("#!/bin/sh\necho oops >&2; exit 3\n")
    program.chmod(0o755)
    with pytest.raises(ShippingError, match="ended with 3: oops"):
        stage.completion(str(program), "bash")


@pytest.mark.parametrize(("code", "says"), [(0, "Nothing was flagged"), (1, "were flagged"),
                                            (3, "could not be read"), (2, "")])  # fmt: skip
def test_the_window_stays_open_until_it_was_read(tmp_path: Path, code: int, says: str) -> None:
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\nprintf "<%s>" "$@"; exit {code}\n')
    program.chmod(0o755)
    done = run(
        _LINUX / "scan-and-wait", "a b.jpg", "-rf",
        env={**os.environ, "NSFWSCAN_PROGRAM": str(program)}, input="\n",
    )  # fmt: skip
    assert done.stdout.startswith("<scan><--><a b.jpg><-rf>")
    assert says in done.stdout
    assert done.stdout.endswith("Press Enter to close. ")
    assert done.returncode == code


def test_without_files_it_asks_for_a_folder(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
    program.chmod(0o755)
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "NSFWSCAN_PROGRAM": str(program)}
    for answer, folder in (("", "Pictures"), ("~/My album", "My album"), ("~", "")):
        done = run("sh", _LINUX / "scan-and-wait", env=env, input=f"{answer}\n\n")
        assert f"<--><{os.path.join(tmp_path, folder).rstrip('/')}>" in done.stdout
    assert run("sh", _LINUX / "scan-and-wait", env=env, input="").returncode == 130


def test_a_terminal_is_found(tmp_path: Path) -> None:
    for name in ("scan-in-terminal", "scan-and-wait"):
        shutil.copy(_LINUX / name, tmp_path / name)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, package in (("sh", "dash"), ("dirname", "coreutils")):
        os.symlink(tool(name, package), tools / name)
    env = {"PATH": str(tools)}
    nothing = run(tmp_path / "scan-in-terminal", "x.jpg", env=env)
    assert nothing.returncode == 2
    assert "needs a terminal" in nothing.stderr
    for name, before in (("xterm", "<-e>"), ("konsole", "<-e>"), ("gnome-terminal", "<-->"),
                         ("x-terminal-emulator", "<-e>"), ("xdg-terminal-exec", "")):  # fmt: skip
        (tools / name).write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
        (tools / name).chmod(0o755)
        done = run(tmp_path / "scan-in-terminal", "a b.jpg", env=env)
        assert done.stdout == f"{before}<{tmp_path}/scan-and-wait><a b.jpg>"


# install.sh


@pytest.fixture
def person(tmp_path: Path) -> Path:
    folder = tmp_path / "some body & co"
    folder.mkdir()
    return folder


def install(staged: Path, person: Path, *options: str) -> subprocess.CompletedProcess[str]:
    script = staged / "install.sh"
    env = {"PATH": "/usr/bin:/bin", "HOME": str(person), "NSFWSCAN_HOME": str(person / "data")}
    return run("sh", script, *options, env=env)


def test_install_use_update_uninstall(staged: Path, person: Path, tmp_path: Path) -> None:
    (person / ".local/bin").mkdir(parents=True)
    (person / ".local/bin/other").write_text("stays")
    done = install(staged, person)
    assert (done.returncode, done.stderr) == (0, "")
    assert "is not in your PATH yet" in done.stdout
    link = person / ".local/bin/nsfwscan"
    assert run(link, "--version").stdout == f"nsfwscan {__version__}\n"
    target = person / ".local/lib/nsfwscan"
    entry = (person / ".local/share/applications/nsfwscan.desktop").read_text()
    assert f'Exec="{target}/share/nsfwscan/scan-and-wait" %F' in entry
    assert "/usr/lib" not in entry
    script = person / ".local/share/nautilus/scripts/Scan with nsfwscan"
    assert os.access(script, os.X_OK)
    assert f"'{target}/install.sh' --uninstall" in done.stdout
    first = snapshot(person)

    newer = tmp_path / "newer" / _NAME
    shutil.copytree(staged, newer, symlinks=True)
    (newer / "_internal" / "new.dat").write_text("new")
    (newer / "share/man/man1/nsfwscan.1").write_text("newer manual")
    assert install(newer, person).returncode == 0
    second = snapshot(person)
    assert second.keys() - first.keys() == {".local/lib/nsfwscan/_internal/new.dat"}
    assert not first.keys() - second.keys()
    assert second[".local/share/man/man1/nsfwscan.1"] == b"newer manual"

    removal = (target / "REMOVE.txt").read_text()
    assert (
        run("sh", "-c", removal, env={"PATH": "/usr/bin:/bin", "HOME": str(person)}).returncode == 0
    )
    left = snapshot(person)
    left.pop(".local/share/applications/mimeinfo.cache", None)  # the desktop's own list
    assert left == {".local/bin/other": b"stays"}


def test_what_others_put_there_is_not_overwritten(staged: Path, person: Path) -> None:
    link = person / ".local/bin/nsfwscan"
    link.parent.mkdir(parents=True)
    link.write_text("somebody's own")
    done = install(staged, person)
    assert done.returncode == 2
    assert f"{link} exists and was not installed by this script" in done.stderr
    link.unlink()
    (person / ".local/lib/nsfwscan").mkdir(parents=True)
    done = install(staged, person)
    assert done.returncode == 2
    assert ".local/lib/nsfwscan exists" in done.stderr
    assert snapshot(person) == {}
    assert install(staged, person, "--uninstall").returncode == 2
    assert install(staged, person, "--frob").returncode == 2


def test_an_installation_that_fails_leaves_nothing(staged: Path, person: Path) -> None:
    (person / ".local/share/nemo").mkdir(parents=True)
    (person / ".local/share/nemo/actions").write_text("a file where a folder should be")
    done = install(staged, person)
    assert done.returncode != 0
    assert "nemo/actions" in done.stderr
    left = snapshot(person)
    assert left.keys() <= {".local/share/nemo/actions"}
    os.unlink(person / ".local/share/nemo/actions")
    assert install(staged, person).returncode == 0
    assert install(staged, person, "--uninstall").returncode == 0


def test_a_program_that_does_not_run_is_not_installed(staged: Path, person: Path) -> None:
    broken = person / "download" / _NAME
    shutil.copytree(staged, broken, symlinks=True)
    (broken / "nsfwscan").write_text("#!/bin/sh\nexit 1\n")
    done = install(broken, person)
    assert done.returncode == 2
    assert "does not run" in done.stderr
    assert not [one for one in snapshot(person) if one.startswith(".local")]


# Windows and macOS, as far as they can be looked at from here


def test_the_windows_installer_compiles(staged: Path, tmp_path: Path) -> None:
    makensis = tool("makensis", "nsis")
    folder = tmp_path / f"nsfwscan-{__version__}-windows-x86_64"
    shutil.copytree(staged, folder)
    os.rename(folder / "nsfwscan", folder / "nsfwscan.exe")
    out = tmp_path / "nsfwscan-setup.exe"
    done = run(
        makensis, "-V2", "-WX", f"-DBUNDLE={folder}", f"-DVERSION={__version__}", f"-DOUTPUT={out}",
        _PACKAGING / "windows" / "nsfwscan.nsi",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert out.read_bytes()[:2] == b"MZ"
    without = run(makensis, "-V1", _PACKAGING / "windows" / "nsfwscan.nsi")
    assert without.returncode != 0


def test_the_windows_uninstaller_knows_every_name_of_a_bundle(staged: Path) -> None:
    text = (_PACKAGING / "windows" / "nsfwscan.nsi").read_text().replace("nsfwscan.exe", "nsfwscan")
    for path in staged.iterdir():
        if path.name not in {"share", "install.sh"}:  # for Linux only
            assert re.search(rf'(Delete|RMDir /r) "\$INSTDIR\\{re.escape(path.name)}"', text), path


def test_the_mac_app_has_what_macos_asks_for() -> None:
    with open(_PACKAGING / "macos" / "Info.plist", "rb") as file:
        info = plistlib.load(file)
    assert info["CFBundleIdentifier"] == "io.github.nsfwscan.nsfwscan"
    assert info["CFBundleShortVersionString"] == info["CFBundleVersion"] == "@VERSION@"
    with open(_PACKAGING / "macos" / "entitlements.plist", "rb") as file:
        assert all(plistlib.load(file).values())


_STAND_INS = {
    "osacompile": 'mkdir -p "$2/Contents/MacOS" "$2/Contents/Resources"; '
    'touch "$2/Contents/MacOS/droplet" "$2/Contents/Resources/droplet.icns"',
    "plutil": "",
    "qlmanage": 'touch "$5/nsfwscan.svg.png"',
    "sips": 'touch "$6"',
    "iconutil": 'ls "$5" | wc -l >&2; touch "$4"',
    "codesign": "",
    "hdiutil": 'for last; do :; done; touch "$last"',
    "xcrun": "",
    "spctl": "",
}


def test_the_mac_recipe_with_stand_ins_for_apples_tools(staged: Path, tmp_path: Path) -> None:
    name = f"nsfwscan-{__version__}-macos-aarch64"
    folder = tmp_path / "dist" / name
    shutil.copytree(staged, folder, symlinks=True)
    tools = tmp_path / "bin"
    tools.mkdir()
    log = tmp_path / "log"
    for one, what in _STAND_INS.items():
        (tools / one).write_text(f'#!/bin/sh\necho "{one} $*" >>"{log}"\n{what}\n')
        (tools / one).chmod(0o755)
    recipe = _PACKAGING / "macos" / "make-app"
    env = {"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(tmp_path)}
    signed = {"SIGN_AS": "Developer ID Application: N", "NOTARY_PROFILE": "p"}
    done = run(recipe, folder, env={**env, **signed})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "dist" / f"{name}.dmg")
    contents = tmp_path / "dist" / "nsfwscan.app" / "Contents"
    with open(contents / "Info.plist", "rb") as file:
        assert plistlib.load(file)["CFBundleVersion"] == __version__
    assert (contents / "Resources/nsfwscan/nsfwscan").exists()
    assert (contents / "Resources/nsfwscan.icns").exists()
    assert done.stderr.splitlines()[0].strip() == "10"  # sizes of the icon
    calls = log.read_text().splitlines()
    # Inside out: libraries, then the program, then the app, then the image.
    signings = [one for one in calls if one.startswith("codesign --force")]
    kinds = [re.sub(r".*/", "", one) for one in signings]
    assert kinds[-3:] == ["nsfwscan", "nsfwscan.app", f"{name}.dmg"]
    assert all(one.endswith((".so", ".dylib")) for one in kinds[:-3])
    assert len(kinds) > 3
    assert all("--timestamp --options runtime" in one for one in signings)
    assert any(one.startswith("xcrun notarytool submit") for one in calls)
    adhoc = run(recipe, folder, env=env)
    assert adhoc.returncode == 0, adhoc.stderr
    assert "--sign -" in log.read_text()
    assert run(recipe, tmp_path, env=env).returncode == 2
    assert run(recipe, env=env).returncode == 2
