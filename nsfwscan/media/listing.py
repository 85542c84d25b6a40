"""The options of a walk, and the listings it yields."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from nsfwscan.media.volumes import RELIABLE

if TYPE_CHECKING:
    from nsfwscan.values.results import Failed, Skipped

DEFAULT_MAX_BYTES = 512 << 20


class Symlinks(StrEnum):
    """What to do with symbolic links in folders. A link given as a root is always followed."""

    SKIP = "skip"
    FOLLOW = "follow"


@dataclass(frozen=True, slots=True)
class WalkOptions:
    """Which files of a folder are candidates."""

    include: tuple[str, ...] = ()
    """Patterns as in a .gitignore file. If there are any, a file must match one."""
    exclude: tuple[str, ...] = ()
    """Patterns as in a .gitignore file. Matching files and folders are left out."""
    hidden: bool = False
    """Include names that begin with a dot."""
    any_name: bool = False
    """Examine the content of every file, whatever its extension."""
    symlinks: Symlinks = Symlinks.SKIP
    one_file_system: bool = False
    own: tuple[str, ...] = ()
    """nsfwscan's own folders (models, logs), which are not entered."""
    max_bytes: int = DEFAULT_MAX_BYTES


@dataclass(frozen=True, slots=True)
class Listing:
    """The files directly in one folder."""

    folder: str
    names: list[str] = field(default_factory=list)
    """Names of the candidates, sorted."""
    keys: list[bytes] = field(default_factory=list)
    """One packed `FileKey` for each name."""
    not_opened: list[Skipped | Failed] = field(default_factory=list)
    """Entries of the folder that will not be opened, and why."""
    given_by_user: bool = False
    """The files were named one by one, so they are meant to be pictures."""
    follow: bool = False
    """The files may be symbolic links."""
    loose: int = RELIABLE
    """The stamp of a file system with unreliable inode numbers, which replaces them in the keys."""
    incomplete: bool = False
    """The folder may have more files: only some names were examined."""
    device: int = 0
    """`st_dev` and `st_ino` of the folder; 0 if unknown."""
    inode: int = 0
