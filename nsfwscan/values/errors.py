"""Everything nsfwscan raises on purpose.

    NsfwscanError
    ├── UsageError             the request itself makes no sense
    │   └── PathNotFound       a path that was given does not exist; a FileNotFoundError, too
    ├── ResourcesExhausted     the system refuses memory or a thread
    ├── ConfigError            the configuration file or an NSFWSCAN_* variable is wrong
    ├── AlreadyRunning         another watcher keeps the same cache up to date
    ├── ServiceError           the system's service manager is missing or refuses
    ├── ModelError
    │   ├── ManifestError      a manifest is missing, malformed or incomplete
    │   ├── ModelNotFound      no such model, installed or known
    │   ├── ModelTampered      bytes that are not what their manifest says
    │   ├── ModelUnusable      a graph onnxruntime refuses, or not what its manifest says
    │   └── DownloadError
    │       ├── HubUnreachable nobody answers, or only a proxy does
    │       └── OfflineError   the network would be needed and is forbidden
    ├── CacheError
    │   ├── CacheTooNew        written by a later nsfwscan
    │   └── CacheUnavailable   cannot be opened, read or written
    ├── ActionError            an action cannot be taken, or a quarantine cannot be used
    ├── JournalError           a file of decisions or moves cannot be read or written
    ├── RulingsError           people's decisions cannot all be read, or not be written
    ├── BundleDamaged          a file of the bundled program is not as it was packed
    └── DecodeError            one picture cannot be decoded; the scanner turns it into `Failed`

Each has a message that names the thing, and a `hint` that names the next step. All of them but
`DecodeError` end a command; `cli/shared/codes.py` says with which exit code.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nsfwscan.values.results import FailReason


class NsfwscanError(Exception):
    """The root of the tree; `str(error)` is one sentence, `hint` says what to do next."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(NsfwscanError):
    """The request itself makes no sense."""


class PathNotFound(UsageError, FileNotFoundError):
    """A path that was given does not exist. `filename` is the path."""

    def __init__(self, message: str, *, path: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.errno = errno.ENOENT
        self.filename = path

    def __str__(self) -> str:
        return str(self.args[0])


_EXHAUSTED = (
    "can't start new thread",  # Python
    "failed to map segment",  # the loader of shared libraries
    "Cannot allocate memory",  # the same, and whoever repeats errno
    "Failed to allocate memory",  # onnxruntime
    "bad_alloc",  # C++
    "bad allocation",  # C++ of Windows
)


class ResourcesExhausted(NsfwscanError):
    """The system refuses memory or a thread."""

    @classmethod
    def because(cls, error: BaseException) -> ResourcesExhausted | None:
        """Return such an error when `error` says so, and None for any other."""
        said = str(error)
        if isinstance(error, MemoryError) or any(words in said for words in _EXHAUSTED):
            return cls(
                "the system refuses memory or a thread",
                hint="close some programs, or raise the limits (`ulimit -a`)",
            )
        return None


class ConfigError(NsfwscanError):
    """The configuration file or an NSFWSCAN_* variable is wrong."""


class AlreadyRunning(NsfwscanError):
    """Another watcher keeps the same library up to date."""


class ServiceError(NsfwscanError):
    """The system's service manager is missing or refuses."""


class ModelError(NsfwscanError):
    """Something about a model."""


class ManifestError(ModelError):
    """A manifest is missing, malformed or incomplete."""


class ModelNotFound(ModelError):
    """No such model, installed or known."""


class ModelTampered(ModelError):
    """Bytes that are not what their manifest says."""


class ModelUnusable(ModelError):
    """onnxruntime refuses the graph, or the graph is not what its manifest says."""


class DownloadError(ModelError):
    """A model could not be fetched."""


class HubUnreachable(DownloadError):
    """Nobody answers at the hub, or only a proxy does."""


class OfflineError(DownloadError):
    """The network would be needed and is forbidden."""


class CacheError(NsfwscanError):
    """Something about the library of earlier results."""


class CacheTooNew(CacheError):
    """The library was written by a later nsfwscan."""


class CacheUnavailable(CacheError):
    """The library cannot be opened, read or written."""


class ActionError(NsfwscanError):
    """An action cannot be taken, or a quarantine cannot be used."""


class JournalError(NsfwscanError):
    """A file of decisions or moves cannot be read or written."""


class RulingsError(NsfwscanError):
    """People's decisions cannot all be read, or not be written.

    A scan ends with this. To go on without them could pass a denied picture as safe.
    """


class BundleDamaged(NsfwscanError):
    """A file of the bundled program is not as it was packed."""


class DecodeError(NsfwscanError):
    """One picture cannot be decoded."""

    def __init__(self, reason: FailReason, detail: str = "", *, passing: bool = False) -> None:
        """With `passing` the cause may lie outside the picture: another try may succeed."""
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail
        self.passing = passing

    def about(self, path: str) -> DecodeError:
        """Return the same error with a message that names the file; `path` may be empty."""
        named = DecodeError(self.reason, self.detail, passing=self.passing)
        if path:
            named.args = (f"{path}: {self}",)
        return named
