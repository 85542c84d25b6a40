"""Moving a picture to the system's trash. The one module that knows send2trash.

The trash takes a path, so the file is looked at right before: between that look and the rename that
send2trash does, there is a moment in which another file could take the name and be trashed. It
could be taken out of the trash again; a quarantine has no such moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsfwscan.values.actions import Outcome

if TYPE_CHECKING:
    from nsfwscan.actions.scored_file import ScoredFile


def put_in_trash(picture: ScoredFile) -> tuple[Outcome, str]:
    """Move the picture to the trash; return how it went. Raises `Unwilling`, OSError."""
    import send2trash  # only when something is to be trashed

    picture.check()
    picture.let_go()
    try:
        send2trash.send2trash(picture.path)
    except OSError as error:
        return Outcome.FAILED, f"the trash does not take it: {error.strerror or error}"
    return Outcome.DONE, ""
