"""How much of a large test the normal run does.

`TESTS_AT_FULL_SIZE=1 python -m pytest` does all of it: 1,000 kills, 100,000 mutants, every corpus
file. That takes far longer.
"""

from __future__ import annotations

import os

AT_FULL_SIZE = os.environ.get("TESTS_AT_FULL_SIZE", "") not in {"", "0"}


def trials(normal: int, full: int) -> int:
    """Return how many trials to make."""
    return full if AT_FULL_SIZE else normal
