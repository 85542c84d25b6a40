"""What `import nsfwscan` gives, and what it costs."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_model
from conftest import Paint

import nsfwscan
from nsfwscan.values import errors

_HEAVY = {"numpy", "PIL", "onnxruntime", "sqlite3", "httpx", "rich", "typer", "pathspec"}


def test_the_surface_is_sorted_and_every_name_of_it_is_there() -> None:
    assert nsfwscan.__all__ == sorted(nsfwscan.__all__)
    for name in nsfwscan.__all__:
        assert getattr(nsfwscan, name) is not None
    assert set(nsfwscan.__all__) <= set(dir(nsfwscan))
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = nsfwscan.nonsense


def test_nothing_public_is_missing_from_the_surface() -> None:
    for name, value in vars(nsfwscan).items():
        if inspect.isclass(value) and value.__module__.startswith("nsfwscan"):
            assert name in nsfwscan.__all__


def test_every_public_name_is_documented() -> None:
    for name in nsfwscan.__all__:
        value = getattr(nsfwscan, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name


def test_whatever_is_raised_on_purpose_is_one_family_with_a_hint() -> None:
    kinds = [one for one in vars(errors).values() if inspect.isclass(one)]
    family = [one for one in kinds if issubclass(one, Exception)]
    assert len(family) > 10
    for kind in family:
        assert issubclass(kind, nsfwscan.NsfwscanError)
        assert kind.__name__ in (errors.__doc__ or ""), "the tree at the top names it"


def test_importing_loads_nothing_heavy() -> None:
    script = "import sys, nsfwscan; dir(nsfwscan); print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.split())
    assert "nsfwscan" in loaded
    assert not loaded & _HEAVY


def test_naming_scan_and_classify_loads_no_runtime() -> None:
    script = (
        "import sys; from nsfwscan import scan, classify, ScanOptions, WalkOptions;"
        "print(*{m.split('.')[0] for m in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert not set(done.stdout.split()) & {"numpy", "PIL", "onnxruntime", "rich", "typer"}


def test_a_scan_loads_nothing_that_it_does_not_use(
    tiny: Path, tmp_path: Path, paint: Paint
) -> None:
    paint(tmp_path / "pictures" / "red.png", tiny_model.RED)
    code = (
        "import sys; from nsfwscan.cli.main import main;"
        "code = main(['scan', '-q', '--offline', sys.argv[1]]);"
        "unused = {'nsfwscan.actions.runner', 'nsfwscan.models.fetch.hub', 'http.client', 'csv'};"
        "print(code, sorted(unused & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "pictures")],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stderr == "1 []\n"
