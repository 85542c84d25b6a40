"""A server for `test_jobs_kills`, to be killed: `python jobs_server.py HOME PORT SCORED [FOLDER]`.

It scores with a fake model that takes a while, and notes in the file SCORED what it has scored.
"""

from __future__ import annotations

import os
import sys
import time

import scan_fakes
from serving import fake_session

from nsfwscan.media.decode.decoded import Decoded
from nsfwscan.serve.jobs.settings import JobSettings
from nsfwscan.serve.server import Listener, config_of, listen
from nsfwscan.serve.service import ScoringService
from nsfwscan.serve.settings import ServeSettings
from nsfwscan.system import interrupts
from nsfwscan.values.geometry import Geometry

LANES = 2


class SlowPool(scan_fakes.FakePool):
    """Notes each content before it is scored, so that a kill cannot hide one."""

    def __init__(self, notes: str) -> None:
        super().__init__()
        self._notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def decode(self, data: bytes, geometry: Geometry) -> Decoded:
        os.write(self._notes, data[1:].split(b"\0")[0] + b"\n")
        time.sleep(0.002)
        return super().decode(data, geometry)


def main(home: str, port: str, notes: str, *folders: str) -> None:
    scan_fakes.Surroundings.pool = SlowPool(notes)
    settings = ServeSettings(jobs=JobSettings(home=home, folders=folders))
    service = ScoringService(
        fake_session(), limits=settings.limits, lanes=LANES, warn=lambda _: None
    )
    server = Listener(config_of(service, settings), service, settings.limits.stop_s)
    with interrupts.answered(server.handle_exit, "SIGTERM"):
        server.run(list(listen("127.0.0.1", int(port))))


if __name__ == "__main__":
    main(*sys.argv[1:])
