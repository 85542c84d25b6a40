"""When the watcher steps back."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from nsfwscan.watch.manners import Pace, PauseOptions, Pauses, Readings, When, be_gentle


class Machine:
    """A laptop whose battery, load and clock the test sets."""

    def __init__(self) -> None:
        self.unplugged = False
        self.others = 0.0
        """Share of the cores that other programs use."""
        self.now = 100.0
        self.used = self.total = 0.0
        self.asked = 0

    def readings(self) -> Readings:
        return Readings(self._battery, self._busy, lambda: self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.total += 2 * seconds
        self.used += 2 * seconds * self.others

    def _battery(self) -> bool:
        self.asked += 1
        return self.unplugged

    def _busy(self) -> tuple[float, float]:
        self.asked += 1
        return self.used, self.total


RUN = Pace(When.RUN, "")


def test_on_mains_and_alone_work_goes_on() -> None:
    machine = Machine()
    pauses = Pauses(PauseOptions(), machine.readings())
    for _ in range(100):
        assert pauses.pace() == RUN
        assert pauses.reason() is None
        machine.wait(1)
    assert machine.asked < 40, "asking each second must be cheap"


@pytest.mark.parametrize("when", When)
def test_on_battery(when: When) -> None:
    machine = Machine()
    machine.unplugged = True
    pauses = Pauses(PauseOptions(on_battery=when), machine.readings())
    wanted = RUN if when is When.RUN else Pace(when, "on battery")
    assert pauses.pace() == wanted
    assert pauses.reason() == ("on battery" if when is When.PAUSE else None)
    machine.unplugged = False
    machine.wait(11)
    assert pauses.pace() == RUN


@pytest.mark.parametrize("when", When)
def test_under_load_and_back_without_stop_and_go(when: When) -> None:
    machine = Machine()
    pauses = Pauses(PauseOptions(under_load=when, load_limit=0.5), machine.readings())
    assert pauses.pace() == RUN
    machine.others = 0.6
    machine.wait(6)
    wanted = RUN if when is When.RUN else Pace(when, "other programs are busy")
    assert pauses.pace() == wanted
    machine.others = 0.4  # below the limit, and not yet calm
    machine.wait(6)
    assert pauses.pace() == wanted
    machine.others = 0.3
    machine.wait(6)
    assert pauses.pace() == RUN


def test_the_stricter_of_two_reasons_holds() -> None:
    machine = Machine()
    machine.unplugged, machine.others = True, 1.0
    options = PauseOptions(on_battery=When.SLOW, under_load=When.PAUSE)
    pauses = Pauses(options, machine.readings())
    assert pauses.pace() == Pace(When.SLOW, "on battery")
    machine.wait(6)
    assert pauses.reason() == "other programs are busy"
    options = PauseOptions(on_battery=When.PAUSE, under_load=When.SLOW)
    assert Pauses(options, machine.readings()).reason() == "on battery"


def test_a_clock_that_stands_still_is_no_load() -> None:
    machine = Machine()
    pauses = Pauses(PauseOptions(under_load=When.PAUSE), machine.readings())
    assert pauses.pace() == RUN
    machine.now += 60
    assert pauses.pace() == RUN


_GENTLE = """
import json, os, sys, time
import psutil
from nsfwscan.watch.manners import Pauses, PauseOptions, When, be_gentle, _busy, _on_battery
be_gentle()
be_gentle()
process = psutil.Process()
used, total = _busy()
print(json.dumps({
    "nice": process.nice(),
    "ionice": list(process.ionice()) if sys.platform == "linux" else None,
    "counts": 0 <= used <= total,
    "battery": _on_battery(),
}))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="priorities are classes there")
def test_a_system_that_does_not_tell_how_busy_it_is_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error", "/proc/stat")

    monkeypatch.setattr("psutil.cpu_times", fail)
    monkeypatch.setattr("psutil.Process", fail)
    be_gentle()
    pauses = Pauses(PauseOptions())
    assert [pauses.pace().when for _ in range(3)] == [When.RUN] * 3


def test_this_machine_can_be_asked_and_priority_sinks() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _GENTLE], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["nice"] >= 10
    assert found["counts"]
    assert isinstance(found["battery"], bool)
    if sys.platform == "linux":
        assert found["ionice"] == [2, 7]
