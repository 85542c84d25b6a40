"""Rulings: what a person decided about pictures, which outlives every model, scan and cache."""

from nsfwscan.judge.book import RulingBook
from nsfwscan.judge.rule import Likeness, Ruled
from nsfwscan.judge.rulings import NO_RULINGS, Rulings

__all__ = ["NO_RULINGS", "Likeness", "Ruled", "RulingBook", "Rulings"]
