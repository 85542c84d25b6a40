"""Downloading models from a hub or a package index; this module decides whether it is allowed.

The modules that download are imported only when needed: not for a scan with an installed model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsfwscan.values.errors import OfflineError

if TYPE_CHECKING:
    from collections.abc import Mapping


def network_is_forbidden(environ: Mapping[str, str]) -> bool:
    """Return True if `HF_HUB_OFFLINE` is set to a value that the hub's own tools accept as true."""
    return environ.get("HF_HUB_OFFLINE", "").strip().upper() in {"1", "ON", "YES", "TRUE"}


def refuse_offline(what: str) -> OfflineError:
    """Return the error for something that needs the network."""
    return OfflineError(
        f"{what}, and the network must not be used",
        hint="run once without --offline (and HF_HUB_OFFLINE), or copy a model package to this "
        "computer and run `nsfwscan models add FOLDER`",
    )
