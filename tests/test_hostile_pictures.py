"""Pictures made to do harm, through the real decoder and the real worker processes.

The normal run takes fixed samples. Set TESTS_AT_FULL_SIZE=1 for 100,000 mutants, and
NSFWSCAN_TEST_CORPORA to a folder of hostile files other than the one beside the checkout.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

import pictures
import pytest
import sizes
from corpora import CORPORA
from PIL import Image

from nsfwscan.media.decode.decode import decode
from nsfwscan.media.decode.decoded import MAX_VIEWS, Decoded
from nsfwscan.media.decode.pool import DecodePool
from nsfwscan.media.sniff import READABLE
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.geometry import Geometry, Resample, Resize
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STRETCH = Geometry(Resize.STRETCH, 256, 256, Resample.BILINEAR, 224, 224)
SMALL = Geometry(Resize.SHORTEST_EDGE, 24, 24, Resample.BICUBIC, 24, 24)
MUTANTS = sizes.trials(4_000, 100_000)
TRUNCATIONS = min(MUTANTS, 100_000)

# Pillow says much about odd metadata; a worker ignores it.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

CONTAINED = (FailReason.DECODER_CRASHED, FailReason.DECODER_TIMEOUT)
"""Reasons that stand for a codec's failure, not for a refusal."""


@pytest.fixture(scope="module")
def decoding() -> Iterator[DecodePool]:
    with DecodePool(2) as started:
        yield started


def outcome(decode_: Callable[[bytes, Geometry], Decoded], data: bytes) -> FailReason | str:
    """Decode, check the shape of what comes out, and return the format or the reason."""
    try:
        decoded = decode_(data, SMALL)
    except DecodeError as error:
        return error.reason
    assert decoded.facts.format in READABLE
    assert decoded.facts.width > 0 < decoded.facts.height
    assert 1 <= decoded.views <= MAX_VIEWS
    assert decoded.facts.frames >= 1
    assert len(decoded.pixels) == decoded.views * SMALL.crop_width * SMALL.crop_height * 3
    return decoded.facts.format


def outcomes(decoding: DecodePool, files: Iterator[bytes]) -> list[FailReason | str]:
    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(lambda data: outcome(decoding.decode, data), files))


def assert_none_had_to_be_contained(found: list[FailReason | str]) -> None:
    assert not [at for at, one in enumerate(found) if one in CONTAINED]


@pytest.mark.corpora
def test_every_file_of_the_corpora_is_decoded_or_refused(decoding: DecodePool) -> None:
    if not os.path.isdir(CORPORA):
        pytest.skip(f"no corpora at {CORPORA}")
    paths = sorted(
        os.path.join(folder, name) for folder, _, names in os.walk(CORPORA) for name in names
    )
    assert len(paths) > 100

    def read(path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    found = outcomes(decoding, map(read, paths))
    assert_none_had_to_be_contained(found)
    assert {one for one in found if not isinstance(one, FailReason)} == READABLE


def test_a_file_cut_at_any_byte_is_decoded_or_refused() -> None:
    cuts = [(name, at) for name, data in pictures.seeds().items() for at in range(len(data))]
    step = max(1, len(cuts) // TRUNCATIONS)
    # A fixed stride that is odd meets every kind of position, over all the seeds.
    for name, at in cuts[:: step | 1]:
        data = pictures.seeds()[name][:at]
        found = outcome(decode, data)
        assert found not in CONTAINED, (name, at)
        assert at or found is FailReason.EMPTY


def mutants(count: int, seed: int) -> Iterator[bytes]:
    """Change valid files at random: bits, bytes, lengths, pieces; always the same for a seed."""
    chance = random.Random(seed)
    files = list(pictures.seeds().values())
    telling = (b"\0", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4))
    for number in range(count):
        data = bytearray(files[number % len(files)])
        for _ in range(chance.choice((1, 1, 2, 4, 16))):
            # Headers are where the interesting fields are.
            reach = chance.choice((64, 512, len(data)))
            at = chance.randrange(min(reach, len(data)) or 1)
            length = chance.randrange(1, 64)
            match chance.randrange(6):
                case 0:
                    data[at : at + 1] = bytes((data[at] ^ (1 << chance.randrange(8)),))
                case 1:
                    data[at : at + 1] = chance.randbytes(1)
                case 2:
                    value = chance.choice(telling)
                    data[at : at + len(value)] = value
                case 3:
                    del data[at : at + min(length, len(data) - 1)]
                case 4:
                    data[at:at] = data[at : at + length]
                case _:
                    other = chance.choice(files)
                    start = chance.randrange(len(other))
                    data[at : at + length] = other[start : start + length]
            if not data:
                break
        yield bytes(data)


def test_damaged_files_never_harm_a_decode_process(decoding: DecodePool) -> None:
    found = outcomes(decoding, mutants(MUTANTS, seed=1))
    assert_none_had_to_be_contained(found)
    # Neither all refused nor all decoded, or the mutations would test nothing.
    decoded = sum(not isinstance(one, FailReason) for one in found)
    assert 0.1 < decoded / len(found) < 0.9


def test_damaged_files_are_decoded_or_refused() -> None:
    for data in mutants(MUTANTS // 4, seed=2):
        assert outcome(decode, data) not in CONTAINED


class Meter:
    """What a worker process has cost when last seen: it is watched until it answers or ends."""

    def __init__(self, decoding: DecodePool) -> None:
        process = decoding._slots[0]._process
        assert process is not None
        self._folder = f"/proc/{process.pid}"
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.megabytes = 0
        """The largest resident memory so far."""
        self.seconds = 0.0
        """Processor time; the clock's would depend on what else the machine does."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._read()
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self._read()

    def _read(self) -> None:
        try:
            with open(f"{self._folder}/status", encoding="ascii") as file:
                (peak,) = [line for line in file if line.startswith("VmHWM:")]
            with open(f"{self._folder}/stat", encoding="ascii") as file:
                fields = file.read().rpartition(")")[2].split()
        except (OSError, ValueError):
            return  # it has ended
        self.megabytes = int(peak.split()[1]) // 1024
        self.seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(data: bytes) -> tuple[Decoded | DecodeError, Meter]:
    """Decode in a fresh worker; return what came and what it cost."""
    with DecodePool(1) as alone:
        alone.decode(pictures.seeds()["PNG RGB"], STRETCH)
        with Meter(alone) as meter:
            try:
                came: Decoded | DecodeError = alone.decode(data, STRETCH)
            except DecodeError as error:
                came = error
    return came, meter


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@LINUX
@pytest.mark.parametrize(
    ("bomb", "reasons"),
    [
        (pictures.png_bomb, {FailReason.TOO_MANY_PIXELS}),
        (pictures.tiff_bomb, {FailReason.TOO_MANY_PIXELS}),
        (pictures.jpeg_scan_bomb, {FailReason.UNSUPPORTED}),
        # Depends on the machine: 3.6 s where it was measured, of the 6 s that it may take.
        (pictures.gif_bomb, {None, FailReason.DECODER_TIMEOUT}),
        (lambda: pictures.gif_bomb(100_000, (500, 500)), {FailReason.DECODER_TIMEOUT}),
        # As large as may be: two copies of 64 MP, one of them with alpha.
        (
            lambda: pictures.png(
                8192, 8192, rows=zlib.compress(bytes((1 + 4 * 8192) * 8192), 1), colour=6
            ),
            {None},
        ),
    ],
    ids=[
        "PNG-178-MP",
        "TIFF-65535",
        "JPEG-10000-scans",
        "GIF-100000",
        "GIF-100000-large",
        "PNG-64",
    ],
)
def test_bombs_cost_ten_seconds_and_a_gigabyte_at_most(
    bomb: Callable[[], bytes], reasons: set[FailReason | None]
) -> None:
    came, meter = measured(bomb())
    assert 0 < meter.seconds < 10
    assert 0 < meter.megabytes < 1024
    assert (came.reason if isinstance(came, DecodeError) else None) in reasons


@LINUX
@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: pictures.tall_jpeg(12_000, 9_008), (12_000, 9_008)),
        (lambda: pictures.tall_jpeg(16_320, 12_240), (16_320, 12_240)),
        (
            lambda: pictures.encode(Image.new("RGB", (12_000, 9_000)), "JPEG", progressive=True),
            (12_000, 9_000),
        ),
    ],
    ids=["108-MP", "200-MP", "108-MP-progressive"],
)
def test_a_phones_largest_pictures_take_400_mb_at_most(
    make: Callable[[], bytes], size: tuple[int, int]
) -> None:
    came, meter = measured(make())
    assert isinstance(came, Decoded)
    assert (came.facts.width, came.facts.height) == size
    assert 0 < meter.megabytes < 400
    assert 0 < meter.seconds < 10
