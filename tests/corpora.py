"""Where the hostile and odd pictures lie that are kept outside the repository."""

from __future__ import annotations

import os

CORPORA = os.environ.get(
    "NSFWSCAN_TEST_CORPORA",
    os.path.join(os.path.dirname(__file__), "..", "..", "shared", "corpora"),
)
