"""Writes results for people and programs: records, formats, summary."""
