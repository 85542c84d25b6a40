"""Moving a picture to the system's trash. The only module that imports send2trash.

The trash takes a path, so the file is checked right before. Between this check and send2trash's
rename, another file could take the name and be trashed. It can be restored from the trash; the
quarantine has no such gap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsfwscan.values.actions import Outcome

if TYPE_CHECKING:
    from nsfwscan.actions.verified_file import VerifiedFile


def put_in_trash(picture: VerifiedFile) -> tuple[Outcome, str]:
    """Move the picture to the trash; return outcome and detail. Raises `Refused`, OSError."""
    import send2trash  # imported only when needed

    picture.check()
    picture.let_go()
    try:
        send2trash.send2trash(picture.path)
    except OSError as error:
        return Outcome.FAILED, f"it cannot be moved to the trash: {error.strerror or error}"
    return Outcome.DONE, ""
