"""A full disk, a damaged job file, no rights: jobs get a clear 5xx, single requests go on."""

from __future__ import annotations

import errno
import json
import os
import socket
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import scan_fakes
from serving import NSFW, SAFE, Serving, wait_for
from starlette.applications import Starlette
from test_jobs import ended, hand_over, many, results, status, uploads, with_jobs

from nsfwscan.serve.jobs import job_file, runner, spool
from nsfwscan.serve.jobs.job_file import JobFile, JobFileError
from nsfwscan.serve.jobs.runner import JobRunner
from nsfwscan.serve.jobs.states import JobPicture, PictureResult
from nsfwscan.serve.jobs.store import JobStore
from nsfwscan.serve.problems import Unavailable


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> scan_fakes.FakePool:
    return scan_fakes.install_pool(monkeypatch)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serving]:
    with with_jobs(tmp_path / "jobs") as server:
        yield server


def single_requests_go_on(server: Serving) -> None:
    assert server.post("/", content=NSFW).status_code == 200
    assert server.post("/validate", content=SAFE).status_code == 200
    assert server.get("/health").status_code == 200


def refused(server: Serving, job: str, code: int, *words: str) -> None:
    """Check that new jobs and questions about `job` are refused, and the error names things."""
    asks = [("POST", "")]
    if job:
        asks += [("GET", ""), ("GET", f"/{job}"), ("GET", f"/{job}/results")]
    for method, path in asks:
        files = {"p": ("1.jpg", SAFE)} if method == "POST" else None
        found = server.request(method, f"/v1/jobs{path}", files=files)
        assert found.status_code == code, found.text
        assert all(word in found.json()["error"] for word in words), found.text
        assert "/" not in found.json()["error"]  # paths are for the log


@pytest.mark.parametrize("damage", ["text", "header", "zeros", "foreign"])
def test_a_damaged_job_file_is_named_and_a_new_one_needs_no_restart(
    server: Serving, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    job = hand_over(server, many(3))
    ended(server, job)
    path = tmp_path / "jobs" / "jobs.sqlite3"
    data = path.read_bytes()
    path.unlink()
    for side in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + side).unlink(missing_ok=True)
    match damage:
        case "text":
            path.write_bytes(b"this is no database, and longer than a header has to be " * 30)
        case "header":
            path.write_bytes(b"X" * 40 + data[40:])
        case "zeros":
            path.write_bytes(data[:4096] + bytes(len(data) - 4096))
        case "foreign":
            with sqlite3.connect(path) as other:
                other.execute("PRAGMA user_version = 7")
            other.close()
    refused(server, job, 500, path.name, "damaged", "move the file away")
    assert str(path) in caplog.text
    single_requests_go_on(server)
    path.unlink()
    again = hand_over(server, many(3))
    assert ended(server, again)["state"] == "done"


def test_a_full_disk_refuses_uploads_and_leaves_nothing(
    server: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: int, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(spool, "write_all", full)
        found = server.post("/v1/jobs", files={"p": ("1.jpg", SAFE)})
        assert (found.status_code, found.json()["code"]) == (507, "disk-full")
        assert "No space left" in found.json()["error"]
        assert uploads(tmp_path) == []
        single_requests_go_on(server)
    ended(server, hand_over(server, [SAFE]))


def test_results_wait_in_memory_while_the_disk_is_full_and_nothing_is_scored_twice(
    server: Serving, tmp_path: Path, pool: scan_fakes.FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, tries = JobFile.write, []

    def full(self: JobFile, work: object, *, durable: bool = False) -> object:
        if not durable:  # a new job is still accepted
            tries.append(work)
            raise JobFileError(507, "disk-full", "its disk is full")
        return write(self, work, durable=durable)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(JobFile, "write", full)
        job = hand_over(server, many(40))
        wait_for(lambda: len(tries) >= 2)
        # Two for each of two lanes: that many a kill would cost.
        assert len(pool.decoded) == 4
        assert status(server, job)["done"] == 0
        single_requests_go_on(server)
        singles = len(pool.decoded) - 4
    assert ended(server, job)["done"] == 40
    assert len(pool.decoded) - singles == 40
    assert sorted(row["number"] for row in results(server, job)) == list(range(40))


def test_results_that_cost_no_scoring_do_not_wait_for_the_disk(
    server: Serving, pool: scan_fakes.FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, held = JobStore.save, threading.Event()

    def slow(self: JobStore, results: Iterable[PictureResult]) -> set[str]:
        assert held.wait(20)
        return save(self, results)

    monkeypatch.setattr(JobStore, "save", slow)
    app = server.listener.config.app
    assert isinstance(app, Starlette)
    try:
        job = hand_over(server, [SAFE] * 40)
        wait_for(lambda: len(app.state.jobs.runner._results) == 40)
    finally:
        held.set()
    assert ended(server, job)["done"] == 40
    assert pool.decoded == [SAFE]


def test_a_job_file_that_is_full_says_so(tmp_path: Path) -> None:
    store = JobStore(str(tmp_path))
    store.add([JobPicture("", 0, "1.jpg")], job="a" * 32)
    connection = store._file._connection
    assert connection is not None
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(JobFileError) as caught:
        store.save([PictureResult("a" * 32, 0, "safe", "x" * 200_000)])
    assert (caught.value.status, caught.value.code) == (507, "disk-full")
    assert "free some space" in str(caught.value)
    store.save([PictureResult("a" * 32, 0, "safe", "{}")])
    assert store.status("a" * 32).done == 1
    store.close()


def test_a_folder_that_may_not_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    for module in (job_file, spool, runner):
        monkeypatch.setattr(module, "make_private", refuse)
    with with_jobs(tmp_path / "jobs") as server:
        refused(server, "", 500, "uploads", "Permission denied")
        single_requests_go_on(server)


def test_a_place_that_is_no_folder_is_named(tmp_path: Path) -> None:
    home = tmp_path / "jobs"
    home.write_text("a file")
    with with_jobs(home) as server:
        refused(server, "", 500, "uploads")
        single_requests_go_on(server)


def test_an_upload_that_was_changed_on_disk_is_not_scored(
    tmp_path: Path, pool: scan_fakes.FakePool
) -> None:
    with with_jobs(tmp_path / "jobs", model=False) as server:
        job = hand_over(server, [SAFE + b"1", SAFE + b"2"])
    (file,) = (tmp_path / "jobs" / "uploads").iterdir()
    data = bytearray(file.read_bytes())
    data[1] ^= 1
    file.write_bytes(data)
    with with_jobs(tmp_path / "jobs") as server:
        assert ended(server, job)["counts"] == {"safe": 1, "review": 0, "nsfw": 0, "failed": 1}
        (bad,) = (row for row in results(server, job) if row["record"]["status"] == "failed")
        assert bad["number"] == 0
        assert bad["record"]["reason"] == "unreadable"


def test_a_picture_with_which_the_model_fails_does_not_stop_its_job(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = server.service.score

    async def fail(data: bytes, **options: object) -> object:
        if data == b"poison":
            raise Unavailable("the model fails", 0.01)
        if data == b"bug":
            raise ZeroDivisionError
        return await score(data, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(server.service, "score", fail)
    job = hand_over(server, [SAFE, b"poison", b"bug", NSFW])
    assert ended(server, job)["counts"] == {"safe": 1, "review": 0, "nsfw": 1, "failed": 2}
    failed = [row["record"] for row in results(server, job) if row["number"] in {1, 2}]
    assert {record["reason"] for record in failed} == {"bad-output"}


def test_what_ran_the_jobs_starts_again_after_an_error_nobody_foresaw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nsfwscan.serve.jobs import jobs

    monkeypatch.setattr(jobs, "_AGAIN_S", 0.05)
    refill, calls = JobRunner._refill, []

    async def fail_once(self: JobRunner) -> bool:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError
        return await refill(self)

    monkeypatch.setattr(JobRunner, "_refill", fail_once)
    with with_jobs(tmp_path / "jobs") as server:
        assert ended(server, hand_over(server, many(9)))["done"] == 9


def test_what_a_kill_left_of_an_upload_is_removed_after_an_hour(tmp_path: Path) -> None:
    with with_jobs(tmp_path / "jobs") as server:
        ended(server, hand_over(server, [SAFE]))
    folder = tmp_path / "jobs" / "uploads"
    for name, age in (("old", 4000), ("new", 10)):
        (folder / f"{name}.pictures").write_bytes(b"x")
        then = (folder / f"{name}.pictures").stat().st_mtime - age
        os.utime(folder / f"{name}.pictures", (then, then))
    with with_jobs(tmp_path / "jobs"):
        wait_for(lambda: uploads(tmp_path) == ["new.pictures"])


def test_a_thread_that_comes_late_writes_into_no_file_of_others(tmp_path: Path) -> None:
    with spool.Spool(str(tmp_path)).receive("a" * 32) as upload:
        upload.write(b"picture")
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)  # perhaps with the same number
    try:
        for call in (lambda: upload.write(b"late"), upload.keep):
            with pytest.raises(ValueError, match="has ended"):
                call()
        assert os.fstat(other).st_size == 0
    finally:
        os.close(other)
    assert os.listdir(tmp_path / "uploads") == []


def test_nothing_is_written_before_the_first_job(tmp_path: Path) -> None:
    with with_jobs(tmp_path / "jobs") as server:
        assert server.get("/v1/jobs").json() == {"jobs": []}
        assert server.get("/v1/jobs/none").status_code == 404
        assert server.post("/v1/jobs", json={}).status_code == 400
    assert not (tmp_path / "jobs").exists()


def test_errors_of_sqlite_have_their_status() -> None:
    for code, (status_code, word, what) in job_file.STATUS.items():
        assert code not in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
        assert status_code >= 500
        assert word
        assert what


def test_a_folder_whose_name_is_not_utf8_is_scanned_and_listed(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"pictures-\xff")
    folder.mkdir()
    (folder / "one.png").write_bytes(SAFE)
    with with_jobs(tmp_path / "jobs", folders=(str(tmp_path),)) as server:
        body = json.dumps({"folder": str(folder)})
        made = server.post("/v1/jobs", content=body)
        assert made.status_code == 202, made.text
        assert made.json()["folder"] == str(folder)
        assert ended(server, made.json()["id"])["counts"]["safe"] == 1
        assert [one["folder"] for one in server.get("/v1/jobs").json()["jobs"]] == [str(folder)]


@pytest.mark.parametrize("name", ["\ud800", "a\0b"])
def test_a_name_that_no_folder_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with with_jobs(tmp_path / "jobs", folders=(str(tmp_path),)) as server:
        found = server.post("/v1/jobs", content=json.dumps({"folder": f"{tmp_path}/{name}"}))
        assert found.status_code == 400, found.text
        assert found.json()["code"] == "bad-folder"


def test_an_upload_that_is_announced_too_long_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    with with_jobs(tmp_path / "jobs", bytes_each=1000) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
            line.sendall(
                b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1001\r\n\r\n"
            )
            assert line.recv(1000).startswith(b"HTTP/1.1 413 ")
        assert not uploads(tmp_path / "jobs")


def test_a_job_whose_folder_is_gone_before_it_is_listed_fails(tmp_path: Path) -> None:
    store = JobStore(str(tmp_path / "jobs"))
    job = store.add(folder=str(tmp_path / "gone"))
    store.close()
    with with_jobs(tmp_path / "jobs", folders=(str(tmp_path),)) as server:
        found = ended(server, job)
        assert found["state"] == "failed"
        assert found["problem"] == "the folder is no longer there"
