"""Which quarantine a picture goes to, and where the quarantines are.

There is one for each volume, so that moving a picture is a rename. It is in the topmost folder
above the picture, on the same volume, that belongs to this user; otherwise in one that this user
may write to, preferably where no other user could replace it. On a USB stick that is its root, in a
home the home itself. The place depends only on the picture's path, not on what was scanned, so it
can be found again from the path. The list of places only saves the search and may be lost.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, NamedTuple

from nsfwscan.actions.quarantine.vault import (
    FILES_NAME,
    FOREIGN,
    Vault,
    look_at,
    open_vault,
    stamp_of,
    unusable,
)
from nsfwscan.media.discover import QUARANTINE_NAME
from nsfwscan.media.roots import is_quarantined
from nsfwscan.system import locations
from nsfwscan.system.journal import Journal
from nsfwscan.values.errors import ActionError, JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Away(NamedTuple):
    """A known quarantine that is not available now."""

    path: str
    why: str
    """Empty if nothing is there, for example because a disk is unplugged."""
    foreign: bool = False
    """It exists, but belongs to another user."""

    @property
    def sentence(self) -> str:
        """Return a message for the user, without a full stop."""
        if self.foreign:
            return f"{self.path} cannot be used: {self.why}; its owner can restore from it"
        what = f"is not available: {self.why}" if self.why else "is not available"
        return f"{self.path} {what}; is its disk plugged in?"


class Quarantines:
    """All quarantines of this user, or the one given with `--quarantine`."""

    def __init__(self, chosen: str | None, warn: Callable[[str], None]) -> None:
        """With `chosen`, a folder, all pictures go to the quarantine in it, whatever their volume.

        `warn` is called with problems that stop nothing.
        """
        self._chosen = None if chosen is None else os.path.abspath(os.path.expanduser(chosen))
        self._warn = warn
        self._places = Journal(locations.quarantines_file())
        self._vaults: dict[str, Vault] = {}
        self._by_folder: dict[str, Vault] = {}
        self._remembered: set[str] = set()
        self.incomplete = False
        """Whether the list of places, or a quarantine in it, could not be read at some point."""
        self._passed_over: set[str] = set()
        """Folders in which no quarantine could be opened."""
        self._read: tuple[tuple[int, int, int] | None, list[str]] | None = None
        """The list of places as last read, and the state of its file at that time."""

    def for_picture(self, path: str) -> Vault:
        """Return the quarantine for a picture, creating it if necessary. Raises `ActionError`.

        `path` is absolute, without links in its folders.
        """
        folder = os.path.dirname(path)
        vault = self._by_folder.get(folder)
        if vault is None:
            vault = self._by_folder[folder] = self._make(folder)
        return vault

    def peek_for_picture(self, path: str) -> Vault | None:
        """Return the quarantine that `for_picture` would return, if it exists; create nothing.

        Raises `ActionError` if no folder can hold one.
        """
        if self._chosen is not None:
            place = os.path.join(self._chosen, QUARANTINE_NAME)
            if why := look_at(place):
                raise ActionError(f"the quarantine {place} cannot be used: {why}")
            return self._open(self._chosen, create=False)
        folder = os.path.dirname(path)
        for candidate in candidates(folder):
            why = look_at(os.path.join(candidate, QUARANTINE_NAME))
            if not why:  # ours, or yet to be created
                return self._open(candidate, create=False)
        raise _no_place(folder, None)

    def everywhere(self) -> list[Vault]:
        """Return all known quarantines that can be used, including the chosen one."""
        folders = [*self._known(), *([] if self._chosen is None else [self._chosen])]
        return self._those_in(folders)

    def holds(self, path: str) -> bool:
        """Return True if a picture is in a quarantine, however its path leads there.

        `path` has no links in its folders. Through a bind mount it may not contain the quarantine's
        name; then the folder's inode decides. Raises OSError.
        """
        folder = os.path.dirname(path)
        if is_quarantined(path):
            return True
        found = os.stat(folder)
        insides = (os.path.join(one.folder, FILES_NAME) for one in self.everywhere())
        return any(_is_same(inside, found) for inside in insides)

    def existing(self, near: Iterable[str] = ()) -> list[Vault]:
        """Return the quarantines that exist: the known ones, and those in or above `near`.

        `near` are absolute paths. Quarantines that cannot be read are left out; see `away`.
        """
        if self._chosen is not None:
            folders = [self._chosen]
        else:
            folders = [*self._known(), *_on_the_way(near)]
        return self._those_in(folders)

    def _those_in(self, folders: Iterable[str]) -> list[Vault]:
        """Return the quarantines in folders, each once even if several links lead there."""
        found: dict[tuple[int, int], Vault] = {}
        for folder in folders:
            try:
                vault = self._open(folder, create=False)
                if vault is None:
                    self._passed_over.add(folder)
                else:
                    status = os.stat(vault.folder)
                    found.setdefault((status.st_dev, status.st_ino), vault)
            except OSError as error:
                self.incomplete = True
                self._warn(str(unusable(folder, error)))
        return list(found.values())

    def away(self, near: Iterable[str] = ()) -> list[Away]:
        """Return known quarantines that are not available, for example on an unplugged disk.

        Includes quarantines of other users in or above `near`; see `existing`.
        """
        folders = self._known() if self._chosen is None else [self._chosen]
        paths = [os.path.join(folder, QUARANTINE_NAME) for folder in folders]
        found = []
        for folder, path in zip(folders, paths, strict=True):
            why = look_at(path)
            if why is None and folder in self._passed_over:
                why = "it could not be read a moment ago"
            if why is not None:
                found.append(Away(path, why, why == FOREIGN))
        if self._chosen is not None:
            # A chosen one that does not exist has never been used.
            return [one for one in found if one.why]
        met = (os.path.join(folder, QUARANTINE_NAME) for folder in _on_the_way(near))
        foreign = [path for path in dict.fromkeys(met) if path not in paths and _is_a_users(path)]
        return found + [Away(path, FOREIGN, foreign=True) for path in foreign]

    def _make(self, folder: str) -> Vault:
        if self._chosen is not None:
            try:
                os.makedirs(self._chosen, exist_ok=True)
                vault = self._open(self._chosen, create=True)
            except OSError as error:
                raise unusable(self._chosen, error) from error
            if vault is None:
                raise ActionError(
                    f"{os.path.join(self._chosen, QUARANTINE_NAME)} is not a folder that you own",
                    hint="choose another folder with --quarantine",
                )
            return vault
        problem: OSError | None = None
        for candidate in candidates(folder):
            try:
                vault = self._open(candidate, create=True)
            except OSError as error:  # a quota, or a read-only mount
                problem = error
            else:
                if vault is not None:
                    return vault
        raise _no_place(folder, problem)

    def _open(self, folder: str, *, create: bool) -> Vault | None:
        vault = self._vaults.get(folder)
        if vault is None or look_at(vault.folder) is not None:
            vault = open_vault(folder, self._warn, create=create)
            if vault is None:
                return None
            self._vaults[folder] = vault
        if create and folder not in self._remembered:
            self._remembered.add(folder)
            self._remember(folder)
        return vault

    def _remember(self, folder: str) -> None:
        try:
            if folder not in self._known():
                locations.make_private(os.path.dirname(self._places.path))
                self._places.append({"folder": folder})
        except (OSError, JournalError) as error:
            self._warn(f"{error}; `nsfwscan quarantine` will need --quarantine {folder}")

    def _known(self) -> list[str]:
        try:
            stamp = stamp_of(self._places.path)
            if self._read is None or self._read[0] != stamp:
                records = self._places.read().records
                folders = (record.get("folder") for record in records)
                known = dict.fromkeys(one for one in folders if isinstance(one, str))
                self._read = stamp, list(known)
        except (JournalError, OSError) as error:
            self.incomplete = True
            what = str(error)
            if isinstance(error, OSError):
                what = f"{self._places.path} cannot be read: {error.strerror or error}"
            self._warn(what)
            return []
        return list(self._read[1])


def _is_same(path: str, found: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), found)
    except OSError:
        return False


def _no_place(folder: str, problem: OSError | None) -> ActionError:
    return ActionError(
        f"no folder on the volume of {folder} can hold a quarantine"
        + (f": {problem.strerror}" if problem else ""),
        hint="choose a folder that you can write to with --quarantine",
    )


def _on_the_way(near: Iterable[str]) -> Iterator[str]:
    """Yield the working folder, the home and the absolute paths `near`, and all folders above."""
    for path in (_working_folder(), os.path.expanduser("~"), *near):
        if os.path.isabs(path):
            yield from above(os.path.realpath(path))


def _is_a_users(path: str) -> bool:
    """Return True for a quarantine of another ordinary user; root's does not concern others."""
    try:
        return look_at(path) == FOREIGN and os.lstat(path).st_uid != 0
    except OSError:
        return False


def _working_folder() -> str:
    """Return the working folder; empty if it was deleted or cannot be reached."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def above(folder: str) -> Iterator[str]:
    """Yield an absolute folder and all above it."""
    while True:  # ends at the root
        yield folder
        upper = os.path.dirname(folder)
        if upper == folder:
            return
        folder = upper


def candidates(folder: str) -> list[str]:
    """Return the folders that may hold the quarantine for what is in `folder`, the best first."""
    try:
        device = os.stat(folder).st_dev
        on_volume = []
        for upper in above(folder):
            try:
                found = os.stat(upper)
            except PermissionError:  # a folder above it that this user may not search
                break
            if found.st_dev != device:
                break
            if os.access(upper, os.W_OK | os.X_OK):
                on_volume.append((_rank(found), upper))
    except OSError as error:
        raise unusable(folder, error) from error
    on_volume.reverse()
    on_volume.sort(key=lambda one: one[0])  # stable: the topmost stays first
    return [upper for _, upper in on_volume]


def _rank(found: os.stat_result) -> int:
    """Return a folder's rank, 0 being best: ours, the system's, or under others' control."""
    if sys.platform == "win32":
        return 0
    # Here other users could rename the quarantine and put their own in its place.
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        return 2
    if found.st_uid == os.geteuid():
        return 0
    return 1 if found.st_uid == 0 else 2
