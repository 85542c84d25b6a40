"""The page of a review in a browser: by keyboard, with hostile names, and for everybody.

`TESTS_AT_FULL_SIZE=1 pytest tests/test_review_page.py` takes 200 pictures by keyboard, 1,000
decisions at five a second, and 1,000 hostile names.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from browsing import Browser, Keys, open_browser
from review_world import BITS, POLICY, Running, World, colour, running
from selenium.webdriver.common.action_chains import ActionChains
from sizes import AT_FULL_SIZE, trials

from nsfwscan.media.decode.pool import DecodePool
from nsfwscan.review.collect import OtherModel
from nsfwscan.review.desk import Desk, ReviewStep
from nsfwscan.values.outcome import Scorer

READY = (
    "document.querySelector('#picture').dataset.shown || !document.querySelector('#card').hidden"
)
QUIET = "document.querySelector('#message').textContent"


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


class Page:
    """The page of one review, opened."""

    def __init__(self, browser: Browser, thread: Running) -> None:
        self.browser = browser
        self.thread = thread
        browser.size(1280)
        browser.media()
        browser.console()
        browser.requests()
        browser.open(thread.server.address)
        browser.wait(READY)

    def press(self, *keys: str) -> None:
        """Press keys, each once the page has answered the one before."""
        for key in keys:
            self.browser.press(key)
            self.browser.wait(READY)

    def settle(self) -> None:
        """Wait until everything is stored, and the picture that follows is there."""
        self.browser.wait("document.body.dataset.waiting === '0'")
        self.browser.wait(READY)

    @property
    def name(self) -> str:
        return self.browser.one("#name").text

    @property
    def message(self) -> str:
        return self.browser.one("#message").text

    def has(self, name: str) -> bool:
        return bool(self.browser.run("return document.body.classList.contains(arguments[0])", name))

    def counts(self) -> list[int]:
        """Return the numbers on the four filters."""
        return [int(text) for text in self.browser.texts("[data-filter] b")]


@pytest.fixture
def world(tmp_path: Path, home: Path) -> World:
    return World(tmp_path / "pictures", home)


@pytest.fixture
def opened(world: World, window: Browser, pool: DecodePool):
    """Return a function that opens the review of the world as it is."""
    entered = []

    def show() -> Page:
        context = running(world.review(pool))
        thread = context.__enter__()
        entered.append((context, thread))
        return Page(window, thread)

    yield show
    window.open("about:blank")
    for context, thread in entered:
        context.__exit__(None, None, None)
        assert thread.crash is None


# By keyboard

_RULINGS = {"s": "allowed", "p": "allowed", "x": "denied"}


class Person:
    """What a person who presses these keys means to do."""

    def __init__(self, digests: list[bytes]) -> None:
        self.digests = [one.hex() for one in digests]
        self.at = 0
        self.rulings: dict[str, str] = {}
        self.moved: set[str] = set()
        self._steps: list[tuple[int, bool, str | None]] = []

    def press(self, key: str) -> None:
        here = self.digests[self.at] if self.at < len(self.digests) else None
        if key in _RULINGS and here:
            self._steps.append((self.at, False, self.rulings.get(here)))
            self.rulings[here] = _RULINGS[key]
            self._go_on()
        elif key == "q" and here and here not in self.moved:
            self._steps.append((self.at, True, None))
            self.moved.add(here)
            self._go_on()
        elif key == "u" and self._steps:
            self.at, was_move, before = self._steps.pop()
            sha256 = self.digests[self.at]
            if was_move:
                self.moved.remove(sha256)
            elif before is None:
                del self.rulings[sha256]
            else:
                self.rulings[sha256] = before
        elif key in {" ", Keys.ARROW_RIGHT}:
            self.at = min(self.at + 1, len(self.digests))
        elif key == Keys.ARROW_LEFT:
            self.at = max(self.at - 1, 0)

    def _go_on(self) -> None:
        done = self.moved | set(self.rulings)
        self.at += 1
        while self.at < len(self.digests) and self.digests[self.at] in done:
            self.at += 1


def test_a_whole_session_goes_by_keyboard_alone(world: World, opened) -> None:
    number = trials(20, 200)
    person = Person(world.many(number))
    page = opened()
    chance, keys = random.Random(11), []
    for turn in range(3 * number):
        if person.at < number:
            assert page.name == f"p{person.at}.png", keys
        else:
            assert page.has("empty")
        often = "sxsx" + "qu" * (turn % 3 == 0)
        key = chance.choice([*often, "p", "b", " ", Keys.ARROW_RIGHT, Keys.ARROW_LEFT])
        keys.append((person.at, key))
        page.press(key)
        person.press(key)
        if key in "uq":
            page.settle()
    assert len(person.rulings) > number / 4
    assert person.moved
    assert world.ruled() == person.rulings
    left = {f"p{at}.png" for at, one in enumerate(person.digests) if one not in person.moved}
    assert set(os.listdir(world.folder)) == left
    while person._steps:
        person.press("u")
        page.press("u")
        page.settle()
    assert world.ruled() == {}
    assert len(os.listdir(world.folder)) == number
    assert page.message == f"Undone: {page.name}."
    page.press("u")
    page.settle()
    assert page.message == "There is nothing to undo."
    assert page.browser.violations() == []
    assert page.browser.console() == []


_TIMES = """
    globalThis.times = [];
    const picture = document.querySelector("#picture");
    let since = null;
    addEventListener("keydown", () => { since = performance.now(); }, true);
    new MutationObserver(() => requestAnimationFrame(() => {
        if (since !== null && picture.dataset.shown) {
            times.push(performance.now() - since);
            since = null;
        }
    })).observe(picture, {attributeFilter: ["data-shown"]});
"""


def test_the_next_picture_is_on_the_screen_in_less_than_a_tenth_of_a_second(
    world: World, opened
) -> None:
    number = trials(12, 200)
    for index in range(number):
        world.photograph(f"p{index}.jpg")
    page = opened()
    page.browser.run(_TIMES)
    for index in range(number - 1):
        page.press("sx"[index % 2])
        time.sleep(0.2)  # five a second
    times = page.browser.run("return times")
    assert len(times) == number - 1
    assert statistics.median(times) < 100
    if AT_FULL_SIZE:
        print(f"median {statistics.median(times):.0f} ms, slowest {max(times):.0f} ms")


_RECORD = """
    globalThis.pressed = [];
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const image = document.querySelector("#image");
    addEventListener("keydown", (event) => {
        const id = document.querySelector("#picture").dataset.shown ?? null;
        if (id === null || !"sx".includes(event.key)) return;
        canvas.drawImage(image, 0, 0, 9, 9);
        pressed.push([event.key, id, ...canvas.getImageData(4, 4, 1, 1).data.slice(0, 3)]);
    }, true);
"""


class Mischief(threading.Thread):
    """Moves, replaces and deletes pictures while they are gone through."""

    def __init__(self, world: World, number: int, every_s: float) -> None:
        super().__init__(daemon=True)
        self.world, self.number, self.over = world, number, threading.Event()
        self.every_s = every_s
        self.done = {"moved": 0, "replaced": 0, "deleted": 0}

    def run(self) -> None:
        chance = random.Random(2)
        while not self.over.wait(self.every_s):
            path = self.world.folder / f"p{chance.randrange(self.number)}.png"
            if not path.exists():
                continue
            what = chance.choice(list(self.done))
            self.done[what] += 1
            if what == "moved":
                moved = f"moved/{path.name}"
                os.makedirs(self.world.folder / "moved", exist_ok=True)
                shutil.move(path, self.world.folder / moved)
                self.world.remember(moved)
            elif what == "replaced":
                self.world.picture(path.name)
            else:
                path.unlink()


def test_no_decision_is_lost_or_misapplied_while_files_come_and_go(world: World, opened) -> None:
    number, wanted_number = trials(80, 2000), trials(50, 1000)
    digests = world.many(number)
    shows = {one.hex(): colour(index + 1) for index, one in enumerate(digests)}
    page = opened()
    page.browser.run(_RECORD)
    mischief = Mischief(world, number, every_s=0.25 if AT_FULL_SIZE else 0.02)
    mischief.start()
    chance = random.Random(4)
    decided = 0
    began = time.monotonic()
    while decided < wanted_number and not page.has("empty"):
        if page.browser.wait(READY) is True:  # it is gone
            page.browser.press(" ")
            continue
        if AT_FULL_SIZE:  # five a second
            time.sleep(max(0.0, began + decided / 5 - time.monotonic()))
        page.browser.press(chance.choice("sx"))
        decided += 1
    took = time.monotonic() - began
    mischief.over.set()
    mischief.join()
    page.settle()
    record = page.browser.run("return pressed")
    wanted: dict[str, str] = {}
    for key, sha256, *seen in record:
        assert all(abs(a - b) < 10 for a, b in zip(seen, shows[sha256], strict=True))
        wanted[sha256] = _RULINGS[key]
    assert world.ruled() == wanted
    assert len(record) == decided > wanted_number / 2
    assert min(mischief.done.values()) > 0, mischief.done
    print(f"{decided} decisions in {took:.0f} s; {mischief.done}")


def test_keys_that_are_held_repeat_only_what_is_harmless(world: World, opened) -> None:
    world.many(12)
    page = opened()
    held = {"type": "keyDown", "key": "s", "text": "s", "unmodifiedText": "s"}
    page.browser.command("Input.dispatchKeyEvent", **held)
    for _ in range(6):
        page.browser.command("Input.dispatchKeyEvent", **held, autoRepeat=True)
    page.browser.wait(READY)
    page.settle()
    assert len(world.ruled()) == 1
    held = {"type": "rawKeyDown", "key": "ArrowRight", "windowsVirtualKeyCode": 39}
    for _ in range(5):
        page.browser.command("Input.dispatchKeyEvent", **held, autoRepeat=True)
    page.browser.wait(READY)
    assert page.name == "p6.png"


def test_keys_are_left_to_fields_shortcuts_and_buttons(world: World, opened) -> None:
    world.many(4)
    page = opened()
    for held, key in ((Keys.CONTROL, "s"), (Keys.ALT, "x"), (Keys.META, "q")):
        ActionChains(page.browser.driver).key_down(held).send_keys(key).key_up(held).perform()
    page.browser.one("summary").click()
    page.browser.one("#least").send_keys("0", "s", "x", "1")
    page.settle()
    assert world.ruled() == {}
    page.browser.run("document.querySelector('#filters').reset()")
    page.press(Keys.ESCAPE, "1")
    page.browser.run("document.querySelector('[data-do=next]').focus()")
    page.press(" ")
    assert page.name == "p1.png"
    page.browser.run("document.querySelector('[data-do=safe]').focus()")
    page.press(Keys.ENTER)
    page.settle()
    assert len(world.ruled()) == 1
    page.browser.one("[data-do=deny]").click()  # with the mouse: the focus goes to the picture
    page.settle()
    page.press(" ")
    page.settle()
    assert len(world.ruled()) == 2


def test_capital_letters_work_and_every_key_is_a_button(world: World, opened) -> None:
    world.many(3)
    page = opened()
    page.press("S", "X")
    page.settle()
    assert sorted(world.ruled().values()) == ["allowed", "denied"]
    page.browser.one("[data-do=undo]").click()
    page.settle()
    assert len(world.ruled()) == 1
    page.press("?")
    listed = set(page.browser.texts("#keys kbd"))
    shown = {one.get_attribute("textContent") for one in page.browser.all("button kbd")}
    assert shown | {"L"} <= listed
    page.press(Keys.ESCAPE)
    assert page.browser.run("return document.activeElement.id") == "picture"


# What is seen


def test_a_picture_is_revealed_by_click_or_key_and_never_by_hovering(world: World, opened) -> None:
    world.add("a.png", bits=BITS)
    world.add("b.png", 0.85, bits=BITS ^ 1)
    page = opened()
    told = page.browser.one("#live").get_attribute("textContent")
    assert told == "a.png: Flagged score 0.900. 1 of 2."
    page.browser.wait("document.querySelector('#alike-pictures [data-shown]')")
    blurs = "[...document.querySelectorAll('#image, #alike-pictures img')].map("
    blurs += "(one) => getComputedStyle(one).filter.includes('blur'))"
    picture = page.browser.one("#picture")
    ActionChains(page.browser.driver).move_to_element(picture).pause(0.3).perform()
    assert page.browser.run(f"return {blurs}") == [True, True]
    picture.click()
    assert page.browser.run(f"return {blurs}") == [False, False]
    page.press(" ")
    assert page.browser.run(f"return {blurs}")[0] is True  # each picture on its own
    page.press("b")
    assert page.browser.run(f"return {blurs}")[0] is False


def test_zooming_in_reveals_nothing(world: World, opened) -> None:
    world.photograph("a.jpg")
    page = opened()
    blurred = """
        const image = document.querySelector("#image");
        const [, pixels] = getComputedStyle(image).filter.match(/blur\\((\\d+)px/);
        return pixels / image.getBoundingClientRect().width;"""
    before = page.browser.run(blurred)
    page.press("z")
    page.browser.wait("document.querySelector('#image').naturalWidth > 1280")
    assert page.browser.run(blurred) >= before
    page.press("b")
    assert page.browser.run("return getComputedStyle(image).filter") == "none"


def test_copies_and_look_alikes_are_handled_together(world: World, opened) -> None:
    whole = world.add("a.png", bits=BITS, seed=1)
    world.add("copy of a.png", bits=BITS, seed=1)
    low = world.add("b.png", 0.1, bits=BITS ^ 1)
    alone = world.add("c.png", 0.85, bits=BITS ^ 3)
    page = opened()
    assert page.browser.one("#where-title").text == "Where: 2 copies"
    assert len(page.browser.all("#places li")) == 2
    page.browser.wait("document.querySelectorAll('#alike-pictures [data-shown]').length === 2")
    page.press("x")
    page.settle()
    assert world.ruled() == {one.hex(): "denied" for one in (whole, low, alone)}
    assert page.has("empty")
    assert page.message == "a.png: not safe, with 2 look-alikes."
    page.press("u")
    page.settle()
    page.browser.wait("document.querySelectorAll('#alike-pictures [data-shown]').length === 2")
    page.press("l", "s")
    page.settle()
    assert world.ruled() == {whole.hex(): "allowed"}
    assert page.name == "c.png"
    page.browser.wait("document.querySelectorAll('#alike-pictures [data-shown]').length === 2")
    page.press("l", "q")
    assert page.has("empty")
    page.settle()
    assert page.message == "4 files moved to quarantine."
    assert os.listdir(world.folder) == []
    page.press("u")
    page.settle()
    assert page.message == "Restored: c.png and 2 look-alikes."
    assert len(os.listdir(world.folder)) == 4


def test_filters_choose_by_state_folder_score_and_disagreement(world: World, opened) -> None:
    scorer = Scorer("f" * 64, world.scorer.decoder)
    world.others.append(OtherModel("second-1", scorer, POLICY))
    for name, score in (("x/a", 0.95), ("x/b", 0.6), ("x/y/c", 0.9), ("z/d", 0.3)):
        world.add(f"{name}.png", score)
    world.remember("z/d.png", score=0.9, scorer=scorer)
    world.remember("x/b.png", score=0.7, scorer=scorer)
    page = opened()
    assert page.counts() == [4, 2, 1, 0]
    page.press("2", "s", "4")
    assert page.counts() == [3, 2, 1, 1]
    assert page.name == "a.png"
    page.press("3")
    assert page.name == "b.png"
    assert "second-1: review, score 0.700." in page.browser.one("#notes").text
    page.browser.one("summary").click()
    page.browser.one("#folder").send_keys(str(world.folder / "x"))
    assert page.counts() == [2, 2, 1, 1]
    page.browser.one("#most").clear()
    page.browser.one("#most").send_keys("0.9")
    assert page.counts() == [2, 1, 1, 0]
    page.browser.run("document.querySelector('#filters').reset()")
    page.browser.one("#disputed").click()
    assert page.counts() == [1, 0, 0, 0]
    page.browser.run("document.querySelector('#picture').focus()")
    page.press("1")
    assert page.name == "d.png"
    assert "But second-1: flagged, score 0.900." in page.browser.one("#notes").text


def test_a_picture_that_is_gone_says_so_and_cannot_be_decided(world: World, opened) -> None:
    world.many(2)
    (world.folder / "p0.png").unlink()
    page = opened()
    assert page.browser.one("#card-title").text == "p0.png cannot be shown"
    assert "was moved, renamed or deleted" in page.browser.one("#card-text").text
    page.press("x")
    page.settle()
    assert world.ruled() == {}
    page.press(" ", "x")
    page.settle()
    assert list(world.ruled().values()) == ["denied"]


def test_a_decision_that_cannot_be_stored_brings_its_picture_back(
    world: World, opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.many(3)
    page = opened()

    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        page.press("x")
        page.settle()
    assert page.name == "p0.png"
    assert "No space left on device" in page.message
    assert page.counts()[3] == 0
    page.press("x")
    page.settle()
    assert len(world.ruled()) == 1


_TROUBLE = [
    *("<img src=x onerror=hacked=1>", '"><script>hacked=1</script>', "';hacked=1;'", "${hacked=1}"),
    *("{{7*7}}", "&lt;b&gt;", "javascript:hacked=1", "%2e%2e%2f", "a\nb", "\x1b[31m", "\x9b31m"),
    *("\u202egnp.exe", "\u2028", "\udcff\udcfe", "\U0001f600", "A" * 200, "_.._x"),
]


def test_hostile_names_stay_text(world: World, opened) -> None:
    number = trials(32, 1000)
    names = [f"{_TROUBLE[at % len(_TROUBLE)]}{at}.png" for at in range(number)]
    for at, name in enumerate(names):
        folder = _TROUBLE[at % 3].replace("/", "_") + "/"
        world.add(folder + name.replace("/", "_"), 0.9 - at / 10_000, bits=BITS ^ at % 3)
    page = opened()
    for _ in range(number):
        page.press(" ")
    assert page.has("empty")
    assert page.browser.run("return globalThis.hacked ?? null") is None
    assert page.browser.violations() == []
    assert page.browser.console() == []
    own = f"http://{page.thread.server.authority}/"
    assert {one[: len(own)] for one in page.browser.requests()} == {own}


# For everybody


def _screens(page: Page) -> Iterator[str]:
    yield "a picture"
    page.press("b")
    yield "revealed"
    page.press("?")
    yield "keys"
    page.press("?")
    page.browser.one("summary").click()
    yield "filters"
    page.browser.one("summary").click()
    page.press("x", "4")
    yield "decided"
    page.press("1", " ", " ")
    yield "gone"
    page.press(" ")
    yield "the end"
    page.press("1")


@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious(world: World, opened, width: int) -> None:
    world.add("a.png", bits=BITS)
    world.add("b.png", 0.6, bits=BITS ^ 0xFF)
    world.add("c.png", 0.55, bits=BITS ^ 1)
    world.add("gone.png", 0.51)
    (world.folder / "gone.png").unlink()
    page = opened()
    page.browser.size(width)
    looks: list[dict[str, Any]] = [
        {},
        {"prefers_color_scheme": "dark"},
        {"forced_colors": "active"},
    ]
    for look in looks if width == 1280 else looks[:1]:
        page.browser.media(**look)
        for screen in _screens(page):
            page.browser.wait(READY)
            assert page.browser.faults() == [], (look, screen)
        page.press("u", "1")
        page.settle()


def test_nothing_moves(world: World, opened) -> None:
    world.many(2)
    page = opened()
    page.browser.media(prefers_reduced_motion="reduce")
    page.press("b", "x")
    moving = """return [...document.querySelectorAll("*")].filter((one) => {
        const style = getComputedStyle(one);
        return style.transitionDuration !== "0s" || style.animationName !== "none";
    }).length + document.getAnimations().length"""
    assert page.browser.run(moving) == 0


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_nothing_is_cut_off_at_the_side(world: World, opened, width: int) -> None:
    world.add("a very long folder name without end/" * 3 + "x" * 120 + ".png", bits=BITS)
    world.add("b.png", 0.85, bits=BITS ^ 1)
    page = opened()
    page.browser.size(width)
    page.browser.one("summary").click()
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.browser.run(overflow) <= 0
    cut_off = "return [...document.querySelectorAll('#actions button, #states button')].filter("
    cut_off += "(one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent)"
    if width >= 390:
        assert page.browser.run(cut_off) == []


# The end


def test_closing_the_page_ends_the_review_and_keeps_what_was_decided(
    world: World, window: Browser, pool: DecodePool
) -> None:
    world.many(3)
    with running(world.review(pool), grace_s=0.3) as thread:
        page = Page(window, thread)
        page.press("s", "x")
        window.open("about:blank")
        thread.end()
    assert thread.crash is None
    assert sorted(world.ruled().values()) == ["allowed", "denied"]


def test_a_reload_goes_on_with_what_was_decided(world: World, opened) -> None:
    world.many(3)
    page = opened()
    page.press("s", "x")
    page.settle()
    page.browser.driver.refresh()
    page.browser.wait(READY)
    assert page.counts() == [1, 2, 1, 2]
    page.press("u")
    page.settle()
    assert list(world.ruled().values()) == ["allowed"]
    assert page.browser.run("return location.href") == f"http://{page.thread.server.authority}/"


def test_a_page_whose_review_has_ended_says_so(world: World, opened) -> None:
    world.many(2)
    page = opened()
    page.press("x")
    page.settle()
    page.thread.server.stop()
    page.thread.end()
    page.browser.wait("document.body.classList.contains('over')")
    assert page.browser.one("#card-title").text == "The review has ended"
    page.browser.press("x")
    page.browser.console()  # the failed requests
    assert len(world.ruled()) == 1


def test_a_decision_that_gets_no_answer_is_not_shown_as_made(world: World, opened) -> None:
    world.many(3)
    page = opened()
    page.browser.run(
        "window.whole = fetch; window.fetch = (path, options) => "
        "options.method === 'POST' ? Promise.reject(new TypeError()) : whole(path, options)"
    )
    page.press("x")
    page.settle()
    assert (page.name, page.counts()[3]) == ("p0.png", 0)
    assert "does not answer" in page.message
    page.browser.run("window.fetch = whole")
    page.press("x")
    page.settle()
    assert (page.name, page.counts()[3]) == ("p1.png", 1)
    page.browser.run("window.fetch = () => Promise.reject(new TypeError())")
    page.browser.press("x")
    page.thread.server.stop()
    page.thread.end()
    page.settle()
    page.browser.wait("document.body.classList.contains('over')")
    page.browser.console()  # the failed requests
    assert "except perhaps the last step" in page.browser.one("#card-text").text
    assert len(world.ruled()) == 1


def test_the_page_asks_before_it_is_closed_while_something_is_not_stored_yet(
    world: World, opened
) -> None:
    world.many(3)
    page = opened()
    leaves = "return dispatchEvent(new Event('beforeunload', {cancelable: true}))"
    assert page.browser.run(leaves)
    waits = threading.Event()
    decide = Desk.decide

    def slow(desk: Desk, *given: Any) -> ReviewStep:
        waits.wait(20)
        return decide(desk, *given)

    with mock.patch.object(Desk, "decide", slow):
        page.press("x")
        assert not page.browser.run(leaves)
        waits.set()
        page.settle()
    assert page.browser.run(leaves)


def test_a_second_browser_sees_nothing(
    world: World, opened, tmp_path_factory: pytest.TempPathFactory
) -> None:
    world.many(2)
    page = opened()
    with open_browser(tmp_path_factory.mktemp("second")) as second:
        for address in (page.thread.server.address, f"http://{page.thread.server.authority}/"):
            second.open(address)
            text = second.run("return document.body.innerText")
            assert "p0.png" not in text
            assert second.all("img") == []
