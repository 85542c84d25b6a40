"""The library: what earlier scans found out, keyed by content, in one SQLite file."""

from nsfwscan.library.cache import Library
from nsfwscan.library.folder_view import FolderView
from nsfwscan.library.rows import (
    FileRow,
    Known,
    LikenessRow,
    Outcome,
    OutcomeRow,
    Scored,
    Scorer,
    Unscorable,
)
from nsfwscan.library.upkeep import ExportRow, LibraryStats, ModelStats, Pruned, Verified

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
