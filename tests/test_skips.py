"""A skip without a reason that is listed fails in CI."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import skips

HERE = os.path.dirname(__file__)
TESTS = """
import pytest

def test_listed():
    pytest.skip("no second file system is at hand")

def test_not_listed():
    pytest.skip("it is raining")

@pytest.mark.skipif(True, reason="strace is not installed (Debian: strace)")
def test_without_a_tool():
    pass

@pytest.mark.xfail(reason="known")
def test_known():
    assert False

def test_that_passes():
    pass
"""


def summary(folder: Path, source: str, tables: str) -> tuple[int, str]:
    """Run pytest with the rule and return its exit code and last line."""
    (folder / "test_x.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "skips", "-p", "no:cacheprovider", folder],
        env={**os.environ, "PYTHONPATH": HERE, "NSFWSCAN_TEST_SKIPS": tables},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()[-1].strip("= ").partition(" in ")[0]


@pytest.mark.parametrize(
    ("tables", "code", "last"),
    [
        ("", 0, "1 passed, 3 skipped, 1 xfailed"),
        ("always", 1, "1 failed, 1 passed, 1 skipped, 1 xfailed, 1 error"),
        ("always,without-packages", 1, "1 failed, 1 passed, 2 skipped, 1 xfailed"),
    ],
)
def test_a_skip_that_is_not_listed_fails(tmp_path: Path, tables: str, code: int, last: str) -> None:
    assert summary(tmp_path, TESTS, tables) == (code, last)


@pytest.mark.parametrize(("reason", "code"), [("no corpora at /x", 0), ("it is raining", 2)])
def test_a_whole_module_that_is_skipped_is_judged_too(
    tmp_path: Path, reason: str, code: int
) -> None:
    (tmp_path / "test_y.py").write_text("def test_that_passes():\n    pass\n")
    source = f"import pytest\npytest.skip({reason!r}, allow_module_level=True)\n"
    assert summary(tmp_path, source, "always")[0] == code


def test_each_listed_skip_has_a_reason_why_it_will_do() -> None:
    with open(skips.FILE, "rb") as stream:
        listed = tomllib.load(stream)
    assert set(listed) == {"always", "without-packages"}
    assert all(why for table in listed.values() for why in table.values())
