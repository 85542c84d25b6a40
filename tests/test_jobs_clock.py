"""A system clock that is set, as where a computer learns the time after its start."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import scan_fakes
from serving import SAFE, wait_for
from starlette.applications import Starlette
from test_jobs import ended, hand_over, status, uploads, with_jobs

from nsfwscan.serve.jobs import runner
from nsfwscan.serve.jobs.spool import Spool
from nsfwscan.serve.jobs.states import JobPicture, JobState
from nsfwscan.serve.jobs.store import JobStore

DAY_S = 24 * 3600.0
MOVES = [30 * DAY_S, -30 * DAY_S]


@pytest.mark.parametrize("moved", MOVES)
def test_a_clock_that_is_set_ends_and_forgets_no_job(tmp_path: Path, moved: float) -> None:
    now = 1e9
    jobs = JobStore(str(tmp_path), now=lambda: now)
    picture = [JobPicture("", 0, "1.jpg")]
    running, done = jobs.add(picture), jobs.add(picture, callback="http://localhost/")
    now += 100
    jobs.end(done, JobState.DONE)
    now += 100 + moved
    since = jobs.add(picture)
    now += 10
    jobs.clock_was_set(moved)
    assert jobs.expire(DAY_S, 7 * DAY_S) == []
    assert jobs.status(running).state is JobState.RUNNING
    assert now - jobs.status(running).created_at == 210
    assert now - (jobs.status(done).ended_at or 0) == 110
    assert now - jobs.status(since).created_at == 10
    assert [due.job for due in jobs.callbacks_due()] == [done]
    now += DAY_S
    assert jobs.expire(DAY_S, 7 * DAY_S) == [done]
    jobs.close()


@pytest.mark.parametrize("moved", MOVES)
def test_a_server_follows_a_clock_that_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: float
) -> None:
    scan_fakes.install_pool(monkeypatch)
    with with_jobs(tmp_path / "jobs") as server:
        job = hand_over(server, [SAFE])
        before = ended(server, job)
        ahead = runner.wall_ahead
        app = server.listener.config.app
        assert isinstance(app, Starlette)
        monkeypatch.setattr(app.state.jobs.store, "_now", lambda: time.time() + moved)
        monkeypatch.setattr(runner, "wall_ahead", lambda: ahead() + moved)
        other = hand_over(server, [SAFE])
        ended(server, other)  # after each end, the server tidies up
        wait_for(lambda: status(server, job)["ended_at"] != before["ended_at"])
        assert status(server, job)["ended_at"] == pytest.approx(before["ended_at"] + moved, abs=1)


def test_an_upload_under_way_is_not_abandoned_whatever_the_clock_says(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "jobs"))
    with spool.receive("a" * 32) as upload:
        upload.write(b"picture")
        os.utime(Path(spool.folder) / uploads(tmp_path)[0], (0, 0))
        spool.sweep(set(), set())
        assert uploads(tmp_path) != []
        upload.keep()
    spool.sweep(set(), set())
    assert uploads(tmp_path) == []
