"""Getting models: from a hub, and from a package index. This module knows only whether it may.

What fetches is imported by whoever fetches: a scan with an installed model does without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsfwscan.values.errors import OfflineError

if TYPE_CHECKING:
    from collections.abc import Mapping


def network_is_forbidden(environ: Mapping[str, str]) -> bool:
    """Return True if `HF_HUB_OFFLINE` is set, with the meaning the hub's own tools give it."""
    return environ.get("HF_HUB_OFFLINE", "").strip().upper() in {"1", "ON", "YES", "TRUE"}


def refuse_offline(what: str) -> OfflineError:
    """Return the error for something that would need the network."""
    return OfflineError(
        f"{what}, and the network is not to be used",
        hint="leave out --offline (and HF_HUB_OFFLINE) once, or copy a model package here and "
        "run `nsfwscan models add FOLDER`",
    )
