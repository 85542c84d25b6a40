"""No packet leaves the machine, whatever a server is sent."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sizes
from shell import own_network, tool


@pytest.mark.corpora
@pytest.mark.timeout(sizes.trials(120, 7200))
def test_no_packet_leaves_the_machine_whatever_a_server_is_sent(tmp_path: Path) -> None:
    """In a network of its own, where a packet would be counted, with every system call noted."""
    for program, package in (("strace", "strace"), ("ip", "iproute2")):
        tool(program, package)
    script = Path(__file__).with_name("cut_off.py")
    done = subprocess.run(
        [*own_network(), sys.executable, script, tmp_path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        check=False,
        timeout=sizes.trials(110, 7000),
    )
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found["left"] == 0
    assert max(found["statuses"]) < 500
    trace = (tmp_path / "trace").read_text()
    sockets = re.findall(r"socket\((AF_INET.*)", trace)
    assert len(sockets) == 1, sockets  # the one that listens
    assert "SOCK_STREAM" in sockets[0]
    # Answers go to who has connected, so no call names an address: of no peer, no name server.
    assert re.findall(r"\bconnect\(.*", trace) == []
    assert re.findall(r"\bsend\w+\(.*(?:AF_|msg_name=\{).*", trace) == []
    assert trace.count('"HTTP/1.1 ') >= len(found["statuses"]) + found["pictures"]
