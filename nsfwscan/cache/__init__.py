"""The library: what earlier scans found out, keyed by content, in one SQLite file."""

from nsfwscan.cache.cache import Library
from nsfwscan.cache.folder_view import FolderView
from nsfwscan.cache.rows import (
    FileRow,
    Known,
    LikenessRow,
    Outcome,
    OutcomeRow,
    Scored,
    Scorer,
    Unscorable,
)
from nsfwscan.cache.upkeep import ExportRow, LibraryStats, ModelStats, Pruned, Verified

__all__ = [
    "ExportRow",
    "FileRow",
    "FolderView",
    "Known",
    "Library",
    "LibraryStats",
    "LikenessRow",
    "ModelStats",
    "Outcome",
    "OutcomeRow",
    "Pruned",
    "Scored",
    "Scorer",
    "Unscorable",
    "Verified",
]
