"""The server's benchmarks run at a tiny size and print their tables; figures are not judged."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pictures
import pytest

from benchmarks import serve_load, serve_peers, serve_requests, serve_soak, vit_fixture
from nsfwscan.models import catalogue
from nsfwscan.models.store import ModelStore
from nsfwscan.serve import parts


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> str:
    store = ModelStore(str(tmp_path_factory.mktemp("models")))
    return store.pull(catalogue.load()["opennsfw"]).folder


@pytest.mark.model
@pytest.mark.slow
def test_load(package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        data = pictures.encode(pictures.photo(400, 300, seed=number), "JPEG")
        (tmp_path / f"{number}.jpg").write_bytes(data)
    small = ["--rounds", "1", "--count", "6", "--overload", "0.3", "--crowd", "6"]
    serve_load.main(["--model", package, "--photographs", str(tmp_path), *small])
    printed = capsys.readouterr().out
    for connections in (1, 8, 64, 256):
        assert re.search(rf"^\| {connections} +\|.* 0 \| +0 \| +\d+ \|$", printed, re.MULTILINE)
    assert "0 lost; refused" in printed
    assert "6 slow clients: all closed" in printed
    assert "12 clients that hung up, a second time: 0 pictures scored" in printed


def test_every_peer_is_sent_the_same_picture() -> None:
    picture = bytes(range(256))
    head, _, body = serve_peers.in_form(picture).partition(b"\r\n\r\n")
    kind = re.search(r"Content-Type: (.*)\r", head.decode())
    assert kind
    (part,) = parts.split(body, kind[1], most_parts=1)
    assert part.data == picture
    body = serve_peers.in_json(picture).partition(b"\r\n\r\n")[2]
    assert base64.b64decode(json.loads(body)["image_data"]) == picture


def test_a_vit_is_served_in_int8_and_in_float(tmp_path: Path) -> None:
    paths = []
    for number in range(4):
        paths.append(str(tmp_path / f"{number}.jpg"))
        data = pictures.encode(pictures.photo(400, 300, seed=number), "JPEG")
        Path(paths[-1]).write_bytes(data)
    vit_fixture.make(str(tmp_path / "checkpoint"), size="mini", image=64)
    _, *packages = serve_peers.prepare(str(tmp_path), paths)
    requests = [serve_requests.request(Path(path).read_bytes()) for path in paths]
    found = []
    for package in packages:
        server = serve_load.Served(package, str(tmp_path))
        try:
            rows = [
                serve_peers.measured(server, requests, 4, connections) for connections in (1, 3)
            ]
        finally:
            assert server.stop() == 0
        assert [len(row.load.latencies(200)) for row in rows] == [4, 4]
        found.append([json.loads(one.body)[0]["score"] for one in rows[0].load.answers])
    assert found[0] == pytest.approx(found[1], abs=0.1)
    assert found[0] != found[1]


def test_soak(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        serve_soak.main(["--count", "100"])
    printed = capsys.readouterr().out
    assert "| 100 " in printed
    assert "The server ended with 0;" in printed
