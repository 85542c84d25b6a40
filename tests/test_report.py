"""The reporters, the summary, and text that is safe to print.

Golden files hold what each format makes of a grid of results: each decision at, above and below
each threshold, each origin, failures, skips, names that are no text, and people's decisions. This
command writes them anew, to be looked at with `git diff`:

    python tests/test_report.py
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import tiny_model
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nsfwscan.judge.policy import Policy, overrule
from nsfwscan.report.formats import (
    Format,
    reporter_for,
)
from nsfwscan.report.layout import TableLine, print_lines
from nsfwscan.report.record import Recorder
from nsfwscan.report.summary import Summary
from nsfwscan.values.actions import Act, ActionName, ActTally, Outcome
from nsfwscan.values.kinds import Kind
from nsfwscan.values.results import (
    Decision,
    Failed,
    FailReason,
    ImageFacts,
    NearMatch,
    Origin,
    Ruling,
    Scanned,
    ScanResult,
    Scores,
    Skipped,
    SkipReason,
)
from nsfwscan.values.tally import ScanTally
from nsfwscan.values.text import count, duration, plain_json, printable, readable, size

GOLDEN = Path(__file__).parent / "golden"
PLAIN = [form for form in Format if form is not Format.HTML]
"""The formats that are text; test_html_report.py is about the other."""
REVIEW_AT, FLAG_AT = 0.5, 0.8
MANIFEST = tiny_model.manifest(b"any bytes will do")
NAMES = ["plain", "new\nline", "\x1b[31mred", "latin-\udce9", 'quo"te, comma', "[b]\u202e\u2028"]


def scanned(path: str, unsafe: float, origin: Origin = Origin.MODEL) -> Scanned:
    """Return a result with this score."""
    scores = Scores((1 - unsafe, unsafe), unsafe)
    verdict = Policy(REVIEW_AT, FLAG_AT).judge(scores)
    facts = ImageFacts("JPEG", 640, 480, 1)
    return Scanned(path, bytes(range(32)), facts, scores, verdict, origin)


def grid() -> list[ScanResult]:
    """Return decision x boundary x origin, then failures, skips and names."""
    boundaries = [0.0, 0.25, 0.4999, 0.5, 0.5001, 0.75, 0.7999, 0.8, 0.8001, 1.0]
    results: list[ScanResult] = [
        scanned(f"/pictures/{score:.4f} {origin}.jpg", score, origin)
        for score in boundaries
        for origin in Origin
    ]
    results += [scanned(f"/names/{name}.jpg", 0.9) for name in NAMES]
    results += [
        dataclasses.replace(one, facts=one.facts._replace(missing="the last 3 rows are missing"))
        for one in (scanned("/partial/safe.jpg", 0.1), scanned("/partial/flagged.jpg", 0.9))
    ]
    results += [
        Failed("/bad/cut.jpg", FailReason.TRUNCATED, "ends early", bytes(32), Origin.CACHE),
        Failed("/bad/gone\n.jpg", FailReason.VANISHED),
        Failed("/bad/[red]odd.jpg", FailReason.DECODER_CRASHED, "killed by \x1bSIGSEGV"),
        Skipped("/skipped/pipe.jpg", SkipReason.NOT_REGULAR, "a named pipe"),
        Skipped("/skipped/link.jpg", SkipReason.SYMLINK),
    ]
    return results


def ruled_grid() -> list[ScanResult]:
    """Return what people decided, by content and of a picture like it, and a model's own say."""
    like = NearMatch(bytes(range(32, 64)), 3)
    results: list[ScanResult] = [
        dataclasses.replace(one, path=f"/{ruling}/{score}{' near' * bool(near)}.jpg")
        for ruling in Ruling
        for near in (None, like)
        for score in (0.1, 0.9)
        for one in (scanned("", score),)
        for one in (dataclasses.replace(one, verdict=overrule(one.verdict, ruling, near)),)
    ]
    results += [
        Failed(f"/{ruling}/cut.jpg", FailReason.TRUNCATED, "ends early", bytes(32), ruling=ruling)
        for ruling in Ruling
    ]
    return [*results, scanned("/model/0.9.jpg", 0.9), Failed("/bad/cut.jpg", FailReason.TRUNCATED)]


def acts_grid() -> list[Act]:
    """Return every action with every outcome, and a name that is no text."""
    acts = [
        Act(f"/{action}/{outcome}.jpg", action, outcome, "/to/x" if outcome == "done" else None)
        for action in ActionName
        for outcome in Outcome
    ]
    detail = "no [red]\x1b room"
    return [*acts, Act(f"/{NAMES[3]}", ActionName.TAG, Outcome.FAILED, None, detail)]


def summary(
    results: list[ScanResult],
    *,
    interrupted: bool = False,
    seconds: float = 4,
    acts: Sequence[Act] = (),
) -> Summary:
    """Return the summary of these results."""
    counts = ActTally()
    for act in acts:
        counts.count(act)
    tally = ScanTally()
    for result in results:
        tally.count(result)
    tally.walk.hidden, tally.walk.excluded, tally.walk.other_names = 1, 22, 3333
    policy = Policy(REVIEW_AT, FLAG_AT)
    return Summary(tally, MANIFEST, policy, seconds, interrupted, counts)


def report(form: Format, results: list[ScanResult], acts: Sequence[Act] = ()) -> bytes:
    """Return what a format makes of results, and of what was done about them."""
    stream = io.BytesIO()
    writer = reporter_for(form, stream, Recorder(MANIFEST))
    for result in results:
        writer.add(result)
    for act in acts:
        writer.act(act)
    writer.end(summary(results, acts=acts))
    return stream.getvalue()


def golden_files(folder: Path) -> dict[Path, bytes]:
    """Return what each golden file should hold."""
    files = {}
    for name, results in (("report", grid()), ("ruled", ruled_grid())):
        files |= {folder / f"{name}.{form}": report(form, results) for form in PLAIN}
    one = [scanned("/a.jpg", 0.9)]
    files |= {folder / f"acted.{form}": report(form, one, acts_grid()) for form in PLAIN}
    acted = summary(one, acts=acts_grid()).lines()
    files[folder / "acted.txt"] = _text(acted)
    files[folder / "summary.txt"] = _text(summary(grid()).lines())
    files[folder / "ruled.txt"] = _text(summary(ruled_grid()).lines())
    return files


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def write_golden_files(folder: Path) -> None:
    """Write all golden files anew."""
    folder.mkdir(exist_ok=True)
    for path, content in golden_files(folder).items():
        path.write_bytes(content)


@pytest.mark.parametrize(
    "name",
    [
        *(f"{kind}.{form}" for kind in ("report", "ruled", "acted") for form in PLAIN),
        "summary.txt",
        "ruled.txt",
        "acted.txt",
    ],
)
def test_golden(name: str) -> None:
    assert golden_files(GOLDEN)[GOLDEN / name] == (GOLDEN / name).read_bytes(), __doc__


def test_the_command_writes_all_golden_files(tmp_path: Path) -> None:
    write_golden_files(tmp_path / "golden")
    written = {path.name: path.read_bytes() for path in (tmp_path / "golden").iterdir()}
    assert written == {path.name: path.read_bytes() for path in GOLDEN.iterdir()}


def test_the_grid_holds_every_decision_origin_and_kind() -> None:
    results = grid()
    decisions = {one.verdict.decision for one in results if isinstance(one, Scanned)}
    assert decisions == set(Decision)
    assert {one.origin for one in results if isinstance(one, Scanned)} == set(Origin)
    assert {type(one) for one in results} == {Scanned, Failed, Skipped}


@pytest.mark.parametrize("form", [Format.JSON, Format.JSONL, Format.CSV])
def test_formats_for_programs_agree(form: Format) -> None:
    text = report(form, grid()).decode()
    records = [Recorder(MANIFEST).record(one) for one in grid()]
    if form is Format.CSV:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        for row, record in zip(rows, records, strict=True):
            for column in ("path", "status", "reason", "decision", "nsfw_score", "origin"):
                assert row[column] == ("" if record[column] is None else str(record[column]))
        return
    lines = text.split("\n")[:-1]
    found = json.loads(text)["results"] if form is Format.JSON else list(map(json.loads, lines))
    assert found == json.loads(json.dumps(records))


def test_a_path_comes_back_byte_for_byte() -> None:
    for result in grid():
        record = Recorder(MANIFEST).record(result)
        whole = record["path"] if record["path_base64"] is None else None
        assert whole is None or whole == result.path
        assert report(Format.PATHS0, [result]) == os.fsencode(result.path) + b"\0"


@pytest.mark.parametrize("form", [Format.TABLE, Format.JSON, Format.JSONL])
def test_nothing_misleads_a_terminal(form: Format) -> None:
    text = report(form, grid()).decode()
    assert not any(sign in text for sign in "\x1b\u202e\u2028\x7f\x9b")


def test_the_table_is_sorted_and_short() -> None:
    rows = report(Format.TABLE, grid()).decode().split("\n\n")[0].splitlines()[1:]
    scores = [float(row.split()[1]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    broken: list[ScanResult] = [Failed(f"/{n}", FailReason.EMPTY) for n in range(1021)]
    table = report(Format.TABLE, broken).decode()
    assert len(table.splitlines()) == 22
    assert "and 1,001 more files: --only failed --format jsonl names all" in table
    assert report(Format.TABLE, []) == b""


@pytest.mark.parametrize("columns", [120, 80, 40])
def test_a_table_puts_remarks_below_paths_where_it_would_have_to_break_words(
    columns: int,
) -> None:
    texts = ("/a/folder/with/a/rather/long/name/picture.jpg", "a remark of several words")
    lines = [
        TableLine(("nsfw", "0.900"), texts, texts, "bold red"),
        TableLine(("nsfw", "-"), ("/b", ""), ("/b", "")),
    ]
    stream = io.StringIO()
    console = Console(file=stream, width=columns, highlight=False)
    print_lines(console, ("decision", "score"), ("picture", "remark"), "picture", lines)
    printed = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert max(map(len, printed)) <= columns
    assert printed[0] == (
        "decision  score  picture" + " " * 40 + "remark"
        if columns == 120
        else "decision  score  picture"
    )
    if columns == 120:
        assert printed[1:] == [f"nsfw      0.900  {texts[0]}  {texts[1]}", "nsfw          -  /b"]
    elif columns == 80:
        assert printed[1:] == [
            f"nsfw      0.900  {texts[0]}",
            f"{texts[1]:>42}",
            "nsfw          -  /b",
        ]
    else:
        assert printed[3:] == [
            "                 a remark of several",
            "                 words",
            "nsfw          -  /b",
        ]


def test_no_format_takes_a_number_that_json_does_not_know() -> None:
    good = scanned("/x", 0.5)
    bad = dataclasses.replace(good, scores=good.scores._replace(probabilities=(0.5, math.nan)))
    for form in (Format.JSON, Format.JSONL):
        with pytest.raises(ValueError, match="JSON"):
            report(form, [bad])


def test_a_summary_in_words() -> None:
    one: list[ScanResult] = [scanned("/a", 0.9)]
    lines = summary(one, seconds=0.25).lines()
    assert lines == [
        "1 flagged, 0 to review, 0 safe.",
        "Not scanned: 3,333 other files, 22 excluded, 1 hidden.",
        "1 picture in 0.2 s.",
        "Model: tiny-1 (review from 0.5, nsfw from 0.8).",
    ]
    failed: list[ScanResult] = [Failed("/a", FailReason.EMPTY)]
    assert summary(failed).lines()[0] == "0 flagged, 0 to review, 0 safe, 1 without a verdict."
    assert summary([scanned("/a", 0.1)]).lines()[0] == "0 flagged, 0 to review, 1 safe."
    assert summary([]).lines()[0] == "No pictures were found (4.0 s)."


@pytest.mark.parametrize(
    ("scored", "cached", "duplicates", "said"),
    [
        (100, 0, 0, "100 pictures in 4.0 s, 25 a second."),
        (0, 100, 0, "100 pictures in 4.0 s, from the cache."),
        (0, 0, 1, "1 picture in 4.0 s."),
        (3, 90, 7, "100 pictures in 4.0 s: 3 scored, 90 from the cache, 7 duplicates."),
        (99, 0, 1, "100 pictures in 4.0 s: 99 scored, 1 duplicate."),
    ],
)
def test_a_summary_says_where_scores_came_from(
    scored: int, cached: int, duplicates: int, said: str
) -> None:
    tally = ScanTally(
        scored=scored, cached=cached, duplicates=duplicates, safe=scored + cached + duplicates
    )
    found = Summary(tally, MANIFEST, Policy(REVIEW_AT, FLAG_AT), 4.0, interrupted=False)
    assert said in found.lines()


def test_an_interrupted_scan_says_how_much_it_did_not_reach() -> None:
    one = summary([scanned("/a", 0.9)], interrupted=True)
    assert one.lines()[0] == "Interrupted: the rest was not reached. What was scored is kept."
    known = dataclasses.replace(one, not_reached=1)
    assert known.lines()[0] == "Interrupted: 1 file not reached. What was scored is kept."
    assert known.record()["not_reached"] == 1


def test_a_summary_says_by_kind_what_was_not_scanned() -> None:
    tally = ScanTally()
    for name in "a.nef b.DNG c.mp4 d.zip e.svg f.pdf g.xcf h.txt noending".split():
        tally.walk.count_other(name)
    tally.walk.not_included, tally.walk.unreadable_folders, tally.failed = 43, 1, 3
    for reason in SkipReason:
        tally.count(Skipped("/x", reason))
    found = Summary(tally, MANIFEST, Policy(REVIEW_AT, FLAG_AT), 1.0, interrupted=False)
    first, folders, second, *_ = found.lines()
    assert first == "0 flagged, 0 to review, 0 safe, 2 without a verdict."
    assert folders == "1 folder could not be opened."
    for part in (
        *("2 camera raw files", "1 video", "1 archive", "1 drawing", "1 document"),
        *("1 picture of another format", "2 other files", "1 symbolic link"),
        *("1 file over the size limit", "43 not matching --include", "1 quarantine"),
    ):
        assert part in second
    record = found.record()
    assert record["other_kinds"] == {
        kind.value: 2 if kind is Kind.RAW else 1 for kind in (Kind.RAW, *list(Kind)[1:])
    }
    assert record["other_files"] == 9
    assert record["skipped_reasons"] == dict.fromkeys((one.value for one in SkipReason), 1)
    assert (record["not_included"], record["unreadable_folders"]) == (43, 1)


def test_a_summary_for_programs() -> None:
    record = summary(grid(), seconds=0).record()
    assert record["pictures"] == 38
    assert record["partial"] == 2
    assert record["pictures_per_second"] == 0
    decided = [record[one] for one in ("flagged", "review", "safe")]
    assert decided == [16, 12, 10]
    assert (record["failed"], record["skipped"]) == (3, 2)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (185, "3 min 5 s"),
        (3599.6, "1 h 0 min"),
        (7800, "2 h 10 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("bytes_", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (23_590_724, "23.6 MB"),
        (999_960, "1.0 MB"),
        (5_100_000_000_000, "5100.0 GB"),
    ],
)
def test_size(bytes_: int, text: str) -> None:
    assert size(bytes_) == text


def test_count() -> None:
    assert [count(number, "row") for number in (0, 1, 12345)] == ["0 rows", "1 row", "12,345 rows"]
    assert count(2, "copy", "copies") == "2 copies"


@given(st.binary())
def test_readable_is_one_printable_line(name: bytes) -> None:
    text = readable(os.fsdecode(name))
    assert len(text.splitlines()) <= 1
    text.encode()  # raises for a lone surrogate
    assert not any(ord(sign) < 32 or 0x7F <= ord(sign) < 0xA0 for sign in text)


@given(st.text())
def test_plain_json_means_the_same(text: str) -> None:
    text = printable(os.fsdecode(os.fsencode(text.encode("utf-8", "replace"))))
    document = plain_json(json.dumps(text, ensure_ascii=False))
    assert json.loads(document) == text
    assert len(document.splitlines()) == 1


if __name__ == "__main__":
    write_golden_files(GOLDEN)
    sys.exit(0)
