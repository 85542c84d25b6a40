"""The model hub: its address and the addresses of its files.

Environment variables: `HF_ENDPOINT` (a mirror), `HF_TOKEN` (sent only to the endpoint),
`HF_HUB_OFFLINE`, and those listed in `client`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nsfwscan.models.fetch.client import Patience, connected, host_of
from nsfwscan.models.fetch.download import Download
from nsfwscan.values.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsfwscan.models.catalogue import HubFile, HubSource
    from nsfwscan.models.fetch.download import Progress

DEFAULT_ENDPOINT = "https://huggingface.co"


@dataclass(frozen=True, slots=True)
class Hub:
    """A server with the hub's layout: `{endpoint}/{repo}/resolve/{revision}/{path}`."""

    endpoint: str = DEFAULT_ENDPOINT
    token: str = field(default="", repr=False)
    patience: Patience = field(default_factory=Patience)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Hub:
        """Read `HF_ENDPOINT` and `HF_TOKEN`. Raises `ConfigError` if one is invalid."""
        endpoint = environ.get("HF_ENDPOINT", "").strip().rstrip("/") or DEFAULT_ENDPOINT
        parts = urlsplit(endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(
                f"HF_ENDPOINT is {endpoint!r}, which is not the address of a server",
                hint=f"unset it, or give it a value such as {DEFAULT_ENDPOINT}",
            )
        token = environ.get("HF_TOKEN", "").strip()
        if not (token.isascii() and token.isprintable()):  # it becomes a header
            raise ConfigError("HF_TOKEN has characters that no token has", hint="unset it")
        return cls(endpoint, token)

    @property
    def host(self) -> str:
        """Return the server's name for messages."""
        return host_of(self.endpoint)

    def fetch(self, source: HubSource, file: HubFile, target: str, progress: Progress) -> int:
        """Download `file` to the path `target` and return its size in bytes.

        `target` may have the first part of the file from an earlier try, and keeps what has arrived
        if this try fails. On return its bytes have the file's sha256 and are on the disk.

        Raises `HubUnreachable`, `DownloadError`, and `ModelTampered` for a complete file with
        another sha256, which is deleted.
        """
        url = f"{self.endpoint}/{source.repo}/resolve/{source.revision}/{file.path}"
        with connected(self.endpoint, self.token, self.patience) as client:
            return Download(client, url, file, target, progress).run()


def fetch_pinned(
    url: str, file: HubFile, target: str, progress: Progress, patience: Patience
) -> int:
    """Download a file from any address, without a token. Otherwise like `Hub.fetch`."""
    parts = urlsplit(url)
    with connected(f"{parts.scheme}://{parts.netloc}", "", patience) as client:
        return Download(client, url, file, target, progress).run()
