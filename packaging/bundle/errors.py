"""The one error of this package."""

from __future__ import annotations


class BuildError(Exception):
    """No bundle can be made, or what was made must not be given to anybody. The message says why."""
