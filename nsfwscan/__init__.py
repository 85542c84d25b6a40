"""Find the pictures that are not safe for work, offline.

    import nsfwscan

    for result in nsfwscan.scan("~/Pictures"):
        if isinstance(result, nsfwscan.Scanned) and result.verdict.decision == "nsfw":
            print(result.path, result.verdict.score)

    nsfwscan.classify("holiday.jpg").verdict

Importing this package is cheap: onnxruntime, numpy and Pillow are loaded when a picture is scored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsfwscan._version import __version__
from nsfwscan.errors import (
    DecodeError,
    LibraryError,
    ModelError,
    NsfwscanError,
    RulingsError,
    UsageError,
)
from nsfwscan.results import (
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
    Verdict,
)

if TYPE_CHECKING:
    from nsfwscan.api import allow, classify, deny, forget, scan
    from nsfwscan.images.discover import WalkOptions
    from nsfwscan.scanner import ScanOptions

__all__ = [
    "Decision",
    "DecodeError",
    "FailReason",
    "Failed",
    "ImageFacts",
    "LibraryError",
    "ModelError",
    "NearMatch",
    "NsfwscanError",
    "Origin",
    "Ruling",
    "RulingsError",
    "ScanOptions",
    "ScanResult",
    "Scanned",
    "Scores",
    "SkipReason",
    "Skipped",
    "UsageError",
    "Verdict",
    "WalkOptions",
    "__version__",
    "allow",
    "classify",
    "deny",
    "forget",
    "scan",
]

_LATER = {
    "ScanOptions": "nsfwscan.scanner",
    "WalkOptions": "nsfwscan.images.discover",
    "allow": "nsfwscan.api",
    "classify": "nsfwscan.api",
    "deny": "nsfwscan.api",
    "forget": "nsfwscan.api",
    "scan": "nsfwscan.api",
}


def __getattr__(name: str) -> object:
    """Import on first use what would make the package slow to import (PEP 562)."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_LATER[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
