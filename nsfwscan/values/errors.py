"""Everything nsfwscan raises on purpose.

    NsfwscanError
    ├── UsageError             the request itself makes no sense
    │   └── PathNotFound       a given path does not exist; also a FileNotFoundError
    ├── ResourcesExhausted     the system is out of memory or threads
    ├── ConfigError            the configuration file or an NSFWSCAN_* variable is invalid
    ├── AlreadyRunning         another watcher is using the same cache
    ├── ServiceError           the system's service manager is missing or refuses
    ├── ModelError
    │   ├── ManifestError      a manifest is missing, malformed or incomplete
    │   ├── ModelNotFound      no such model, installed or known
    │   ├── ModelTampered      files that do not match their manifest
    │   ├── ModelUnusable      onnxruntime refuses the graph, or it does not match its manifest
    │   └── DownloadError
    │       ├── HubUnreachable no answer, or only from a proxy
    │       └── OfflineError   the network is needed but not allowed
    ├── CacheError
    │   ├── CacheTooNew        written by a later nsfwscan
    │   └── CacheUnavailable   cannot be opened, read or written
    ├── ActionError            an action cannot be taken, or a quarantine cannot be used
    ├── JournalError           a journal of rulings or moves cannot be read or written
    ├── RulingsError           some rulings cannot be read, or rulings cannot be written
    ├── BundleDamaged          a file of the bundled program is not as it was packed
    └── DecodeError            one picture cannot be decoded; the scanner turns it into `Failed`

Each has a message that names the thing, and a `hint` that names the next step. All but
`DecodeError` end a command; `cli/shared/codes.py` has their exit codes.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nsfwscan.values.results import FailReason


class NsfwscanError(Exception):
    """Base of all errors; `str(error)` is one sentence, `hint` says what to do next."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(NsfwscanError):
    """The request itself makes no sense."""


class PathNotFound(UsageError, FileNotFoundError):
    """A given path does not exist. `filename` is the path."""

    def __init__(self, message: str, *, path: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.errno = errno.ENOENT
        self.filename = path

    def __str__(self) -> str:
        return str(self.args[0])


_EXHAUSTED = (
    "can't start new thread",  # Python
    "failed to map segment",  # the dynamic loader
    "Cannot allocate memory",  # the dynamic loader, and messages that quote errno
    "Failed to allocate memory",  # onnxruntime
    "bad_alloc",  # C++
    "bad allocation",  # C++ on Windows
)


class ResourcesExhausted(NsfwscanError):
    """The system is out of memory or threads."""

    @classmethod
    def because(cls, error: BaseException) -> ResourcesExhausted | None:
        """Return a `ResourcesExhausted` if that is what `error` means, else None."""
        said = str(error)
        if isinstance(error, MemoryError) or any(words in said for words in _EXHAUSTED):
            return cls(
                "the system is out of memory or threads",
                hint="close some programs, or raise the limits (`ulimit -a`)",
            )
        return None


class ConfigError(NsfwscanError):
    """The configuration file or an NSFWSCAN_* variable is invalid."""


class AlreadyRunning(NsfwscanError):
    """Another watcher is using the same cache."""


class ServiceError(NsfwscanError):
    """The system's service manager is missing or refuses."""


class ModelError(NsfwscanError):
    """A model is missing, damaged or unusable."""


class ManifestError(ModelError):
    """A manifest is missing, malformed or incomplete."""


class ModelNotFound(ModelError):
    """No such model, installed or known."""


class ModelTampered(ModelError):
    """A model's files do not match its manifest."""


class ModelUnusable(ModelError):
    """onnxruntime refuses the graph, or the graph does not match its manifest."""


class DownloadError(ModelError):
    """A model could not be fetched."""


class HubUnreachable(DownloadError):
    """The hub does not answer, or only a proxy does."""


class OfflineError(DownloadError):
    """The network is needed but not allowed."""


class CacheError(NsfwscanError):
    """The cache cannot be used."""


class CacheTooNew(CacheError):
    """The cache was written by a later nsfwscan."""


class CacheUnavailable(CacheError):
    """The cache cannot be opened, read or written."""


class ActionError(NsfwscanError):
    """An action cannot be taken, or a quarantine cannot be used."""


class JournalError(NsfwscanError):
    """A journal of rulings or moves cannot be read or written."""


class RulingsError(NsfwscanError):
    """Some rulings cannot be read, or rulings cannot be written.

    This ends a scan: without all rulings, a denied picture could pass as safe.
    """


class BundleDamaged(NsfwscanError):
    """A file of the bundled program is not as it was packed."""


class DecodeError(NsfwscanError):
    """One picture cannot be decoded."""

    def __init__(self, reason: FailReason, detail: str = "", *, transient: bool = False) -> None:
        """With `transient`, the cause may lie outside the picture, so a retry may succeed."""
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail
        self.transient = transient

    def about(self, path: str) -> DecodeError:
        """Return the same error with a message that names the file; `path` may be empty."""
        named = DecodeError(self.reason, self.detail, transient=self.transient)
        if path:
            named.args = (f"{path}: {self}",)
        return named
