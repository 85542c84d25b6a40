"""Every system call of a command fails once, with each error that its manual lists.

    python tests/quarantine_calls.py                 all commands, all calls, all errors
    python tests/quarantine_calls.py scan allow      these commands
    python tests/quarantine_calls.py --part 1/4      the first of four parts, each some of all calls
    python tests/quarantine_calls.py --sample 100    some, always the same ones
    python tests/quarantine_calls.py --interrupt 200 SIGINT at random system calls instead

A command runs in a child of this process, with strace attached: see `calls_world`. Most of the time
goes into files; with TMPDIR on a tmpfs and --elsewhere on a disk it is twice as fast.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from calls_world import FORKED, KINDS, TASKS, World, judge, opened, warm
from model_calls import Caller

from nsfwscan.cli.shared.codes import READER_GONE

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
    "getdents64": "EBADF EINVAL EIO ENOTDIR", "statfs": f"{_PATH} EINTR ENOSYS EOVERFLOW",
    "chmod": f"{_PATH} EPERM EROFS", "fchmod": "EBADF EIO EPERM EROFS",
    "chown": f"{_PATH} EPERM EROFS", "fchown": "EBADF EIO EPERM EROFS",
    "utimensat": f"{_PATH} EINVAL EPERM EROFS", "chdir": _PATH, "getcwd": "EACCES ENOENT ENOMEM",
    "lseek": "EBADF EINVAL ENXIO EOVERFLOW ESPIPE", "fadvise64": "EBADF EINVAL ESPIPE",
    "flistxattr": _XATTR, "fgetxattr": _XATTR, "fsetxattr": f"{_XATTR} EDQUOT ENOSPC",
    "listxattr": _XATTR, "getxattr": _XATTR,
    "socket": "EACCES EAFNOSUPPORT EINVAL EMFILE ENFILE ENOBUFS ENOMEM EPROTONOSUPPORT",
    "connect": "EACCES EADDRNOTAVAIL EAGAIN EBADF ECONNREFUSED EINTR ENETUNREACH EPERM ETIMEDOUT",
    "sendto": "EACCES EAGAIN EBADF ECONNRESET EINTR EINVAL ENOBUFS ENOMEM ENOTCONN EPIPE",
    "recvfrom": "EAGAIN EBADF ECONNREFUSED ECONNRESET EINTR EINVAL ENOMEM ENOTCONN",
    "setsockopt": "EBADF EINVAL ENOMEM ENOPROTOOPT", "getsockopt": "EBADF EINVAL ENOPROTOOPT",
    "poll": "EINTR EINVAL ENOMEM",
    "pipe2": "EMFILE ENFILE", "dup": "EBADF EMFILE", "ioctl": "EBADF EINVAL ENOTTY",
}  # fmt: skip
"""Errors by call, from section 2 of the manual, EIO and ESTALE wherever a disk is asked. Not
EFAULT, which is a wrong pointer; not those of close: Linux closes a file all the same, and strace
does not; and not ENOENT of getdents64, which the C library takes for the end of a folder that was
deleted, as POSIX wants it."""
AHEAD_S = 10.0
"""By so much is the clock of a command ahead, that no file is too young to be trusted."""
ABSENT = {"ENOENT", "ENOTDIR"}
"""That something is not there is no failure, and may be true as far as a command can know."""
_SAME = {
    "openat": "open", "newfstatat": "stat", "lstat": "stat", "statx": "stat", "renameat": "rename",
    "renameat2": "rename", "unlinkat": "unlink", "mkdirat": "mkdir", "linkat": "link",
    "symlinkat": "symlink", "readlinkat": "readlink", "faccessat": "access",
    "faccessat2": "access", "fchmodat": "chmod", "fchownat": "chown",
}  # fmt: skip


class Trial(NamedTuple):
    """A command, and which of its calls is to fail how."""

    name: str
    call: str
    number: int
    """Which call of that name, from 1."""
    error: str
    """An error, or SIGINT for an interrupt at that moment."""


class Counts(NamedTuple):
    """What came of all trials."""

    calls: int
    injected: int
    problems: list[str]


def traced(world: World, name: str, *strace: str) -> tuple[int, list[str], float]:
    """Run a command under strace; return its exit code, strace's lines, and how long it took."""
    world.prepare(name)
    task = TASKS[name]
    words = task.words(world)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])  # no descriptor: calls are counted
    hear, tell = os.pipe()
    child = os.fork()
    if not child:

        def wait() -> None:
            os.close(tell)
            signal.sigwait([signal.SIGUSR1])

        os.close(hear)
        Caller(world.base, task.run).become(words, world.top, AHEAD_S, wait=wait)
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
    while not (found := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() - began >= task.bound_s:
            break
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


def calls_of(world: World, name: str) -> list[tuple[str, int]]:
    """Return the system calls of a command that may fail, each with how many of its name it is."""
    task = TASKS[name]
    code, lines, _ = traced(world, name, "-e", "trace=%file,%desc,%network")
    said = (world.base / "out").read_text() + (world.base / "err").read_text()
    assert code == task.codes[0], (name, code, said)
    assert task.promise(world, code), (name, code, said)
    numbers: Counter[tuple[str, str]] = Counter()
    found: dict[tuple[str, int], None] = {}
    programs = {line.split()[0] for line in lines if " execve(" in line}
    for line in lines:
        if line.split()[0] in programs:  # a decode worker, say: most of its calls are Python's
            continue
        match = re.match(r"(\d+) +(\w+)\(", line)
        if match and _SAME.get(match[2], match[2]) in ERRORS:
            numbers[match[1], match[2]] += 1  # strace counts for each thread, too
            found[match[2], numbers[match[1], match[2]]] = None
    return list(found)


def _counted(trials: Sequence[Trial]) -> Iterator[Trial]:
    """Yield all of these, and tell once a minute on stderr how far they are."""
    began = told = time.monotonic()
    for number, trial in enumerate(trials):
        if (now := time.monotonic()) - told >= 60:
            told, rate = now, number / (now - began)
            left = (len(trials) - number) / rate / 60
            print(
                f"{number:,} of {len(trials):,}, {rate:.1f} a second, {left:.0f} minutes left",
                file=sys.stderr, flush=True,
            )  # fmt: skip
        yield trial


def failures(world: World, names: Sequence[str]) -> tuple[int, list[Trial]]:
    """Return how many calls these commands make, and every way in which one may fail."""
    calls, trials = 0, []
    for name in names:
        found = calls_of(world, name)
        calls += len(found)
        for call, number in found:
            errors = ERRORS[_SAME.get(call, call)].split()
            trials += [Trial(name, call, number, error) for error in errors]
    return calls, trials


def interrupts(
    world: World, names: Sequence[str], times: int, chance: random.Random
) -> tuple[int, list[Trial]]:
    """Return how many calls these commands make, and `times` of them for SIGINT."""
    found = {name: calls_of(world, name) for name in names}
    turns = [names[turn % len(names)] for turn in range(times)]
    trials = [Trial(name, *chance.choice(found[name]), "SIGINT") for name in turns]
    return sum(map(len, found.values())), trials


def run(world: World, calls: int, trials: Sequence[Trial]) -> Counts:
    """Run each command with its trouble, and print what came of it."""
    done, problems, kinds = 0, [], Counter[str]()
    for one in _counted(trials):
        what = "signal=SIGINT" if one.error == "SIGINT" else f"error={one.error}"
        inject = f"inject={one.call}:{what}:when={one.number}"
        code, lines, took = traced(world, one.name, "-e", f"trace={one.call}", "-e", inject)
        done += any("(INJECTED)" in line or "SIGINT" in line for line in lines)
        codes: tuple[int, ...] = TASKS[one.name].codes
        codes += {"EPIPE": (READER_GONE,), "SIGINT": (130,)}.get(one.error, ())
        absent = one.error in ABSENT
        for problem in judge(world, one.name, code, took, codes=codes, absent=absent):
            problems.append(f"{one.name}: {one.call} {one.number} {one.error}: {problem}")
            kinds[problem.partition(" (")[0].partition(":")[0]] += 1
            print(problems[-1], flush=True)
    told = [
        f"{calls:,} calls", f"{done:,} failures injected",
        *(f"{kinds[one]:,} {many}" for one, many in KINDS.items()),
    ]  # fmt: skip
    print(", ".join(told), flush=True)
    return Counts(calls, done, problems)


def _part(text: str) -> tuple[int, int]:
    number, _, parts = text.partition("/")
    if not 1 <= int(number) <= int(parts):
        raise ValueError(text)
    return int(number) - 1, int(parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int)
    parser.add_argument("--interrupt", type=int, metavar="TIMES")
    parser.add_argument("--part", type=_part, default=(0, 1), metavar="K/N")
    parser.add_argument("--seed", type=int, default=1, help="another one gives another sample")
    parser.add_argument("--elsewhere", default="/dev/shm", help="a folder of another file system")
    parser.add_argument("commands", nargs="*", choices=[[], *FORKED])
    chosen = parser.parse_args()
    names, chance = chosen.commands or FORKED, random.Random(chosen.seed)
    with opened(chosen.elsewhere, names) as world:
        warm(world, names)
        if chosen.interrupt is not None:
            calls, trials = interrupts(world, names, chosen.interrupt, chance)
        else:
            calls, trials = failures(world, names)
        if chosen.sample is not None:
            trials = chance.sample(trials, min(chosen.sample, len(trials)))
        number, parts = chosen.part
        counts = run(world, calls, trials[number::parts])
    sys.exit(bool(counts.problems) or not counts.injected)


if __name__ == "__main__":
    main()
