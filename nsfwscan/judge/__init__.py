"""The judge: makes a verdict from a score, the thresholds and people's rulings.

Rulings outlive every model, scan and cache.
"""

from nsfwscan.judge.book import RulingBook
from nsfwscan.judge.judge import Judge
from nsfwscan.judge.policy import Policy
from nsfwscan.judge.ruled import Likeness, Ruled
from nsfwscan.judge.rulings import NO_RULINGS, Rulings

__all__ = ["NO_RULINGS", "Judge", "Likeness", "Policy", "Ruled", "RulingBook", "Rulings"]
