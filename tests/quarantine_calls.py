"""Every system call of a command fails once, with each error that its manual lists.

    python tests/quarantine_calls.py               all commands, all calls, all errors
    python tests/quarantine_calls.py --sample 100    some, always the same ones
    python tests/quarantine_calls.py --interrupt 200 SIGINT at random system calls instead

A command runs in a child of this process, where everything is loaded, with strace attached. After
it, what it left half done is ended by another command. Then each picture must be in one place, and
the exit code must have told the truth.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import tiny_model
from model_calls import Caller, prepare, warm_up

from nsfwscan.cli.codes import READER_GONE

_PATH = "EACCES EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR ESTALE"
_NEW_NAME = f"{_PATH} EDQUOT EEXIST EMLINK ENOSPC EPERM EROFS"
_XATTR = "EIO EOPNOTSUPP EPERM ERANGE E2BIG ENODATA"
_DATA = "EAGAIN EBADF EINTR EINVAL EIO ESTALE"
ERRORS = {
    "open": f"{_NEW_NAME} EBUSY EFBIG EINTR EINVAL EISDIR EMFILE ENFILE ENODEV ENXIO EOVERFLOW"
    " ETXTBSY EAGAIN",
    "read": f"{_DATA} EISDIR", "pread64": f"{_DATA} ESPIPE",
    "write": f"{_DATA} EDQUOT EFBIG ENOSPC EPERM EPIPE",
    "pwrite64": f"{_DATA} EDQUOT EFBIG ENOSPC EPERM",
    "fsync": "EBADF EDQUOT EINTR EINVAL EIO ENOSPC EROFS", "fdatasync": "EBADF EIO ENOSPC",
    "ftruncate": "EACCES EBADF EFBIG EINTR EINVAL EIO EPERM EROFS",
    "flock": "EBADF EINTR EINVAL ENOLCK EAGAIN",
    "fcntl": "EACCES EAGAIN EBADF EINTR EINVAL ENOLCK",
    "rename": f"{_NEW_NAME} EBUSY EINVAL EISDIR ENOTEMPTY EXDEV",
    "link": f"{_NEW_NAME} EXDEV", "symlink": _NEW_NAME, "mkdir": f"{_NEW_NAME} EINVAL",
    "unlink": f"{_PATH} EBUSY EISDIR EPERM EROFS",
    "rmdir": f"{_PATH} EBUSY EINVAL ENOTEMPTY EPERM EROFS",
    "stat": f"{_PATH} EOVERFLOW", "fstat": "EBADF EIO ENOMEM EOVERFLOW ESTALE",
    "access": f"{_PATH} EINVAL EROFS ETXTBSY", "readlink": f"{_PATH} EINVAL",
    "getdents64": "EBADF EINVAL EIO ENOENT ENOTDIR", "statfs": f"{_PATH} EINTR ENOSYS EOVERFLOW",
    "chmod": f"{_PATH} EPERM EROFS", "fchmod": "EBADF EIO EPERM EROFS",
    "chown": f"{_PATH} EPERM EROFS", "fchown": "EBADF EIO EPERM EROFS",
    "utimensat": f"{_PATH} EINVAL EPERM EROFS", "chdir": _PATH, "getcwd": "EACCES ENOENT ENOMEM",
    "lseek": "EBADF EINVAL ENXIO EOVERFLOW ESPIPE", "fadvise64": "EBADF EINVAL ESPIPE",
    "flistxattr": _XATTR, "fgetxattr": _XATTR, "fsetxattr": f"{_XATTR} EDQUOT ENOSPC",
    "listxattr": _XATTR, "getxattr": _XATTR,
}  # fmt: skip
"""Errors by call, from section 2 of the manual, EIO and ESTALE wherever a disk is asked. Not
EFAULT, which is a wrong pointer; and not those of close: Linux closes a file all the same, and
strace does not."""
ABSENT = {"ENOENT", "ENOTDIR"}
"""That something is not there is no failure, and may be true as far as a command can know."""
_SAME = {
    "openat": "open", "newfstatat": "stat", "lstat": "stat", "statx": "stat", "renameat": "rename",
    "renameat2": "rename", "unlinkat": "unlink", "mkdirat": "mkdir", "linkat": "link",
    "symlinkat": "symlink", "readlinkat": "readlink", "faccessat": "access",
    "faccessat2": "access", "fchmodat": "chmod", "fchownat": "chown",
}  # fmt: skip
BOUND_S = 20.0
FLAGGED = [b"\xff\xd8\xff" + b"flagged picture %d" % number * 300 for number in range(3)]
SAFE = b"GIF89a" + b"safe picture" * 100
ALL = Counter([*FLAGGED, SAFE])


class World:
    """Where a command runs: pictures, a home, and a quarantine perhaps on another file system."""

    def __init__(self, base: Path, elsewhere: Path) -> None:
        self.base, self.top, self.call = base, base / "world", Caller(base)
        self.elsewhere = elsewhere
        self.pictures, self.home = self.top / "pics", self.top / "home"
        self.other = self.top / "package"
        os.environ["NSFWSCAN_HOME"] = str(self.home / "ns")
        os.environ["HOME"] = str(self.home)

    def quarantine(self, where: str) -> Path:
        return self.elsewhere / "q" if where == "copy" else self.top / "q"

    def fresh(self, state: str) -> None:
        """Make the world anew: `plain`, `ruled`, or `rename` or `copy` with pictures held."""
        for folder in (self.top, self.elsewhere / "q"):
            shutil.rmtree(folder, ignore_errors=True)
        kept = self.base / f"kept-{state}"
        if not kept.exists():
            self._make(state)
            shutil.copytree(self.top, kept / "world", symlinks=True)
            if self.quarantine("copy").exists():
                shutil.copytree(self.quarantine("copy"), kept / "q")
            return
        shutil.copytree(kept / "world", self.top, symlinks=True)
        if (kept / "q").exists():
            shutil.copytree(kept / "q", self.quarantine("copy"))

    def _make(self, state: str) -> None:
        for number, content in enumerate([*FLAGGED, SAFE]):
            path = self.pictures / f"{number % 2}/{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.setxattr(path, "user.note", b"kept")
        tiny_model.write_package(str(self.home / "ns/models"))
        tiny_model.write_package(str(self.other), name="other")
        assert self.run("deny", self.pictures / "1/3.jpg") == 0
        assert self.run("scan", "-q", self.pictures) == 1
        with (self.top / "exported.jsonl").open("wb") as file:
            self.run("rulings", "export")
            file.write((self.base / "out").read_bytes())
        if state != "ruled":
            # Never decided; what was taken back later is not taken over again.
            assert self.run("rulings", "path") == 0
            os.unlink((self.base / "out").read_text().strip())
        if state in {"rename", "copy"}:
            assert self.run(*scan(self, state)) == 1

    def run(self, *words: str | Path) -> int:
        (self.base / "out").write_bytes(b"")
        (self.base / "err").write_bytes(b"")
        return self.call.wait(self.call.start(words, self.top, 0.0, None))

    def census(self) -> tuple[Counter[bytes], Counter[bytes], list[Path]]:
        """Return what is outside and what is held, by content, and files that are neither."""
        outside: Counter[bytes] = Counter()
        held: Counter[bytes] = Counter()
        strays = []
        for top in (self.pictures, self.quarantine("rename"), self.quarantine("copy")):
            for path in (one for one in top.rglob("*") if one.is_file()):
                content = path.read_bytes()
                if content in ALL:
                    (held if path.is_relative_to(self.top / "q") or top != self.pictures
                     else outside)[content] += 1  # fmt: skip
                elif path.name not in {"lock", "journal.jsonl"}:
                    strays.append(path)
        return outside, held, strays

    def ruled(self) -> set[str]:
        assert self.run("rulings", "export") == 0
        lines = (self.base / "out").read_text().splitlines()
        return {json.loads(line)["sha256"] for line in lines}


def scan(world: World, where: str) -> list[str | Path]:
    return [
        "scan", "-q", "-y", "--action", "quarantine", "--quarantine", world.quarantine(where),
        world.pictures,
    ]  # fmt: skip


class Task(NamedTuple):
    """A command, what it starts from, and what its exit code promises."""

    state: str
    words: Callable[[World], Sequence[str | Path]]
    promise: Callable[[World, int], bool]
    """Given the exit code: whether it is true."""
    codes: tuple[int, ...] = (0, 2)
    loses: bool = False
    """Whether pictures in quarantine may be gone afterwards."""


def _moved(world: World, code: int) -> bool:
    """Return False if a flagged picture stayed and is not mentioned, nor its folder."""
    said = (world.base / "out").read_text() + (world.base / "err").read_text()
    left = [
        path for path in world.pictures.rglob("*.jpg")
        if path.read_bytes() != SAFE and str(path.parent) not in said
    ]  # fmt: skip
    return code not in {0, 1} or not left


def _back(world: World, code: int) -> bool:
    return code != 0 or not world.census()[1]


def _told(world: World, code: int) -> bool:
    return code != 0 or b"Checked 3" in (world.base / "out").read_bytes()


def _has(sha256: str, there: bool) -> Callable[[World, int], bool]:
    return lambda world, code: code != 0 or (sha256 in world.ruled()) == there


def _purged(world: World, code: int) -> bool:
    gone = not (world.home / "ns/models/tiny-1").exists()
    return code != 0 or (gone and not (world.home / "ns/library.sqlite3").exists())


def _added(world: World, code: int) -> bool:
    package = world.home / "ns/models/other-1"
    if not package.exists():
        return code != 0
    # Whole or not at all, whatever the exit code.
    return sorted(os.listdir(package)) == ["manifest.json", "model.onnx"]


def _anything(_world: World, _code: int) -> bool:
    return True


_SHA = {one: hashlib.sha256(one).hexdigest() for one in ALL}
_GIVE = ["quarantine", "restore", "--all"]
TASKS = {
    "quarantine": Task("plain", lambda world: scan(world, "rename"), _moved, (1, 2, 3, 4)),
    "quarantine by copy": Task("plain", lambda world: scan(world, "copy"), _moved, (1, 2, 3, 4)),
    "restore": Task("rename", lambda _: _GIVE, _back),
    "restore by copy": Task("copy", lambda _: _GIVE, _back),
    "delete": Task(
        "rename", lambda _: ["quarantine", "delete", "--all", "--yes"], _back, loses=True
    ),
    "list": Task("rename", lambda _: ["quarantine", "list"], _anything),
    "verify": Task("rename", lambda _: ["quarantine", "verify"], _told),
    "purge": Task("rename", lambda _: ["self-uninstall", "--purge", "--yes"], _purged),
    "deny": Task(
        "plain", lambda world: ["deny", world.pictures / "0/0.jpg"], _has(_SHA[FLAGGED[0]], True),
        (0, 2, 3),
    ),
    "forget": Task(
        "ruled", lambda world: ["rulings", "forget", world.pictures / "1/3.jpg"],
        _has(_SHA[SAFE], False),
    ),
    "import": Task(
        "plain", lambda world: ["rulings", "import", world.top / "exported.jsonl"],
        _has(_SHA[SAFE], True),
    ),
    "cache prune": Task("plain", lambda _: ["cache", "prune"], _anything),
    "cache clear": Task("plain", lambda _: ["cache", "clear", "--yes"], _anything),
    "models add": Task(
        "plain", lambda world: ["models", "add", world.other / "other-1"], _added, (0, 2, 4)
    ),
}  # fmt: skip


class Counts(NamedTuple):
    """What came of all trials."""

    calls: int
    injected: int
    problems: list[str]


def traced(world: World, task: Task, *strace: str) -> tuple[int, list[str], float]:
    """Run a command under strace; return its exit code, strace's lines, and how long it took."""
    for name in ("out", "err", "log"):
        (world.base / name).write_bytes(b"")
    words = task.words(world)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])  # no descriptor: calls are counted
    hear, tell = os.pipe()
    child = os.fork()
    if not child:

        def wait() -> None:
            os.close(tell)
            signal.sigwait([signal.SIGUSR1])

        os.close(hear)
        world.call.become(words, world.top, wait=wait)
    os.close(tell)
    os.read(hear, 1)  # nothing: what comes before the command is over, and not traced
    os.close(hear)
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", world.base / "log", *strace, "-p", str(child)],
        stderr=subprocess.PIPE,
    )
    while "TracerPid:\t0\n" in Path(f"/proc/{child}/status").read_text():
        if tracer.poll() is not None:
            os.kill(child, signal.SIGKILL)
            assert tracer.stderr is not None
            raise OSError(f"strace does not work: {tracer.stderr.read().decode()}")
        time.sleep(0.0005)
    began = time.monotonic()
    os.kill(child, signal.SIGUSR1)
    while not (found := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() - began < BOUND_S:
        time.sleep(0.001)
    took = time.monotonic() - began
    if not found[0]:
        os.kill(child, signal.SIGKILL)
        found = os.waitpid(child, 0)
    tracer.wait(30)
    assert tracer.stderr is not None
    tracer.stderr.close()
    lines = (world.base / "log").read_text(errors="replace").splitlines()
    return os.waitstatus_to_exitcode(found[1]), lines, took


def calls_of(world: World, task: Task) -> list[tuple[str, int]]:
    """Return the system calls of a command that may fail, each with how many of its name it is."""
    world.fresh(task.state)
    code, lines, _ = traced(world, task, "-e", "trace=%file,%desc")
    assert code in task.codes[:1], (task, code, (world.base / "err").read_text())
    assert task.promise(world, code), (task, code, (world.base / "err").read_text())
    numbers: Counter[tuple[str, str]] = Counter()
    found: dict[tuple[str, int], None] = {}
    for line in lines:
        match = re.match(r"(\d+) +(\w+)\(", line)
        if match and _SAME.get(match[2], match[2]) in ERRORS:
            numbers[match[1], match[2]] += 1  # strace counts for each thread, too
            found[match[2], numbers[match[1], match[2]]] = None
    return list(found)


def judge(
    world: World, name: str, code: int, took: float, *, codes: Sequence[int], absent: bool = False
) -> list[str]:
    """Return what is wrong after a command; ends what it left half done."""
    task, problems = TASKS[name], []
    err = (world.base / "err").read_text("utf-8", "replace")
    if "Traceback" in err or "internal error" in err:
        problems.append("traceback")
    if took >= BOUND_S:
        problems.append("over-long")
    if code not in codes:
        problems.append("exit code")
    elif not absent and not task.promise(world, code):
        problems.append("untrue exit code")
    words = ["quarantine", "restore", "0" * 32]
    for where in ("rename", "copy"):
        if world.quarantine(where).exists():
            world.run(*words, "--quarantine", world.quarantine(where))
    outside, held, strays = world.census()
    lost = ALL - outside - held
    if outside + held - ALL or SAFE in lost or (lost and not task.loses):
        problems.append("loss")
    if strays:
        problems.append(f"left behind: {strays[0].name}")
    return [f"{one} (exit code {code}): {err.strip()[:300]}" for one in problems]


def fail_all(world: World, names: Sequence[str], sample: int | None, start: int) -> Counts:
    """Let calls fail, all or a sample of them, and print what came of it."""
    trials: list[tuple[str, str, int, str]] = []
    calls = 0
    for name in names:
        found = calls_of(world, TASKS[name])
        calls += len(found)
        for call, number in found:
            errors = ERRORS[_SAME.get(call, call)].split()
            trials += [(name, call, number, error) for error in errors]
    if sample is not None:
        trials = random.Random(start).sample(trials, min(sample, len(trials)))
    injected, problems, kinds = 0, [], Counter[str]()
    for name, call, number, error in trials:
        task = TASKS[name]
        world.fresh(task.state)
        inject = f"inject={call}:error={error}:when={number}"
        code, lines, took = traced(world, task, "-e", f"trace={call}", "-e", inject)
        injected += any("(INJECTED)" in line for line in lines)
        codes = (*task.codes, READER_GONE) if error == "EPIPE" else task.codes
        for problem in judge(world, name, code, took, codes=codes, absent=error in ABSENT):
            problems.append(f"{name}: {call} {number} {error}: {problem}")
            kinds[problem.partition(" (")[0].partition(":")[0]] += 1
            print(problems[-1], flush=True)
    _tell(calls, "failures injected", injected, kinds)
    return Counts(calls, injected, problems)


def interrupt(world: World, names: Sequence[str], times: int, start: int) -> Counts:
    """Interrupt commands at random system calls, `times` in all, and print what came of it."""
    chance = random.Random(start)
    calls = {name: calls_of(world, TASKS[name]) for name in names}
    sent, problems, kinds = 0, [], Counter[str]()
    for turn in range(times):
        name = names[turn % len(names)]
        task = TASKS[name]
        call, number = chance.choice(calls[name])
        world.fresh(task.state)
        inject = f"inject={call}:signal=SIGINT:when={number}"
        code, lines, took = traced(world, task, "-e", f"trace={call}", "-e", inject)
        sent += any("SIGINT" in line for line in lines)
        for problem in judge(world, name, code, took, codes=(*task.codes, 130)):
            problems.append(f"{name}: {call} {number} SIGINT: {problem}")
            kinds[problem.partition(" (")[0].partition(":")[0]] += 1
            print(problems[-1], flush=True)
    _tell(sum(map(len, calls.values())), "interrupts", sent, kinds)
    return Counts(sum(map(len, calls.values())), sent, problems)


def _tell(calls: int, what: str, number: int, kinds: Counter[str]) -> None:
    told = [
        f"{calls:,} calls", f"{number:,} {what}",
        *(f"{kinds[one]:,} {many}" for one, many in (
            ("loss", "losses"), ("traceback", "tracebacks"), ("over-long", "over-long"),
            ("exit code", "wrong exit codes"), ("untrue exit code", "untrue exit codes"),
            ("left behind", "files left behind"),
        )),
    ]  # fmt: skip
    print(", ".join(told), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int)
    parser.add_argument("--interrupt", type=int, metavar="TIMES")
    parser.add_argument("--seed", type=int, default=1, help="another one gives another sample")
    parser.add_argument("--elsewhere", default="/dev/shm", help="a folder of another file system")
    parser.add_argument("tasks", nargs="*", choices=[[], *TASKS])
    chosen = parser.parse_args()
    prepare()
    names = chosen.tasks or list(TASKS)
    with (
        tempfile.TemporaryDirectory(prefix="nsfwscan-calls-") as base,
        tempfile.TemporaryDirectory(prefix="nsfwscan-calls-", dir=chosen.elsewhere) as elsewhere,
    ):
        world = World(Path(base), Path(elsewhere))
        for task in TASKS.values():
            world.fresh(task.state)
            warm_up(task.words(world))
        if chosen.interrupt is not None:
            counts = interrupt(world, names, chosen.interrupt, chosen.seed)
        else:
            counts = fail_all(world, names, chosen.sample, chosen.seed)
        os.chdir("/")
    sys.exit(bool(counts.problems) or not counts.injected)


if __name__ == "__main__":
    main()
