"""The one error of this package."""

from __future__ import annotations


class BuildError(Exception):
    """No bundle can be made, or not one to give to anybody; the message says why."""
