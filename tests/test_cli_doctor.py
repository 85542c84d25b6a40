"""`nsfwscan doctor`: it tells what there is, and never fails itself."""

from __future__ import annotations

import importlib.util
import sqlite3
import sys
from pathlib import Path

import pytest
from shell import Call

from nsfwscan.cli import doctor
from nsfwscan.values.errors import CacheUnavailable


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("COLUMNS", "400")
    return Call(capfd)


def rows(text: str) -> dict[str, str]:
    table = text.split("\n\n")[0]
    split = (line.split("  ", 1) for line in table.splitlines())
    return {what: value.strip() for what, value in split}


def test_what_it_tells(call: Call, tiny: Path, home: Path) -> None:
    done = call("doctor")
    assert (done.code, done.err) == (0, "")
    told = rows(done.out)
    assert told["models folder"] == f"{home}/models"
    assert told["model"] == "tiny-1 (used by default)"
    assert told["cache"] == f"{home}/library.sqlite3 (does not exist)"
    assert told["configuration"] == f"{home}/config.toml (does not exist)"
    assert told["SQLite"] == sqlite3.sqlite_version
    assert "cpu" in told["providers"]
    assert int(told["cores"]) >= 1
    assert told["HEIC pictures"].startswith(("read by pillow-heif ", "cannot be read"))
    assert {"nsfwscan", "Python", "onnxruntime", "numpy", "pillow", "system"} <= set(told)


@pytest.mark.parametrize(
    ("version", "warned"), [((3, 40, 1), True), ((3, 51, 3), False), ((3, 50, 7), False)]
)
def test_the_advice_about_sqlite(
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    version: tuple[int, int, int],
    warned: bool,
) -> None:
    monkeypatch.setattr("nsfwscan.cache.database.SQLITE_VERSION", version)
    done = call("doctor")
    assert done.code == 0
    assert ("write-ahead log (WAL)" in done.out) == warned


@pytest.mark.parametrize(
    ("features", "warned"), [({"avx2"}, True), ({"avx2", "avx512_vnni"}, False), (None, False)]
)
def test_the_advice_about_the_processor(
    call: Call, monkeypatch: pytest.MonkeyPatch, features: set[str] | None, warned: bool
) -> None:
    monkeypatch.setattr(doctor, "_cpu_features", lambda: features)
    done = call("doctor")
    assert ("no 8-bit dot products (VNNI)" in done.out) == warned
    assert ("8-bit dot products" in rows(done.out)) == (features is not None)


def test_without_heic(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pillow_heif" else find(name)
    )
    done = call("doctor")
    assert done.code == 0
    assert rows(done.out)["HEIC pictures"] == "cannot be read"
    assert f"{sys.executable} -m pip install pillow-heif" in done.out.replace("\n", " ")


def test_without_onnxruntime(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "nsfwscan.models.runtime", raising=False)
    done = call("doctor")
    assert done.code == 7
    assert rows(done.out)["providers"] == "none"
    assert "onnxruntime cannot be loaded, so no picture can be scored" in done.out


def test_no_model_and_a_broken_one(call: Call, tiny: Path) -> None:
    (tiny / "manifest.json").write_text("{}")
    done = call("doctor")
    assert done.code == 0
    assert "tiny-1 is broken" in done.out
    assert "No model is installed; the first scan downloads one." in done.out


def test_a_check_that_fails_is_a_finding(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise CacheUnavailable("something odd\nhappened")

    monkeypatch.setattr("nsfwscan.system.cores.available", fail)
    done = call("doctor")
    assert done.code == 7
    assert rows(done.out)["failed check"] == "CacheUnavailable: something odd\\nhappened"
    assert "SQLite" in rows(done.out)
    assert "Traceback" not in done.out + done.err


def test_a_package_whose_description_is_gone_is_of_unknown_version(
    call: Call, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _package: None)
    done = call("doctor")
    assert done.code == 0
    assert rows(done.out)["numpy"] == "unknown version"


def test_a_cache_of_a_later_version_is_named(call: Call, home: Path, tiny: Path) -> None:
    with sqlite3.connect(home / "library.sqlite3") as raw:
        raw.execute("CREATE TABLE later (one)")
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    done = call("doctor")
    assert done.code == 7
    assert "has schema 99" in done.out
    assert "later version" in done.out


def test_a_damaged_model_is_named(call: Call, tiny: Path) -> None:
    graph = tiny / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    done = call("doctor")
    assert done.code == 7
    assert "is damaged" in done.out
