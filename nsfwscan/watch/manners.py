"""Being a good neighbour: low priority, and stepping back on battery or when others need the cores.

In: what the user allows. Out: a `Pace`, cheap to ask for each second. The one module that knows
psutil, which is imported when it is needed and never by a scan.
"""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_NICE = 10
"""Behind everything a person waits for, and before what runs at 19 and may never get a turn."""
_BATTERY_EVERY_S = 10.0
_LOAD_EVERY_S = 5.0
_CALM = 0.7
"""Others have to come down to this share of the limit before work goes on: no stop and go."""


class When(StrEnum):
    """What to do on battery, or under load."""

    RUN = "run"
    SLOW = "slow"
    """Rest as long as the last work took."""
    PAUSE = "pause"


class Pace(NamedTuple):
    """How to go on, and why."""

    when: When
    reason: str
    """One clause for a person, such as `on battery`; empty for `RUN`."""


@dataclass(frozen=True, slots=True)
class PauseOptions:
    """When to step back."""

    on_battery: When = When.SLOW
    under_load: When = When.SLOW
    load_limit: float = 0.75
    """Share of all cores, 0 to 1, that other programs may keep busy before it counts as load."""


class Readings(NamedTuple):
    """Where readings come from; tests bring their own."""

    on_battery: Callable[[], bool]
    busy: Callable[[], tuple[float, float]]
    """Processor seconds since the start that others used, and all that there were."""
    clock: Callable[[], float]


class Pauses:
    """Tells whether to go on now. To be asked by one thread, as often as it likes."""

    def __init__(self, options: PauseOptions, readings: Readings | None = None) -> None:
        self._options = options
        self._readings = readings or Readings(_on_battery, _busy, time.monotonic)
        self._battery = False
        self._battery_at = -_BATTERY_EVERY_S
        self._loaded = False
        self._load_at = self._readings.clock()
        self._before: tuple[float, float] | None = None

    def pace(self) -> Pace:
        """Return how to go on: the stricter of battery and load."""
        options = self._options
        if self._is_on_battery() and options.on_battery is not When.RUN:
            pace = Pace(options.on_battery, "on battery")
            if pace.when is When.PAUSE:
                return pace
        else:
            pace = Pace(When.RUN, "")
        if options.under_load is not When.RUN and self._is_loaded():
            strict = options.under_load is When.PAUSE or pace.when is When.RUN
            return Pace(options.under_load, "other programs are busy") if strict else pace
        return pace

    def reason(self) -> str | None:
        """Return why nothing should be done now, or None."""
        pace = self.pace()
        return pace.reason if pace.when is When.PAUSE else None

    def _is_on_battery(self) -> bool:
        now = self._readings.clock()
        if now - self._battery_at >= _BATTERY_EVERY_S:
            self._battery_at = now
            self._battery = self._readings.on_battery()
        return self._battery

    def _is_loaded(self) -> bool:
        now = self._readings.clock()
        if self._before is None or now - self._load_at >= _LOAD_EVERY_S:
            used, total = self._readings.busy()
            if self._before is not None and total > self._before[1]:
                share = (used - self._before[0]) / (total - self._before[1])
                limit = self._options.load_limit * (_CALM if self._loaded else 1.0)
                self._loaded = share > limit
            self._before, self._load_at = (used, total), now
        return self._loaded


def be_gentle() -> None:
    """Give this process, and those it starts, low processor and I/O priority. Never raises."""
    import psutil

    try:
        process = psutil.Process()
    except (psutil.Error, OSError):  # it reads /proc
        return
    with contextlib.suppress(psutil.Error, OSError):
        if sys.platform == "win32":
            process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        else:
            process.nice(max(_NICE, int(process.nice())))
    with contextlib.suppress(psutil.Error, OSError, AttributeError):
        if sys.platform == "linux":
            # Not "idle": on a disk that is never idle, pictures would never be read.
            process.ionice(psutil.IOPRIO_CLASS_BE, 7)
        elif sys.platform == "win32":
            process.ionice(psutil.IOPRIO_LOW)


def _on_battery() -> bool:
    import psutil

    sensors = getattr(psutil, "sensors_battery", None)  # not on every system
    try:
        battery = sensors() if sensors else None
    except (psutil.Error, OSError, ValueError):  # odd power supplies exist
        return False
    return battery is not None and battery.power_plugged is False


def _busy() -> tuple[float, float]:
    """Read the processor's clocks.

    The watcher must not step back from itself. On Linux, what `be_gentle` lowered counts as nice
    and is left out; elsewhere nobody tells, and what this process and its decoders used is taken
    off.
    """
    import psutil

    try:
        times = psutil.cpu_times()._asdict()
    except (psutil.Error, OSError, ValueError, TypeError):  # the last, of a file cut short
        return 0.0, 0.0
    total = sum(times.values()) - times.get("guest", 0.0) - times.get("guest_nice", 0.0)
    used = times["user"] + times["system"] + times.get("steal", 0.0)
    if sys.platform != "linux":
        process = psutil.Process()
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error, OSError):
                own = one.cpu_times()
                used -= own.user + own.system
    return used, total
