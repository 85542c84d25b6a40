"""Before the server listens: what is wrong for good, and how it will open its model.

In: `ServeSettings`. Out: nothing, or an error that no waiting would mend: a wrong name, thresholds
in the wrong order, rulings that cannot be read. A model that is known and only missing is no error:
the server says so and waits for it.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from nsfwscan.judge import RulingBook
from nsfwscan.judge.policy import Policy
from nsfwscan.models import catalogue, select
from nsfwscan.models.lookup import is_path
from nsfwscan.models.store import ModelStore
from nsfwscan.scanning.session import Settings, open_session, policy_of
from nsfwscan.system import locations
from nsfwscan.values.errors import ModelNotFound

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from nsfwscan.models.staging import Say
    from nsfwscan.scanning.session import Session
    from nsfwscan.serve.models import OpenSession
    from nsfwscan.serve.settings import ServeSettings


def check(settings: ServeSettings, warn: Say) -> None:
    """Raise `UsageError`, `ModelError` or `RulingsError` for what no waiting would mend."""
    scan = settings.scan
    RulingBook(locations.rulings_file()).current(warn)
    if scan.review_at is not None and scan.flag_at is not None:
        Policy(scan.review_at, scan.flag_at)
    if scan.model == select.AUTO:
        return
    try:
        model = ModelStore(locations.models_folder(), offline=True).find(scan.model)
    except ModelNotFound:
        if is_path(scan.model) or scan.model not in catalogue.load():
            raise
    else:
        policy_of(scan, model.manifest)


def opener(settings: ServeSettings, say: Say, warn: Say) -> OpenSession:
    """Return what opens the session. Only its first call may download a model."""
    scan = settings.scan
    if not settings.write_cache and not os.path.exists(locations.cache_file()):
        scan = dataclasses.replace(scan, use_cache=False)  # or an empty one would be written

    def open_one(*, again: bool) -> AbstractContextManager[Session]:
        wanted: Settings = dataclasses.replace(scan, offline=True) if again else scan
        return open_session(wanted, (), say=say, warn=warn, progress=_no_progress)

    return open_one


def _no_progress(done_bytes: int, total_bytes: int | None, /) -> None:
    """Do nothing: a server's log has no progress bars."""
