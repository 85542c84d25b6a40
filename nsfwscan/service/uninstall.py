"""Finds what nsfwscan has written on this computer; `removal` removes exactly that.

In: the `traces()` of each package. Out: one `Traces` for each kind of thing, with only names that
nsfwscan gives. Other files in the same folders are listed as strangers and stay; so do links, which
lead to files of others. Only the models folder, the cache, the rulings and the configuration may
be links, and even there only files that nsfwscan recognises as its own are removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsfwscan.actions.quarantine import traces as quarantines
from nsfwscan.cache import traces as cache
from nsfwscan.judge import traces as decisions
from nsfwscan.models import traces as models
from nsfwscan.serve.jobs import traces as jobs
from nsfwscan.service import traces as commands
from nsfwscan.values.traces import added
from nsfwscan.watch import traces as watch

if TYPE_CHECKING:
    from nsfwscan.actions.quarantine.traces import Kept
    from nsfwscan.values.traces import FindTraces, Traces

ROOMS: tuple[FindTraces, ...] = (
    models.traces,
    cache.traces,
    decisions.traces,
    quarantines.traces,
    jobs.traces,
    watch.traces,
    commands.crash,
    commands.configuration,
    commands.completion,
)
"""Everything that leaves files behind, in the order in which it is listed."""


def find() -> list[Traces]:
    """Return everything found. Opens manifests, journals and completion scripts, changes nothing.

    Raises `NsfwscanError` if something cannot be read.
    """
    return added(traces for room in ROOMS for traces in room())


def kept() -> list[Kept]:
    """Return what is never removed: quarantines that hold pictures, or may."""
    return quarantines.kept()
