"""The options of `nsfwscan serve` for other programs and for jobs, as a person gives them."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
import tiny_model
from conftest import Paint
from serve_clients import Misskey, parts
from serving import wait_for
from shell import Call
from test_cli_serve import Started, started

SECRET = "a secret of enough length"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    return Call(capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--job-folder", "/no/such/folder"], "is not a folder"),
        (["--job-folder", __file__], "is not a folder"),
        (["--callback-host", "example.org"], "needs a secret"),
        (["--callback-host", "http://example.org"], "is not a host"),
        (["--callback-host", "example.org/x"], "is not a host"),
        (["--max-upload", "lots"], "not a size"),
        (["--keep-jobs", "-1"], "keep-jobs"),
        (["--misskey-classes", "five"], "five"),
        (["--when-unjudged", "safe"], "safe"),
        (["--when-unavailable", "maybe"], "maybe"),
    ],
)
def test_a_wrong_option_ends_the_command(
    call: Call, tiny: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    if "example.org" not in arguments:
        monkeypatch.setenv("NSFWSCAN_CALLBACK_SECRET", SECRET)
    done = call("serve", "--port", "0", *arguments)
    assert done.code == 2, done.err
    assert said in done.err
    assert SECRET not in done.err


def ask(server: Started, path: str, **options: object) -> httpx.Response:
    return httpx.request(
        "POST" if options else "GET",
        server.url + path,
        trust_env=False,
        timeout=30,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_folder_is_scanned_by_a_job(
    tiny: Path, paint: Paint, tmp_path: Path, home: Path, workers: str
) -> None:
    folder = tmp_path / "pictures"
    paint(folder / "red.png", tiny_model.RED)
    paint(folder / "green.png", tiny_model.GREEN)
    with started(tmp_path, "--job-folder", str(folder), "--workers", workers) as server:
        server.wait_until_ready()
        made = ask(server, "/v1/jobs", json={"folder": str(folder)})
        assert made.status_code == 202, made.text
        where = made.headers["location"]
        wait_for(lambda: ask(server, where).json()["state"] == "done")
        found = [json.loads(line) for line in ask(server, f"{where}/results").text.splitlines()]
        decisions = {Path(row["record"]["path"]).name: row["record"]["decision"] for row in found}
        assert decisions == {"red.png": "nsfw", "green.png": "safe"}
        assert (home / "state" / "jobs" / "jobs.sqlite3").exists()
        assert server.stop() == 0


def test_programs_get_what_the_options_say(tmp_path: Path, home: Path) -> None:
    options = ("--when-unjudged", "report", "--when-unavailable", "allow", "--no-jobs")
    with started(tmp_path, "--offline", *options) as server:
        found = ask(server, "/v1/detect-images", files=parts(b"x"))
        assert found.json()["result"]["results"][0]["success"] is False
        assert Misskey().read(found.status_code, found.json(), 1) == [(False, False)]
        assert ask(server, "/validate", content=b"x").status_code == 200
        assert ask(server, "/v1/jobs", json={"folder": "/"}).json()["code"] == "jobs-off"
        assert server.stop() == 0
    assert not (home / "state" / "jobs").exists()


def test_without_options_nothing_unjudged_passes(tmp_path: Path, home: Path) -> None:
    with started(tmp_path, "--offline") as server:
        found = ask(server, "/v1/detect-images", files=parts(b"x"))
        assert Misskey().read(found.status_code, found.json(), 1) == [(True, False)]
        assert ask(server, "/validate", content=b"x").status_code == 503
