"""Which tests may be skipped where every skip needs a reason, which is so in `.ci/run`.

NSFWSCAN_TEST_SKIPS names tables of skips.toml, separated by commas. With it, a skip whose reason is
in none of them is a failure, so that a test that no longer runs anywhere is noticed.
"""

from __future__ import annotations

import fnmatch
import os
import tomllib
from collections.abc import Generator
from typing import Any

import pytest

FILE = os.path.join(os.path.dirname(__file__), "skips.toml")


def allowed() -> list[str] | None:
    """Return the patterns of the reasons that will do; None when every reason does."""
    tables = os.environ.get("NSFWSCAN_TEST_SKIPS", "")
    if not tables:
        return None
    with open(FILE, "rb") as stream:
        listed = tomllib.load(stream)
    return [pattern for table in tables.split(",") for pattern in listed[table]]


_PATTERNS = allowed()  # now, since a test may replace `open`


def judge(report: Any) -> None:
    """Turn a skip whose reason matches no pattern into a failure."""
    if _PATTERNS is None or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2].removeprefix("Skipped: ")
    if not any(fnmatch.fnmatchcase(reason, pattern) for pattern in _PATTERNS):
        report.outcome = "failed"
        report.longrepr = f"a skip that tests/skips.toml does not list: {reason}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    report = yield
    judge(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    report = yield
    judge(report)
    return report
