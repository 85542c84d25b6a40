"""Finding pictures: walk folders in a stable order, filter by name before `stat`, open nothing."""

from __future__ import annotations

import operator
import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from nsfwscan.media.listing import DEFAULT_MAX_BYTES, Listing, Symlinks, WalkOptions
from nsfwscan.media.roots import QUARANTINE_NAME, check_roots, is_quarantined, root_problem
from nsfwscan.media.sniff import PICTURE_ENDINGS
from nsfwscan.media.volumes import Volumes
from nsfwscan.values.errors import UsageError
from nsfwscan.values.file_key import pack_key, stamped
from nsfwscan.values.results import Failed, FailReason, Skipped, SkipReason
from nsfwscan.values.tally import WalkTally
from nsfwscan.values.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = [
    "DEFAULT_MAX_BYTES",
    "QUARANTINE_NAME",
    "UNREAD_ENDINGS",
    "Listing",
    "Symlinks",
    "WalkOptions",
    "WalkTally",
    "check_roots",
    "count_files",
    "discover",
    "discover_some",
    "is_named_like_a_picture",
    "is_quarantined",
    "join",
    "kind_of",
    "printable",
    "root_problem",
    "too_big",
    "unreadable",
]

UNREAD_ENDINGS = frozenset({"jxl", "jp2", "j2k", "jpf", "psd"})
"""Extensions of picture formats that cannot be read: such files are reported, not ignored."""
# With their dots, so that a file named just `jpg` does not match.
_CANDIDATES = frozenset(f".{ending}" for ending in PICTURE_ENDINGS | UNREAD_ENDINGS)
_KIND, _REGULAR = 0o170000, stat.S_IFREG
_BY_NAME = operator.attrgetter("name")


class _Matcher(Protocol):
    def match_file(self, file: str) -> bool: ...


def join(folder: str, name: str) -> str:
    """Join like `os.path.join` for a plain name, in a third of the time."""
    # An empty folder is the current one: `scan photo.jpg` must not look for /photo.jpg.
    bare = not folder or folder.endswith(os.sep)
    return folder + name if bare else f"{folder}{os.sep}{name}"


def is_named_like_a_picture(name: str) -> bool:
    """Return True if a file's name has a picture's extension, readable or not."""
    return name[name.rfind(".") :].lower() in _CANDIDATES


def discover(
    roots: Iterable[str], options: WalkOptions, tally: WalkTally, *, listed: Iterable[str] = ()
) -> Iterator[Listing]:
    """List every folder at and below `roots`, in order of roots, then of names.

    A root may be a file; consecutive files of one folder come in one listing. A folder or file that
    is reached twice is listed once. What cannot be read is in `Listing.not_opened`, never an
    exception. Paths in `listed` follow; a file among them is left out, as in a folder, if it does
    not have a picture's extension.
    """
    walk = _Walk(options, tally)
    for root in roots:
        yield from walk.root(root, given_by_user=True)
    for path in listed:
        yield from walk.root(path, given_by_user=False)
    yield from walk.flush()


def discover_some(
    root: str, wanted: Mapping[str, Iterable[str]], options: WalkOptions
) -> Iterator[Listing]:
    """List some names in folders at or below `root`, by the rules of `discover`.

    `wanted` maps folders, spelled as `discover` spells them, to names in them. Names that are gone,
    or that `discover` would skip, are left out; a name that is a folder is listed with everything
    below it. No folder is listed twice.
    """
    walk = _Walk(options, WalkTally())
    for folder in sorted(wanted):
        yield from walk.some(root, folder, sorted(wanted[folder]))


def count_files(roots: Iterable[str], options: WalkOptions) -> int:
    """Return how many results a scan of `roots` will give; approximate if files come and go."""
    listings = discover(roots, options, WalkTally())
    return sum(len(listing.names) + len(listing.not_opened) for listing in listings)


class _NamedEntry:
    """Stands in for an `os.DirEntry` of a name that is already known."""

    __slots__ = ("_found", "_path", "name")

    def __init__(self, name: str, path: str, found: os.stat_result) -> None:
        self.name = name
        self._path = path
        self._found = found

    @classmethod
    def of(cls, folder: str, name: str) -> _NamedEntry | None:
        """Return the entry, or None if there is no such name."""
        path = join(folder, name)
        try:
            return cls(name, path, os.lstat(path))
        except (OSError, ValueError):  # ValueError: a NUL in the name
            return None

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        try:
            return stat.S_ISDIR(self.stat(follow_symlinks=follow_symlinks).st_mode)
        except FileNotFoundError:  # a broken link
            return False

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        linked = follow_symlinks and stat.S_ISLNK(self._found.st_mode)
        return os.stat(self._path) if linked else self._found


class _Walk:
    def __init__(self, options: WalkOptions, tally: WalkTally) -> None:
        self._options = options
        self._tally = tally
        self._volumes = Volumes()
        self._include = _matcher(options.include)
        self._exclude = _matcher(options.exclude)
        self._seen: dict[tuple[int, int], str] = {}
        """Folders that were listed, by device and inode, with their paths relative to the root."""
        self._given: dict[tuple[int, int], set[str]] = {}
        """Names of files that were given, by device and inode of their folder."""
        self._missing = ""
        self._own = frozenset(map(_number_of, options.own)) - {None}
        self._files: Listing | None = None
        self._follow = options.symlinks is Symlinks.FOLLOW

    def root(self, path: str, *, given_by_user: bool) -> Iterator[Listing]:
        """List a path that the user gave; `given_by_user` unless it came from a list of paths."""
        try:
            found = os.stat(path)  # a root that is a link is followed
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            yield from self.flush()
            if path != self._missing:  # a list may repeat a path endlessly
                self._missing = path
                yield Listing(os.path.dirname(path), not_opened=[unreadable(path, error)])
            return
        if is_quarantined(path):
            yield from self.flush()
            skipped = Skipped(path, SkipReason.QUARANTINED, "a quarantine is never scanned")
            yield Listing(os.path.dirname(path), not_opened=[skipped])
        elif stat.S_ISDIR(found.st_mode):
            yield from self.flush()
            yield from self._tree(path, found.st_dev)
        elif not (given_by_user or self._options.any_name or is_named_like_a_picture(path)):
            self._tally.count_other(path)
        elif not self._is_taken(*os.path.split(path)):
            yield from self._named_file(path, found, given_by_user=given_by_user)

    def _named_file(
        self, path: str, found: os.stat_result, *, given_by_user: bool
    ) -> Iterator[Listing]:
        """Add a file that was given to the listing of its folder, even if it is hidden."""
        folder, name = os.path.split(path)
        where = folder, given_by_user, self._volumes.stamp(found.st_dev)
        files = self._files
        if files is None or (files.folder, files.given_by_user, files.loose) != where:
            yield from self.flush()
            files = self._files = Listing(
                folder, given_by_user=given_by_user, loose=where[2], follow=True
            )
        if stat.S_ISREG(found.st_mode) and found.st_size <= self._options.max_bytes:
            key = pack_key(found)
            files.names.append(name)
            files.keys.append(stamped(key, files.loose) if files.loose else key)
        elif stat.S_ISREG(found.st_mode):
            why = too_big(found.st_size, self._options.max_bytes)
            files.not_opened.append(Failed(path, FailReason.TOO_BIG, why))
        else:  # a pipe in a folder is ignored, one that was named is reported
            kind = kind_of(found.st_mode)
            files.not_opened.append(Failed(path, FailReason.UNREADABLE, f"it is {kind}"))

    def _is_taken(self, folder: str, name: str) -> bool:
        """Return True if a file already has a result: it was given before, or its folder was.

        A folder is recognised by device and inode, so the spelling of the path does not matter.
        """
        number = _number_of(folder or os.curdir)
        if number is None:
            return False
        names = self._given.setdefault(number, set())
        if name in names:
            return True
        names.add(name)
        if number not in self._seen:
            return False
        # The folder was listed; the same rules decide whether this name was in the listing.
        entry = _NamedEntry.of(folder, name)
        tally, self._tally = self._tally, WalkTally()
        listing, _ = self._list(folder, self._seen[number], [] if entry is None else [entry])
        self._tally = tally
        return bool(listing.names)

    def flush(self) -> Iterator[Listing]:
        """Yield the files that were named one by one and have not been yielded."""
        if self._files is not None:
            yield self._files
            self._files = None

    def some(self, root: str, folder: str, names: Sequence[str]) -> Iterator[Listing]:
        """List these names of `folder`, which is at or below `root`, and the folders among them."""
        inside = folder[len(root) :].strip(os.sep)
        inside = f"{inside}/" if inside else ""
        if not self._enters(inside) or (self._own and self._is_own(root, folder)):
            return
        try:
            device, found = os.stat(root).st_dev, os.stat(folder)
        except OSError:
            return  # gone, with all the names
        if self._options.one_file_system and found.st_dev != device:
            return
        if (found.st_dev, found.st_ino) in self._seen:
            return
        entries = [entry for name in names if (entry := _NamedEntry.of(folder, name)) is not None]
        listing, subfolders = self._list(folder, inside, entries)
        yield self._located(replace(listing, incomplete=True), found)
        for name in subfolders:
            yield from self._tree(join(folder, name), device, f"{inside}{name}/")

    def _is_own(self, root: str, folder: str) -> bool:
        while True:
            if _number_of(folder) in self._own:
                return True
            if len(folder) <= len(root):
                return False
            folder = os.path.dirname(folder)

    def _enters(self, inside: str) -> bool:
        """Return True if a walk would enter a folder, given relative to its root (`2024/may/`)."""
        parts = inside.split("/")[:-1]
        if QUARANTINE_NAME in parts:
            return False
        if not self._options.hidden and any(part.startswith(".") for part in parts):
            return False
        above = ("/".join(parts[: depth + 1]) + "/" for depth in range(len(parts)))
        return self._exclude is None or not any(map(self._exclude.match_file, above))

    def _tree(self, root: str, device: int, inside: str = "") -> Iterator[Listing]:
        """List the folder `root`, which is on `device`, and what is below it, depth first."""
        # Not recursive: a tree may be deeper than Python's stack.
        ahead: list[tuple[str, str]] = [(root, inside)]
        while ahead:
            folder, inside = ahead.pop()
            try:
                found = os.stat(folder)
                # Before it counts as seen: it may be the next root.
                if self._options.one_file_system and found.st_dev != device:
                    skipped = Skipped(folder, SkipReason.OTHER_FILE_SYSTEM)
                    yield Listing(folder, not_opened=[skipped])
                    continue
                number = found.st_dev, found.st_ino
                if number in self._seen or number in self._own:
                    continue
                self._seen[number] = inside
                with os.scandir(folder) as entries:
                    by_name = sorted(entries, key=_BY_NAME)
                listing, subfolders = self._list(folder, inside, by_name)
                listing = self._located(listing, found)
                if number in self._given:
                    listing = _without(listing, self._given[number])
            except OSError as error:
                self._tally.unreadable_folders += 1
                yield Listing(folder, not_opened=[unreadable(folder, error)])
                continue
            self._tally.folders += 1
            yield listing
            ahead.extend((join(folder, name), f"{inside}{name}/") for name in reversed(subfolders))

    def _located(self, listing: Listing, found: os.stat_result) -> Listing:
        """Return the listing with its folder's device, inode and stamp."""
        loose = self._volumes.stamp(found.st_dev)
        keys = [stamped(key, loose) for key in listing.keys] if loose else listing.keys
        return replace(listing, keys=keys, loose=loose, device=found.st_dev, inode=found.st_ino)

    def _list(
        self, folder: str, inside: str, entries: Iterable[os.DirEntry[str] | _NamedEntry]
    ) -> tuple[Listing, list[str]]:
        """Return the listing of `folder`, and the names of its subfolders.

        `inside` is its path relative to the root. This is the inner loop of a re-scan, written so
        that most of its time goes into `stat`.
        """
        listing, subfolders = Listing(folder), list[str]()
        options, follow = self._options, self._follow
        any_name, show_hidden, max_bytes = options.any_name, options.hidden, options.max_bytes
        filtered = self._include is not None or self._exclude is not None
        add_name, add_key = listing.names.append, listing.keys.append
        for entry in entries:
            name = entry.name
            if name[0] == "." and (not show_hidden or name == QUARANTINE_NAME):
                self._tally.hidden += name != QUARANTINE_NAME
                continue
            try:
                if not any_name and name[name.rfind(".") :].lower() not in _CANDIDATES:
                    if not entry.is_dir(follow_symlinks=follow):
                        self._tally.count_other(name)
                    elif not filtered or self._wanted(f"{inside}{name}/", folder=True):
                        subfolders.append(name)
                    continue
                if filtered and not self._wanted_entry(entry, inside):
                    continue
                status = entry.stat(follow_symlinks=follow)
            except OSError as error:
                listing.not_opened.append(unreadable(join(folder, name), error))
                continue
            if status.st_mode & _KIND == _REGULAR and status.st_size <= max_bytes:
                add_name(name)
                add_key(pack_key(status))
            elif stat.S_ISDIR(status.st_mode):
                subfolders.append(name)
            else:
                listing.not_opened.append(self._not_opened(join(folder, name), status))
        return listing, subfolders

    def _not_opened(self, path: str, found: os.stat_result) -> Skipped:
        """Return why `path` will not be opened."""
        if stat.S_ISLNK(found.st_mode):
            return Skipped(path, SkipReason.SYMLINK)
        if stat.S_ISREG(found.st_mode):
            return Skipped(
                path, SkipReason.TOO_BIG, too_big(found.st_size, self._options.max_bytes)
            )
        return Skipped(path, SkipReason.NOT_REGULAR, kind_of(found.st_mode))

    def _wanted_entry(self, entry: os.DirEntry[str] | _NamedEntry, inside: str) -> bool:
        if entry.is_dir(follow_symlinks=self._follow):
            return self._wanted(f"{inside}{entry.name}/", folder=True)
        return self._wanted(inside + entry.name, folder=False)

    def _wanted(self, inside: str, *, folder: bool) -> bool:
        if self._exclude is not None and self._exclude.match_file(inside):
            self._tally.excluded += 1
            return False
        # A folder is entered even if no include pattern matches it: one may match something below.
        if folder or self._include is None or self._include.match_file(inside):
            return True
        self._tally.not_included += 1
        return False


def _without(listing: Listing, names: set[str]) -> Listing:
    """Return a listing without some names."""
    left = [
        (name, key)
        for name, key in zip(listing.names, listing.keys, strict=True)
        if name not in names
    ]
    not_opened = [one for one in listing.not_opened if os.path.basename(one.path) not in names]
    kept, keys = [name for name, _ in left], [key for _, key in left]
    return replace(listing, names=kept, keys=keys, not_opened=not_opened, incomplete=len(kept) > 0)


def unreadable(path: str, error: OSError | ValueError) -> Failed:
    """Return the failure of a path that cannot be read, with the operating system's message."""
    gone = isinstance(error, FileNotFoundError)
    why = (error.strerror if isinstance(error, OSError) else "") or str(error)
    return Failed(path, FailReason.VANISHED if gone else FailReason.UNREADABLE, why)


def too_big(size: int, most: int) -> str:
    """Return why a file of `size` bytes is not read if `most` is the limit."""
    return f"{size} bytes, more than the limit of {most}"


def kind_of(mode: int) -> str:
    """Return the kind of a file that is not regular, with an article."""
    kinds = {
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFBLK: "a block device",
        stat.S_IFCHR: "a character device",
        stat.S_IFDIR: "a folder",
    }
    return kinds.get(stat.S_IFMT(mode), "not a regular file")


def _number_of(folder: str) -> tuple[int, int] | None:
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _matcher(patterns: tuple[str, ...]) -> _Matcher | None:
    if not patterns:
        return None
    import pathspec  # takes 30 ms, which a scan without patterns saves

    try:
        return pathspec.GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:  # pathspec's pattern errors are ValueErrors
        raise UsageError(
            f"invalid pattern: {error}", hint="patterns have the syntax of .gitignore files"
        ) from error
