"""Moves pictures in a process that a test may kill or deny system calls, and looks at what is left.

Started as a program it is a server: for each line on its standard input it forks a child that waits
for `go`, so that strace can be attached and counts system calls from there, and no trial pays for
starting Python.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from nsfwscan.actions.limit import Limit
from nsfwscan.actions.quarantine.entries import Reason
from nsfwscan.actions.quarantine.held import Quarantines
from nsfwscan.actions.quarantine.restore import Restorer
from nsfwscan.actions.quarantine.vault import Vault
from nsfwscan.actions.rules import Rule
from nsfwscan.actions.runner import ActionRunner
from nsfwscan.values.actions import Act, ActionName
from nsfwscan.values.results import Decision, ImageFacts, Origin, Scanned, Scores, Verdict

REASON = Reason("nsfw", 0.97, "tiny-1")
NO_LIMIT = Limit(10**9, 1.0)


def scanned(path: str | Path, sha256: bytes | None = None, score: float = 0.97) -> Scanned:
    """Return the result of a scan for a file, as if its content had scored so."""
    if sha256 is None:
        sha256 = hashlib.sha256(Path(path).read_bytes()).digest()
    decision = Decision.NSFW if score >= 0.8 else Decision.REVIEW if score >= 0.5 else Decision.SAFE
    return Scanned(
        os.fspath(path),
        sha256,
        ImageFacts("TEST", 1, 1, 1),
        Scores((1 - score, score), score),
        Verdict(decision, score, 0.5, 0.8),
        Origin.MODEL,
    )


def fail(sentence: str) -> None:
    raise AssertionError(sentence)


def actor(quarantine: str | Path | None, *rules: Rule, **options: Any) -> ActionRunner:
    """Return an actor with a quarantine in the folder `quarantine`; a warning fails the test."""
    warn = options.pop("warn", fail)
    chosen = None if quarantine is None else os.fspath(quarantine)
    return ActionRunner(
        rules or [Rule(ActionName.QUARANTINE)],
        record=lambda result: {"path": result.path},
        model="tiny-1",
        quarantines=Quarantines(chosen, warn),
        tells=SimpleNamespace(say=options.pop("say", lambda _sentence: None), warn=warn),
        limit=options.pop("limit", NO_LIMIT),
        **options,
    )


def move_in(quarantine: str | Path, paths: Sequence[str | Path], **options: Any) -> list[Act]:
    """Quarantine files and return the acts."""
    mover = actor(quarantine, **options)
    for path in paths:
        mover.consider(scanned(path))
    return list(mover.carry_out(lambda _question: False))


def vault_in(quarantine: str | Path, warn: Any = fail) -> Vault:
    """Return the one quarantine in a folder."""
    (vault,) = Quarantines(os.fspath(quarantine), warn).existing()
    return vault


def restore_all(quarantine: str | Path) -> list[Any]:
    """Restore everything and return what became of each."""
    vault = vault_in(quarantine)
    with vault.locked() as ledger:
        held = ledger.held
    return list(Restorer(vault).restore(held))


class Facts(NamedTuple):
    """What must not change about a file."""

    content: bytes
    mode: int
    mtime_ns: int
    owner: tuple[int, int]
    xattrs: tuple[tuple[str, bytes], ...]


def facts(path: str | Path) -> Facts:
    found = os.stat(path)
    names = os.listxattr(path)
    return Facts(
        Path(path).read_bytes(),
        stat.S_IMODE(found.st_mode),
        found.st_mtime_ns,
        (found.st_uid, found.st_gid),
        tuple((name, os.getxattr(path, name)) for name in sorted(names)),
    )


def places(
    pictures: dict[Path, Facts], quarantine: Path, *, lacking: bool = False
) -> dict[Path, str]:
    """End what was cut short, and say where each picture is. Fails unless in exactly one place.

    And unless nothing else is left behind, in its folder or in the quarantine.
    """
    held: dict[str, Any] = {}
    if (quarantine / ".nsfwscan-quarantine").exists():
        vault = vault_in(quarantine)
        with vault.locked() as ledger:
            held = {one.path: one for one in ledger.held}
            assert ledger.damaged == ()
            assert not [one for one in ledger.entries.values() if one.under_way is not None]
            assert vault.names() == {one.id for one in ledger.held}
            assert len(held) == len(ledger.held)
    found = {}
    for path, wanted in pictures.items():
        entry = held.get(str(path))
        assert path.exists() != (entry is not None), f"{path}: {entry}"
        here = path if entry is None else Path(vault.file_of(entry.id))
        if lacking:  # it was said that some attribute could not be given
            assert here.read_bytes() == wanted.content
            assert entry is None or (entry.facts and entry.facts.xattrs == dict(wanted.xattrs))
        else:
            assert facts(here) == wanted
        found[path] = "source" if entry is None else "quarantine"
    for folder in {path.parent for path in pictures}:
        here = {one for one in pictures if one.parent == folder and found[one] == "source"}
        assert set(folder.iterdir()) - {one for one in folder.iterdir() if one.is_dir()} == here
    return found


class Server:
    """Runs `do` in a child of a process that has everything loaded, under strace."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(30) == 0
        assert self._process.stdout is not None
        self._process.stdout.close()

    def run(self, task: str, quarantine: Path, paths: Sequence[Path], *strace: str) -> list[str]:
        """Run a task and return the lines that strace wrote."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = json.dumps([task, str(quarantine), [str(path) for path in paths]])
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        log = quarantine.with_suffix(".strace")
        with subprocess.Popen(
            ["strace", "-qq", "-o", log, *strace, "-p", str(pid)], stderr=subprocess.PIPE
        ) as tracer:
            deadline = time.monotonic() + 30
            while _is_untraced(pid):
                assert time.monotonic() < deadline
                time.sleep(0.0005)
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
            said = iter(self._process.stdout.readline, "")
            self.said = "".join(itertools.takewhile(lambda line: line != "ended\n", said))
            tracer.wait(30)
            assert tracer.stderr is not None
            assert tracer.stderr.read() == b""
        lines = log.read_text(errors="replace").splitlines()
        log.unlink()
        return lines


def _is_untraced(pid: int) -> bool:
    try:
        return "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False  # the read that it waited in was the call to be killed at


@contextlib.contextmanager
def server() -> Iterator[Server]:
    running = Server()
    try:
        yield running
    finally:
        running.close()


def do(task: str, quarantine: str, paths: list[str]) -> str:
    """Do a task and return what is to be said of it."""
    said: list[str] = []
    if task == "quarantine":
        acts = move_in(quarantine, paths, warn=said.append)
        return " ".join([*(act.outcome for act in acts), *(act.detail for act in acts)])
    vault = vault_in(quarantine, said.append)
    with vault.locked() as ledger:
        held = ledger.held
    if task == "restore":
        moved = [one.moved for one in Restorer(vault).restore(held)]
        return " ".join([*(one.outcome for one in moved), *(one.detail for one in moved)])
    raise AssertionError(task)


def serve() -> None:
    for line in iter(sys.stdin.readline, ""):
        if line == "go\n":
            continue  # for a child that was killed before it could read it
        task, quarantine, paths = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for path in paths:  # so that reading them for their digest is not counted
                    os.stat(path) if task == "quarantine" else None
                if os.read(0, 3) == b"go\n":
                    try:
                        said = do(task, quarantine, paths)
                    except Exception as error:  # the test asks whether anything is lost
                        said = f"{type(error).__name__}: {error}"
                    os.write(1, said.encode("utf-8", "replace").replace(b"\n", b" ") + b"\n")
                code = 0
            finally:
                os._exit(code)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            print("killed")
        print("ended", flush=True)


if __name__ == "__main__":
    serve()
