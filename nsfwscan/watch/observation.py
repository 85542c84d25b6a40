"""Whether the system's hints can be relied on, root by root.

In: the roots, and every two seconds a `check`. Out: reasons to look at everything, which folders
are away, and conditions. Hints end without a word when an observer dies, a disk is unplugged, the
computer sleeps or watches run out; this is where each of these is found.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from nsfwscan.watch.events import watched_inodes
from nsfwscan.watch.places import Presence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nsfwscan.watch.conditions import Conditions
    from nsfwscan.watch.events import Events
    from nsfwscan.watch.places import WatchedPlaces

CHECK_S = 2.0
"""How often to check."""
_OBSERVE_AGAIN_S = 60.0
"""How often a root that could not be observed is tried again."""
_FEW_AGAIN_S, _FEW_AGAIN_MOST_S = 10.0, 640.0
"""How long after new observers began because there were fewer watches than folders it may be done
again: longer each time, because when watches have run out it changes nothing."""
_JUMP_S = 5.0
_LONG_SILENCE_S = 20.0
_DOUBT_S = 5.0
_DOUBT_SHARE = 0.05
"""How long after hints came into doubt new observers begin, and the share of the time that looking
at everything may take then."""


class Observation:
    """The observers of the roots, and how far they can be believed."""

    def __init__(
        self,
        roots: Sequence[str],
        events: Events,
        places: WatchedPlaces,
        conditions: Conditions,
        *,
        without_events: bool,
    ) -> None:
        self._roots = tuple(roots)
        self._events, self._places, self._conditions = events, places, conditions
        self._without_events = without_events
        self.away: set[str] = set()
        """Roots that are not there."""
        self.watched = 0
        """Folders that the system watches for us, when they were last counted."""
        self._observed: set[str] = set()
        self._observe_again_at = math.inf
        self._count_at = math.inf
        self._doubt_at = math.inf
        """When hints were first in doubt, since the observers began."""
        self._few_again_at, self._few_wait_s = -math.inf, _FEW_AGAIN_S
        self._clock_offset = time.time() - time.monotonic()
        self.checked_at = -math.inf

    def begin(self) -> None:
        """Observe the roots that are there."""
        for root in self._roots:
            if self._places.presence(root) is Presence.AWAY:
                self._wait_for(root)
            else:
                self._observe(root)

    @property
    def must_poll(self) -> bool:
        """Whether there are folders of which the system tells nothing."""
        return self._without_events or self._conditions.any_of("silent", "events", "watches")

    def doubt(self, now: float) -> None:
        """Take note that hints were lost, or came that cannot be true."""
        self._doubt_at = min(self._doubt_at, now)

    def count_soon(self) -> None:
        """Count the watches a little later: a folder is new."""
        self._count_at = min(self._count_at, time.monotonic() + CHECK_S)

    def is_time_to_count(self, now: float) -> bool:
        """Tell whether `count` is due."""
        return now >= self._count_at

    def check(
        self, now: float, *, last_beat: float, walk_s: float, may_change: bool
    ) -> Iterator[str]:
        """Look for what breaks the flow of hints, and yield reasons to look at everything.

        `last_beat` is when the process last was known to run, `walk_s` how long such a look takes;
        `may_change` that a root which is another folder than before is not being looked at already.
        """
        gap_s = now - self.checked_at
        self.checked_at = now
        offset = time.time() - time.monotonic()
        if abs(offset - self._clock_offset) > _JUMP_S:
            yield "the computer slept, or its clock was set"
        elif _LONG_SILENCE_S < gap_s < math.inf and last_beat < now - _LONG_SILENCE_S:
            yield "the process had been stopped"
        self._clock_offset = offset
        remounted = self._places.look()
        for root in self._roots:
            yield from self._check_root(root, remounted=remounted, may_change=may_change)
            if may_change and root not in self.away:
                yield from self._check_inside(root)
        if remounted:
            yield "something was mounted or unmounted"
        if now >= self._doubt_at + _DOUBT_S + walk_s / _DOUBT_SHARE:
            yield self._observe_anew()

    def _check_root(self, root: str, *, remounted: bool, may_change: bool) -> Iterator[str]:
        presence = self._places.presence(root)
        if presence is Presence.AWAY:
            if root not in self.away:
                self._wait_for(root)
            return
        if root in self.away:
            self.away.discard(root)
            self._conditions.note(f"away {root}", "")
            self._observe(root)
            yield f"{root} is back"
        elif presence is Presence.OTHER and may_change:
            self._observe(root)
            yield f"{root} is another folder now"
        elif self._events.leads_elsewhere(root):
            self._observe(root)
            yield f"{root} leads elsewhere now"
        elif remounted:
            self._observe(root)
        elif self._events.is_swamped(root):
            self._observe(root)
            yield "changes came too fast"
        elif root in self._observed and not self._events.observes(root):
            self._observe(root)
            yield "the observer had ended"
        elif root not in self._observed and time.monotonic() >= self._observe_again_at:
            self._observe(root)

    def _check_inside(self, root: str) -> Iterator[str]:
        """Find folders that are used without the disk that was mounted there."""
        for place in self._places.inner(root):
            if self._places.presence(place) is Presence.OTHER:
                yield f"{place} is another folder now"

    def _observe_anew(self) -> str:
        """Begin to observe anew, a while after hints came into doubt; return why.

        Folders that move while watchdog sets its watches, at the start or after an overflow, may go
        on being reported by names they no longer have. A soak found pictures in such folders.
        """
        self._doubt_at = math.inf
        for root in self._roots:
            if root not in self.away:
                self._observe(root)
        return "changes had been lost, or folders were not watched, or by names they no longer have"

    def _doubt_few(self, now: float) -> None:
        """Begin anew soon: watchdog may miss a folder made while it begins to watch another."""
        if now >= self._few_again_at:
            self._few_again_at = now + self._few_wait_s
            self._few_wait_s = min(2 * self._few_wait_s, _FEW_AGAIN_MOST_S)
            self.doubt(now)

    def _observe(self, root: str) -> None:
        self._observed.discard(root)
        self._observe_again_at = time.monotonic() + _OBSERVE_AGAIN_S
        if self._without_events:
            return
        silent, events = f"silent {root}", f"events {root}"
        if self._places.is_silent(root):
            self._events.forget(root)
            self._conditions.note(silent, f"{root} is polled: its file system reports no changes")
            return
        self._conditions.note(silent, "")
        problem = self._events.observe(root)
        self._conditions.note(events, problem and f"{root} is polled: {problem}")
        if not problem:
            self._observed.add(root)

    def _wait_for(self, root: str) -> None:
        self.away.add(root)
        self._observed.discard(root)
        self._events.forget(root)
        self._conditions.note(f"away {root}", f"waiting for {root}, which is not there")

    def count(self, folders: Mapping[str, int]) -> None:
        """Find out whether every folder is watched: when watches run out, nobody says so.

        `folders` are all that exist, each with its inode number.
        """
        self._count_at = math.inf
        if self._without_events:
            return
        inodes = watched_inodes()
        if inodes is None:
            self.watched = len(folders)
            return
        known = set(inodes)
        count = sum(inode in known for inode in folders.values())
        if not count:  # a file system that shows other numbers; then all that is left is to count
            count = min(len(inodes), len(folders))
        self.watched = count
        few = count < len(folders) and not self._conditions.any_of("silent")
        if few:
            self._doubt_few(time.monotonic())
        else:
            self._few_again_at, self._few_wait_s = -math.inf, _FEW_AGAIN_S
        self._conditions.note(
            "watches", f"{count} of {len(folders)} directories watched" if few else ""
        )
