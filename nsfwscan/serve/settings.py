"""How the server behaves: limits, deadlines, who may ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nsfwscan.scanning.session import Settings
from nsfwscan.serve.adapters.options import AdapterSettings
from nsfwscan.serve.tokens import NO_TOKENS, Tokens

if TYPE_CHECKING:
    from nsfwscan.serve.jobs.settings import JobSettings


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what clients may ask of the server. Seconds are of elapsed time."""

    body_bytes: int = 64 << 20
    """The longest body of a request."""
    parts: int = 64
    """The most pictures in one request."""
    memory_bytes: int = 512 << 20
    """All bodies together that are being received or waiting."""
    waiting: int = 128
    """Pictures waiting for a core. More are refused with 429."""
    connections: int = 1000
    header_bytes: int = 16 << 10
    header_s: float = 5.0
    """How long a request's header may take to arrive."""
    body_s: float = 60.0
    """How long its body may take."""
    upload_s: float = 3600.0
    """How long the upload of a job may take."""
    slow_s: float = 4.0
    """From then on a body must have arrived at `slow_bytes_per_s` or more on average."""
    slow_bytes_per_s: int = 4 << 10
    answer_s: float = 60.0
    """How long a picture may wait and be scored."""
    loading_s: float = 30.0
    """How long a request waits for a model that is being loaded."""
    stop_s: float = 6.0
    """How long pictures may still be scored once the server was told to stop."""


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """The server's settings, as the user gives them."""

    scan: Settings = field(default_factory=Settings)
    """Model, thresholds, and how many pictures are scored at a time."""
    limits: Limits = field(default_factory=Limits)
    tokens: Tokens = NO_TOKENS
    """Who may ask. Without any, everybody who can reach the server."""
    hosts: frozenset[str] = frozenset()
    """Names by which clients may call this server, besides `localhost` and numeric addresses."""
    origins: frozenset[str] = frozenset()
    """Web pages that may ask, besides the server's own: `https://example.org`."""
    write_cache: bool = False
    """Whether scores of pictures that were sent are remembered."""
    adapters: AdapterSettings = field(default_factory=AdapterSettings)
    """How other programs' protocols are answered."""
    jobs: JobSettings | None = None
    """What jobs may do; None if there are none."""
