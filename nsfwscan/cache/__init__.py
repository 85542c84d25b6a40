"""The cache: results of earlier scans, keyed by content, in one SQLite file."""
