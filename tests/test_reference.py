"""The reference pages in `docs/reference` name what the code writes, all of it and nothing else."""

from __future__ import annotations

import dataclasses
import json
import os
import pkgutil
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_report
from conftest import Paint
from jsonschema import Draft202012Validator
from pictures import encode, photo
from shell import Call
from tiny_model import GREEN, ORANGE, RED

from nsfwscan.cache.cache import Cache
from nsfwscan.cache.migrations import MIGRATIONS
from nsfwscan.media.sniff import READABLE
from nsfwscan.models import manifest
from nsfwscan.report.record import SCHEMA_VERSION, Recorder
from nsfwscan.system.json_lines import Json
from nsfwscan.values.actions import ActionName, Outcome
from nsfwscan.values.changes import Event
from nsfwscan.values.results import Decision, Failed, FailReason, Origin, Skipped, SkipReason

_ROOT = Path(__file__).parents[1]
_PAGES = _ROOT / "docs" / "reference"
_DOCUMENTS = [
    *(_ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md")),
    *(_ROOT / name / "README.md" for name in ("benchmarks", "packaging", "quantize")),
    _ROOT / "quantize" / "NOTES.md",
    *sorted(_PAGES.glob("*.md")),
]
_SCHEMA = json.loads((_PAGES / "record.schema.json").read_text())
_VALIDATOR = Draft202012Validator(_SCHEMA)


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    return Call(capfd)


def _problems(record: dict[str, Any]) -> list[str]:
    """Return what is wrong with a record, also fields that the schema does not list."""
    unknown = set(record) - set(_SCHEMA["properties"])
    found = [error.message for error in _VALIDATOR.iter_errors(record)]
    return found + [f"unknown field {name}" for name in sorted(unknown)]


def _records(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    for record in found:
        assert _problems(record) == [], record
    return found


def _fields(kind: type) -> Iterator[str]:
    """Return the names of the fields of a dataclass and of the dataclasses inside it."""
    for field in dataclasses.fields(kind):
        yield field.name


def _columns(page: str) -> set[str]:
    """Return the code spans in the first column of a page's tables."""
    rows = re.findall(r"^\|([^|]*)\|", page, flags=re.MULTILINE)
    return {name for cell in rows for name in re.findall(r"`([^`]+)`", cell)}


def _anchors(page: str) -> set[str]:
    """Return what GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", _DOCUMENTS, ids=lambda page: str(page.relative_to(_ROOT)))
def test_links_lead_to_pages_and_headings_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("https:"):
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        assert not anchor or anchor in _anchors(linked.read_text()), target


@pytest.mark.parametrize("page", _DOCUMENTS, ids=lambda page: str(page.relative_to(_ROOT)))
def test_files_that_are_named_exist(page: Path) -> None:
    bases = [_ROOT, _ROOT / "nsfwscan", page.parent]
    for name in re.findall(
        r"`((?:[\w.-]+/)+[\w-]+\.(?:py|toml|md|json|in|nsi))`", page.read_text()
    ):
        if "NAME" not in name:
            assert any((base / name).exists() for base in bases), name


def test_the_journey_names_functions_that_exist() -> None:
    journey = (_ROOT / "ARCHITECTURE.md").read_text().split("## The journey")[1].split("## ")[0]
    named = re.findall(r"^\| \d \| `([\w.]+)`", journey, flags=re.MULTILINE)
    assert len(named) == 6
    for name in [*named, *re.findall(r"`(scanning\.[\w.]+)`", journey)]:
        assert callable(pkgutil.resolve_name(f"nsfwscan.{name}")), name


def test_the_architecture_stays_short() -> None:
    assert (_ROOT / "ARCHITECTURE.md").stat().st_size < 20_000


def test_the_schema_is_one_and_has_the_version_of_the_records() -> None:
    Draft202012Validator.check_schema(_SCHEMA)
    assert _SCHEMA["properties"]["schema_version"] == {"const": SCHEMA_VERSION}
    assert f"`schema_version` is {SCHEMA_VERSION}." in (_PAGES / "record.md").read_text()


@pytest.mark.parametrize("name", ["grid", "ruled_grid"])
def test_every_result_makes_a_record_that_the_schema_accepts(name: str) -> None:
    recorder = Recorder(test_report.MANIFEST)
    results = getattr(test_report, name)()
    results += [Failed("/x", reason) for reason in FailReason]
    results += [Skipped("/x", reason) for reason in SkipReason]
    for result in results:
        record = recorder.record(result)
        assert _problems(record) == [], record
        assert set(record) == set(_SCHEMA["required"])


def test_every_act_and_every_loss_makes_a_record_that_the_schema_accepts() -> None:
    recorder = Recorder(test_report.MANIFEST)
    records: list[dict[str, Json]] = list(map(recorder.act, test_report.acts_grid()))
    records += [
        recorder.gone("/x", sha256, decision)
        for sha256 in (None, bytes(32))
        for decision in (None, *Decision)
    ]
    for record in records:
        assert _problems(record) == [], record


def test_the_schema_lists_the_words_that_the_code_has() -> None:
    properties = _SCHEMA["properties"]
    assert _SCHEMA["$defs"]["decision"]["enum"] == list(Decision)
    assert properties["origin"]["enum"] == [*Origin, None]
    assert properties["action"]["enum"] == [*ActionName, None]
    assert properties["outcome"]["enum"] == [*Outcome, None]
    assert set(properties["format"]["enum"]) == {*READABLE, None}
    assert properties["event"]["enum"] == [*Event, "acted"]


def test_the_page_names_every_field_of_a_record() -> None:
    assert _columns((_PAGES / "record.md").read_text()) == set(_SCHEMA["properties"])


def _wrong(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {**record, "status": "safe"}
    yield {**record, "schema_version": SCHEMA_VERSION + 1}
    yield {**record, "nsfw_score": 1.01}
    yield {**record, "sha256": "AB"}
    yield {**record, "decision": None}
    yield {**record, "near": {"sha256": "0" * 64, "distance": 3}}  # and no person decided
    yield {**record, "status": "failed"}
    yield {**record, "event": "new"}  # without `from`
    for name in record:
        yield {key: value for key, value in record.items() if key != name}


def test_the_schema_refuses_what_no_record_is() -> None:
    record = Recorder(test_report.MANIFEST).record(test_report.scanned("/x", 0.9))
    for wrong in _wrong(record):
        assert _problems(wrong) != [], wrong


def test_the_schema_never_takes_a_picture_without_a_score_for_safe() -> None:
    record = Recorder(test_report.MANIFEST).record(Failed("/x", FailReason.CORRUPT))
    assert _problems({**record, "decision": "safe", "decided_by": "model"}) != []
    assert _problems({**record, "decision": "safe"}) != []
    assert _problems({**record, "decision": "safe", "decided_by": "person"}) == []


@pytest.mark.usefixtures("tiny")
def test_what_the_commands_print_is_what_the_schema_says(
    call: Call, paint: Paint, tmp_path: Path
) -> None:
    folder = tmp_path / "Pictures"
    paint(folder / "red.png", RED)
    paint(folder / "copy.png", RED)
    paint(folder / "green.png", GREEN)
    paint(folder / "orange.png", ORANGE)
    image = photo(96, 96)
    (folder / "photo.png").write_bytes(encode(image, "PNG"))
    (folder / "photo.bmp").write_bytes(encode(image, "BMP"))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing else")
    (folder / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    os.mkfifo(folder / "pipe.jpg")
    Path(os.fsdecode(bytes(folder) + b"/latin-\xe9.png")).write_bytes(
        (folder / "green.png").read_bytes()
    )
    call("deny", "--near", folder / "photo.bmp")
    call("allow", folder / "red.png", folder / "broken.jpg")
    shown = call("scan", "--format", "jsonl", "--action", f"copy={tmp_path / 'found'}", folder)
    first = _records(shown.out)
    assert {one["status"] for one in first} == {"scanned", "failed", "skipped", "acted"}
    assert {one["origin"] for one in first} >= {"model", "duplicate", None}
    assert {one["decided_by"] for one in first} == {"model", "person", None}
    assert any(one["near"] for one in first)
    assert any(one["path_base64"] for one in first)
    again = _records(call("scan", "--format", "jsonl", folder).out)
    assert {one["origin"] for one in again} == {"cache", None}
    document = json.loads(call("scan", "--format", "json", folder).out)
    assert [_problems(one) for one in document["results"]] == [[]] * len(document["results"])


@pytest.mark.usefixtures("tiny")
def test_what_a_watcher_prints_is_what_the_schema_says(
    call: Call, paint: Paint, tmp_path: Path
) -> None:
    folder = tmp_path / "Pictures"
    paint(folder / "red.png", RED)
    paint(folder / "orange.png", ORANGE)
    watch = ("watch", "--once", "--only", "all", "--format", "jsonl", folder)
    assert {one["event"] for one in _records(call(*watch).out)} == {"new"}
    (folder / "red.png").unlink()
    (folder / "orange.png").rename(folder / "renamed.png")
    paint(folder / "green.png", GREEN)
    told = {one["event"]: one for one in _records(call(*watch).out)}
    assert set(told) == {"new", "gone", "moved"}
    assert told["moved"]["from"] == str(folder / "orange.png")


def test_the_page_of_the_cache_names_its_tables_and_columns(tmp_path: Path) -> None:
    path = str(tmp_path / "cache.sqlite")
    Cache.open(path, warn=pytest.fail).close()
    with sqlite3.connect(path) as connection:
        names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        tables = [name for (name,) in connection.execute(names)]
        found = {
            f"{table}.{column[1]}"
            for table in tables
            for column in connection.execute(f"PRAGMA table_info({table})")
        }
    connection.close()
    page = (_PAGES / "cache.md").read_text()
    assert len(tables) > 5
    assert _columns(page) == found
    assert f"schema {len(MIGRATIONS)}" in page


def test_the_page_of_the_manifest_names_its_fields() -> None:
    inside = {
        "": manifest.ModelManifest,
        "files.NAME.": manifest.Artefact,
        "input.": manifest.InputSpec,
        "input.geometry.": manifest.Geometry,
        "output.": manifest.OutputSpec,
        "thresholds.": manifest.Thresholds,
        "probes[].": manifest.Probe,
        "rewriting.": manifest.Rewriting,
    }
    fields = {before + name for before, kind in inside.items() for name in _fields(kind)}
    parents = {"files", "input", "input.geometry", "output", "thresholds", "probes", "rewriting"}
    page = (_PAGES / "manifest.md").read_text()
    assert _columns(page) == fields - parents | {"schema", "checksum"}
    assert f"`{manifest.SCHEMA}`" in page
    full = replace(test_report.MANIFEST, rewriting=manifest.Rewriting("some-way/1"))
    document = json.loads(full.dump())
    assert set(document) == {name.split(".")[0].removesuffix("[]") for name in _columns(page)}
