"""Unmodified clients, and the same pictures over HTTP as on the command line.

The normal run takes the version of huggingface_hub that is installed. NSFWSCAN_TEST_HUBS lists
folders with others, made by `pip install --target FOLDER 'huggingface_hub[inference]==0.36.2'`.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pictures
import pytest
import sizes
import tiny_model
from corpora import CORPORA
from PIL import Image
from shell import tool
from test_cli_serve import Started, started

TOKEN = "hf_not_a_token_of_anybody"
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")
HUBS = ["", *filter(None, os.environ.get("NSFWSCAN_TEST_HUBS", "").split(os.pathsep))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, str]:
    tiny_model.write_package(str(folder / "home" / "models"))
    return {"NSFWSCAN_HOME": str(folder / "home"), "HOME": str(folder / "nobody")}


@pytest.fixture(scope="module")
def server(folder: Path, models: dict[str, str]) -> Iterator[Started]:
    with started(folder, "--offline", env=models) as server:
        server.wait_until_ready()
        yield server
        assert server.stop() == 0
        assert TOKEN not in server.said


def pictures_of_all_formats(folder: Path) -> list[Path]:
    made = []
    for format_ in FORMATS:
        path = folder / f"red.{format_.lower()}"
        path.write_bytes(pictures.encode(Image.new("RGB", (64, 48), tiny_model.RED), format_))
        made.append(path)
    # The client guesses the type from the name; the server must not believe it.
    shutil.copy(folder / "red.png", folder / "png.jpg")
    (folder / "junk.png").write_bytes(b"nonsense")
    return [*made, folder / "png.jpg", folder / "junk.png"]


@pytest.mark.parametrize("hub", HUBS, ids=lambda path: os.path.basename(path) or "installed")
def test_the_hubs_own_client_works_unchanged(server: Started, hub: str, tmp_path: Path) -> None:
    paths = pictures_of_all_formats(tmp_path)
    script = Path(__file__).with_name("hub_client.py")
    path = {"PYTHONPATH": hub} if hub else {}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, server.url, *map(str, paths)],
        env={**os.environ, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0", **path},
        capture_output=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    for manner in ("sync", "async"):
        answers = found[manner]
        for picture in paths[:-1]:
            one: dict[str, Any] = answers[picture.name]
            assert [each["label"] for each in one["path"]] == ["red", "other"]
            assert one["bytes"] == one["path"] == one["softmax"]
            assert one["top_k"] == one["path"][:1]
            red, other = (each["score"] for each in one["none"])
            assert red > 1 > other
            assert 0 < one["sigmoid"][0]["score"] < 1
            assert is_refused(one["zero_shot"], "candidate_labels")
        for name, answer in answers["junk.png"].items():
            assert is_refused(answer, "candidate_labels" if name == "zero_shot" else "unrecognised")
    assert found["base_url"] == found["named"] == found["sync"]["red.jpeg"]["path"]
    assert found["health"] is True
    assert found["info"]["served_model_name"] == "tiny-1"


def is_refused(answer: dict[str, str], word: str) -> bool:
    """Return True if the client raised an error with status 400 that says `word`."""
    # The asynchronous client of 0.36 does not read what an error says.
    unread = answer["raised"] == "ClientResponseError" and "400" in answer["said"]
    return unread or (answer["raised"] == "BadRequestError" and word in answer["said"])


def test_curl_sends_a_file_or_many(server: Started, tmp_path: Path) -> None:
    curl = tool("curl", "curl")
    red, *_ = pictures_of_all_formats(tmp_path)

    def ask(*arguments: str) -> Any:
        quiet = [curl, "--silent", "--show-error", "--noproxy", "*"]
        return json.loads(subprocess.check_output([*quiet, *arguments], timeout=30))

    assert ask("--data-binary", f"@{red}", server.url)[0]["label"] == "red"
    chunked = ("-H", "Transfer-Encoding: chunked")
    assert ask(*chunked, "--data-binary", f"@{red}", server.url)[0]["label"] == "red"
    many = ask("-F", f"a=@{red}", "-F", f"b=@{tmp_path / 'junk.png'}", f"{server.url}/v1/scan")
    assert [one["decision"] or one["reason"] for one in many["results"]] == ["nsfw", "unrecognised"]


def hostile(folder: Path) -> list[Path]:
    """Write pictures that are whole, cut off or damaged; return their paths."""
    chance = random.Random(7)
    paths = []
    for name, data in pictures.seeds().items():
        kinds = {"whole": data, "cut": data[: chance.randrange(len(data))]}
        for number in range(sizes.trials(2, 40)):
            damaged = bytearray(data)
            for _ in range(4):
                damaged[chance.randrange(len(data))] = chance.randrange(256)
            kinds[f"damaged-{number}"] = bytes(damaged)
        for kind, content in kinds.items():
            path = folder / f"{name}-{kind}.png"
            path.write_bytes(content)
            paths.append(path)
    bombs = {"png": pictures.png_bomb(), "tiff": pictures.tiff_bomb(), "text": b"text"}
    for name, content in bombs.items():
        paths.append(folder / f"bomb-{name}.png")
        paths[-1].write_bytes(content)
    return paths


def corpus(folder: Path) -> list[Path]:
    """Copy files of the corpora, if there are any, by names that a scan takes; return the paths."""
    paths = [path for path in sorted(Path(CORPORA).rglob("*")) if path.is_file()]
    paths = [path for path in paths if 0 < path.stat().st_size < 32 << 20]
    paths = random.Random(3).sample(paths, min(len(paths), sizes.trials(40, len(paths))))
    named = [folder / f"{at}.png" for at in range(len(paths))]
    for path, name in zip(paths, named, strict=True):
        shutil.copy(path, name)
    return named


def by_the_command_line(paths: list[Path], models: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return the record of each file, by its content."""
    command = [sys.executable, "-m", "nsfwscan", "scan", "--format", "jsonl", "--no-cache"]
    done = subprocess.run(
        [*command, "--any-name", "--hidden", "--threads", "1", "--files-from", "-"],
        input="\n".join(map(str, paths)).encode(),
        env={**os.environ, **models},
        capture_output=True,
        check=False,
        timeout=sizes.trials(110, 3600),
    )
    assert done.returncode in {0, 1, 3}, done.stderr.decode()
    return {one["path"]: one for one in map(json.loads, done.stdout.splitlines())}


def assert_the_same_over_http(server: Started, paths: list[Path], models: dict[str, str]) -> None:
    expected = by_the_command_line(paths, models)
    assert len(expected) == len(paths)
    with httpx.Client(base_url=server.url, timeout=100, trust_env=False) as client:

        def ask(path: Path) -> tuple[int, Any]:
            headers = {"Content-Type": "image/jpeg", "Origin": server.url}
            one = client.post("/v1/scan", content=path.read_bytes(), headers=headers)
            return one.status_code, one.json()

        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(ask, paths))
    for path, (status, answer) in zip(paths, answers, strict=True):
        assert status == 200, answer
        (record,) = answer["results"]
        theirs = {**expected[str(path)], "path": "", "path_base64": None, "origin": "model"}
        assert record == theirs, path


def test_hostile_pictures_get_the_same_records_as_on_the_command_line(
    server: Started, models: dict[str, str], tmp_path: Path
) -> None:
    assert_the_same_over_http(server, hostile(tmp_path), models)


@pytest.mark.corpora
@pytest.mark.timeout(sizes.trials(120, 7200))
def test_the_corpora_get_the_same_records_as_on_the_command_line(
    server: Started, models: dict[str, str], tmp_path: Path
) -> None:
    if not os.path.isdir(CORPORA):
        pytest.skip(f"no corpora at {CORPORA}")
    assert_the_same_over_http(server, corpus(tmp_path), models)


def test_no_connection_is_opened(folder: Path, models: dict[str, str], tmp_path: Path) -> None:
    strace = tool("strace", "strace")
    trace, said = tmp_path / "trace", tmp_path / "said"
    with said.open("wb") as file:
        process = subprocess.Popen(
            [
                *(strace, "-f", "-qq", "-e", "trace=connect,sendto,sendmsg", "-o", trace),
                *(sys.executable, "-m", "nsfwscan", "serve", "--port", "0"),
            ],
            env={**os.environ, **models},
            stdout=file,
            stderr=file,
        )
    server = Started(process, said)
    try:
        server.wait_until_ready()
        for data in (b"junk", *list(pictures.seeds().values())[:6]):
            assert server.post("/", data).status_code in {200, 400}
        url = b'{"inputs": "http://127.0.0.1:9/a.jpg"}'
        assert server.post("/", url).status_code == 400
        # The tracer passes no signals on, so this goes to the traced process itself.
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), 15)
        process.wait(30)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert re.findall(r"(?:connect|sendto|sendmsg)\(.*AF_INET.*", trace.read_text()) == []
