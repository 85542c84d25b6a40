"""The launcher of a bundle for Linux, before a program that is a script."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from bundle import launcher
from bundle.damage import DAMAGES
from bundle.errors import BuildError
from shell import needs

from nsfwscan.cli.shared.codes import UNSOUND
from nsfwscan.system import bundled

CACHE = "_internal/libpython3.so"
MAIN = f'#!/bin/sh\necho "$$ ${bundled.CHECKED}" "$@"\nexit 42\n'

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only a bundle for Linux has a launcher"),
    needs("cc", "gcc"),
]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Make a bundle of a script and a library of several reads of the launcher."""
    folder = tmp_path / "its folder"
    (folder / "_internal").mkdir(parents=True)
    (folder / bundled.LAUNCHED).write_text(MAIN)
    (folder / bundled.LAUNCHED).chmod(0o755)
    (folder / CACHE).write_bytes(os.urandom(3 << 18) + b"odd")
    launcher.main(str(folder))
    return folder


def start(bundle: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [bundle / bundled.LAUNCHER, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/", env={},
    )  # fmt: skip


def test_a_sound_bundle_is_started_in_the_same_process(bundle: Path) -> None:
    child = start(bundle, "scan", "a b", "")
    out, err = child.communicate()
    assert (out, err, child.returncode) == (f"{child.pid} {child.pid} scan a b \n", "", 42)


def test_a_link_leads_to_the_bundle(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "nsfwscan").symlink_to(bundle / bundled.LAUNCHER)
    done = subprocess.run(["nsfwscan"], env={"PATH": str(tmp_path)}, check=False)
    assert done.returncode == 42


@pytest.mark.parametrize("name", [CACHE, bundled.LAUNCHED])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_named_and_not_started(
    bundle: Path, name: str, damage: Callable[[bytes], bytes | None]
) -> None:
    path = bundle / name
    data = damage(path.read_bytes())
    path.unlink() if data is None else path.write_bytes(data)
    child = start(bundle)
    out, err = child.communicate()
    assert (out, child.returncode) == ("", UNSOUND)
    first, second = err.splitlines()
    assert first.startswith(f"nsfwscan: this copy of nsfwscan is damaged: {path} ")
    assert second == f"  {bundled.HINT}"


def test_its_checksum_is_adler_32(bundle: Path) -> None:
    """Every length around the blocks it adds in, of the bytes that overflow soonest."""
    lengths = [*range(70), 5535, 5536, 5537, 1 << 18, (1 << 18) + 5537]
    for length in lengths:
        (bundle / str(length)).write_bytes(b"\xff" * length)
    launcher.put_before(str(bundle), [str(length) for length in lengths])
    child = start(bundle)
    assert child.communicate()[1] == ""
    assert child.returncode == 42


def test_what_cannot_be_started_is_told(bundle: Path) -> None:
    (bundle / bundled.LAUNCHED).chmod(0o644)
    child = start(bundle)
    assert "Permission denied" in child.communicate()[1]
    assert child.returncode == UNSOUND


def test_ctrl_c_waits_for_the_first_line_of_the_program(bundle: Path, tmp_path: Path) -> None:
    program = Path(__file__).parents[1] / "packaging/program.py"
    main = bundle / bundled.LAUNCHED
    main.write_text(f"#!/bin/sh\nkill -INT $$\nexec {sys.executable} {program} doctor\n")
    launcher.put_before(str(bundle), [CACHE])
    child = start(bundle)
    out, err = child.communicate()
    assert (out, err, child.returncode) == ("", "", -signal.SIGINT)


def test_ctrl_c_is_not_let_through_where_somebody_else_holds_it(bundle: Path) -> None:
    (bundle / bundled.LAUNCHED).write_text(f'#!/bin/sh\necho "${bundled.HELD}"\n')
    launcher.put_before(str(bundle), [CACHE])
    child = start(bundle)
    assert child.communicate()[0] == f"{child.pid}\n"
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        assert start(bundle).communicate()[0] == "\n"
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_a_name_that_c_would_read_otherwise_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'a"b').write_bytes(b"")
    with pytest.raises(BuildError, match="cannot be written"):
        launcher.header(str(tmp_path), ['a"b'])


def test_the_header_lists_sizes_and_checksums(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"bytes")
    assert f'{{"one", 5, 0x{zlib.adler32(b"bytes"):08x}u}}' in launcher.header(
        str(tmp_path), ["one"]
    )
