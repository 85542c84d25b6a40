"""The judge: thresholds, and what a person decided about pictures, make a verdict of a score.

What a person decided outlives every model, scan and cache.
"""

from nsfwscan.judge.book import RulingBook
from nsfwscan.judge.judge import Judge
from nsfwscan.judge.policy import Policy
from nsfwscan.judge.rule import Likeness, Ruled
from nsfwscan.judge.rulings import NO_RULINGS, Rulings

__all__ = ["NO_RULINGS", "Judge", "Likeness", "Policy", "Ruled", "RulingBook", "Rulings"]
