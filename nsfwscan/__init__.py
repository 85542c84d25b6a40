"""Find pictures that are not safe for work, offline.

    import nsfwscan

    for result in nsfwscan.scan("~/Pictures"):
        if isinstance(result, nsfwscan.Scanned) and result.verdict.decision == "nsfw":
            print(result.path, result.verdict.score)

    nsfwscan.classify("holiday.jpg").verdict

Importing this package is cheap: onnxruntime, numpy and Pillow are loaded when a picture is scored.
"""

from __future__ import annotations

from nsfwscan._version import __version__

TYPE_CHECKING = False  # importing `typing` would take half of the time of `nsfwscan --version`

if TYPE_CHECKING:
    from nsfwscan.api import allow, classify, deny, forget, scan
    from nsfwscan.media.discover import WalkOptions
    from nsfwscan.scanning.scanner import ScanOptions
    from nsfwscan.values.errors import (
        CacheError,
        DecodeError,
        ModelError,
        NsfwscanError,
        RulingsError,
        UsageError,
    )
    from nsfwscan.values.results import (
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

__all__ = [
    "CacheError",
    "Decision",
    "DecodeError",
    "FailReason",
    "Failed",
    "ImageFacts",
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

_FROM = {
    "nsfwscan.api": "allow classify deny forget scan",
    "nsfwscan.values.errors": (
        "DecodeError CacheError ModelError NsfwscanError RulingsError UsageError"
    ),
    "nsfwscan.media.discover": "WalkOptions",
    "nsfwscan.values.results": (
        "Decision FailReason Failed ImageFacts NearMatch Origin Ruling ScanResult Scanned Scores "
        "SkipReason Skipped Verdict"
    ),
    "nsfwscan.scanning.scanner": "ScanOptions",
}
_LATER = {name: module for module, names in _FROM.items() for name in names.split()}


def __getattr__(name: str) -> object:
    """Import names on first use, to keep the import of the package fast (PEP 562).

    Even plain values take 20 ms, which would slow `nsfwscan --version` and every decode process.
    """
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_LATER[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
