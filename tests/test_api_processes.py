"""`classify` and `scan` among interrupts, forks and exits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_model
from conftest import Paint

import nsfwscan

pytestmark = [
    pytest.mark.usefixtures("tiny"),
    pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals and no fork"),
]

_BEGIN = """
import os, random, signal, subprocess, sys, threading, time, nsfwscan
from nsfwscan import api
picture = sys.argv[1]
want = nsfwscan.classify(picture, offline=True).scores
"""

_INTERRUPTED = """
armed = []
def interrupt(*_):
    if armed:
        raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
random.seed(7)
for number in range(200):
    if number % 4 == 0:
        api._close_engines()  # the next call starts everything
    try:
        armed.append(1)
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00001, 0.004 if number % 4 else 0.2))
        nsfwscan.classify(picture, offline=True)
        armed.clear()
    except KeyboardInterrupt:
        pass
    armed.clear()
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert nsfwscan.classify(picture, offline=True).scores == want, number
api._close_engines()
time.sleep(0.3)
children = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())],
                          capture_output=True, text=True).stdout.splitlines()
assert not [one for one in children if "decode_worker" in one], children
print("sound")
"""

_IN_THE_START = """
api._close_engines()
start = subprocess.Popen._execute_child
def interrupted(*arguments, **named):
    subprocess.Popen._execute_child = start
    start(*arguments, **named)
    signal.raise_signal(signal.SIGINT)
subprocess.Popen._execute_child = interrupted
try:
    nsfwscan.classify(picture, offline=True)
    print("not interrupted")
except KeyboardInterrupt:
    print("interrupted")
assert nsfwscan.classify(picture, offline=True).scores == want
print("sound")
"""

_FORKED = """
child = os.fork()
if child == 0:
    {child}
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
assert nsfwscan.classify(picture, offline=True).scores == want
print("sound")
"""

_FORKED_IN_A_SCAN = """
import gc
from nsfwscan.cache.database import Database
from nsfwscan.scanning.scan_cache import ScanCache
results = nsfwscan.scan(os.path.dirname(picture), offline=True)
next(results)
locks = [one._lock for one in gc.get_objects() if isinstance(one, ScanCache)]
locks += [one._thread_lock for one in gc.get_objects() if isinstance(one, Database)]
assert len(locks) == 2
held, forked = threading.Event(), threading.Event()
def hold():
    with locks[0], locks[1]:
        held.set()
        forked.wait()
holder = threading.Thread(target=hold)  # as a lane does at any moment
holder.start()
held.wait()
child = os.fork()
if child:
    forked.set()
    holder.join()
if child == 0:
    try:
        list(results)
    except nsfwscan.NsfwscanError:
        pass
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
list(results)
print("sound")
"""

_MULTIPROCESSING = """
import multiprocessing
def one(_):
    return nsfwscan.classify(picture, offline=True).scores == want
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(all(pool.map(one, range(8))))
assert nsfwscan.classify(picture, offline=True).scores == want
print("sound")
"""

_EXIT_WHILE_LOADING = """
begun = threading.Event()
def load(*_arguments, **_named):
    begun.set()
    time.sleep(600)
api._load = load
worker = threading.Thread(target=nsfwscan.classify, args=(picture,), kwargs={"model": "falconsai"},
                          daemon=True)
worker.start()
begun.wait()
print("sound")
"""


def run(code: str, picture: Path) -> list[str]:
    """Run a script in a process of its own and return what it printed."""
    root = os.path.dirname(os.path.dirname(nsfwscan.__file__))
    done = subprocess.run(
        [sys.executable, "-c", _BEGIN + code, str(picture)],
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr + done.stdout
    return done.stdout.split("\n")[:-1]


@pytest.fixture
def picture(tmp_path: Path, paint: Paint) -> Path:
    return paint(tmp_path / "pictures" / "a.png", tiny_model.RED)


def test_classify_works_after_an_interrupt_at_any_moment_and_leaves_no_process(
    picture: Path,
) -> None:
    assert run(_INTERRUPTED, picture) == ["sound"]


def test_classify_works_after_an_interrupt_in_the_middle_of_its_start(picture: Path) -> None:
    assert run(_IN_THE_START, picture) == ["interrupted", "sound"]


@pytest.mark.parametrize("child", ["pass", "nsfwscan.classify(picture, offline=True)"])
def test_a_child_forked_after_classify_ends_and_harms_nothing(child: str, picture: Path) -> None:
    assert run(_FORKED.format(child=child), picture) == ["7", "sound"]


def test_a_child_forked_in_a_scan_ends_and_harms_nothing(picture: Path, paint: Paint) -> None:
    for number in range(20):
        paint(picture.parent / f"{number}.png", tiny_model.GREEN)
    assert run(_FORKED_IN_A_SCAN, picture) == ["7", "sound"]


def test_children_of_multiprocessing_classify_on_their_own(picture: Path) -> None:
    assert run(_MULTIPROCESSING, picture) == ["True", "sound"]


def test_an_exit_does_not_wait_for_a_model_that_is_being_fetched(picture: Path) -> None:
    assert run(_EXIT_WHILE_LOADING, picture) == ["sound"]
