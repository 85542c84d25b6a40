"""Handing what a watcher tells to its consumer, so that nothing it did not take is lost.

In: the generator `Watcher.run`, and a function that takes each value. Out: nothing; it returns when
the watcher ends. What can fail: an error of the consumer is raised in the watcher, at the `yield`.
If the watcher cannot go on with it, it is raised here.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from nsfwscan.values.changes import Told


def hand_on(told: Generator[Told], take: Callable[[Told], None]) -> None:
    """Call `take` for each value of `told`."""
    with contextlib.closing(told):
        value = next(told, None)
        while value is not None:
            try:
                take(value)
            except Exception as error:  # noqa: BLE001  the watcher decides
                try:
                    value = told.throw(error)
                except StopIteration:
                    return
            else:
                value = next(told, None)
