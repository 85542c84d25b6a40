"""Finding pictures: walk folders in a stable order, filter by name before `stat`, open nothing."""

from __future__ import annotations

import operator
import os
import stat
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from nsfwscan.errors import UsageError
from nsfwscan.images.volumes import Volumes
from nsfwscan.results import Failed, FailReason, Skipped, SkipReason, pack_key, without_inode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

PICTURE_ENDINGS = frozenset(
    {"jpg", "jpeg", "jpe", "jfif", "jfi", "jif", "pjpeg", "pjp", "jps", "mpo"}
    | {"png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff", "btf", "tf8"}
    | {"avif", "avifs", "heic", "heics", "heif", "heifs", "hif"}
)
"""Endings, lower case, of the formats that can be read. What is inside decides later."""
UNREAD_ENDINGS = frozenset({"jxl", "jp2", "j2k", "jpf", "psd"})
"""Endings of picture formats that cannot be read: reported as such, not passed over in silence."""
# With their dots, so that a file whose whole name is `jpg` is none.
_CANDIDATES = frozenset(f".{ending}" for ending in PICTURE_ENDINGS | UNREAD_ENDINGS)
_KIND, _REGULAR = 0o170000, stat.S_IFREG
_BY_NAME = operator.attrgetter("name")
DEFAULT_MAX_BYTES = 512 << 20
QUARANTINE_NAME = ".nsfwscan-quarantine"
"""A folder of this name is never entered: what it holds was looked at, and moved there for it."""


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


@dataclass(slots=True)
class WalkTally:
    """What a walk passed over without a word. It grows while the walk goes on."""

    folders: int = 0
    hidden: int = 0
    excluded: int = 0
    other_names: int = 0
    """Files whose names do not end like a picture's."""


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
    loose: bool = False
    """Whether they are on a file system that makes up inode numbers; the keys hold none then."""
    partial: bool = False
    """Whether the folder may hold more than these: only some names were looked at."""
    device: int = 0
    """`st_dev` and `st_ino` of the folder; 0 when it could not be looked at."""
    inode: int = 0


class _Matcher(Protocol):
    def match_file(self, file: str) -> bool: ...


def join(folder: str, name: str) -> str:
    """Join as `os.path.join` does for a plain name, at a third of its cost."""
    # No folder is the current one: `scan photo.jpg` must not look for /photo.jpg.
    bare = not folder or folder.endswith(os.sep)
    return folder + name if bare else f"{folder}{os.sep}{name}"


def is_named_like_a_picture(name: str) -> bool:
    """Tell whether a file's name ends like a picture's, be it one that can be read or not."""
    return name[name.rfind(".") :].lower() in _CANDIDATES


def check_roots(roots: Iterable[str]) -> None:
    """Raise `UsageError` for the first root that does not exist or is in a quarantine."""
    for root in roots:
        if is_quarantined(os.path.realpath(root)):
            raise UsageError(
                f"{printable(root)} is in a quarantine, which is never scanned",
                hint="`nsfwscan quarantine list` shows what it holds",
            )
        if not os.path.lexists(root):
            raise UsageError(
                f"{printable(root) or repr(root)} does not exist",
                hint="check the spelling of the path",
            )


def is_quarantined(path: str) -> bool:
    """Tell whether an absolute path leads into a quarantine, by its name alone."""
    return QUARANTINE_NAME in path and QUARANTINE_NAME in path.split(os.sep)


def printable(path: str) -> str:
    r"""Return `path` as text that can be printed: bytes that are no UTF-8 as `\xNN`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def discover(roots: Iterable[str], options: WalkOptions, tally: WalkTally) -> Iterator[Listing]:
    """List every folder at and below `roots`, in order of roots, then of names.

    A root may be a file; neighbouring files of one folder come as one listing. A folder reached
    twice is listed once. What cannot be read is in `Listing.passed`, never an exception.
    """
    walk = _Walk(options, tally)
    for root in roots:
        yield from walk.root(root)
    yield from walk.flush()


def discover_some(
    root: str, wanted: Mapping[str, Iterable[str]], options: WalkOptions
) -> Iterator[Listing]:
    """Look again at some names in folders at or below `root`, by the rules of `discover`.

    `wanted` maps folders, spelled as `discover` would, to names in them. Names that are gone, or
    that `discover` would pass over, are left out; a name that is a folder is listed with all it
    holds. No folder is listed twice.
    """
    walk = _Walk(options, WalkTally())
    for folder in sorted(wanted):
        yield from walk.some(root, folder, sorted(wanted[folder]))


def count_files(roots: Iterable[str], options: WalkOptions) -> int:
    """Return how many results a scan of `roots` will give, or close to it if files come and go."""
    listings = discover(roots, options, WalkTally())
    return sum(len(listing.names) + len(listing.passed) for listing in listings)


class _Entry:
    """What `os.scandir` gives, for a name that is known already."""

    __slots__ = ("_found", "_path", "name")

    def __init__(self, name: str, path: str, found: os.stat_result) -> None:
        self.name = name
        self._path = path
        self._found = found

    @classmethod
    def of(cls, folder: str, name: str) -> _Entry | None:
        """Return the entry, or None when there is none of this name."""
        path = join(folder, name)
        try:
            return cls(name, path, os.lstat(path))
        except (OSError, ValueError):  # ValueError: a NUL in the name
            return None

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        try:
            return stat.S_ISDIR(self.stat(follow_symlinks=follow_symlinks).st_mode)
        except FileNotFoundError:  # a link that leads nowhere
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
        self._seen: set[tuple[int, int]] = set()
        self._own = frozenset(map(_number_of, options.own)) - {None}
        self._files: Listing | None = None
        self._follow = options.symlinks is Symlinks.FOLLOW

    def root(self, path: str) -> Iterator[Listing]:
        try:
            found = os.stat(path)  # a root that is a link is meant to be followed
        except OSError as error:
            yield from self.flush()
            yield Listing(os.path.dirname(path), passed=[unreadable(path, error)])
            return
        if is_quarantined(path):
            yield from self.flush()
            skipped = Skipped(path, SkipReason.QUARANTINED, "a quarantine is never scanned")
            yield Listing(os.path.dirname(path), passed=[skipped])
            return
        if stat.S_ISDIR(found.st_mode):
            yield from self.flush()
            yield from self._tree(path, found.st_dev)
            return
        # A file that is named is meant: its name and its dot do not matter.
        folder, name = os.path.split(path)
        if self._files is None or self._files.folder != folder:
            yield from self.flush()
            loose = self._volumes.is_loose(found.st_dev)
            self._files = Listing(folder, explicit=True, loose=loose)
        if stat.S_ISREG(found.st_mode) and found.st_size <= self._options.max_bytes:
            key = pack_key(found)
            self._files.names.append(name)
            self._files.keys.append(without_inode(key) if self._files.loose else key)
        elif stat.S_ISREG(found.st_mode):
            self._files.passed.append(self._passed(path, found))
        else:  # in a folder a pipe is nothing to speak of; one that was named is
            kind = kind_of(found.st_mode)
            self._files.passed.append(Failed(path, FailReason.UNREADABLE, f"it is {kind}"))

    def flush(self) -> Iterator[Listing]:
        """Yield the files that were named one by one and are not yielded yet."""
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
            return  # gone, and with it all that was asked for
        if self._options.one_file_system and found.st_dev != device:
            return
        if (found.st_dev, found.st_ino) in self._seen:
            return
        entries = [entry for name in names if (entry := _Entry.of(folder, name)) is not None]
        listing, subfolders = self._list(folder, inside, entries)
        yield self._located(replace(listing, partial=True), found)
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
        """Tell whether a walk would come to the folder `inside` of its root: `2024/may/`, say."""
        parts = inside.split("/")[:-1]
        if QUARANTINE_NAME in parts:
            return False
        if not self._options.hidden and any(part.startswith(".") for part in parts):
            return False
        above = ("/".join(parts[: depth + 1]) + "/" for depth in range(len(parts)))
        return self._exclude is None or not any(map(self._exclude.match_file, above))

    def _tree(self, root: str, device: int, inside: str = "") -> Iterator[Listing]:
        """List the folder `root`, which lies on `device`, and what is below it, depth first."""
        # A stack and not recursion: a tree may be deeper than Python's stack.
        ahead: list[tuple[str, str]] = [(root, inside)]
        while ahead:
            folder, inside = ahead.pop()
            try:
                found = os.stat(folder)
                # Before it counts as seen: it may be the next root.
                if self._options.one_file_system and found.st_dev != device:
                    skipped = Skipped(folder, SkipReason.OTHER_FILE_SYSTEM)
                    yield Listing(folder, passed=[skipped])
                    continue
                number = found.st_dev, found.st_ino
                if number in self._seen or number in self._own:
                    continue
                self._seen.add((found.st_dev, found.st_ino))
                with os.scandir(folder) as entries:
                    by_name = sorted(entries, key=_BY_NAME)
                listing, subfolders = self._list(folder, inside, by_name)
                listing = self._located(listing, found)
            except OSError as error:
                yield Listing(folder, passed=[unreadable(folder, error)])
                continue
            self._tally.folders += 1
            yield listing
            ahead.extend((join(folder, name), f"{inside}{name}/") for name in reversed(subfolders))

    def _located(self, listing: Listing, found: os.stat_result) -> Listing:
        """Say where the folder of a listing is."""
        loose = self._volumes.is_loose(found.st_dev)
        keys = list(map(without_inode, listing.keys)) if loose else listing.keys
        return replace(listing, keys=keys, loose=loose, device=found.st_dev, inode=found.st_ino)

    def _list(
        self, folder: str, inside: str, entries: Iterable[os.DirEntry[str] | _Entry]
    ) -> tuple[Listing, list[str]]:
        """Sort out entries of `folder`, `inside` of its root, and name the folders among them.

        The inner loop of a re-scan: most of its time goes into `stat`, and the rest is written so
        that it stays so.
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
                        self._tally.other_names += 1
                    elif not filtered or self._wanted(f"{inside}{name}/", folder=True):
                        subfolders.append(name)
                    continue
                if filtered and not self._wanted_entry(entry, inside):
                    continue
                status = entry.stat(follow_symlinks=follow)
            except OSError as error:
                listing.passed.append(unreadable(join(folder, name), error))
                continue
            if status.st_mode & _KIND == _REGULAR and status.st_size <= max_bytes:
                add_name(name)
                add_key(pack_key(status))
            elif stat.S_ISDIR(status.st_mode):
                subfolders.append(name)
            else:
                listing.passed.append(self._passed(join(folder, name), status))
        return listing, subfolders

    def _passed(self, path: str, found: os.stat_result) -> Skipped:
        """Say why `path` will not be opened."""
        if stat.S_ISLNK(found.st_mode):
            return Skipped(path, SkipReason.SYMLINK)
        if stat.S_ISREG(found.st_mode):
            limit = self._options.max_bytes
            return Skipped(path, SkipReason.TOO_BIG, f"{found.st_size} bytes, more than {limit}")
        return Skipped(path, SkipReason.NOT_REGULAR, kind_of(found.st_mode))

    def _wanted_entry(self, entry: os.DirEntry[str] | _Entry, inside: str) -> bool:
        if entry.is_dir(follow_symlinks=self._follow):
            return self._wanted(f"{inside}{entry.name}/", folder=True)
        return self._wanted(inside + entry.name, folder=False)

    def _wanted(self, inside: str, *, folder: bool) -> bool:
        if self._exclude is not None and self._exclude.match_file(inside):
            self._tally.excluded += 1
            return False
        # A folder is entered even when no include pattern names it: one may name what is below.
        return folder or self._include is None or self._include.match_file(inside)


def unreadable(path: str, error: OSError) -> Failed:
    """Say that `path` cannot be read, in the words of the operating system."""
    gone = isinstance(error, FileNotFoundError)
    return Failed(
        path, FailReason.VANISHED if gone else FailReason.UNREADABLE, error.strerror or str(error)
    )


def kind_of(mode: int) -> str:
    """Name the kind of a file that is not a regular one."""
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
    import pathspec  # costs 30 ms, which a scan without patterns need not pay

    try:
        return pathspec.GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:  # pathspec's pattern errors are ValueErrors
        raise UsageError(
            f"a pattern cannot be read: {error}", hint="patterns are those of a .gitignore file"
        ) from error
