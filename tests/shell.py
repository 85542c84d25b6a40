"""The command line as a shell starts it, and as a function where a process is not the point."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nsfwscan.cli.main import main

PROGRAM = [sys.executable, "-m", "nsfwscan"]


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records of `--format jsonl`."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def verdicts(self) -> dict[str, str]:
        """Of the records: what became of each file, by its name."""
        return {
            os.path.basename(one["path"]): one["decision"] or one["reason"] for one in self.records
        }

    @property
    def origins(self) -> dict[str, str]:
        """Of the records: where each score came from, by the file's name."""
        return {os.path.basename(one["path"]): one["origin"] for one in self.records}


class Call:
    """Runs the command line in this process."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(
        self, *arguments: str | Path, during: AbstractContextManager[object] | None = None
    ) -> Done:
        """Run a command, inside of `during`, which sees nothing but the command."""
        self._capture.readouterr()
        with during or nullcontext():
            code = main([os.fspath(one) for one in arguments])
        out, err = self._capture.readouterr()
        return Done(code, out, err)


def start(
    *arguments: str | bytes | Path, before: str = "", **options: Any
) -> subprocess.Popen[bytes]:
    """Start the command line in a process group of its own, with pipes to it.

    `before` is Python that runs before it, to make a scan slow or a threshold short.
    """
    program = PROGRAM
    if before:
        program = [sys.executable, "-c", f"{before}\nfrom nsfwscan.cli.main import run; run()"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([*program, *arguments], start_new_session=True, **{**pipes, **options})


def tool(name: str, package: str) -> str:
    """Return the path of a program, or skip the test. `package` is the one of Debian with it."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(_not_installed(name, package))
    return path


def needs(name: str, package: str) -> pytest.MarkDecorator:
    """Return a mark that skips a test where a program is missing."""
    return pytest.mark.skipif(shutil.which(name) is None, reason=_not_installed(name, package))


def _not_installed(name: str, package: str) -> str:
    return f"{name} is not installed (Debian: {package})"


def own_mounts() -> list[str]:
    """Return what to put before a command so that it may mount what nobody else sees."""
    ways: list[list[str]] = [["--user", "--map-root-user"]]
    if os.geteuid() == 0:
        ways.insert(0, [])  # a container may let root mount, and allow no user namespaces
    return _unshared(ways, "mount -t tmpfs none /", "this machine allows no mounts of one's own")


def own_users() -> list[str]:
    """Return what to put before a command so that it is root of namespaces of its own."""
    ways = [["--user", "--map-root-user"]]
    return _unshared(ways, "true", "this machine allows no user namespaces")


def own_network() -> list[str]:
    """Return what to put before a command so that it is root of a network of its own."""
    ways: list[list[str]] = [["--user", "--map-root-user", "--net"]]
    if os.geteuid() == 0:
        ways.insert(0, ["--net"])
    trial = "ip link add wire type veth peer name nobody"
    return _unshared(ways, trial, "this machine allows no network of one's own")


def _unshared(ways: list[list[str]], trial: str, otherwise: str) -> list[str]:
    unshare = tool("unshare", "util-linux")
    for way in ways:
        wrap = [unshare, *way, "--mount"]
        if not subprocess.run([*wrap, "sh", "-c", trial], capture_output=True).returncode:
            return wrap
    pytest.skip(otherwise)


def without_privileges() -> list[str]:
    """Return what to put before a command so that permissions hold for it, also for root."""
    if not hasattr(os, "geteuid"):
        pytest.skip("this system has no permission bits")
    if os.geteuid() != 0:
        return []
    rights = "-dac_override,-dac_read_search"
    wrap = [tool("setpriv", "util-linux"), f"--bounding-set={rights}", f"--inh-caps={rights}"]
    if subprocess.run([*wrap, "true"], capture_output=True).returncode:
        pytest.skip("root may read everything, and setpriv cannot change that")
    return wrap
