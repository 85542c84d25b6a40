"""For `test_serve_network`: serve hostile requests where every packet that leaves is counted.

`unshare --net python cut_off.py FOLDER` runs in a network namespace of its own, whose default
route leads into a wire that nobody reads. `unshare` may need `--user --map-root-user` as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import tiny_model
from serving import wait_for
from test_cli_serve import Started
from test_serve_clients import assert_the_same_over_http, corpus, hostile

ELSEWHERE = "192.0.2.1"  # reserved for examples: nobody's address
WEB = (
    f"http://{ELSEWHERE}/a.jpg", f"https://{ELSEWHERE}/a.jpg", "http://pictures.example/a.jpg",
    f"ftp://{ELSEWHERE}/a.jpg", f"//{ELSEWHERE}/a.jpg", f"\\\\{ELSEWHERE}\\share\\a.jpg",
    "file:///etc/hostname", "http://localhost:9/a.jpg", f"data:image/jpeg,http://{ELSEWHERE}/a.jpg",
)  # fmt: skip
POINTING = (
    b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://%b/a.jpg"/></svg>',
    b'<!DOCTYPE a [<!ENTITY b SYSTEM "http://%b/a.dtd">]><a>&b;</a>',
    b"#EXTM3U\nhttp://%b/a.ts\n",
    b"%%!PS\n(http://%b/a.ps) run\n",
    b"push graphic-context\nimage over 0,0 0,0 'http://%b/a.jpg'\n",
)
"""What other programs follow to another machine."""


def lay_wire() -> None:
    """Have whatever is not for this machine go out by an interface called `wire`."""
    for command in (
        "link set lo up",
        "link add wire type veth peer name nobody",
        "link set wire arp off",  # it would be sent nothing before somebody had answered
        "addr add 198.51.100.1/24 dev wire",
        "link set wire up",
        "link set nobody up",
        "route add default dev wire",
    ):
        if command.endswith("wire up"):
            with contextlib.suppress(OSError):  # no neighbour discovery either
                Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
        subprocess.run(["ip", *command.split()], check=True)


def sent() -> int:
    """Return how many packets have left."""
    found = re.search(r"wire:\s*(.*)", Path("/proc/self/net/dev").read_text())
    assert found
    return int(found[1].split()[9])


def ask_for_more(url: str) -> list[int]:
    """Send what names other machines; return the statuses of all answers."""
    statuses = []
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:

        def post(path: str, **body: object) -> None:
            statuses.append(client.post(path, **body).status_code)  # type: ignore[arg-type]

        for one in WEB:
            for path in ("/", "/predict"):
                post(path, json={"inputs": one})
                post(path, content=one.encode())
            picture = {"type": "image_url", "image_url": {"url": one}}
            for given in (one, [one], picture, [picture]):
                post("/v1/moderations", json={"input": given})
            post("/api/v1/vision/nsfw", json={"images": [one]})
            post("/api/v1/vision/nsfw", json={"url": one, "images": [one]})
            post("/v1/jobs", json={"folder": one})
            post("/v1/jobs", json={"folder": "/", "callback": one})
            post("/v1/jobs", files={"p": ("a.jpg", b"a"), "callback": (None, one)})
            for path in ("/v1/detect-images", "/v1/scan"):
                post(path, files={"url": (None, one)})
        for content in POINTING:
            for path in ("/", "/validate", "/v1/scan"):
                post(path, content=content.replace(b"%b", ELSEWHERE.encode()))
    return statuses


def main(folder: str) -> None:
    """Serve, and print how many packets have left and what was answered."""
    lay_wire()
    home = Path(folder) / "home"
    tiny_model.write_package(str(home / "models"))
    env = {"NSFWSCAN_HOME": str(home), "HOME": str(home)}
    said = Path(folder) / "said"
    with said.open("wb") as file:
        process = subprocess.Popen(
            [
                *("strace", "-f", "-qq", "--seccomp-bpf", "-o", Path(folder) / "trace"),
                *("-e", "trace=socket,connect,sendto,sendmsg,sendmmsg"),
                *(sys.executable, "-m", "nsfwscan", "serve", "--port", "0", "--no-cache"),
            ],
            env={**os.environ, **env},
            stdout=file,
            stderr=file,
        )
    server = Started(process, said)
    try:
        server.wait_until_ready()
        statuses = ask_for_more(server.url)
        pictures = Path(folder) / "pictures"
        pictures.mkdir()
        assert_the_same_over_http(server, [*hostile(pictures), *corpus(pictures)], env)
        left = sent()
        # The tracer passes no signals on, so this goes to the traced process itself.
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        process.wait(30)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    with socket.socket(type=socket.SOCK_DGRAM) as one:  # a packet would have been seen
        one.sendto(b"", (ELSEWHERE, 9))
    wait_for(lambda: sent() > left)
    print(
        json.dumps({"left": left, "statuses": statuses, "pictures": len(list(pictures.iterdir()))})
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
