"""The report in a browser: what is shown, sorted and counted, and what must never happen."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Browser, Keys, open_browser
from PIL import Image
from report_pages import FLAG_AT, MANIFEST, MODELS, REVIEW_AT, data_of, page, row, thumbnails_of

from nsfwscan.report.html import shell
from nsfwscan.report.html.columns import ReportRow, row_of
from nsfwscan.report.html.page import PageLook, Pictured
from nsfwscan.report.record import Recorder
from nsfwscan.values.results import Failed, FailReason

Show = Callable[..., None]
READY = "document.querySelector('#grid').ariaBusy === 'false'"
MOST_ROWS = 300


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start one browser for this file: none of its pages keeps anything."""
    with open_browser(tmp_path_factory.mktemp("browser")) as one:
        yield one


@pytest.fixture
def browser(shared: Browser) -> Browser:
    """Return the browser, with no page, and nothing seen."""
    shared.open("about:blank")
    shared.media()
    shared.console()
    shared.requests()
    return shared


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Show:
    """Return a function that opens the report of some rows, with all pictures in sight."""

    def open_(rows: Iterable[ReportRow], look: PageLook | None = None, **options: Any) -> None:
        path = tmp_path / "report.html"
        path.write_bytes(page(rows, look, **options))
        browser.size(1280, 1200)
        browser.open(path)
        browser.wait(READY)
        assert browser.all("#trouble:not([hidden])") == []

    return open_


def names(browser: Browser) -> list[str]:
    """Return the names in the list, from top to bottom."""
    return browser.run("""
        const rows = [...document.querySelectorAll("#rows > .row")];
        rows.sort((one, two) => one.ariaRowIndex - two.ariaRowIndex);
        return rows.map((row) => row.querySelector(".name > span").firstChild.textContent);
    """)


def some() -> list[ReportRow]:
    """Return a dozen rows of every kind."""
    return [
        row("/pictures/b/nine.jpg", 0.9),
        row("/pictures/b/eight.jpg", FLAG_AT),
        row("/pictures/a/below.jpg", 0.7999999),
        row("/pictures/a/half.jpg", REVIEW_AT),
        row("/pictures/a/low.jpg", 0.01),
        row("/pictures/a/zero.jpg", 0.0),
        row("/pictures/c/allowed.jpg", 0.95, state="s", by="person"),
        row("/pictures/c/cut.jpg", None),
        row("/pictures/c/new.jpg", None, state="u", reason="new"),
        row("/pictures/c/partial.jpg", 0.3, detail="the last rows are missing"),
    ]


def hostile_names() -> list[str]:
    """Return a thousand names that break out of something, somewhere."""
    chance = random.Random(1)
    pieces = [
        "<img src=x onerror=globalThis.hit=1>", "</script><script>globalThis.hit=1</script>",
        "<svg onload=globalThis.hit=1>", "\"><b>", "'-globalThis.hit--'", "`${globalThis.hit=1}`",
        "{{ 7*7 }}", "{% raw %}", "javascript:globalThis.hit=1", "<!--", "]]>", "&lt;b&gt;", "&#6",
        "\u202egpj", "\u2028", "\x1b[31m", "\n", "\udce9", "__proto__", "constructor", "\ufeff",
        "http://example.invalid/x.jpg", "//example.invalid", "\\", "%00", "😀", "é" * 40, "x" * 180,
        "<style>*{display:none}</style>", "<meta http-equiv=refresh content=0>", "<base href=//x>",
    ]  # fmt: skip
    return [
        f"{number} {''.join(chance.choices(pieces, k=chance.randint(1, 3)))}.jpg"
        for number in range(1000)
    ]


def hostile_rows() -> list[ReportRow]:
    """Return a row for each of them, made of records as in a scan."""
    recorder = Recorder(MANIFEST)
    return [
        row_of(recorder.record(Failed(f"/p/{name}", FailReason.CORRUPT, name)), f"/p/{name}")
        for name in hostile_names()
    ]


# What must never happen


def test_hostile_names_stay_text_and_nothing_leaves_the_page(browser: Browser, show: Show) -> None:
    rows = hostile_rows()
    show(rows)
    seen: set[str] = set()
    browser.size(1280, 3000)
    for _ in range(len(rows) // 25):
        seen |= set(names(browser))
        browser.one("#grid").send_keys(Keys.PAGE_DOWN, Keys.ENTER)
        browser.run("return new Promise((done) => requestAnimationFrame(() => done()))")
    assert seen == {one.name for one in rows}
    for word in ("onerror", "script", "{{ 7*7 }}"):
        browser.one("#search").clear()
        browser.one("#search").send_keys(word)
        assert names(browser)
    browser.command("Page.printToPDF")
    assert browser.run("return globalThis.hit === undefined")
    assert [one for one in browser.requests() if not one.endswith("/report.html")] == []
    assert browser.violations() == []
    assert browser.console() == []
    assert browser.run("return document.querySelectorAll('script, style, img, base').length") == 4


def test_few_row_elements_are_alive(browser: Browser, show: Show) -> None:
    show(row(f"/pictures/{number // 100:03}/{number:05}.jpg") for number in range(5000))
    browser.run("""
        globalThis.most = 0;
        new MutationObserver(() => {
            const rows = document.querySelectorAll("#rows > *, #printed > *").length;
            globalThis.most = Math.max(globalThis.most, rows);
        }).observe(document.body, {childList: true, subtree: true});
    """)
    for top in range(0, 280_000, 40_000):
        browser.run("document.getElementById('grid').scrollTop = arguments[0]", top)
        browser.run("return new Promise((done) => requestAnimationFrame(() => done()))")
    browser.press(Keys.END, Keys.HOME)
    browser.command("Page.printToPDF")
    assert 20 < browser.run("return globalThis.most") <= MOST_ROWS


def test_the_last_of_very_many_rows_can_be_reached(
    browser: Browser, show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Browsers cut off elements higher than some millions of pixels, or thousands here."""
    read = shell._read
    limit = "const MOST_PX = 12_000_000"
    assert limit in read("report.js")
    monkeypatch.setattr(
        shell, "_read", lambda name: read(name).replace(limit, "const MOST_PX = 30_000")
    )
    show(row(f"/pictures/{one:04}.jpg", sha256=f"{one:064x}") for one in range(2000))
    assert browser.one("#rows").size["height"] == 30_000
    browser.one("#grid").send_keys(Keys.END)
    assert names(browser)[-1] == "1999.jpg"
    browser.press(*[Keys.ARROW_UP] * 3)
    assert "1996.jpg" in browser.one(".row.chosen").text
    browser.run("document.getElementById('grid').scrollTop = 15_000")
    browser.run("return new Promise((done) => requestAnimationFrame(() => done()))")
    assert 900 < int(names(browser)[0][:4]) < 1100


# What is shown


def test_no_thumbnail_has_more_than_16_pixels_a_side_and_few_rows_have_one() -> None:
    made = page(some())
    assert len(thumbnails_of(made)) == 4
    for one in thumbnails_of(made):
        assert max(Image.open(io.BytesIO(one)).size) <= 16
    thumbed = data_of(made)["sparse"]["thumb"]["rows"]
    order = data_of(made)["names"].split("\n")
    assert sorted(order[one] for one in thumbed) == [
        "below.jpg",
        "eight.jpg",
        "half.jpg",
        "nine.jpg",
    ]
    assert len(thumbnails_of(page(some(), PageLook(pictured=Pictured.ALL)))) == 10
    assert thumbnails_of(page(some(), PageLook(pictured=Pictured.NONE))) == []
    odd = row("/pictures/odd.jpg", None, reason="bad-output")
    assert len(thumbnails_of(page([*some(), odd]))) == 5, "it has no verdict, but can be shown"


def test_a_report_without_paths_says_nothing_by_which_to_find_a_picture() -> None:
    rows = [
        row("/secret/place/name.jpg", 0.9, near="feedface", acts="moved to /secret"),
        row("/secret/place/other.jpg", None, detail="/secret/place/other.jpg is cut"),
    ]
    made = page(rows, PageLook(paths=False))
    data = data_of(made)
    assert data["names"] == "Picture 1\nPicture 2"
    assert data["folders"] == ["Folder 1"]
    text = f"{data}{made.decode()}"
    for word in ("secret", "/place", "name.jpg", "feedface", "/pictures", rows[0].sha256[:12]):
        assert word not in text
    assert len(thumbnails_of(made)) == 1


def test_a_report_without_paths_says_which_pictures_are_partial(
    browser: Browser, show: Show
) -> None:
    rows = [row("/p/whole.jpg", 0.9), row("/p/half.jpg", 0.9, detail="the rest of /p/half.jpg")]
    show(rows, PageLook(paths=False))
    assert browser.texts("#rows .why") == ["partial", ""]
    assert "half" not in str(data_of(page(rows, PageLook(paths=False))))


ORDERS = {
    "verdict": ["nine.jpg", "eight.jpg", "below.jpg", "half.jpg", "cut.jpg", "new.jpg"]
    + ["allowed.jpg", "partial.jpg", "low.jpg", "zero.jpg"],
    "score": ["allowed.jpg", "nine.jpg", "eight.jpg", "below.jpg", "half.jpg", "partial.jpg"]
    + ["low.jpg", "zero.jpg", "cut.jpg", "new.jpg"],
    "path": ["below.jpg", "half.jpg", "low.jpg", "zero.jpg", "eight.jpg", "nine.jpg"]
    + ["allowed.jpg", "cut.jpg", "new.jpg", "partial.jpg"],
    "reason": ["allowed.jpg", "new.jpg", "partial.jpg", "cut.jpg"]
    + ["nine.jpg", "eight.jpg", "below.jpg", "half.jpg", "low.jpg", "zero.jpg"],
}


def test_rows_are_sorted_by_each_heading(browser: Browser, show: Show) -> None:
    show(some())
    assert names(browser) == ORDERS["verdict"]
    for heading, order in ORDERS.items():
        if heading == "verdict":
            continue
        browser.one(f"[data-sort={heading}]").click()
        assert names(browser) == order, heading
        assert len(browser.all("[aria-sort]")) == 1
    browser.one("[data-sort=path]").click()
    browser.one("[data-sort=path]").click()
    assert names(browser) == ORDERS["path"][::-1]


def test_rows_are_filtered_in_every_way(browser: Browser, show: Show) -> None:
    show(some())
    filters = {
        "1": ["nine.jpg", "eight.jpg"], "2": ["below.jpg", "half.jpg"], "4": ["cut.jpg"],
        "5": ["new.jpg"],
    }  # fmt: skip
    for key, left in filters.items():
        browser.press(key)
        assert names(browser) == left
        assert browser.one("#count").text == f"{len(left)} of 10 pictures"
        browser.press("0")
    assert len(names(browser)) == 10
    browser.press("/")
    browser.press("C", "/", " ", "a")
    assert names(browser) == ["allowed.jpg", "partial.jpg"]
    browser.press("q")
    assert names(browser) == []
    assert "No picture passes" in browser.one("#rows").text
    browser.press(Keys.ESCAPE, "0")
    reasons = {one.text: one for one in browser.all("#reason option")}
    assert list(reasons) == [
        "Any reason", "decided by a person (1)", "new (1)", "partial (1)", "truncated (1)"
    ]  # fmt: skip
    reasons["partial (1)"].click()
    assert names(browser) == ["partial.jpg"]
    browser.one("#reason").send_keys(Keys.HOME)
    bands = {one.text: one for one in browser.all("#score option")}
    for band, left in (
        ("0.9 to 1", ["nine.jpg", "allowed.jpg"]), ("0.7 to 0.8", ["below.jpg"]),
        ("0 to 0.1", ["low.jpg", "zero.jpg"]), ("no score", ["cut.jpg", "new.jpg"]),
    ):  # fmt: skip
        bands[band].click()
        assert names(browser) == left
    bands["Any score"].click()
    browser.one("#folders tbody button").click()
    assert names(browser) == ["nine.jpg", "eight.jpg"]
    browser.one("#folder").click()
    assert len(names(browser)) == 10


def test_filters_are_dropped_by_a_click_where_there_is_no_keyboard(
    browser: Browser, show: Show
) -> None:
    show(some())
    assert not browser.one("#all").is_displayed()
    browser.one("#search").send_keys("nine")
    browser.one('.tile[data-state="r"]').click()
    assert names(browser) == []
    browser.one("#all").click()
    assert len(names(browser)) == 10
    assert not browser.one("#all").is_displayed()


def test_only_a_separator_ends_the_name_of_a_folder(browser: Browser, show: Show) -> None:
    """A line break in a name is shown with a backslash, which is no separator here."""
    show([row(f"/pictures/new\\n{name}/a.jpg") for name in ("one", "two")])
    assert browser.texts(".row .name .quiet") == ["new\\none", "new\\ntwo"]


def test_scores_are_cut_and_never_rounded_up_to_a_threshold(browser: Browser, show: Show) -> None:
    show(some())
    shown = dict(zip(names(browser), browser.texts("#rows > .row .score"), strict=True))
    assert shown["below.jpg"] == "0.799"
    assert shown["eight.jpg"] == "0.800"
    assert shown["cut.jpg"] == "-"


def test_moving_a_threshold_says_what_it_would_change_and_shows_it(
    browser: Browser, show: Show
) -> None:
    chance = random.Random(2)
    scores = [chance.random() for _ in range(200)] + [FLAG_AT, REVIEW_AT, 0.65, 0.65]
    rows = [row(f"/pictures/{number:03}.jpg", one) for number, one in enumerate(scores)]
    show([*rows, row("/pictures/denied.jpg", 0.7, state="n", by="person")])

    def said() -> list[str]:
        return [one.split("\n")[-1] for one in browser.texts("#change > div")]

    flagged = sum(one >= FLAG_AT for one in scores)
    review = sum(REVIEW_AT <= one < FLAG_AT for one in scores)
    safe = len(scores) - flagged - review
    assert said() == [str(flagged), str(review), str(safe)]
    browser.run("""
        const slider = document.getElementById("flag-at");
        slider.value = 650;
        slider.dispatchEvent(new Event("input"));
    """)
    more = sum(0.65 <= one < FLAG_AT for one in scores)
    assert said()[0] == f"{flagged} → {flagged + more} (+{more})"
    assert said()[1] == f"{review} → {review - more} (-{more})"
    assert said()[2] == str(safe)
    assert browser.texts("svg .threshold text") == ["nsfw 0.65", "review 0.5"]
    browser.one("#show-moved").click()
    assert browser.one("#count").text == f"{more} of {len(rows) + 1} pictures"
    browser.one("#reset").click()
    assert browser.one("#count").text == f"{len(rows) + 1} pictures"
    assert said() == [str(flagged), str(review), str(safe)]


def test_folders_are_ranked_by_share_or_number(browser: Browser, show: Show) -> None:
    show(
        row(f"/pictures/{folder}/{number}.jpg", 0.9 if number < flagged else 0.1)
        for folder, flagged, of in (("many", 6, 60), ("most", 3, 4), ("none", 0, 9), ("few", 1, 50))
        for number in range(of)
    )
    rows = "#folders tbody tr"
    assert [one.split()[0] for one in browser.texts(rows)] == ["most", "many", "few"]
    assert browser.texts(f"{rows}:first-child td") == ["most", "3 (75 %)", "4"]
    browser.one("#folders-by").send_keys("by number")
    assert [one.split()[0] for one in browser.texts(rows)] == ["many", "most", "few"]


def test_copies_are_one_row_until_each_is_wanted(browser: Browser, show: Show) -> None:
    same = "ab" * 32
    show([
        row("/pictures/a/one.jpg", 0.9, sha256=same), row("/pictures/b/two.jpg", 0.9, sha256=same),
        row("/pictures/b/other.jpg", 0.6),
    ])  # fmt: skip
    assert names(browser) == ["one.jpg", "other.jpg"]
    assert browser.texts(".copies") == ["2 copies"]
    assert browser.one("#count").text == "3 pictures, 1 copy grouped"
    browser.press(Keys.ARROW_DOWN, Keys.ENTER)
    assert "/pictures/b/two.jpg" in browser.one("#details").text
    browser.press("g")
    assert names(browser) == ["one.jpg", "two.jpg", "other.jpg"]


def test_scores_of_another_model_are_told_apart(browser: Browser, show: Show) -> None:
    show(
        [row("/pictures/a.jpg", 0.9), row("/pictures/b.jpg", 0.45, state="n", model=1)],
        models=MODELS,
    )
    assert browser.texts("#rows .by") == ["tiny-1", "other-2"]
    for order in (["a.jpg", "b.jpg"], ["b.jpg", "a.jpg"]):
        browser.one("[data-sort=model]").click()
        assert names(browser) == order
    browser.one("#model option[value='1']").click()
    assert names(browser) == ["b.jpg"]
    browser.press(Keys.ARROW_DOWN)
    browser.one("#scores-model option[value='1']").click()
    assert browser.texts("svg .threshold text") == ["nsfw 0.4", "review 0.2"]


def test_a_clear_picture_is_revealed_by_a_key_or_click_and_never_by_pointing(
    browser: Browser, show: Show
) -> None:
    show(some(), PageLook(clear=True))
    blur = "return getComputedStyle(document.querySelector(arguments[0])).filter"
    browser.press(Keys.ARROW_DOWN, Keys.ENTER)
    for picture in ("#rows .thumb", "#details .thumb"):
        browser.point(picture)
        assert "blur" in browser.run(blur, picture)
    browser.press("b")
    assert browser.run(blur, "#details .thumb") == "none"
    assert "blur" in browser.run(blur, "#rows .thumb")
    browser.press(Keys.ARROW_DOWN)
    assert "blur" in browser.run(blur, "#details .thumb"), "the next one is blurred again"


# Who looks at it, and how


def test_the_list_is_used_by_keys_alone(browser: Browser, show: Show) -> None:
    show(row(f"/pictures/{number:03}.jpg") for number in range(100))
    browser.press(Keys.ARROW_DOWN)
    assert browser.run("return document.activeElement.id") == "grid"
    chosen = "return document.querySelector('.row.chosen').ariaRowIndex"
    for key, index in (
        (Keys.ARROW_DOWN, 3), (Keys.END, 101), (Keys.ARROW_DOWN, 101), (Keys.HOME, 2)
    ):  # fmt: skip
        browser.press(key)
        assert int(browser.run(chosen)) == index
        active = browser.run(
            "return document.getElementById('grid').ariaActiveDescendantElement.id"
        )
        assert active == browser.one(".row.chosen").get_attribute("id")
    browser.press(*[Keys.ARROW_DOWN] * 30)
    assert int(browser.run(chosen)) == 32, "no press is lost"
    browser.press(Keys.ENTER)
    assert browser.one("#details-name").text == "030.jpg"
    browser.press(Keys.ESCAPE)
    assert not browser.one("#details").is_displayed()
    browser.press("?")
    assert browser.one("#help").is_displayed()
    browser.press(Keys.ESCAPE)
    assert not browser.one("#help").is_displayed()


MEDIA = [{}, {"prefers_color_scheme": "dark"}, {"forced_colors": "active"}]


@pytest.mark.parametrize("media", MEDIA, ids=lambda one: "".join(one.values()) or "light")
def test_axe_finds_no_serious_fault(browser: Browser, show: Show, media: dict[str, str]) -> None:
    browser.media(**media)
    show([*some(), *(row(f"/pictures/{one}.jpg", 0.9) for one in range(50))], models=MODELS)
    assert browser.faults() == []
    for width in (1280, 390):
        browser.size(width)
        browser.press("1", Keys.ARROW_DOWN, Keys.ENTER)
        assert browser.faults() == []
    browser.press("?")
    assert browser.faults() == []
    browser.press(Keys.ESCAPE, Keys.ESCAPE, "/", "nothing")
    assert browser.texts(".empty") == ["No picture passes these filters."]
    assert browser.faults() == []


def test_nothing_moves_for_those_who_want_that(browser: Browser, show: Show) -> None:
    show(some())
    moving = "return getComputedStyle(document.querySelector('button')).transitionDuration"
    assert browser.run(moving) != "0s"
    browser.media(prefers_reduced_motion="reduce")
    assert browser.run(moving) == "0s"


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_page_is_wider_than_the_window(browser: Browser, show: Show, width: int) -> None:
    show([*some(), row(f"/pictures/{'long ' * 40}/{'x' * 200}.jpg", 0.9)])
    browser.size(width)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    browser.press(Keys.ARROW_DOWN, Keys.ENTER)
    assert browser.run("return document.documentElement.scrollWidth") <= width


def test_paper_gets_the_first_rows_as_they_are_filtered(browser: Browser, show: Show) -> None:
    show(row(f"/pictures/{number:03}.jpg", 0.9 if number % 2 else 0.1) for number in range(500))
    browser.press("1")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    browser.media("print")
    lines = browser.texts("#printed li")
    assert (len(lines), lines[0]) == (200, "nsfw 0.900 /pictures/001.jpg")
    assert browser.one("#printed p").text == "and 50 pictures more"
    assert not browser.one("#grid").is_displayed()
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.all("#printed li") == []


def test_a_browser_that_cannot_open_it_says_so(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_bytes(page(some()))
    added = browser.command(
        "Page.addScriptToEvaluateOnNewDocument", source="delete globalThis.DecompressionStream"
    )
    browser.open(path)
    browser.command("Page.removeScriptToEvaluateOnNewDocument", **added)
    assert "it is older than" in browser.one("#trouble").text
    assert browser.one(".tile.nsfw").text == "2\nflagged", "the numbers are there without a script"
