"""What nsfwscan has written on this computer; `removal` takes exactly that away again.

In: what each room says of itself. Out: one `Traces` for each kind of thing, with nothing else in
it: every name is one that nsfwscan gives. Whatever else lies in the same folders is listed as a
stranger and stays; so does a link, which leads to what somebody else put there. Only the models
folder, the cache, the decisions and the configuration may be links, and even then only what bears
nsfwscan's marks goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsfwscan.actions.quarantine import traces as quarantines
from nsfwscan.cache import traces as cache
from nsfwscan.judge import traces as decisions
from nsfwscan.models import traces as models
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
    watch.traces,
    commands.crash,
    commands.configuration,
    commands.completion,
)
"""Everything that writes a file to stay, in the order in which a person is told."""


def find() -> list[Traces]:
    """Return what is there. Opens manifests, journals and completion scripts, changes nothing.

    Raises `NsfwscanError` for what cannot be looked at.
    """
    return added(traces for room in ROOMS for traces in room())


def kept() -> list[Kept]:
    """Return what stays, whatever is asked for: quarantines that hold pictures, or may."""
    return quarantines.kept()
