"""A server that is killed in a job goes on with it: every picture once, none scored in vain."""

from __future__ import annotations

import collections
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import jobs_server
import pytest
from serving import wait_for
from sizes import AT_FULL_SIZE
from test_jobs import many

COUNT = 2000 if AT_FULL_SIZE else 60
KILLS = 6 if AT_FULL_SIZE else 2
LOST = 2 * jobs_server.LANES
"""What a kill may cost: a picture in each lane, and a transaction with the results before these."""


class Killable:
    """A server process that can be killed and started again on the same files."""

    def __init__(self, tmp_path: Path) -> None:
        self.home, self.notes = tmp_path / "jobs", tmp_path / "scored"
        self.pictures = tmp_path / "pictures"
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", timeout=30, trust_env=False
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        script = jobs_server.__file__
        arguments = [str(self.home), str(self.port), str(self.notes), str(self.pictures)]
        paths = os.pathsep.join(path for path in sys.path if path)
        self.process = subprocess.Popen(
            [sys.executable, script, *arguments], env=os.environ | {"PYTHONPATH": paths}
        )
        wait_for(self._answers, 60)

    def _answers(self) -> bool:
        try:
            return self.client.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(30)

    def done(self, job: str) -> int:
        return int(self.client.get(f"/v1/jobs/{job}").json()["done"])

    def scored(self) -> collections.Counter[str]:
        return collections.Counter(self.notes.read_text().split())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Killable]:
    server = Killable(tmp_path)
    try:
        yield server
    finally:
        server.client.close()
        if server.process is not None and server.process.poll() is None:
            server.kill()


def finish(server: Killable, job: str, kills: int, number: int = signal.SIGKILL) -> None:
    """Kill the server several times on the way, wait for the job's end, check its results."""
    for kill in range(kills):
        least = (kill + 1) * COUNT // (kills + 2)
        wait_for(lambda least=least: server.done(job) >= least, 60)
        time.sleep(random.random() / 100)
        server.kill(number)
        server.start()
    wait_for(lambda: server.client.get(f"/v1/jobs/{job}").json()["state"] == "done", 100)
    found = server.client.get(f"/v1/jobs/{job}/results?limit=10000").text.splitlines()
    import json

    rows = [json.loads(line) for line in found]
    assert sorted(row["number"] for row in rows) == list(range(COUNT))
    assert [row["position"] for row in rows] == list(range(1, COUNT + 1))
    kinds = ["safe", "review", "nsfw", None]
    for row in rows:
        assert (
            row["record"]["decision"] == kinds[int(row["record"]["path"].split("/")[-1][:-4]) % 4]
        )


@pytest.mark.parametrize("kind", ["upload", "folder"])
def test_after_kills_every_picture_is_in_the_result_once_and_few_were_scored_twice(
    server: Killable, kind: str
) -> None:
    pictures = [data + b"\0" for data in many(COUNT)]
    server.pictures.mkdir()
    server.start()
    if kind == "upload":
        files = [("p", (f"{at}.jpg", data)) for at, data in enumerate(pictures)]
        job = server.client.post("/v1/jobs", files=files).json()["id"]
    else:
        for at, data in enumerate(pictures):
            (server.pictures / f"{at:06d}.jpg").write_bytes(data)
        job = server.client.post("/v1/jobs", json={"folder": str(server.pictures)}).json()["id"]
    finish(server, job, KILLS)
    scored = server.scored()
    broken = sum(at % 4 == 3 for at in range(COUNT))
    assert len(scored) + broken >= COUNT
    again = sum(times - 1 for times in scored.values())
    assert again <= KILLS * LOST
    wait_for(lambda: not os.listdir(server.home / "uploads") if kind == "upload" else True)


def test_after_a_gentle_end_nothing_is_scored_twice(server: Killable) -> None:
    server.start()
    files = [("p", (f"{at}.jpg", data + b"\0")) for at, data in enumerate(many(COUNT))]
    job = server.client.post("/v1/jobs", files=files).json()["id"]
    wait_for(lambda: server.done(job) >= COUNT // 3)
    server.kill(signal.SIGTERM)
    server.start()
    finish(server, job, 0)
    assert set(server.scored().values()) == {1}


def test_of_two_servers_one_runs_the_jobs_and_the_other_takes_over(
    server: Killable, tmp_path: Path
) -> None:
    other = Killable(tmp_path)
    with contextlib.ExitStack() as stack:
        server.start()
        other.start()
        stack.callback(other.client.close)
        stack.callback(other.kill)
        files = [("p", (f"{at}.jpg", data + b"\0")) for at, data in enumerate(many(COUNT))]
        job = other.client.post("/v1/jobs", files=files).json()["id"]
        wait_for(lambda: server.done(job) >= COUNT // 4)
        server.kill()
        wait_for(lambda: other.client.get(f"/v1/jobs/{job}").json()["state"] == "done", 100)
        assert other.done(job) == COUNT
        assert sum(times - 1 for times in server.scored().values()) <= LOST
