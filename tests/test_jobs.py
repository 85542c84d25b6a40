"""Jobs over HTTP: handed over, followed, fetched page by page, cancelled, forgotten."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import scan_fakes
from serving import BROKEN, NSFW, REVIEW, SAFE, Serving, no_model, serving, wait_for

from nsfwscan.serve.jobs.settings import JobSettings
from nsfwscan.serve.settings import Limits, ServeSettings
from nsfwscan.serve.tokens import parse


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> scan_fakes.FakePool:
    return scan_fakes.install_pool(monkeypatch)


@contextlib.contextmanager
def with_jobs(home: Path, *, model: bool = True, **options: Any) -> Iterator[Serving]:
    limits = options.pop("limits", Limits(loading_s=0.1))
    tokens = options.pop("tokens", ServeSettings().tokens)
    jobs = JobSettings(home=str(home), **options)
    settings = ServeSettings(limits=limits, jobs=jobs, tokens=tokens)
    with serving(None if model else no_model, settings, ready=model) as server:
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serving]:
    with with_jobs(tmp_path / "jobs", folders=(str(tmp_path / "pictures"),)) as server:
        yield server


def many(count: int) -> list[bytes]:
    """Return different contents, of every decision in turn."""
    kinds = (SAFE, REVIEW, NSFW, BROKEN)
    return [kinds[at % 4] + b"%d" % at for at in range(count)]


def hand_over(server: Serving, pictures: list[bytes], **fields: str) -> str:
    files = [("picture", (f"{at}.jpg", data)) for at, data in enumerate(pictures)]
    created = server.post("/v1/jobs", files=files, data=fields)
    assert created.status_code == 202, created.text
    assert created.headers["location"] == f"/v1/jobs/{created.json()['id']}"
    return str(created.json()["id"])


def status(server: Serving, job: str) -> dict[str, Any]:
    found = server.get(f"/v1/jobs/{job}")
    assert found.status_code == 200, found.text
    return dict(found.json())


def ended(server: Serving, job: str) -> dict[str, Any]:
    wait_for(lambda: status(server, job)["state"] not in {"listing", "running"})
    return status(server, job)


def results(server: Serving, job: str, limit: int = 1000) -> list[dict[str, Any]]:
    """Follow the links from page to page, as a client should."""
    rows: list[dict[str, Any]] = []
    url: str | None = f"/v1/jobs/{job}/results?limit={limit}"
    while url:
        page = server.get(url)
        assert page.status_code == 200, page.text
        assert page.headers["content-type"].startswith("application/jsonl")
        rows += [json.loads(line) for line in page.text.splitlines()]
        url = page.links.get("next", {}).get("url")
    return rows


def uploads(home: Path) -> list[str]:
    folder = home / "jobs" / "uploads"
    return sorted(os.listdir(folder)) if folder.exists() else []


def test_every_picture_of_an_upload_has_its_record_once(server: Serving, tmp_path: Path) -> None:
    job = hand_over(server, many(21))
    done = ended(server, job)
    assert done["state"] == "done"
    assert done["total"] == done["done"] == 21
    assert done["counts"] == {"safe": 6, "review": 5, "nsfw": 5, "failed": 5}
    rows = results(server, job, limit=4)
    assert [row["position"] for row in rows] == list(range(1, 22))
    by_number = {row["number"]: row["record"] for row in rows}
    assert sorted(by_number) == list(range(21))
    for number, record in by_number.items():
        assert record["path"] == f"{number}.jpg"
        assert record["status"] == ("failed" if number % 4 == 3 else "scanned")
    assert [by_number[at]["decision"] for at in range(4)] == ["safe", "review", "nsfw", None]
    assert uploads(tmp_path) == []


def test_records_are_those_of_a_single_request(server: Serving) -> None:
    job = hand_over(server, many(4))
    ended(server, job)
    files = [("picture", (f"{at}.jpg", data)) for at, data in enumerate(many(4))]
    singly = server.post("/v1/scan", files=files).json()["results"]
    rows = sorted(results(server, job), key=lambda row: row["number"])
    assert [row["record"] for row in rows] == singly


def test_a_folder_of_the_server_is_scanned(server: Serving, tmp_path: Path) -> None:
    inner = tmp_path / "pictures" / "2024"
    inner.mkdir(parents=True)
    for at, data in enumerate(many(8)):
        (inner / f"{at}.jpg").write_bytes(data)
    (inner / "notes.txt").write_text("no picture")
    created = server.post("/v1/jobs", json={"folder": str(tmp_path / "pictures")})
    assert created.status_code == 202
    assert created.json()["folder"] == str(tmp_path / "pictures")
    done = ended(server, created.json()["id"])
    assert done["counts"] == {"safe": 2, "review": 2, "nsfw": 2, "failed": 2}
    paths = {row["record"]["path"] for row in results(server, created.json()["id"])}
    assert paths == {str(inner / f"{at}.jpg") for at in range(8)}


def test_an_empty_folder_is_done_at_once(server: Serving, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    created = server.post("/v1/jobs", json={"folder": str(tmp_path / "pictures")})
    assert ended(server, created.json()["id"])["total"] == 0


def test_foreign_folders_are_refused_however_they_are_named(
    server: Serving, tmp_path: Path
) -> None:
    allowed, outside = tmp_path / "pictures", tmp_path / "private"
    for folder in (allowed / "in", outside):
        folder.mkdir(parents=True)
        (folder / "1.jpg").write_bytes(NSFW)
    (allowed / "link").symlink_to(outside)
    (tmp_path / "pictures2").mkdir()
    for asked in (
        outside, "/", "/etc", tmp_path / "pictures2", tmp_path / "missing", allowed / "link",
        f"{allowed}/../private", f"{allowed}/in/../../private", f"{allowed}/in/..", f"/{outside}",
    ):  # fmt: skip
        found = server.post("/v1/jobs", json={"folder": str(asked)})
        assert (found.status_code, found.json()["code"]) == (403, "folder-not-allowed"), asked
    for asked in ("", "pictures", "~", f"{allowed}\0", 7, None):
        assert server.post("/v1/jobs", json={"folder": asked}).status_code == 400
    assert server.post("/v1/jobs", json={"folder": f"{allowed}/none"}).status_code == 404
    assert server.post("/v1/jobs", json={"folder": f"{allowed}/in"}).status_code == 202
    assert server.get("/v1/jobs").json()["jobs"][0]["folder"] == f"{allowed}/in"


def test_a_folder_that_is_exchanged_for_a_link_while_the_job_waits_is_not_read(
    server: Serving, tmp_path: Path, pool: scan_fakes.FakePool
) -> None:
    inner, outside = tmp_path / "pictures" / "in", tmp_path / "private"
    inner.mkdir(parents=True)
    outside.mkdir()
    with held_up(pool, server):
        for at in range(4):
            (inner / f"{at}.jpg").write_bytes(SAFE + b"%d" % at)
            (outside / f"{at}.jpg").write_bytes(NSFW + b"%d" % at)
        job = server.post("/v1/jobs", json={"folder": str(inner)}).json()["id"]
        wait_for(lambda: status(server, job)["total"] == 4)
        inner.rename(tmp_path / "away")
        inner.symlink_to(outside)
    ended(server, job)
    records = [row["record"] for row in results(server, job)]
    assert all(record["decision"] != "nsfw" for record in records)
    assert sum(record["status"] == "failed" for record in records) >= 2


@contextlib.contextmanager
def held_up(pool: scan_fakes.FakePool, server: Serving) -> Iterator[None]:
    """Keep both lanes busy with pictures of another job inside the block."""
    import threading

    gates = {b"\x00gate%d" % at: threading.Event() for at in range(2)}
    pool.gates.update(gates)
    job = hand_over(server, list(gates))
    wait_for(lambda: server.service.lanes.waiting == 0 and pool.waiting.is_set())
    try:
        yield
    finally:
        for gate in gates.values():
            gate.set()
    ended(server, job)


def test_pages_fetched_while_a_job_runs_hold_every_result_once(
    server: Serving, pool: scan_fakes.FakePool
) -> None:
    import threading

    pictures = many(30)
    pool.gates[pictures[17]] = threading.Event()
    job = hand_over(server, pictures)
    wait_for(lambda: status(server, job)["done"] >= 16)
    first = server.get(f"/v1/jobs/{job}/results?limit=10")
    assert first.headers["x-job-state"] == "running"
    assert first.headers["x-next-after"] == "10"
    pool.gates[pictures[17]].set()
    rows = [json.loads(line) for line in first.text.splitlines()]
    ended(server, job)
    rest = server.get(f"/v1/jobs/{job}/results?after=10")
    rows += [json.loads(line) for line in rest.text.splitlines()]
    assert "link" not in rest.headers
    assert sorted(row["number"] for row in rows) == list(range(30))


def test_a_cancelled_job_scores_no_more_and_keeps_what_it_has(
    server: Serving, pool: scan_fakes.FakePool, tmp_path: Path
) -> None:
    with held_up(pool, server):
        job = hand_over(server, many(20))
        found = server.post(f"/v1/jobs/{job}/cancel")
        assert found.json()["state"] == "cancelled"
        assert [name for name in uploads(tmp_path) if name.startswith(job)] == []
    after = hand_over(server, [SAFE])
    ended(server, after)
    assert status(server, job)["done"] <= 2
    assert len(results(server, job)) == status(server, job)["done"]
    assert server.post(f"/v1/jobs/{job}/cancel").json()["state"] == "cancelled"


def test_a_deleted_job_is_gone_with_its_pictures(
    server: Serving, pool: scan_fakes.FakePool, tmp_path: Path
) -> None:
    with held_up(pool, server):
        job = hand_over(server, many(20))
        assert server.delete(f"/v1/jobs/{job}").status_code == 204
        assert [name for name in uploads(tmp_path) if name.startswith(job)] == []
    for request in ("GET", "DELETE"):
        assert server.request(request, f"/v1/jobs/{job}").status_code == 404
    assert server.get(f"/v1/jobs/{job}/results").status_code == 404
    assert server.post(f"/v1/jobs/{job}/cancel").status_code == 404


def test_a_small_job_does_not_wait_for_a_large_one(
    server: Serving, pool: scan_fakes.FakePool
) -> None:
    with held_up(pool, server):
        large = hand_over(server, [SAFE + b"%d" % at for at in range(300)])
        small = hand_over(server, [NSFW])
    ended(server, small)
    ended(server, large)
    decoded = pool.decoded.index(NSFW)
    assert decoded < 150


def test_jobs_expire_after_their_end(tmp_path: Path) -> None:
    with with_jobs(tmp_path / "jobs", keep_s=0.0) as server:
        job = hand_over(server, many(3))
        wait_for(lambda: server.get(f"/v1/jobs/{job}").status_code == 404)
        assert uploads(tmp_path) == []


def test_a_job_that_takes_too_long_is_cancelled(tmp_path: Path) -> None:
    with with_jobs(tmp_path / "jobs", model=False) as server:
        job = hand_over(server, many(3))
        wait_for(lambda: bool(status(server, job)["problem"]))
        assert "no model is installed" in status(server, job)["problem"]
    with with_jobs(tmp_path / "jobs", model=False, give_up_s=0.0) as server:
        assert ended(server, job)["state"] == "cancelled"
        assert status(server, job)["problem"] == "it took too long"


def test_a_job_waits_for_a_model_and_nothing_is_called_safe_meanwhile(tmp_path: Path) -> None:
    with with_jobs(tmp_path / "jobs", model=False) as server:
        job = hand_over(server, many(5))
        wait_for(lambda: bool(status(server, job)["problem"]))
        assert status(server, job)["done"] == 0
    with with_jobs(tmp_path / "jobs") as server:
        done = ended(server, job)
        assert done["state"] == "done"
        assert done["problem"] is None
        assert sorted(row["number"] for row in results(server, job)) == list(range(5))


def test_a_job_belongs_to_its_token(tmp_path: Path) -> None:
    tokens = parse(["ann 0123456789abcdef", "ben fedcba9876543210"], "tokens")
    ann, ben = (
        {"Authorization": f"Bearer {token}"} for token in ("0123456789abcdef", "fedcba9876543210")
    )
    with with_jobs(tmp_path / "jobs", tokens=tokens) as server:
        assert server.post("/v1/jobs", json={}).status_code == 401
        files = {"picture": ("a.jpg", SAFE)}
        job = server.post("/v1/jobs", files=files, headers=ann).json()["id"]
        assert server.get(f"/v1/jobs/{job}", headers=ann).status_code == 200
        assert len(server.get("/v1/jobs", headers=ann).json()["jobs"]) == 1
        assert server.get("/v1/jobs", headers=ben).json()["jobs"] == []
        for method, path in (
            ("GET", ""), ("GET", "/results"), ("POST", "/cancel"), ("DELETE", "")
        ):  # fmt: skip
            found = server.request(method, f"/v1/jobs/{job}{path}", headers=ben)
            assert found.status_code == 404


def test_requests_that_make_no_sense_are_refused(server: Serving) -> None:
    for body, kind, code in (
        (b"", "application/json", 415),
        (b"{", "application/json", 415),
        (b"{}", "application/json", 400),
        (b'{"folder": "/", "more": 1}', "application/json", 400),
        (b"\xff\xd8\xff", "image/jpeg", 415),
        (b"", "multipart/form-data", 400),
        (b"x", "multipart/form-data; boundary=b", 400),
        (b"--b--\r\n", "multipart/form-data; boundary=b", 400),
        (b"--b\r\n", "multipart/form-data; boundary=b", 400),
    ):
        found = server.post("/v1/jobs", content=body, headers={"Content-Type": kind})
        assert found.status_code == code, (body, found.text)
    job = hand_over(server, [SAFE])
    for query in ("after=-1", "after=x", "limit=0", "limit=99999", "after=" + "9" * 40):
        assert server.get(f"/v1/jobs/{job}/results?{query}").status_code == 400
    assert server.get("/v1/jobs/..%2f..").status_code == 404


def test_uploads_are_readable_by_their_owner_only_and_removed_at_the_end(
    server: Serving, pool: scan_fakes.FakePool, tmp_path: Path
) -> None:
    with held_up(pool, server):
        job = hand_over(server, many(5))
        folder = tmp_path / "jobs" / "uploads"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / f"{job}.pictures").stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "jobs" / "jobs.sqlite3").stat().st_mode & 0o777 == 0o600
    ended(server, job)
    wait_for(lambda: uploads(tmp_path) == [])


def test_an_upload_that_breaks_off_leaves_nothing(server: Serving, tmp_path: Path) -> None:
    import socket

    head = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="p"; filename="1.jpg"\r\n\r\n'
    )
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(head + b"x" * 1000)
        wait_for(lambda: len(uploads(tmp_path)) == 1)
    wait_for(lambda: uploads(tmp_path) == [])
    assert server.get("/v1/jobs").json()["jobs"] == []


def test_an_upload_that_is_too_long_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with with_jobs(tmp_path / "jobs", bytes_each=5000) as server:
        found = server.post("/v1/jobs", files={"p": ("1.jpg", SAFE * 6000)})
        assert found.status_code == 413
        assert uploads(tmp_path) == []


def test_there_is_a_bound_on_jobs_and_on_waiting_bytes(tmp_path: Path) -> None:
    with with_jobs(tmp_path / "jobs", model=False, jobs_unfinished=1) as server:
        hand_over(server, [SAFE])
        found = server.post("/v1/jobs", files={"p": ("1.jpg", SAFE)})
        assert (found.status_code, found.json()["code"]) == (429, "too-many-jobs")
    with with_jobs(tmp_path / "other", model=False, bytes_all=3) as server:
        hand_over(server, [SAFE * 4])
        found = server.post("/v1/jobs", files={"p": ("1.jpg", SAFE)})
        assert (found.status_code, found.json()["code"]) == (507, "too-much-waiting")


def test_without_jobs_the_server_says_so() -> None:
    with serving() as server:
        found = server.post("/v1/jobs", json={"folder": "/"})
        assert (found.status_code, found.json()["code"]) == (404, "jobs-off")
