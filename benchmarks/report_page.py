"""How fast a report opens, sorts and filters in Chromium: `python -m benchmarks.report_page`.

Opens reports of 10,000 rows with thumbnails and of 100,000 without, from a file:// address, and
beside them pages of pytest-html 4 with as many rows. *Painted* is from the start of the navigation
to the second frame after the rows are there. Exits with 1 if a report is over a limit.
"""

from __future__ import annotations

import argparse
import html
import io
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from benchmarks.measure import ROOT, table
from nsfwscan.judge.policy import Policy
from nsfwscan.media.decode.thumbnail import PIXELATED_LONGEST, Thumbnail
from nsfwscan.models import catalogue
from nsfwscan.models.manifest import MODEL_NAME, Artefact
from nsfwscan.report.html.columns import ReportRow, millionths
from nsfwscan.report.html.page import Model, PageLook, Pictured, Report, WantedThumbnail
from nsfwscan.report.summary import Summary
from nsfwscan.values.kinds import Kind
from nsfwscan.values.tally import ScanTally

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SIZE = (12, 9)
_A_FOLDER = 400
_WATCH = """
    globalThis.measured = {tasks: [], most: 0};
    new PerformanceObserver((list) => {
        for (const one of list.getEntries()) measured.tasks.push(one.duration);
    }).observe({type: "longtask", buffered: true});
    const done = () => READY;
    const look = () => {
        measured.most = Math.max(measured.most, document.querySelectorAll("#rows > .row").length);
        if (!measured.painted && document.body && done()) {
            measured.painted = true;
            requestAnimationFrame(() => requestAnimationFrame(() => {
                measured.painted = performance.now();
            }));
        }
    };
    new MutationObserver(look).observe(document, {
        childList: true, subtree: true, attributes: true, attributeFilter: ["aria-busy"],
    });
"""
_ACT = """
    const done = arguments[arguments.length - 1], began = performance.now();
    ACT;
    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - began)));
"""
_OURS = "document.getElementById('grid')?.ariaBusy === 'false'"
_ACTS = {
    "sort by score": "document.querySelector('[data-sort=score]').click()",
    "sort by path": "document.querySelector('[data-sort=path]').click()",
    "sort by reason": "document.querySelector('[data-sort=reason]').click()",
    "filter flagged": "document.querySelector('.tile').click()",
    "filter by words": "const s = document.getElementById('search'); s.value = 'lake 77';"
    "s.dispatchEvent(new Event('input'))",
    "move a threshold": "const s = document.getElementById('flag-at'); s.value = 700;"
    "s.dispatchEvent(new Event('input'))",
}
_THEIRS = "document.querySelectorAll('#results-table > tbody').length >= ROWS"
_THEIR_ACTS = {
    "sort by path": "document.querySelector('#results-table th.sortable[data-column-type=testId]')"
    ".click()",
    "filter flagged": "document.querySelector('.filters input[data-test-result=passed]').click()",
}


def page(count: int, *, pictured: Pictured) -> bytes:
    """Return a report of `count` made-up pictures in folders of 400."""
    rows, tally = list(_rows(count)), ScanTally()
    tally.walk.folders, tally.walk.kinds = count // _A_FOLDER, {Kind.VIDEO: 213, Kind.RAW: 77}
    for row in rows:
        tally.nsfw += row.state == "n"
        tally.review += row.state == "r"
        tally.safe += row.state == "s"
        tally.failed += row.state == "f"
    entry = next(iter(catalogue.load().values()))
    manifest = entry.manifest({MODEL_NAME: Artefact("0" * 64, 1)})
    model = Model(manifest.package, manifest.fingerprint, 0.5, 0.8)
    summary = Summary(tally, manifest, Policy(0.5, 0.8), 1.0, interrupted=False)
    look = PageLook(pictured=pictured)
    made = Report(rows, (model,), summary, ["/home/somebody/Pictures"], look, time.time())
    return made.page(_thumbnails)


def _rows(count: int) -> Iterator[ReportRow]:
    chance = random.Random(1)
    seasons = ("Spring", "Summer at the lake", "Autumn", "Winter", "Birthday")
    sha256 = ""
    for number in range(count):
        season = seasons[number // _A_FOLDER % len(seasons)]
        year, folder = 2000 + number // 4000 % 25, number // _A_FOLDER
        unsafe = 0.8 + 0.2 * chance.random() if chance.random() < 0.01 else chance.random() ** 6
        if number % 50 != 3:
            sha256 = chance.randbytes(32).hex()
        failed = number % 997 == 5
        state = "f" if failed else "n" if unsafe >= 0.8 else "r" if unsafe >= 0.5 else "s"
        yield ReportRow(
            (),
            f"/home/somebody/Pictures/{year}/{season} {folder}",
            f"IMG_{chance.randrange(20_000):05}.jpg",
            state,
            -1 if failed else millionths(unsafe),
            sha256,
            "JPEG" if number % 9 else "PNG",
            *((4032, 3024) if number % 3 else (2268, 4032)),
            {"reason": "truncated", "detail": "more than the last rows are missing"}
            if failed
            else {},
        )


def _thumbnails(wanted: Sequence[WantedThumbnail]) -> Iterator[Thumbnail]:
    for one in wanted:
        width, height = _SIZE
        pixels = random.Random(one.sha256).randbytes(width * height * 3)
        stream = io.BytesIO()
        Image.frombytes("RGB", _SIZE, pixels).save(stream, "WEBP", quality=75)
        assert max(_SIZE) <= PIXELATED_LONGEST
        yield Thumbnail(stream.getvalue(), "image/webp", width, height)


def peer(folder: Path, count: int) -> Path | None:
    """Return a page of pytest-html with `count` rows; None if it cannot be installed.

    A real run makes the page and a hundred rows; the other rows are copies of those with names of
    their own, because pytest itself would take minutes for a hundred thousand tests.
    """
    packages, some = folder / "packages", 100
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--target",
        str(packages),
        "pytest-html>=4",
    ]
    if subprocess.run([*install, "pytest-html>=4"], check=False).returncode:
        return None
    (folder / "test_rows.py").write_text(
        f"import pytest\n@pytest.mark.parametrize('n', range({some}))\ndef test_row(n): pass\n"
    )
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
        + [f"--rootdir={folder}", f"--html={folder / 'peer.html'}", "--self-contained-html"]
        + [str(folder)],
        env={**os.environ, "PYTHONPATH": str(packages)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    text = (folder / "peer.html").read_text()
    blob = re.search(r'data-jsonblob="([^"]*)"', text)
    if blob is None:
        return None
    data = json.loads(html.unescape(blob[1]))
    (row, *_) = next(iter(data["tests"].values()))
    names = [f"test_rows.py::test_row[{number}]" for number in range(count)]
    data["tests"] = {name: [{**row, "testId": name}] for name in names}
    filled = html.escape(json.dumps(data), quote=True)
    (folder / "peer.html").write_text(text[: blob.start(1)] + filled + text[blob.end(1) :])
    return folder / "peer.html"


@dataclass
class Measured:
    """What opening and using one page took, by round."""

    painted: list[float] = field(default_factory=list)
    """Milliseconds."""
    longest: list[float] = field(default_factory=list)
    """The longest task while it opened, in milliseconds; 0 if none took 50."""
    heap: list[float] = field(default_factory=list)
    """Megabytes of JavaScript's heap after a collection."""
    acts: dict[str, list[float]] = field(default_factory=dict)
    """Milliseconds to the second frame."""
    rows: int = 0
    """The most row elements there ever were."""


def measure(
    page: Path, ready: str, acts: dict[str, str], measured: Measured, *, patience_s: float
) -> bool:
    """Open a page in a fresh browser and use it. Returns False if it did not get ready."""
    sys.path.insert(0, os.path.join(ROOT, "tests"))
    import browsing  # type: ignore[import-not-found]  # a part of the tests, not a package

    with (
        tempfile.TemporaryDirectory() as scratch,
        browsing.open_browser(Path(scratch), watched=False) as browser,
    ):
        browser.driver.set_page_load_timeout(patience_s)
        browser.driver.set_script_timeout(patience_s)
        browser.command(
            "Page.addScriptToEvaluateOnNewDocument", source=_WATCH.replace("READY", ready)
        )
        browser.size(1280, 800)
        try:
            browser.open(page)
            browser.wait("measured.painted > 1", patience_s=patience_s)
        except browsing.TimeoutException:
            return False
        found: dict[str, Any] = browser.run("return measured")
        measured.painted.append(found["painted"])
        measured.longest.append(max(found["tasks"], default=0))
        browser.command("HeapProfiler.collectGarbage")
        measured.heap.append(browser.command("Runtime.getHeapUsage")["usedSize"] / 1e6)
        for name, act in acts.items():
            took = browser.driver.execute_async_script(_ACT.replace("ACT", act))
            measured.acts.setdefault(name, []).append(took)
        measured.rows = max(measured.rows, browser.run("return measured.most"))
    return True


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print tables."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--few", type=int, default=10_000, help="rows with thumbnails")
    options.add_argument("--many", type=int, default=100_000, help="rows without")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--patience", type=float, default=120, help="seconds for one page")
    options.add_argument("--no-peer", action="store_true", help="leave out pytest-html")
    options.add_argument("--no-limits", action="store_true", help="exit with 0 whatever it takes")
    chosen = options.parse_args(arguments)
    over = []
    for count, pictured, limits in (
        (chosen.few, Pictured.ALL, (1000, 100)),
        (chosen.many, Pictured.NONE, (1500, 300)),
    ):
        with tempfile.TemporaryDirectory() as scratch:
            over += _compare(Path(scratch), count, pictured, limits, chosen)
    for one in over:
        print(f"over the limit: {one}")
    sys.exit(bool(over) and not chosen.no_limits)


def _compare(
    folder: Path,
    count: int,
    pictured: Pictured,
    limits: tuple[float, float],
    chosen: argparse.Namespace,
) -> list[str]:
    """Measure a report beside pytest-html's page; return which limits it is over."""
    ours, written = folder / "report.html", page(count, pictured=pictured)
    ours.write_bytes(written)
    theirs = None if chosen.no_peer else peer(folder, count)
    mine, other, opens = Measured(), Measured(), theirs is not None
    for _ in range(chosen.rounds):
        measure(ours, _OURS, _ACTS, mine, patience_s=chosen.patience)
        if opens and theirs is not None:
            ready = _THEIRS.replace("ROWS", str(count))
            opens = measure(theirs, ready, _THEIR_ACTS, other, patience_s=chosen.patience)
    with_them = "with" if pictured is Pictured.ALL else "without"
    print(f"\n{count:,} rows {with_them} thumbnails\n")
    lines = [
        ("bytes a row", len(written) / count, theirs.stat().st_size / count if theirs else None),
        ("painted, ms", _middle(mine.painted), _middle(other.painted)),
        ("longest task, ms", _middle(mine.longest), _middle(other.longest)),
        ("JavaScript heap, MB", _middle(mine.heap), _middle(other.heap)),
        *(
            (f"{name}, ms", _middle(took), _middle(other.acts.get(name, [])))
            for name, took in mine.acts.items()
        ),
        ("most row elements", float(mine.rows), float(count) if other.painted else None),
    ]
    rows = [
        [what, f"{one:,.0f}"]
        + (["", ""] if two is None else [f"{two:,.0f}", f"{two / max(one, 1):.1f}"])
        for what, one, two in lines
        if one is not None
    ]
    print(table(["", "report", "pytest-html 4", "ratio"], rows))
    if theirs is not None and not opens:
        print(f"\npytest-html's page did not open within {chosen.patience:.0f} s.")
    return list(_over(count, pictured, limits, len(written) / count, mine))


def _over(
    count: int, pictured: Pictured, limits: tuple[float, float], size: float, mine: Measured
) -> Iterator[str]:
    painted, act = limits
    values = {
        "painted": (_middle(mine.painted), painted),
        "longest task": (_middle(mine.longest), 200),
        "heap": (_middle(mine.heap), 200),
        "row elements": (mine.rows, 300),
        **{name: (_middle(took), act) for name, took in mine.acts.items()},
    }
    if pictured is Pictured.NONE:
        values["bytes a row"] = (size, 60)
    for name, (value, most) in values.items():
        if value is not None and value >= most:
            yield f"{count:,} rows, {name}: {value:.0f} of {most:.0f}"


def _middle(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


if __name__ == "__main__":
    main()
