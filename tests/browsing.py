"""A browser for tests: Debian's Chromium without a window, and what its pages do.

Each `Browser` has a fresh profile and reaches nothing but this machine. It keeps what must not
happen unnoticed: messages on the console, violations of a page's security policy, and requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait
from shell import tool

__all__ = ["Browser", "Keys", "TimeoutException", "open_browser"]

PATIENCE_S = 20
_OPTIONS = """
    --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run
    --disable-background-networking --disable-component-update --disable-sync --no-pings
    --disable-default-apps --disable-extensions --mute-audio --force-color-profile=srgb
    --lang=en-GB --js-flags=--expose-gc
""".split()
_LOCAL_ONLY = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
_WATCH = """
    globalThis.violationsSeen = [];
    document.addEventListener("securitypolicyviolation", (event) => {
        violationsSeen.push(`${event.effectiveDirective}: ${event.blockedURI} ${event.sample}`);
    });
"""
_AXE = """
    const done = arguments[arguments.length - 1];
    axe.run(document, {resultTypes: ["violations"]}).then(
        (found) => done(found.violations), (error) => done(String(error)));
"""


class Browser:
    """One window with one page."""

    def __init__(self, driver: webdriver.Chrome, *, watched: bool = True) -> None:
        self.driver = driver
        self.open("about:blank")  # a new window loads 80 files of the browser's own
        if watched:
            self.requests()
        self.command("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)

    def command(self, name: str, /, **parameters: Any) -> Any:
        """Send a command of the DevTools protocol and return its answer."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def open(self, address: str | Path) -> None:
        """Load an address or a file; returns after the page's `load` event."""
        self.driver.get(address.as_uri() if isinstance(address, Path) else address)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of a JavaScript function and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str, *arguments: Any, patience_s: float = PATIENCE_S) -> Any:
        """Wait until the expression `script` is true, and return its value.

        Raises `TimeoutException`.
        """
        wait = WebDriverWait(self.driver, patience_s, poll_frequency=0.02)
        return wait.until(lambda _: self.run(f"return {script}", *arguments), f"never: {script}")

    def one(self, selector: str) -> WebElement:
        """Return the only element that a CSS selector matches."""
        (found,) = self.all(selector)
        return found

    def all(self, selector: str) -> list[WebElement]:
        """Return the elements that a CSS selector matches."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """Return the visible text of the elements that a CSS selector matches."""
        return [one.text for one in self.all(selector)]

    def press(self, *keys: str) -> None:
        """Press keys one after the other, wherever the focus is. See `Keys`."""
        chain = ActionChains(self.driver, duration=0)
        for key in keys:
            chain.send_keys(key)
        chain.perform()

    def point(self, selector: str) -> None:
        """Move the pointer over the first element that a CSS selector matches."""
        ActionChains(self.driver, duration=0).move_to_element(self.all(selector)[0]).perform()

    def size(self, width: int, height: int = 800, *, scale: float = 1) -> None:
        """Set the size of the page, in CSS pixels."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=False,
        )  # fmt: skip

    def media(self, kind: str = "", **features: str) -> None:
        """Set the medium and its features: `media(prefers_color_scheme="dark")`.

        `kind` is `print` for how the page prints. Features that are not given get their defaults.
        """
        pairs = [{"name": key.replace("_", "-"), "value": to} for key, to in features.items()]
        self.command("Emulation.setEmulatedMedia", media=kind, features=pairs)

    def console(self) -> list[str]:
        """Return the console's messages since the last call, those of the browser included."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def violations(self) -> list[str]:
        """Return the violations of this page's security policy."""
        return self.run("return violationsSeen")

    def requests(self) -> list[str]:
        """Return the addresses requested since the last call, but not `data:` and `blob:`."""
        events = [json.loads(entry["message"]) for entry in self.driver.get_log("performance")]
        sent = [one["message"] for one in events]
        addresses = [
            one["params"]["request"]["url"]
            for one in sent
            if one["method"] == "Network.requestWillBeSent"
        ]
        return [one for one in addresses if not one.startswith(("data:", "blob:"))]

    def faults(self) -> list[str]:
        """Return what axe-core finds in the page as it is, if it is serious or critical.

        Ask for violations of the security policy first: axe-core itself may cause some.
        """
        source = resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
        self.run(source)
        found = self.driver.execute_async_script(_AXE)
        assert isinstance(found, list), found
        return [
            f"{one['id']}: {node['target']} {node['failureSummary']}"
            for one in found
            if one["impact"] in {"serious", "critical"}
            for node in one["nodes"]
        ]

    def picture(self, path: Path) -> None:
        """Save a picture of the page as it is seen, as PNG."""
        self.driver.save_screenshot(str(path))


@contextmanager
def open_browser(folder: Path, *, watched: bool = True) -> Iterator[Browser]:
    """Start a browser with its profile and downloads in `folder`; skip if there is none.

    Without `watched` it is a little faster, and keeps neither messages nor requests.
    """
    binary, driver = tool("chromium", "chromium"), tool("chromedriver", "chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for option in [*_OPTIONS, _LOCAL_ONLY, f"--user-data-dir={folder / 'profile'}"]:
        options.add_argument(option)
    options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
    if watched:
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # Given the driver's path, selenium does not look for one on the network.
    service = webdriver.ChromeService(executable_path=driver, log_output=str(folder / "log"))
    chrome = webdriver.Chrome(options, service)
    try:
        chrome.set_page_load_timeout(PATIENCE_S)
        chrome.set_script_timeout(PATIENCE_S)
        yield Browser(chrome, watched=watched)
    finally:
        chrome.quit()
