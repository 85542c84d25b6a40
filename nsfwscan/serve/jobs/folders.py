"""Which folders of this computer a job may scan, and what is in them.

In: the path that a client names, and the folders that the operator allows. Out: the folder, or a
refusal. A path that is not inside an allowed folder is refused before the disk is asked, so that
nobody can find out what exists. One that leads outside through a symbolic link is refused, too, and
again for each picture when it is read: a folder may be exchanged while a job waits.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nsfwscan.media.discover import WalkOptions, WalkTally, discover, join
from nsfwscan.media.read import read_picture
from nsfwscan.serve.jobs.states import JobPicture
from nsfwscan.serve.problems import RequestRefused
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import Failed, FailReason

if TYPE_CHECKING:
    from collections.abc import Sequence


def allowed_folder(asked: str, allowed: Sequence[str]) -> str:
    """Return the folder that a client asks for. Raises `RequestRefused`: 400, 403 or 404."""
    if not _may_name_a_file(asked) or not os.path.isabs(asked):
        raise RequestRefused(400, "bad-folder", "folder must be an absolute path")
    if not is_inside(asked, allowed):
        raise RequestRefused(403, "folder-not-allowed", "the server does not allow this folder")
    if not os.path.isdir(asked):
        raise RequestRefused(404, "no-such-folder", "there is no such folder")
    return os.path.normpath(asked)


def _may_name_a_file(path: str) -> bool:
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON may have
        return False


def is_inside(path: str, allowed: Sequence[str]) -> bool:
    """Return True if `path` is one of the allowed folders or below, also with links resolved."""
    if os.pardir in path.split(os.sep):
        return False
    return any(
        _below(os.path.normpath(path), os.path.normpath(folder))
        and _below(os.path.realpath(path), os.path.realpath(folder))
        for folder in allowed
    )


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def list_pictures(job: str, folder: str, most: int) -> tuple[list[JobPicture], list[Failed]]:
    """Return the pictures in and below a folder, and what cannot be opened though it may be one.

    They are numbered from 0, the pictures first. Raises `RequestRefused` (413) if there are more
    than `most`, and (404) if the folder is gone.
    """
    if not os.path.isdir(folder):
        raise RequestRefused(404, "no-such-folder", "the folder is no longer there")
    names: list[str] = []
    failed: list[Failed] = []
    for listing in discover([folder], WalkOptions(), WalkTally()):
        names += [join(listing.folder, name) for name in listing.names]
        failed += [one for one in listing.not_opened if isinstance(one, Failed)]
        if len(names) > most:
            raise RequestRefused(
                413, "too-many-pictures", f"the folder has more than {most:,} pictures"
            )
    return [JobPicture(job, number, name) for number, name in enumerate(names)], failed


def read_allowed(path: str, allowed: Sequence[str], max_bytes: int) -> bytes:
    """Return the bytes of a picture. Raises `DecodeError`."""
    if not is_inside(os.path.dirname(path), allowed):
        raise DecodeError(FailReason.UNREADABLE, "it is no longer in a folder that is allowed")
    return read_picture(path, follow=False, max_bytes=max_bytes).data
