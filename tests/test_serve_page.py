"""The page to try a server with, in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
import scan_fakes
from browsing import Browser, Keys
from serving import NSFW, SAFE, no_model, serving

from nsfwscan.serve import tokens
from nsfwscan.serve.settings import ServeSettings

TOKEN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> scan_fakes.FakePool:
    return scan_fakes.install_pool(monkeypatch)


def choose(browser: Browser, folder: Path, **pictures: bytes) -> None:
    """Give the page pictures."""
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
    paths = "\n".join(str(folder / name) for name in pictures)
    browser.driver.find_element("id", "files").send_keys(paths)


def words(browser: Browser) -> dict[str, str]:
    """Return what the page says of each picture, by name."""
    return dict(zip(browser.texts("li .name"), browser.texts("li .word"), strict=True))


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_says_what_each_picture_is(
    browser: Browser, tmp_path: Path, width: int, scheme: str
) -> None:
    with serving() as server:
        browser.size(width)
        browser.media(prefers_color_scheme=scheme)
        browser.open(server.url)
        browser.wait("document.querySelector('#state').textContent.startsWith('Ready')")
        choose(browser, tmp_path, bad=NSFW, good=SAFE, broken=b"broken")
        browser.wait("document.querySelectorAll('li .why').length === 3")
        browser.wait("[...document.querySelectorAll('li .word')].every(a => a.innerText !== '…')")
        assert words(browser) == {"bad": "nsfw", "good": "safe", "broken": "no verdict"}
        assert browser.run("return document.documentElement.scrollWidth") <= width
        assert browser.violations() == []
        assert browser.faults() == []


def test_a_picture_waits_for_the_token(browser: Browser, tmp_path: Path) -> None:
    known = tokens.parse([f"one {TOKEN}"], "a test")
    with serving(settings=ServeSettings(tokens=known)) as server:
        browser.open(server.url)
        choose(browser, tmp_path, bad=NSFW)
        browser.wait("document.activeElement.id === 'token'")
        for typed, said in (("wrong", "does not know this token"), (TOKEN, "score")):
            field = browser.one("#token")
            field.clear()
            field.send_keys(typed, Keys.ENTER)
            browser.wait("document.querySelector('li .why').innerText.includes(arguments[0])", said)
        assert words(browser) == {"bad": "nsfw"}


def test_the_page_says_why_nothing_can_be_scored(browser: Browser, tmp_path: Path) -> None:
    with serving(no_model, ready=False) as server:
        server.wait_for(lambda: bool(server.warnings))
        browser.open(server.url)
        said = "no model is installed; pull one"
        browser.wait("document.querySelector('#state').textContent.includes(arguments[0])", said)
        choose(browser, tmp_path, good=SAFE)
        browser.wait("document.querySelector('li .why').innerText.includes('no model')")
        assert words(browser) == {"good": "no answer"}
