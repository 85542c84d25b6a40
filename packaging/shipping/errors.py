"""The one error of this package."""

from __future__ import annotations


class ShippingError(Exception):
    """Something is missing or wrong, so nothing may be shipped. The message names it."""
