"""`nsfwscan serve` as a person starts and stops it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import shell
import tiny_model
from conftest import Paint, Run
from serving import wait_for
from shell import Call

from nsfwscan.serve import server
from nsfwscan.serve.service import ScoringService
from nsfwscan.serve.settings import Limits
from nsfwscan.values.errors import UsageError

TOKEN = "0123456789abcdef"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    return Call(capsys)


class Started:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], said: Path) -> None:
        self.process, self._said = process, said

    @property
    def said(self) -> str:
        return self._said.read_text(encoding="utf-8")

    @property
    def url(self) -> str:
        until = time.monotonic() + 30
        while not (found := re.search(r"Listening on (http://\S+:\d+)\.", self.said)):
            assert self.process.poll() is None, self.said
            assert time.monotonic() < until, self.said
            time.sleep(0.02)
        return found[1]

    def wait_until_ready(self) -> None:
        until = time.monotonic() + 30
        while httpx.get(f"{self.url}/health", trust_env=False).status_code != 200:
            assert time.monotonic() < until, self.said
            time.sleep(0.05)

    def post(self, path: str, picture: bytes, **options: Any) -> httpx.Response:
        options = {"timeout": 30, "trust_env": False, **options}
        return httpx.post(self.url + path, content=picture, **options)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(20)


@contextlib.contextmanager
def started(
    tmp_path: Path, *arguments: str, env: dict[str, str] | None = None, before: str = ""
) -> Iterator[Started]:
    said = tmp_path / f"said-{time.monotonic_ns()}"
    with said.open("wb") as file:
        process = shell.start(
            *("serve", "--port", "0", *arguments),
            before=before,
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
        )
    try:
        yield Started(process, said)
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert "Traceback" not in said.read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_server_answers_and_stops_with_0(
    tiny: Path, paint: Paint, tmp_path: Path, number: int
) -> None:
    red = paint(tmp_path / "red.png", tiny_model.RED).read_bytes()
    with started(tmp_path) as server:
        assert server.post("/", red).json()[0]["label"] == "red"
        assert server.stop(number) == 0
        assert server.said.count("\n") == 1, server.said


def test_nothing_is_written_unless_that_is_asked(
    tiny: Path, home: Path, paint: Paint, tmp_path: Path
) -> None:
    red = paint(tmp_path / "red.png", tiny_model.RED).read_bytes()

    def everything() -> set[str]:
        outside = (path for path in home.rglob("*") if home / "models" not in path.parents)
        return {str(path) for path in outside if path.is_file()}

    before = everything()
    with started(tmp_path) as server:
        assert server.post("/v1/scan", red).status_code == 200
        server.stop()
    assert everything() == before
    for origin in ("model", "cache"):
        with started(tmp_path, "--write-cache") as server:
            (record,) = server.post("/v1/scan", red).json()["results"]
            assert record["origin"] == origin
            assert server.stop() == 0


def test_several_processes_count_together_and_replace_one_that_dies(
    tiny: Path, paint: Paint, tmp_path: Path
) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    red = paint(tmp_path / "red.png", tiny_model.RED).read_bytes()
    with started(tmp_path, "--workers", "2") as server:
        for _ in range(20):
            assert server.post("/", red).status_code == 200
        text = httpx.get(f"{server.url}/metrics", trust_env=False).text
        assert 'nsfwscan_requests_total{route="/",status="200"} 20.0' in text
        assert "nsfwscan_ready 2.0" in text
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        if children.exists():
            os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
            until = time.monotonic() + 20
            while len(children.read_text().split()) != 2 or "another is started" not in server.said:
                assert time.monotonic() < until
                time.sleep(0.05)
        assert server.post("/", red).status_code == 200
        assert server.stop() == 0


def test_processes_and_their_counters_do_not_outlive_their_parent(
    tiny: Path, tmp_path: Path
) -> None:
    if not Path("/proc/self/task").exists():
        pytest.skip("this system has no /proc")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with started(tmp_path, "--workers", "2", env={"TMPDIR": str(temporary)}) as server:
        url = server.url
        server.wait_until_ready()
        assert list(temporary.glob("nsfwscan-counters-*")) != []
        server.process.kill()
        server.process.wait()
        wait_for(lambda: not is_listening(url))
        wait_for(lambda: not list(temporary.glob("nsfwscan-counters-*")))


def test_a_process_that_hangs_does_not_keep_the_server_from_ending(
    tiny: Path, tmp_path: Path
) -> None:
    if not Path("/proc/self/task").exists():
        pytest.skip("this system has no /proc")
    soon = "from nsfwscan.serve import processes; processes._END_S = 1.0"
    with started(tmp_path, "--workers", "2", before=soon) as server:
        server.wait_until_ready()
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        os.kill(int(children.read_text().split()[0]), signal.SIGSTOP)
        assert server.stop() == 0


def is_listening(url: str) -> bool:
    try:
        httpx.get(f"{url}/health", trust_env=False)
    except httpx.TransportError:
        return False
    return True


def test_a_port_in_use_is_said_in_one_sentence(call: Call, tiny: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = call("serve", "--port", str(port))
    assert done.code == 6
    assert f"port {port} of 127.0.0.1 is in use" in done.err
    assert "--port" in done.err


def test_an_address_that_may_not_be_used_is_said(
    call: Call, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    done = call("serve", "--port", "80")
    assert done.code == 6
    assert "port 80 of 127.0.0.1 may not be used" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--host", "0.0.0.0"], 2, "needs a token"),
        (["--host", "192.0.2.1"], 2, "is not an address of this computer"),
        (["--host", "no such name"], 2, "is not an address of this computer"),
        (["--port", "70000"], 2, "70000"),
        (["--max-body", "much"], 2, "not a size"),
        (["--allow-origin", "example.org/page"], 2, "not an origin"),
        (["--allow-host", "http://example.org"], 2, "not the name of a host"),
        (["--token-file", "/no/such/file"], 2, "token file"),
        (["--flag-at", "0.5", "--review-at", "0.9"], 2, "review threshold"),
        (["--model", "nothing-like-it"], 4, "nothing-like-it"),
        (["--model", "./nowhere"], 4, "nowhere"),
        (["--workers", "0"], 2, "workers"),
    ],
)
def test_a_wrong_option_ends_the_command(
    call: Call, tiny: Path, arguments: list[str], code: int, said: str
) -> None:
    done = call("serve", "--port", "0", *arguments)
    assert done.code == code, done.err
    assert said in done.err


def test_damaged_rulings_end_the_command(call: Call, tiny: Path, home: Path) -> None:
    (home / "rulings.jsonl").write_text("nonsense\n")
    done = call("serve", "--port", "0")
    assert done.code == 6
    assert "rulings" in done.err


def test_a_server_starts_without_a_model_and_takes_one_that_is_installed(
    home: Path, paint: Paint, tmp_path: Path
) -> None:
    red = paint(tmp_path / "red.png", tiny_model.RED).read_bytes()
    with started(tmp_path, "--offline") as server:
        assert server.post("/", red).status_code == 503
        assert "no picture can be scored: no model is installed" in server.said
        tiny_model.write_package(str(home / "models"))
        server.wait_until_ready()
        assert server.post("/", red).json()[0]["label"] == "red"
        assert server.stop() == 0


def test_a_token_lets_other_computers_in_and_is_written_nowhere(
    tiny: Path, paint: Paint, tmp_path: Path
) -> None:
    red = paint(tmp_path / "red.png", tiny_model.RED).read_bytes()
    secrets = tmp_path / "tokens"
    secrets.write_text(f"# who may ask\nphotos {TOKEN}\n")
    arguments = ("--host", "0.0.0.0", "--token-file", str(secrets))
    with started(tmp_path, *arguments, env={"NSFWSCAN_TOKEN": TOKEN[::-1]}) as server:
        assert server.post("/", red).status_code == 401
        for token in (TOKEN, TOKEN[::-1]):
            headers = {"Authorization": f"Bearer {token}"}
            assert server.post("/", red, headers=headers).status_code == 200
            assert server.post("/", b"junk", headers=headers).status_code == 400
        assert server.stop() == 0
        assert TOKEN not in server.said
        assert TOKEN[::-1] not in server.said


def test_a_service_manager_may_pass_the_socket(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket has a hundred characters at most
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        listener.listen()
        program = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ |= "
            "{'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'}; "
            "os.execv(sys.executable, [sys.executable, '-m', 'nsfwscan', 'serve'])"
        )
        number = listener.fileno()
        with (tmp_path / "said").open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-c", program, str(number)],
                pass_fds=[number],
                stdout=said,
                stderr=said,
            )
        try:
            transport = httpx.HTTPTransport(uds="s")
            with httpx.Client(transport=transport, base_url="http://localhost", timeout=30) as one:
                assert one.post("/", content=b"junk").status_code == 400
        finally:
            process.terminate()
            assert process.wait(20) == 0
        assert "Listening on unix:s" in (tmp_path / "said").read_text()


def test_sockets_meant_for_another_process_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert server.passed_sockets() == []


def test_sockets_that_are_announced_and_missing_are_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "no socket").open("w") as file:
        monkeypatch.setattr(server, "_FIRST_FD", file.fileno())
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        with pytest.raises(UsageError, match="is a socket, and it is not"):
            server.passed_sockets()


@pytest.mark.parametrize(
    ("host", "outside"), [("127.0.0.1", False), ("127.0.0.9", False), ("0.0.0.0", True)]
)
def test_only_addresses_of_this_computer_need_no_token(host: str, outside: bool) -> None:
    sockets = server.listen(host, 0)
    assert [server.reachable_from_elsewhere(one) for one in sockets] == [outside]
    for one in sockets:
        one.close()


def test_there_are_no_more_connections_than_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    for hard, expected in ((500, 300), (5000, 1000), (resource.RLIM_INFINITY, 1000)):
        now = [300, hard]
        monkeypatch.setattr(resource, "getrlimit", lambda _, now=now: tuple(now))
        monkeypatch.setattr(
            resource, "setrlimit", lambda _, wanted, now=now: now.__setitem__(0, wanted[0])
        )
        assert server.within_descriptors(Limits()).connections == expected


def test_a_server_without_its_extra_says_what_it_refuses(
    call: Call, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "multipart", None)
    monkeypatch.setattr(server, "run", lambda *_: None)
    done = call("serve", "--port", "0")
    assert done.code == 0
    assert "Misskey" in done.err
    assert "pip install 'nsfwscan[serve]'" in done.err
    monkeypatch.undo()


def test_a_server_that_cannot_start_does_not_end_as_if_it_had(
    call: Call, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise MemoryError("no room for threads")

    monkeypatch.setattr(ScoringService, "start", fail)
    done = call("serve", "--port", "0")
    assert done.code == 70


def test_a_server_without_room_for_connections_says_so_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    warnings: list[str] = []
    handle = server.calm(warnings.append)
    loop = asyncio.new_event_loop()
    try:
        for number in (errno.EMFILE, errno.ENFILE, errno.EMFILE):
            error = OSError(number, os.strerror(number))
            handle(loop, {"message": "socket.accept() out of system resource", "exception": error})
    finally:
        loop.close()
    assert len(warnings) == 1
    assert "ulimit -n" in warnings[0]
    assert not capfd.readouterr().err


@pytest.mark.parametrize("host", ["no such name", "x..y", "a" * 80])
def test_an_address_that_is_none_is_a_usage_error(host: str) -> None:
    with pytest.raises(UsageError):
        server.listen(host, 0)


@pytest.mark.parametrize("content", ["", "\n\n", "# name token\n"])
def test_a_token_file_without_a_token_lets_nobody_in(
    call: Call, tiny: Path, tmp_path: Path, content: str
) -> None:
    (tmp_path / "tokens").write_text(content)
    done = call("serve", "--port", "0", "--token-file", str(tmp_path / "tokens"))
    assert done.code == 2
    assert "has no token" in done.err


def test_other_commands_do_not_load_the_server(nsfwscan: Run, tiny: Path) -> None:
    program = (
        "import sys; from nsfwscan.cli.main import main; main(sys.argv[1:]);"
        "print([one for one in sys.modules if one.split('.')[0] in "
        "('starlette', 'uvicorn', 'h11', 'httptools', 'anyio', 'multipart', 'prometheus_client')])"
    )
    for arguments in (["--version"], ["serve", "--port", "x"], ["scan", "."], ["--help"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, check=False
        )
        assert done.stdout.splitlines()[-1] == b"[]", arguments
    assert json.loads(nsfwscan("models", "list", "--format", "json").stdout)
