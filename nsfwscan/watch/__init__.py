"""Keeping the answer true in the background."""
