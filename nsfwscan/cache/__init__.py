"""The cache: what earlier scans found out, keyed by content, in one SQLite file."""
