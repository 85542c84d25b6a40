"""Who answers signals, and work that Ctrl-C must not cut in half."""

from __future__ import annotations

import _thread
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Paint
from shell import Call
from tiny_model import GREEN

from nsfwscan.cli.shared.stopping import Stopping
from nsfwscan.system import interrupts

ROOT = Path(__file__).parents[1]
ANSWERS = re.compile(r"signal\.signal\(|except KeyboardInterrupt")
OWNERS = {
    "nsfwscan/system/interrupts.py": "sets and restores handlers for all others",
    "nsfwscan/cli/main.py": "makes the line and the exit code of an interrupt, and does so last",
    "nsfwscan/cli/scan_run.py": "an interrupt at a question, after a scan whose results are shown",
    "nsfwscan/cli/shared/acting.py": "ends the line of that question",
    "nsfwscan/__main__.py": "the first lines of a program, before anything is imported",
    "nsfwscan/media/decode/worker.py": "another process, which leaves it to its parent",
    "quantize/__main__.py": "another program, which its parent ends by signals",
}
"""Every file that answers signals, and why it does so itself."""


def test_work_is_done_where_the_system_refuses_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_given: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("nsfwscan.system.interrupts._thread.start_new_thread", refuse)
    assert interrupts.apart(lambda: 7) == 7


def test_every_file_that_answers_signals_has_a_reason_to() -> None:
    files = [one for top in ("nsfwscan", "quantize") for one in (ROOT / top).rglob("*.py")]
    answering = {
        one.relative_to(ROOT).as_posix()
        for one in files
        if ANSWERS.search(one.read_text("utf-8")) is not None
    }
    assert answering == set(OWNERS)


def test_handlers_are_restored_also_after_an_interrupt() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(one) for one in numbers]

    def work() -> None:
        with interrupts.answered(interrupts.interrupt, "SIGINT", "SIGTERM", "SIGNEVER"):
            interrupts.answer(lambda *_: None, "SIGINT")
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert [signal.getsignal(one) for one in numbers] == before


def test_held_signals_come_when_the_block_is_left() -> None:
    came: list[int] = []
    with interrupts.answered(lambda number, _: came.append(number), "SIGINT"):
        with interrupts.held():
            signal.raise_signal(signal.SIGINT)
            assert came == []
        assert came == [signal.SIGINT]


def test_an_ignored_signal_is_told_from_one_that_is_answered() -> None:
    assert not interrupts.is_ignored("SIGINT")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert interrupts.is_ignored("SIGINT")
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_only_a_second_ctrl_c_ends_work_at_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], first: signal.Signals
) -> None:
    """Two threads that crash send two SIGTERM, and the command still ends with its own code."""
    did: list[object] = []
    monkeypatch.setattr(os, "_exit", did.append)
    stopping = Stopping(lambda: did.append("stop"), lambda: did.append("abandon"), quiet=False)
    stopping.handle(first, None)
    stopping.handle(signal.SIGTERM, None)
    assert (stopping.told, did) == (True, ["stop", "stop"])
    assert capfd.readouterr().err.count("Press Ctrl-C again to stop immediately") == 1
    stopping.handle(signal.SIGINT, None)
    assert did[2:4] == ["abandon", 130]


def test_a_second_ctrl_c_ends_work_also_while_the_first_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As soon as the message is there, a person may press it again."""
    did: list[object] = []

    def whisper(_data: bytes) -> None:
        did.append("told")
        if "end" not in did:
            stopping.handle(signal.SIGINT, None)

    monkeypatch.setattr("nsfwscan.cli.shared.stopping.whisper", whisper)
    monkeypatch.setattr(os, "_exit", lambda code: did.extend(["end", code]))
    stopping = Stopping(lambda: None, lambda: did.append("abandon"), quiet=False)
    stopping.handle(signal.SIGINT, None)
    assert did == ["told", "abandon", "end", 130]


@pytest.mark.parametrize("step", ["config.read", "lazy.get_command_from_info"])
def test_an_interrupt_before_a_command_began_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    paint: Paint,
    step: str,
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"nsfwscan.cli.shared.{step}", interrupted)
    done = Call(capfd)("scan", paint(tmp_path / "one.png", GREEN))
    assert (done.code, done.out, done.err) == (130, "", "\nnsfwscan: interrupted\n")


START = "_start_joinable_thread" if sys.version_info >= (3, 13) else "_start_new_thread"
"""What `Thread.start` calls."""


def test_starting_a_thread_that_never_begins_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_START_S", 0.2)
    before = signal.getsignal(signal.SIGALRM)
    began = time.monotonic()
    with monkeypatch.context() as patch, interrupts.bounded_start():
        patch.setattr(threading, START, lambda *_, **__: None)
        with pytest.raises(MemoryError, match="does not begin"):
            threading.Thread(target=print).start()
    assert time.monotonic() - began < 5
    assert signal.getsignal(signal.SIGALRM) is before


def test_what_takes_long_beside_starting_a_thread_is_not_cut_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interrupts, "_START_S", 0.1)
    with interrupts.bounded_start():
        time.sleep(0.5)
        threading.Thread(target=lambda: None).start()


@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_another_timer_goes_on_after_threads_were_started(seconds: float) -> None:
    came = threading.Event()
    with interrupts.answered(lambda *_: came.set(), "SIGALRM"):
        former = signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            with interrupts.bounded_start():
                time.sleep(seconds)
            assert came.wait(5)
        finally:
            signal.setitimer(signal.ITIMER_REAL, *former)


def test_a_handler_that_python_cannot_put_back_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda _number: None)
    monkeypatch.setattr(signal, "signal", lambda *_: pytest.fail("replaced"))
    with interrupts.bounded_start():
        pass


def test_work_whose_thread_never_begins_is_done_in_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interrupts, "_START_S", 0.2)
    late: list[Callable[[], None]] = []
    monkeypatch.setattr(_thread, "start_new_thread", lambda run, _arguments: late.append(run))
    done: list[int] = []
    assert interrupts.apart(lambda: done.append(1) or 7) == 7
    (run,) = late
    run()  # it begins after all
    assert done == [1]
