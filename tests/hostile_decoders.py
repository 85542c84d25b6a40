"""A decode worker whose decoder does what the picture tells it, good or bad.

Started by the tests in place of the real worker; the content of the "picture" is the command.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from nsfwscan.media.decode import wire
from nsfwscan.media.decode import worker as decode_worker
from nsfwscan.media.decode.decoded import Decoded
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason, ImageFacts

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsfwscan.values.geometry import Geometry

FORMAT = "TEST"


def command(*, cpu_seconds: float = 8.0, pictures: int = 5000) -> list[str]:
    """Build the command that starts this worker."""
    code = (
        "import sys; sys.path[:] = sys.argv[1].split('\\n'); import hostile_decoders as h; h.run()"
    )
    return [sys.executable, "-c", code, "\n".join(sys.path), str(cpu_seconds), str(pictures)]


def run() -> None:
    """Be the worker."""
    decode_worker.serve(decode, float(sys.argv[2]), int(sys.argv[3]))


def expected(data: bytes, geometry: Geometry) -> Decoded:
    """Return what a good picture becomes: its first byte everywhere."""
    size = geometry.crop_width * geometry.crop_height * 3
    return Decoded(ImageFacts(FORMAT, len(data), 1, 1), (0,), data[:1] * size)


def decode(
    data: bytes, geometry: Geometry, *, full: bool, before_pixels: Callable[[int, float], None]
) -> Decoded:
    """Obey; what is no command is a good picture."""
    word, _, argument = data.partition(b":")
    behaviour = BEHAVIOURS.get(word.decode("latin-1"))
    if behaviour is not None:
        behaviour(argument)
    if word == b"need":
        before_pixels(int(argument.split(b":")[0]), 0.0)
        time.sleep(0.05)
    if word == b"surroundings":
        raise DecodeError(FailReason.CORRUPT, _surroundings())
    if word == b"short":
        raise _Refused
    if word == b"pid":
        raise DecodeError(FailReason.CORRUPT, str(os.getpid()))
    return expected(data, geometry)


class _Refused(OSError):
    """What the system says when it is out of descriptors, say."""


def _surroundings() -> str:
    session = "leader" if os.getsid(0) == os.getpid() else "member"
    held = []
    for number in range(1000):
        try:
            os.fstat(number)
        except OSError:
            continue
        held.append(str(number))
    return "|".join([",".join(os.environ), os.getcwd(), session, ",".join(held)])


def _segfault(_: bytes) -> None:
    ctypes.string_at(0)


def _once(path: bytes) -> None:
    if os.path.exists(path):
        os.unlink(path)
        os.kill(os.getpid(), signal.SIGKILL)


def _loop(_: bytes) -> None:
    while True:
        pass


def _spin(seconds: bytes) -> None:
    end = time.process_time() + float(seconds)
    while time.process_time() < end:
        pass


def _eat(_: bytes) -> None:
    assert [b"0123456789abcdef" * (1 << 16) for _ in range(10 * 1024)]


def _to_parent(*frames: bytes) -> None:
    # The private duplicate of the standard output is the next free descriptor after the three.
    os.write(3, b"".join(frames))


def _garbage(_: bytes) -> None:
    _to_parent(os.urandom(100_000))


def _print(_: bytes) -> None:
    os.write(1, b"warning: a chatty C library\n" * 100)
    print("and chatty Python", flush=True)


def _wrong_number(_: bytes) -> None:
    _to_parent(wire.Answer(123_456, wire.MessageKind.DECODED, False, 0).pack())


def _too_long(_: bytes) -> None:
    _to_parent(wire.Answer(1, wire.MessageKind.DECODED, False, 0xFFFFFFFF).pack())


def _too_short(_: bytes) -> None:
    _to_parent(wire.Answer(1, wire.MessageKind.DECODED, False, 10).pack(), bytes(10))


def _unknown_reason(_: bytes) -> None:
    body = b"perfectly-safe\nnothing to see here"
    _to_parent(wire.Answer(1, wire.MessageKind.REFUSED, False, len(body)).pack(), body)


def _hello_again(_: bytes) -> None:
    _to_parent(wire.Answer(1, wire.MessageKind.HELLO, False, 0).pack())


def _half(_: bytes) -> None:
    _to_parent(wire.Answer(1, wire.MessageKind.DECODED, False, 5000).pack(), bytes(2000))
    os._exit(0)


def _escape(_: bytes) -> None:
    raise DecodeError(FailReason.CORRUPT, "\x1b[31mred\x07\nnext line")


def _close(_: bytes) -> None:
    os.close(3)
    time.sleep(60)


def _unexpected(_: bytes) -> None:
    raise ValueError("a bug")


def _write_file(path: bytes) -> None:
    with open(path, "wb") as file:
        file.write(b"x")


BEHAVIOURS: dict[str, Callable[[bytes], None]] = {
    "segfault": _segfault,
    "abort": lambda _: os.abort(),
    "exit": lambda _: os._exit(3),
    "exit-0": lambda _: os._exit(0),
    "kill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "bus": lambda _: os.kill(os.getpid(), signal.SIGBUS),
    "hang-up": lambda _: os.kill(os.getpid(), signal.SIGHUP),
    "once": _once,
    "loop": _loop,
    "sleep": lambda _: time.sleep(600),
    "nap": lambda seconds: time.sleep(float(seconds)),
    "stop": lambda _: os.kill(os.getpid(), signal.SIGSTOP),
    "spin": _spin,
    "eat": _eat,
    "garbage": _garbage,
    "print": _print,
    "wrong-number": _wrong_number,
    "too-long": _too_long,
    "too-short": _too_short,
    "unknown-reason": _unknown_reason,
    "hello-again": _hello_again,
    "half": _half,
    "escape": _escape,
    "close": _close,
    "unexpected": _unexpected,
    "write": _write_file,
}
