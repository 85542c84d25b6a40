"""Decides, moves, and undoes: everything that a person does on the page, one thing at a time.

In: SHA-256s that were shown. Out: a `ReviewStep` for each deed, which `undo` takes back, to any
depth. A decision is one append to the rulings, on the disk before the answer: a kill loses at most
the one under way. Raises `Refusal` for what makes no sense, and `NsfwscanError` if something cannot
be written; then nothing was done.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from nsfwscan.actions import tag
from nsfwscan.actions.quarantine.latest_decisions import LatestDecisions
from nsfwscan.judge.ruled import Forgotten
from nsfwscan.scanning.ruling_files import Seen, rulings_about
from nsfwscan.values.errors import NsfwscanError
from nsfwscan.values.results import Ruling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nsfwscan.actions.quarantine.held import Quarantines
    from nsfwscan.judge import RulingBook
    from nsfwscan.judge.ruled import Entry, Ruled
    from nsfwscan.review.collect import ReviewPicture, ReviewSet
    from nsfwscan.review.lookup import Lookup
    from nsfwscan.review.moving import Move, Mover


class Refusal(Exception):
    """A request that is not carried out; `str(refusal)` says why, in words for the user."""


class StepKind(StrEnum):
    """What a step did."""

    ALLOWED = "allowed"
    DENIED = "denied"
    QUARANTINED = "quarantined"


@dataclass(slots=True)
class ReviewStep:
    """Something done that can be undone."""

    kind: StepKind
    sha256: bytes
    """The picture that was on the screen."""
    contents: list[bytes]
    """All contents that it was done to, the picture first."""
    before: dict[bytes, Ruled | None] = field(default_factory=dict)
    """The rulings that held before, for those that changed."""
    moves: list[Move] = field(default_factory=list)
    staying: set[bytes] = field(default_factory=set)
    """The contents of which a copy could not be moved."""
    problems: list[str] = field(default_factory=list)
    """What could not be done, in sentences for the user."""


class WasShown(Protocol):
    """A function such as `Gallery.was_shown`."""

    def __call__(self, sha256: bytes) -> bool:
        """Return True if the picture was handed to the browser."""


class Desk:
    """What a person does in one review. Thread-safe; one thing is done at a time."""

    def __init__(
        self,
        pictures: ReviewSet,
        book: RulingBook,
        quarantines: Quarantines,
        mover: Mover,
        lookup: Lookup,
        *,
        was_shown: WasShown,
        warn: Callable[[str], None],
    ) -> None:
        self._pictures = pictures
        self._book = book
        self._quarantines = quarantines
        self._mover = mover
        self._lookup = lookup
        self._was_shown = was_shown
        self._warn = warn
        self._lock = threading.Lock()
        self._answers: dict[str, ReviewStep | None] = {}
        """By the request's id: one that is sent twice is carried out once."""
        self.steps: list[ReviewStep] = []
        self.undone = 0
        self._failed: set[tuple[str, bytes]] = set()
        """What could not be stored or moved: the deed, and the picture that was on the screen."""

    @property
    def failures(self) -> int:
        """How many deeds could not be carried out, nor at a later try."""
        return len(self._failed)

    def rulings(self) -> dict[bytes, Ruling]:
        """Return the rulings in force about the pictures of this review."""
        held = self._book.current(self._warn)
        return {one.sha256: one.ruling for one in held if self._pictures.find(one.sha256)}

    def decide(
        self, request: str, sha256: bytes, ruling: Ruling, also: Iterable[bytes] = ()
    ) -> ReviewStep:
        """Rule on a picture, and on those in `also`, which look like it.

        Of those in `also`, pictures that a person ruled on before keep their ruling.
        """

        def carry_out() -> ReviewStep:
            wanted = self._checked(sha256, also)
            before = self._book.about(one.sha256 for one in wanted)
            free = [one for one in wanted[1:] if before.by_content(one.sha256) is None]
            seen = [Seen(one.places[0], one.sha256) for one in (wanted[0], *free)]
            said = LatestDecisions(self._quarantines.everywhere, self._warn)
            new = rulings_about(seen, ruling, before, restored_at=said.restored_at)
            self._book.add(new)
            step = ReviewStep(StepKind(ruling.value), sha256, [one.sha256 for one in seen])
            step.before = {one.sha256: before.by_content(one.sha256) for one in new}
            if ruling is Ruling.ALLOWED:
                step.problems += self._untag([wanted[0], *free])
            self._note("decide", sha256, failed=False)
            return step

        return self._do(request, "decide", sha256, carry_out)

    def quarantine(self, request: str, sha256: bytes, also: Iterable[bytes] = ()) -> ReviewStep:
        """Move a picture to quarantine, from every place, and those in `also`."""

        def carry_out() -> ReviewStep:
            wanted = self._checked(sha256, also)
            step = ReviewStep(StepKind.QUARANTINED, sha256, [])
            for one in wanted:
                moves, problems = self._mover.move(one)
                step.moves += moves
                step.problems += problems
                if moves:
                    step.contents.append(one.sha256)
                if problems and self._lookup.holding(one):
                    step.staying.add(one.sha256)
            self._note("quarantine", sha256, failed=bool(step.staying))
            if not step.moves:
                raise Refusal("; ".join(step.problems) or "There is nothing to move.")
            return step

        return self._do(request, "quarantine", sha256, carry_out)

    def undo(self, request: str) -> ReviewStep | None:
        """Take back the last step that is not undone yet; return it, or None if there is none.

        A picture whose ruling was changed elsewhere meanwhile gets back what held before the step.
        """
        with self._lock:
            if request in self._answers:
                return self._answers[request]
            if not self.steps:
                return None
            step = self.steps[-1]
            self._note("undo", step.sha256, failed=True)
            if step.kind is StepKind.QUARANTINED:
                step.problems = self._mover.move_back(step.moves)
            else:
                step.problems = []
                self._book.add(_former(step.before))
            self._note("undo", step.sha256, failed=False)
            self.steps.pop()
            self.undone += 1
            self._answers[request] = step
            return step

    def close(self) -> None:
        """Remove from the rulings' file what was taken back, paths included.

        Waits for a deed that is under way, such as a move between disks.
        """
        with self._lock:
            if self.undone:
                self._book.forget(())

    def _do(
        self, request: str, deed: str, sha256: bytes, carry_out: Callable[[], ReviewStep]
    ) -> ReviewStep:
        with self._lock:
            known = self._answers.get(request)
            if known is not None:
                return known
            try:
                step = carry_out()
            except NsfwscanError:
                self._note(deed, sha256, failed=True)
                raise
            self.steps.append(step)
            self._answers[request] = step
            return step

    def _note(self, deed: str, sha256: bytes, *, failed: bool) -> None:
        if failed:
            self._failed.add((deed, sha256))
        else:
            self._failed.discard((deed, sha256))

    def _checked(self, sha256: bytes, also: Iterable[bytes]) -> list[ReviewPicture]:
        """Return the picture and those of `also` that look like it. Raises `Refusal`."""
        picture = self._pictures.pictures.get(sha256)
        if picture is None:
            raise Refusal("This picture is not part of the review.")
        if not self._was_shown(sha256):
            raise Refusal("This picture has not been shown yet.")
        wanted = dict.fromkeys(also)
        alike = [one for one in picture.alike if one.sha256 in wanted]
        if len(alike) < len(wanted):
            raise Refusal("Some of these pictures do not look like this one.")
        if not all(self._was_shown(one.sha256) for one in alike):
            raise Refusal("Some of these pictures have not been shown yet.")
        return [picture, *alike]

    def _untag(self, pictures: Iterable[ReviewPicture]) -> list[str]:
        """Remove the tags that an earlier scan gave to pictures that are safe now.

        Another picture that has taken the place of one of them meanwhile keeps its own.
        """
        places = (
            path
            for one in pictures
            for path in map(os.path.realpath, self._lookup.known(one))
            if tag.has_marks(path) and self._lookup.holds(path, one.sha256)
        )
        return [why for path in places if (why := tag.remove_marks(path))]


def _former(before: dict[bytes, Ruled | None]) -> list[Entry]:
    """Return the entries after which these rulings hold again."""
    now = int(time.time())
    return [
        Forgotten(sha256, now) if held is None else held._replace(at=max(now, held.at))
        for sha256, held in before.items()
    ]
