"""What a walk is told, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from nsfwscan.media.volumes import RELIABLE

if TYPE_CHECKING:
    from nsfwscan.values.results import Failed, Skipped

DEFAULT_MAX_BYTES = 512 << 20


class Symlinks(StrEnum):
    """What to do with a symbolic link found in a folder. A link given as a root is followed."""

    SKIP = "skip"
    FOLLOW = "follow"


@dataclass(frozen=True, slots=True)
class WalkOptions:
    """Which files of a folder are looked at."""

    include: tuple[str, ...] = ()
    """Patterns as in a .gitignore file; when there are any, a file must match one."""
    exclude: tuple[str, ...] = ()
    """Patterns as in a .gitignore file; what matches is left out, folders with all they hold."""
    hidden: bool = False
    """Look at names that begin with a dot, too."""
    any_name: bool = False
    """Look inside every file, whatever its name ends with."""
    symlinks: Symlinks = Symlinks.SKIP
    one_file_system: bool = False
    own: tuple[str, ...] = ()
    """Folders of this program, which are not entered: models, logs."""
    max_bytes: int = DEFAULT_MAX_BYTES


@dataclass(frozen=True, slots=True)
class Listing:
    """What one folder holds, without what its subfolders hold."""

    folder: str
    names: list[str] = field(default_factory=list)
    """Names of the candidates, sorted."""
    keys: list[bytes] = field(default_factory=list)
    """One packed `FileKey` for each name."""
    passed: list[Skipped | Failed] = field(default_factory=list)
    """Entries of the folder that will not be opened, and why."""
    explicit: bool = False
    """Whether the files were named one by one, and so are meant to be pictures."""
    follow: bool = False
    """Whether the files may be symbolic links."""
    loose: int = RELIABLE
    """The stamp of a file system whose inode numbers mean little; the keys hold it for them."""
    partial: bool = False
    """Whether the folder may hold more than these: only some names were looked at."""
    device: int = 0
    """`st_dev` and `st_ino` of the folder; 0 when it could not be looked at."""
    inode: int = 0
