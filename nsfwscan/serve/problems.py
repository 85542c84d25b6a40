"""What can go wrong with a request, and the one place that gives each its status.

In: an exception. Out: a `Problem`, which each protocol writes in its own form. Nothing here may
read as "safe": a picture without a verdict is always an error or says so in its record.

    RequestRefused              the request cannot be answered; `status` says why
    ├── Overloaded      429     too much is waiting: come back later
    └── Unavailable     503     there is no model to score with, or it fails
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsfwscan.values.errors import NsfwscanError

if TYPE_CHECKING:
    from nsfwscan.values.results import Failed, FailReason

_UNAVAILABLE_S = 5.0
"""Seconds after which to try again where nothing better is known."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request has no answer."""

    status: int
    """The HTTP status, 400 to 599."""
    code: str
    """A stable word for programs, such as `too-large`."""
    message: str
    """One sentence for people."""
    reason: FailReason | None = None
    """The reason of a picture without a verdict."""
    retry_after: float | None = None
    """Seconds until it is worth trying again; None if it is not."""
    loading: bool = False
    """Whether the model is still being loaded."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers that every protocol sends with it."""
        if self.retry_after is None:
            return {}
        return {"Retry-After": str(max(1, round(self.retry_after)))}


class RequestRefused(NsfwscanError):
    """A request cannot be answered."""

    def __init__(self, status: int, code: str, message: str) -> None:
        """`status` is that of HTTP, `code` a stable word for programs."""
        super().__init__(message)
        self.status, self.code = status, code

    @property
    def problem(self) -> Problem:
        """The same as a value."""
        return Problem(self.status, self.code, str(self))


class Overloaded(RequestRefused):
    """Too much is waiting already."""

    def __init__(
        self, retry_after: float, message: str = "too many pictures are waiting to be scored"
    ) -> None:
        """`retry_after` is the number of seconds until it is worth trying again."""
        super().__init__(429, "overloaded", message)
        self.retry_after = retry_after

    @property
    def problem(self) -> Problem:
        """The same as a value."""
        return Problem(self.status, self.code, str(self), retry_after=self.retry_after)


class Unavailable(RequestRefused):
    """Nothing can be scored now: the model is loading, missing or broken. Never "safe"."""

    def __init__(
        self, reason: str, retry_after: float = _UNAVAILABLE_S, *, loading: bool = False
    ) -> None:
        """`reason` is a sentence; `retry_after` seconds until it is worth trying again."""
        super().__init__(503, "loading" if loading else "unavailable", reason)
        self.retry_after, self.loading = retry_after, loading

    @property
    def problem(self) -> Problem:
        """The same as a value."""
        return Problem(
            self.status, self.code, str(self), retry_after=self.retry_after, loading=self.loading
        )


class NoVerdict(Exception):
    """A picture of a request that can only be answered with scores has none."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.detail)
        self.failed = failed


def problem_of(error: Exception) -> Problem:
    """Return what to answer for `error`. An unforeseen one is a bug: 500."""
    match error:
        case RequestRefused():
            return error.problem
        case NoVerdict():
            return problem_of_picture(error.failed)
        case NsfwscanError():
            return Unavailable(str(error)).problem
        case _:
            return Problem(500, "internal", "an error in nsfwscan; its log says more")


def problem_of_picture(failed: Failed) -> Problem:
    """Return the problem of a picture without a verdict.

    The picture is at fault, unless the cause may lie outside it.
    """
    message = f"{failed.reason}: {failed.detail}" if failed.detail else str(failed.reason)
    if failed.transient:
        return Problem(503, "no-verdict", message, failed.reason, _UNAVAILABLE_S)
    return Problem(400, "no-verdict", message, failed.reason)
