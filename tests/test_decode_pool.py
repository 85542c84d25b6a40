from __future__ import annotations

import contextlib
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import hostile_decoders
import pictures
import psutil
import pytest

import nsfwscan
from nsfwscan.media.decode import pool as decode_pool
from nsfwscan.media.decode import wire
from nsfwscan.media.decode.decode import decode
from nsfwscan.media.decode.pool import DecodePool
from nsfwscan.values.errors import DecodeError, NsfwscanError
from nsfwscan.values.geometry import Geometry, Resample, Resize
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GEOMETRY = Geometry(Resize.STRETCH, 32, 24, Resample.BILINEAR, 20, 16)
GOOD = b"a good picture"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has this limit")
POSIX = pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals or limits")


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "decode-watch"]


def pool(
    workers: int = 1, *, wall: float = 20.0, cpu: float = 8.0, count: int = 5000
) -> DecodePool:
    """A pool of hostile decoders."""
    return DecodePool(
        workers,
        wall_seconds=wall,
        command=hostile_decoders.command(cpu_seconds=cpu, pictures=count),
    )


def refusal(decoding: DecodePool, data: bytes | memoryview) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        decoding.decode(data, GEOMETRY)
    return caught.value


def assert_good(decoding: DecodePool) -> None:
    assert decoding.decode(GOOD, GEOMETRY) == hostile_decoders.expected(GOOD, GEOMETRY)


def pid(decoding: DecodePool) -> int:
    return int(refusal(decoding, b"pid").detail)


def is_alive(process: int) -> bool:
    """Return True unless it has ended; the first process of a container may never bury it."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# The real worker


def test_a_worker_decodes_what_this_process_decodes() -> None:
    with DecodePool(1) as decoding:
        for name, data in pictures.seeds().items():
            assert decoding.decode(data, GEOMETRY) == decode(data, GEOMETRY), name
        assert decoding.restarts == 0


def test_full_scale_reaches_the_worker() -> None:
    data = pictures.encode(pictures.photo(600, 500), "JPEG")
    with DecodePool(1) as decoding:
        reduced, full = (decoding.decode(data, GEOMETRY, full=full) for full in (False, True))
        assert (reduced, full) == (decode(data, GEOMETRY), decode(data, GEOMETRY, full=True))
        assert reduced != full


def test_a_worker_refuses_with_the_reason() -> None:
    with DecodePool(1) as decoding:
        for data in (b"", b"hello", pictures.seeds()["PNG RGB"][:-60], pictures.tiff_bomb()):
            with pytest.raises(DecodeError) as there:
                decode(data, GEOMETRY)
            here = refusal(decoding, data)
            assert (here.reason, here.detail) == (there.value.reason, there.value.detail)
        assert decoding.restarts == 0


def test_threads_get_their_own_pictures() -> None:
    sizes = [(20 + 3 * at, 15 + at) for at in range(40)]
    files = [pictures.encode(pictures.photo(*size, seed=size[0]), "PNG") for size in sizes]
    with DecodePool(3) as decoding, ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda data: decoding.decode(data, GEOMETRY), files))
    assert results == [decode(data, GEOMETRY) for data in files]


def test_start_does_not_wait() -> None:
    decoding = DecodePool(4)
    before = time.monotonic()
    decoding.start()
    started = time.monotonic() - before
    decoding.close()
    assert started < 0.5


def test_the_parent_loads_no_pictures_library() -> None:
    code = "import sys, nsfwscan.media.decode.pool; print({'PIL', 'numpy'} & set(sys.modules)); "
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_it_works_in_a_script_without_a_main_guard_and_with_a_path_set_by_hand(
    tmp_path: Path,
) -> None:
    root = os.path.dirname(os.path.dirname(nsfwscan.__file__))
    picture = tmp_path / "picture"
    picture.write_bytes(pictures.seeds()["JPEG baseline"])
    # A module that shadows a standard one, beside the script: the worker must not import it.
    (tmp_path / "struct.py").write_text("raise SystemExit('the wrong struct')")
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.pop(0); sys.path.insert(0, {root!r})\n"
        "from nsfwscan.media.decode.pool import DecodePool\n"
        "from nsfwscan.models.manifest import *\n"
        "geometry = Geometry(Resize.STRETCH, 8, 8, Resample.BILINEAR, 8, 8)\n"
        "with DecodePool(1) as pool:\n"
        f"    print(pool.decode(open({str(picture)!r}, 'rb').read(), geometry).facts.format)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", str(script)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("JPEG\n", "")


def test_a_bundle_starts_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/opt/nsfwscan/nsfwscan")
    assert decode_pool.worker_command(8.0, 5000) == [
        "/opt/nsfwscan/nsfwscan",
        "--decode-worker",
        "8",
        "5000",
    ]


# Hostile decoders


@pytest.fixture
def _memory_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_pool, "memory_may_be_short", lambda: False)


@pytest.mark.usefixtures("_memory_enough")
@pytest.mark.parametrize(
    ("behaviour", "detail"),
    [
        pytest.param(b"segfault", "killed by SIGSEGV", marks=POSIX),
        pytest.param(b"abort", "killed by SIGABRT", marks=POSIX),
        (b"exit", "exit code 3"),
        (b"exit-0", "exit code 0"),
        (b"half", "exit code 0"),
        (b"unexpected", "exit code 1"),
        (b"garbage", "garbage"),
        (b"wrong-number", "garbage"),
        (b"too-long", "garbage"),
    ],
)
def test_a_crash_costs_one_picture(behaviour: bytes, detail: str) -> None:
    with pool() as decoding:
        assert_good(decoding)
        error = refusal(decoding, behaviour)
        assert error.reason is FailReason.DECODER_CRASHED
        assert detail in error.detail
        assert not error.transient, "two fresh processes crashed by their own doing"
        assert decoding.restarts == 2, "tried once more in a new process"
        assert_good(decoding)
        assert decoding.restarts == 2


def test_a_crash_while_memory_may_be_short_is_not_held_against_the_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decode_pool, "memory_may_be_short", lambda: True)
    with pool() as decoding:
        error = refusal(decoding, b"exit")
        assert (error.reason, error.transient) == (FailReason.DECODER_CRASHED, True)


@pytest.mark.usefixtures("_memory_enough")
@pytest.mark.parametrize(
    ("behaviour", "detail"),
    [
        pytest.param(b"kill", "killed by SIGKILL", marks=POSIX),
        pytest.param(b"bus", "killed by SIGBUS", marks=POSIX),
        pytest.param(b"hang-up", "killed by SIGHUP", marks=POSIX),
        (b"close", "closed its pipes"),
    ],
)
def test_an_end_that_may_come_from_outside_is_never_held_against_the_picture(
    behaviour: bytes, detail: str
) -> None:
    with pool() as decoding:
        error = refusal(decoding, behaviour)
        assert error.reason is FailReason.DECODER_CRASHED
        assert detail in error.detail
        assert error.transient
        assert decoding.restarts == 4, "tried three times more"
        assert_good(decoding)


@POSIX
def test_a_picture_whose_decoders_are_killed_from_outside_is_decoded_all_the_same() -> None:
    with pool() as decoding, ThreadPoolExecutor(1) as threads:
        assert_good(decoding)
        work = threads.submit(decoding.decode, b"nap:1.5", GEOMETRY)
        for _ in range(3):
            time.sleep(0.5)
            process = decoding._slots[0]._process
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
        assert work.result(30) == hostile_decoders.expected(b"nap:1.5", GEOMETRY)


@POSIX
def test_a_picture_whose_decoder_was_stopped_is_decoded_by_another() -> None:
    with pool(wall=1.0) as decoding, ThreadPoolExecutor(1) as threads:
        assert_good(decoding)
        work = threads.submit(decoding.decode, b"nap:0.5", GEOMETRY)
        time.sleep(0.2)
        process = decoding._slots[0]._process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        assert work.result(30) == hostile_decoders.expected(b"nap:0.5", GEOMETRY)
        assert decoding.restarts == 1


@POSIX
def test_time_in_which_everything_was_stopped_counts_against_no_picture() -> None:
    code = (
        "import sys, hostile_decoders as h, nsfwscan.media.decode.pool as d\n"
        "from test_decode_pool import GEOMETRY, pid, pool\n"
        "with pool(wall=2.0) as p:\n"
        "    print(pid(p), flush=True)\n"
        "    print(p.decode(b'nap:1.0', GEOMETRY).facts.format, p.restarts, flush=True)"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with program:
        assert program.stdout is not None
        both = [program.pid, int(program.stdout.readline())]
        time.sleep(0.3)
        for one in both:
            os.kill(one, signal.SIGSTOP)
        time.sleep(3.5)
        os.kill(program.pid, signal.SIGCONT)  # the decoder is still stopped when it looks
        time.sleep(0.6)
        os.kill(both[1], signal.SIGCONT)
        assert program.stdout.readline().split() == [hostile_decoders.FORMAT.encode(), b"0"]


def test_a_worker_that_is_refused_memory_between_pictures_is_no_crash_of_the_picture() -> None:
    with pool() as decoding:
        error = refusal(decoding, b"short")
        assert (error.reason, error.transient) == (FailReason.DECODER_CRASHED, True)
        assert "refused memory" in error.detail


@POSIX
def test_a_worker_sees_no_token_no_proxy_no_home_and_holds_no_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy")
    with pool() as decoding:
        seen = refusal(decoding, b"surroundings").detail
    names, folder, session, descriptors = seen.split("|")
    kept = {name for name in names.split(",") if not name.startswith(("LD_", "DYLD_", "LC_", "__"))}
    assert kept == {"HOME"}, kept
    assert os.environ["HOME"] != "/"
    assert folder == "/"
    assert session == "leader"
    assert descriptors == "0,1,2,3", "its pipes, and where its complaints go"


@LINUX
def test_a_worker_that_hangs_ends_with_a_parent_that_was_killed() -> None:
    code = (
        "import threading, time, hostile_decoders as h\n"
        "from test_decode_pool import GEOMETRY, pid, pool\n"
        "p = pool(); p.start(); print(pid(p), flush=True)\n"
        "threading.Thread(target=p.decode, args=(b'sleep', GEOMETRY), daemon=True).start()\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        time.sleep(0.3)
        parent.kill()
    deadline = time.monotonic() + 10
    while is_alive(worker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(worker)


@pytest.mark.parametrize("executable", ["", "/usr/bin/blender"])
def test_a_program_that_embeds_python_is_told_what_is_missing(
    executable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    for name in ("prefix", "exec_prefix", "base_prefix"):
        monkeypatch.setattr(sys, name, "/nowhere")
    with pytest.raises(NsfwscanError, match="is not Python") as caught:
        decode_pool.worker_command(8.0, 5000)
    assert "sys.executable" in caught.value.hint


def test_a_program_that_embeds_python_uses_the_interpreter_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    python.parent.mkdir()
    python.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", "/usr/bin/blender")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert decode_pool.worker_command(8.0, 5000)[0] == str(python)


@POSIX
def test_a_forked_child_leaves_the_decoders_to_its_parent() -> None:
    with pool() as decoding:
        worker = pid(decoding)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                decoding.decode(GOOD, GEOMETRY)
            except NsfwscanError as error:
                decoding.close()
                code = 0 if "forked" in str(error) else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert pid(decoding) == worker
        assert_good(decoding)


@POSIX
def test_an_interrupt_at_any_moment_loses_no_place_to_decode() -> None:
    armed: list[bool] = []

    def interrupt(*_: object) -> None:
        if armed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pool() as decoding:
            assert_good(decoding)
            for number in range(100):
                with contextlib.suppress(KeyboardInterrupt):
                    armed.append(True)
                    signal.setitimer(signal.ITIMER_REAL, 0.00002 * (number + 1))
                    for _ in range(50):
                        assert_good(decoding)
                    armed.clear()
                armed.clear()
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert_good(decoding)
            assert decoding.restarts == 0
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("behaviour", [b"too-short", b"unknown-reason", b"hello-again"])
def test_an_answer_that_makes_no_sense_is_a_crash(behaviour: bytes) -> None:
    with pool() as decoding:
        # These forge the answer to a process' first request.
        error = refusal(decoding, behaviour)
        assert error.reason is FailReason.DECODER_CRASHED
        assert "garbage" in error.detail
        assert_good(decoding)


def test_a_picture_that_crashes_once_is_decoded_by_the_second_process(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    data = b"once:" + os.fsencode(marker)
    with pool() as decoding:
        assert decoding.decode(data, GEOMETRY) == hostile_decoders.expected(data, GEOMETRY)
        assert decoding.restarts == 1


@POSIX
def test_a_loop_ends_with_its_processor_time() -> None:
    with pool(cpu=1.0) as decoding:
        error = refusal(decoding, b"loop")
        assert error.reason is FailReason.DECODER_TIMEOUT
        assert "processor" in error.detail
        assert not error.transient
        assert decoding.restarts == 1, "not tried again"
        assert_good(decoding)


def test_the_processor_time_is_that_of_one_picture() -> None:
    with pool(cpu=1.0) as decoding:
        for _ in range(5):  # together more than twice the limit
            assert decoding.decode(b"spin:0.5", GEOMETRY).facts.format == hostile_decoders.FORMAT
        assert decoding.restarts == 0


@pytest.mark.parametrize("behaviour", [b"sleep", pytest.param(b"stop", marks=POSIX)])
def test_a_hang_ends_by_the_clock(behaviour: bytes) -> None:
    with pool(wall=1.0) as decoding:
        assert_good(decoding)
        before = time.monotonic()
        error = refusal(decoding, behaviour)
        assert error.reason is FailReason.DECODER_TIMEOUT
        assert "clock" in error.detail
        assert 1.9 < time.monotonic() - before < 9
        assert decoding.restarts == 2, "tried once more: the process may have been stopped"
        assert error.transient, "it may have been stopped again"
        assert_good(decoding)


@LINUX
def test_eating_memory_is_stopped_at_a_gigabyte() -> None:
    with pool() as decoding:
        first = pid(decoding)
        error = refusal(decoding, b"eat")
        assert error.reason is FailReason.DECODER_MEMORY
        assert pid(decoding) != first, "a process that ran out of memory is replaced"
        assert_good(decoding)


@LINUX
@pytest.mark.parametrize("short", [False, True])
def test_out_of_memory_is_the_pictures_doing_only_where_the_machine_has_plenty(
    short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nsfwscan.media.decode.pool.memory_may_be_short", lambda: short)
    with pool() as decoding:
        error = refusal(decoding, b"eat")
        assert (error.reason, error.transient) == (FailReason.DECODER_MEMORY, short)
        assert decoding.restarts == (0 if short else 2), "a fresh process tries where it may help"
        assert_good(decoding)


def test_neighbours_are_decoded_whatever_happens_beside_them() -> None:
    bad = (b"segfault", b"abort", b"exit", b"garbage", b"half", b"unexpected")
    work = [bad[at // 5 % len(bad)] if at % 5 == 0 else b"%d good" % at for at in range(60)]

    def one(data: bytes) -> object:
        try:
            return decoding.decode(data, GEOMETRY)
        except DecodeError as error:
            return error.reason

    with pool(3) as decoding, ThreadPoolExecutor(6) as threads:
        results = list(threads.map(one, work))
    for data, result in zip(work, results, strict=True):
        good = hostile_decoders.expected(data, GEOMETRY)
        assert result == (FailReason.DECODER_CRASHED if data in bad else good)


def test_a_chatty_cache_does_not_disturb_the_answers() -> None:
    with pool() as decoding:
        assert decoding.decode(b"print", GEOMETRY) == hostile_decoders.expected(b"print", GEOMETRY)
        assert_good(decoding)
        assert decoding.restarts == 0


def test_a_detail_cannot_write_to_the_terminal() -> None:
    with pool() as decoding:
        assert refusal(decoding, b"escape").detail == "?[31mred??next line"


@POSIX
def test_a_process_that_died_while_idle_is_replaced_unnoticed() -> None:
    with pool() as decoding:
        victim = pid(decoding)
        os.kill(victim, signal.SIGKILL)
        time.sleep(0.1)
        assert_good(decoding)
        assert pid(decoding) != victim


@POSIX
def test_a_worker_cannot_write_files(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with pool() as decoding:
        assert refusal(decoding, b"write:" + os.fsencode(target)).reason is (
            FailReason.DECODER_CRASHED
        )
    assert not target.exists() or not target.stat().st_size


@POSIX
def test_a_worker_ignores_ctrl_c() -> None:
    with pool() as decoding:
        worker = pid(decoding)
        os.kill(worker, signal.SIGINT)
        time.sleep(0.1)
        assert pid(decoding) == worker


# Large pictures


def test_large_pictures_take_turns_and_small_ones_go_on() -> None:
    running: list[int] = []
    most: list[int] = []

    class Counting:
        """Stands in for the pool's lock and counts who is inside."""

        lock = threading.Lock()

        def __enter__(self) -> None:
            self.lock.acquire()
            running.append(1)
            most.append(len(running))

        def __exit__(self, *_: object) -> None:
            running.pop()
            self.lock.release()

    large = b"need:%d" % (1 << 30)
    with pool(3) as decoding, ThreadPoolExecutor(6) as threads:
        decoding._large = Counting()  # type: ignore[assignment]  # stands in for a lock
        work = [large, GOOD, large, GOOD, b"need:1000", large] * 3
        results = list(threads.map(lambda data: decoding.decode(data, GEOMETRY), work))
    assert results == [hostile_decoders.expected(data, GEOMETRY) for data in work]
    assert len(most) == 9
    assert max(most) == 1


def test_waiting_for_its_turn_does_not_count_against_a_picture() -> None:
    large = b"need:%d" % (1 << 30)
    with pool(wall=1.0) as decoding, ThreadPoolExecutor(1) as threads:
        assert_good(decoding)
        with decoding._large:
            waiting = threads.submit(decoding.decode, large, GEOMETRY)
            time.sleep(1.6)
        assert waiting.result() == hostile_decoders.expected(large, GEOMETRY)
        assert decoding.restarts == 0


# Coming and going


def test_a_process_is_replaced_after_its_number_of_pictures() -> None:
    with pool(count=3) as decoding:
        served = [pid(decoding) for _ in range(9)]
        assert decoding.restarts == 0, "planned, so no restart"
    assert [served.count(process) for process in dict.fromkeys(served)] == [3, 3, 3]


@POSIX
def test_close_leaves_no_process_and_may_be_called_again() -> None:
    decoding = pool(2)
    decoding.start()
    process = pid(decoding)
    decoding.close()
    decoding.close()
    assert not is_alive(process)
    with pytest.raises(NsfwscanError, match="stopped"):
        decoding.decode(GOOD, GEOMETRY)


def test_close_wakes_those_who_wait() -> None:
    errors = []

    def wait() -> None:
        try:
            decoding.decode(b"sleep", GEOMETRY)
        except NsfwscanError as error:
            errors.append(str(error))

    decoding = pool(2)
    decoding.start()
    assert_good(decoding)
    threads = [threading.Thread(target=wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    before = time.monotonic()
    decoding.close()
    for thread in threads:
        thread.join(10)
    assert time.monotonic() - before < 5
    assert errors == ["decoding was stopped"] * 5


def test_close_without_start() -> None:
    decoding = DecodePool(2)
    with pytest.raises(RuntimeError, match="not started"):
        decoding.decode(GOOD, GEOMETRY)
    decoding.close()


@POSIX
def test_workers_end_with_a_parent_that_was_killed() -> None:
    code = (
        "import sys, time, hostile_decoders as h, nsfwscan.media.decode.pool as d\n"
        "from test_decode_pool import GEOMETRY, pid, pool\n"
        "p = pool(); p.start(); print(pid(p), flush=True); time.sleep(60)"
    )
    path = os.pathsep.join(sys.path)
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    with parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 10
    while is_alive(worker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(worker)


def test_a_worker_that_does_not_start_is_said_once_and_plainly() -> None:
    with (
        DecodePool(1, command=[sys.executable, "-c", "raise SystemExit(7)"]) as decoding,
        pytest.raises(NsfwscanError, match="does not start: the decoder ended with exit code 7"),
    ):
        decoding.decode(GOOD, GEOMETRY)
    decoding = DecodePool(1, command=["/no/such/program"])
    with pytest.raises(NsfwscanError, match="cannot be started"):
        decoding.start()
    decoding.close()


def test_a_file_that_leaves_no_room_for_its_pixels_is_refused() -> None:
    with pool() as decoding:
        huge = memoryview(mmap.mmap(-1, 600 << 20))  # mapped, never touched
        error = refusal(decoding, huge)
        assert (error.reason, error.transient) == (FailReason.DECODER_MEMORY, False)
        assert_good(decoding)
        assert decoding.restarts == 0
        huge.release()


# The frames


@pytest.mark.parametrize("resize", Resize)
@pytest.mark.parametrize("resample", Resample)
def test_a_request_survives_the_pipe(resize: Resize, resample: Resample) -> None:
    geometry = Geometry(resize, 256, 384, resample, 224, 320)
    wanted = wire.DecodeRequest(True, geometry)
    assert wire.Request.unpack(wire.pack_request(7, 1 << 33, wanted)) == (7, 1 << 33, wanted)


def test_every_reason_survives_the_pipe() -> None:
    for reason in FailReason:
        for transient in (False, True):
            error = DecodeError(reason, "why: é", transient=transient)
            got = wire.unpack_refused(wire.pack_refused(error))
            assert (got.reason, got.detail, got.transient) == (reason, "why: é", transient)
