"""`Review`: one review, put together, and the server that shows it.

In: cache, model, thresholds, rulings, quarantines. Out: a summary of what was decided. Fails with
`CacheError`, `RulingsError`, and OSError if no port can be had.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsfwscan.review import file_manager
from nsfwscan.review.access import Access
from nsfwscan.review.app import application
from nsfwscan.review.collect import ReviewPicture, ReviewSet, collect
from nsfwscan.review.desk import Desk, StepKind
from nsfwscan.review.gallery import Gallery, MakeThumbnail
from nsfwscan.review.lookup import Lookup
from nsfwscan.review.moving import Mover
from nsfwscan.review.presence import GRACE_S, OpenPages
from nsfwscan.values.results import Decision
from nsfwscan.web.guard import LocalOnly
from nsfwscan.web.server import LOOPBACK, LocalServer, loopback_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nsfwscan.actions.quarantine.held import Quarantines
    from nsfwscan.cache.cache import Cache
    from nsfwscan.judge import Judge, Policy, RulingBook
    from nsfwscan.models.manifest import ModelManifest
    from nsfwscan.review.collect import OtherModel
    from nsfwscan.values.outcome import Scorer


@dataclass(frozen=True, slots=True)
class Made:
    """What was done in a review and not undone."""

    allowed: int
    denied: int
    quarantined: int
    """Files, not contents."""
    undone: int
    failures: int


class Review:
    """The pictures to go through, and what a person does about them."""

    def __init__(
        self,
        pictures: ReviewSet,
        *,
        model: str,
        manifest: ModelManifest,
        policy: Policy,
        gallery: Gallery,
        desk: Desk,
        lookup: Lookup,
    ) -> None:
        self.pictures = pictures
        self.model = model
        self.labels = manifest.output.labels
        self.unsafe_labels = manifest.output.unsafe_labels
        self.policy = policy
        self.gallery = gallery
        self.desk = desk
        self._lookup = lookup

    def show_folder(self, picture: ReviewPicture) -> str:
        """Show where a picture is in the file manager; return the folder.

        Raises `Gone`, and `NsfwscanError` if no file manager can be started.
        """
        return file_manager.show(self._lookup.find(picture).path)

    def open_number(self) -> int:
        """Return how many pictures are still to be decided about."""
        done = {*self.desk.rulings(), *self.in_quarantine()}
        return sum(
            one.decision is not Decision.SAFE or one.is_disputed
            for one in self.pictures.pictures.values()
            if one.sha256 not in done
        )

    def in_quarantine(self) -> list[bytes]:
        """Return the contents of this review that are in a quarantine now, and nowhere else.

        One that came back to a folder, or of which a copy stayed there, is still to be handled.
        """
        held = map(self.pictures.find, self._lookup.in_quarantine())
        return [one.sha256 for one in held if one is not None and not self._lookup.holding(one)]

    def made(self) -> Made:
        """Return what was done and not undone: contents with a ruling, and files moved."""
        rulings: dict[bytes, StepKind] = {}
        for step in self.desk.steps:
            if step.kind is not StepKind.QUARANTINED:
                rulings |= dict.fromkeys(step.contents, step.kind)
        kinds = list(rulings.values())
        return Made(
            kinds.count(StepKind.ALLOWED),
            kinds.count(StepKind.DENIED),
            sum(len(step.moves) for step in self.desk.steps),
            self.desk.undone,
            self.desk.failures,
        )


def prepare(
    cache: Cache,
    roots: Iterable[str],
    *,
    scorer: Scorer,
    manifest: ModelManifest,
    judge: Judge,
    book: RulingBook,
    others: Sequence[OtherModel],
    quarantines: Quarantines,
    thumbnail: MakeThumbnail,
    warn: Callable[[str], None],
) -> Review:
    """Find the pictures to go through. Raises `CacheUnavailable`."""
    pictures = collect(cache, roots, scorer, judge, others)
    lookup = Lookup(cache, quarantines)
    gallery = Gallery(lookup, thumbnail)
    mover = Mover(
        quarantines,
        lookup,
        judge.policy,
        model=f"{manifest.package} {manifest.fingerprint[:12]}",
        rulings=lambda: book.current(warn),
        warn=warn,
    )
    desk = Desk(pictures, book, quarantines, mover, lookup, was_shown=gallery.was_shown, warn=warn)
    return Review(
        pictures,
        model=manifest.package,
        manifest=manifest,
        policy=judge.policy,
        gallery=gallery,
        desk=desk,
        lookup=lookup,
    )


class ReviewServer:
    """Serves one review on a loopback port that the system chooses."""

    def __init__(self, review: Review, *, grace_s: float = GRACE_S) -> None:
        """Take a port, from which on the address answers. Raises OSError if there is none."""
        socket = loopback_socket()
        self.authority = f"{LOOPBACK}:{socket.getsockname()[1]}"
        access = Access()
        self.address = f"http://{self.authority}/enter/{access.token}"
        """Works once."""
        self._presence = OpenPages(self.stop, grace_s)
        app = application(review, access, self._presence)
        self._server = LocalServer(LocalOnly(app, self.authority), socket)

    def run(self) -> None:
        """Serve until the page is closed or `stop` is called."""
        self._server.run()

    def stop(self) -> None:
        """End the server. A signal handler may call this."""
        self._server.stop()
        self._presence.end()
