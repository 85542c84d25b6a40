"""The child process that decodes pictures: where hostile bytes meet native code.

`nsfwscan.media.decode.pool` starts it, writes requests to its standard input and reads answers from
its standard output. It gives up what it does not need. On Linux it cannot take more than about a
gigabyte, use more than its seconds of CPU time, write a file or leave a core. macOS enforces all
of these but the memory limit; Windows none of them, so there only the parent's clock limits it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Protocol

from nsfwscan.media.decode import wire
from nsfwscan.media.decode.shortage import is_short_here
from nsfwscan.system.reading import open_bytes
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

if sys.platform != "win32":
    import resource
if sys.platform == "linux":
    import _thread
    import select

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

    from nsfwscan.media.decode.decoded import Decoded
    from nsfwscan.values.geometry import Geometry

LARGE_BYTES = 288 << 20
"""A picture that needs more (a PNG of 32 MP) waits until no other such picture is in the pool."""

_ADDRESS_SPACE_BYTES = 1 << 30
"""In addition to what the process uses when it is ready."""

_GROWTH_BYTES = 200 << 20
"""A worker that has grown by more than this is leaking or fragmented, and is replaced."""

_GROWTH_EVERY = 16
"""Pictures between two checks of the memory."""


class Decoder(Protocol):
    """`nsfwscan.media.decode.decode.decode`, or a test's replacement."""

    def __call__(
        self,
        data: bytes,
        geometry: Geometry,
        *,
        full: bool,
        before_pixels: Callable[[int, float], None],
    ) -> Decoded:
        """Decode one picture or raise `DecodeError`."""
        ...


def main(limits: Sequence[str]) -> None:
    """Serve until standard input ends. Does not return.

    `limits` are two texts: seconds of CPU time for each picture, and the number of pictures after
    which the process asks to be replaced.
    """
    _ignore_interrupt()
    cpu_seconds, pictures = limits
    from nsfwscan.media.decode import decode

    decode.prepare_process()
    serve(decode.decode, float(cpu_seconds), int(pictures))


def serve(decoder: Decoder, cpu_seconds: float, pictures: int) -> None:
    """Answer requests with this decoder until standard input ends; does not return."""
    _ignore_interrupt()
    try:
        _serve(decoder, cpu_seconds, pictures)
    except (MemoryError, OSError):  # outside the decoder, so not the picture's fault
        os._exit(wire.SHORT)
    os._exit(0)  # there is nothing to tidy up, and the parent is waiting


def _serve(decoder: Decoder, cpu_seconds: float, pictures: int) -> None:
    requests = sys.stdin.buffer
    # Output printed by a codec must not end up between the answers.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    _limit_for_good()
    _end_with_parent()
    _send(answers, wire.Answer(0, wire.MessageKind.HELLO, False, 0))
    at_start = _resident_bytes()
    served = 0
    while len(header := requests.read(wire.REQUEST_BYTES)) == wire.REQUEST_BYTES:
        request = wire.Request.unpack(header)
        data = requests.read(request.length)
        _limit_cpu(cpu_seconds)

        def before_pixels(memory: int, seconds: float, number: int = request.number) -> None:
            if memory > LARGE_BYTES or seconds:
                body = wire.pack_need(memory)
                _send(answers, wire.Answer(number, wire.MessageKind.NEED, False, len(body)), body)
                if requests.read(len(wire.GO)) != wire.GO:
                    os._exit(0)
                _limit_cpu(cpu_seconds + seconds)

        served += 1
        leaving = served >= pictures
        if served % _GROWTH_EVERY == 0:
            leaving |= _resident_bytes() > at_start + _GROWTH_BYTES
        try:
            body = _answer(decoder, request.wanted, data, before_pixels)
            kind = request.wanted.answer
        except (DecodeError, MemoryError) as error:
            if not isinstance(error, DecodeError):
                error = DecodeError(FailReason.DECODER_MEMORY, transient=True)
            error.transient = error.transient or is_short_here(LARGE_BYTES)
            # Running out of memory may have left the allocator in an inconsistent state.
            leaving |= error.reason is FailReason.DECODER_MEMORY
            kind, body = wire.MessageKind.REFUSED, wire.pack_refused(error)
        _send(answers, wire.Answer(request.number, kind, leaving, len(body)), body)


def _answer(
    decoder: Decoder,
    wanted: wire.DecodeRequest | wire.ThumbnailRequest,
    data: bytes,
    before_pixels: Callable[[int, float], None],
) -> bytes:
    """Return the body of the answer. Raises `DecodeError` or `MemoryError`."""
    if isinstance(wanted, wire.ThumbnailRequest):
        from nsfwscan.media.decode.miniature import miniature

        return wire.pack_thumbnail(miniature(data, wanted, before_pixels=before_pixels))
    decoded = decoder(data, wanted.geometry, full=wanted.full, before_pixels=before_pixels)
    if decoded.facts.missing:
        _check_means()
    return wire.pack_decoded(decoded)


def _check_means() -> None:
    """Raise `MemoryError` if lack of memory may be why a part of the picture is missing."""
    if is_short_here(LARGE_BYTES):
        raise MemoryError


def _send(answers: BinaryIO, header: wire.Answer, body: bytes = b"") -> None:
    view = memoryview(header.pack() + body)
    while view:
        view = view[answers.write(view) :]


def _ignore_interrupt() -> None:
    # Ctrl-C goes to every process in the terminal's group, and a service manager's SIGTERM to
    # every process of the service, but the scan decides when to stop: it closes the pipes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _end_with_parent() -> None:
    """Exit at once if the parent is killed, even while a picture hangs."""
    if sys.platform == "linux":
        pipe = select.poll()
        pipe.register(0, 0)  # only the end of the pipe wakes it

        def wait() -> None:
            pipe.poll()
            os._exit(0)

        with contextlib.suppress(RuntimeError):  # without a thread, it ends a bit later
            _thread.start_new_thread(wait, ())


def _limit_for_good() -> None:
    """Give up what decoding never needs."""
    if sys.platform != "win32":
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_FSIZE, 0)
        _limit(resource.RLIMIT_NOFILE, 32)  # a codec is loaded when the first file asks for it
        mapped = _statm(0)
        if mapped:
            _limit(resource.RLIMIT_AS, mapped + _ADDRESS_SPACE_BYTES)


def _limit_cpu(seconds: float) -> None:
    """Have SIGXCPU end this process after this many more seconds of CPU time."""
    if sys.platform != "win32":
        # The limit is in whole seconds, for the whole life of the process.
        _limit(resource.RLIMIT_CPU, int(time.process_time() + seconds) + 1, hard=False)


if sys.platform != "win32":

    def _limit(which: int, value: int, *, hard: bool = True) -> None:
        most = resource.getrlimit(which)[1]
        if most != resource.RLIM_INFINITY:
            value = min(value, most)
        resource.setrlimit(which, (value, value if hard else most))


def _resident_bytes() -> int:
    return _statm(1)


def _statm(field: int) -> int:
    """Return a size of this process in bytes (0: mapped, 1: resident); 0 unless on Linux."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError), open_bytes("/proc/self/statm") as file:
            return int(file.read().split()[field]) * resource.getpagesize()
    return 0
