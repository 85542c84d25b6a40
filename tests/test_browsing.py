"""The browser of the tests sees what it is there to see."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import Browser

POLICY = "default-src 'none'; script-src 'unsafe-inline'; connect-src http:"
PAGE = """
<!doctype html><html lang="en"><title>A page</title>
<meta http-equiv="Content-Security-Policy" content="{policy}">
<main><h1>A page</h1>{body}</main>
"""


@pytest.fixture
def page(tmp_path: Path, browser: Browser):
    """Open a page with a body."""

    def show(body: str) -> None:
        path = tmp_path / "page.html"
        path.write_text(PAGE.format(policy=POLICY, body=body))
        browser.open(path)

    return show


@pytest.fixture
def address() -> Iterator[str]:
    """Serve this folder on this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


class Quiet(http.server.BaseHTTPRequestHandler):
    """Answers everything with a page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Served</title><p>served")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_plain_page_leaves_no_trace(browser: Browser, page) -> None:
    page("<p>plain")
    assert browser.texts("p") == ["plain"]
    assert (browser.console(), browser.violations(), browser.faults()) == ([], [], [])
    assert [one for one in browser.requests() if not one.endswith("/page.html")] == []


def test_messages_violations_and_requests_are_seen(browser: Browser, page) -> None:
    page("<script>console.info('hello'); fetch('http://example.invalid/x')</script>"
         "<img src='http://example.invalid/y' alt='y'>")  # fmt: skip
    browser.wait("violationsSeen.length > 0")
    assert browser.violations() == ["img-src: http://example.invalid/y "]
    assert "http://example.invalid/x" in browser.requests()
    messages = " ".join(browser.console())
    assert "hello" in messages
    assert "ERR_NAME_NOT_RESOLVED" in messages, "the network is out of reach"


def test_what_the_test_serves_is_reached(browser: Browser, address: str) -> None:
    browser.open(address)
    assert browser.texts("p") == ["served"]
    assert address in browser.requests()


def test_faults_of_a_page_are_found(browser: Browser, page) -> None:
    page("<img src='data:image/gif;base64,'><button></button>")
    assert {one.partition(":")[0] for one in browser.faults()} == {"image-alt", "button-name"}


def test_sizes_media_and_keys_are_what_the_test_says(browser: Browser, page) -> None:
    page("<input aria-label='a'>")
    browser.size(390, 700)
    assert browser.run("return [innerWidth, innerHeight]") == [390, 700]
    browser.media(prefers_color_scheme="dark", prefers_reduced_motion="reduce")
    for query in ("(prefers-color-scheme: dark)", "(prefers-reduced-motion: reduce)"):
        assert browser.run("return matchMedia(arguments[0]).matches", query)
    browser.media("print", forced_colors="active")
    assert browser.run("return matchMedia('print').matches")
    assert browser.run("return matchMedia('(forced-colors: active)').matches")
    browser.one("input").click()
    browser.press("a", "b")
    assert browser.run("return document.activeElement.value") == "ab"
