"""The library: what earlier scans found out, keyed by content, in one SQLite file."""

from nsfwscan.cache.cache import Cache
from nsfwscan.cache.folder_view import FolderView
from nsfwscan.cache.rows import FileRow, Known, LikenessRow, OutcomeRow
from nsfwscan.cache.upkeep import CacheStats, ExportRow, ModelStats, Pruned, Verified
from nsfwscan.values.outcome import Outcome, Scored, Scorer, Unscorable

__all__ = [
    "Cache",
    "CacheStats",
    "ExportRow",
    "FileRow",
    "FolderView",
    "Known",
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
