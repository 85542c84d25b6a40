"""Work that Ctrl-C must not cut in half."""

from __future__ import annotations

import pytest

from nsfwscan.system import interrupts


def test_work_is_done_where_the_system_refuses_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_given: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("nsfwscan.system.interrupts._thread.start_new_thread", refuse)
    assert interrupts.apart(lambda: 7) == 7
