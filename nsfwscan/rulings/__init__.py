"""Rulings: what a person decided about pictures, which outlives every model, scan and cache."""

from nsfwscan.rulings.book import RulingBook
from nsfwscan.rulings.rule import Likeness, Ruled
from nsfwscan.rulings.rulings import NO_RULINGS, Rulings

__all__ = ["NO_RULINGS", "Likeness", "Ruled", "RulingBook", "Rulings"]
