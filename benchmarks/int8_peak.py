"""The most 8-bit multiplications a second that this machine can do, in GMAC/s.

    python -m benchmarks.int8_peak

Runs a loop of independent multiplications straight from machine code, so that no compiler is
needed: the instructions that a matrix product in 8 bits comes down to, and no load or store. Linux
on x86-64 only. Two ways are known, and the best that the processor has is measured:

- `VNNI`: `vpdpbusd` on 512-bit registers, 16 of them;
- `AVX2`: `vpmaddubsw`, `vpmaddwd` and `vpaddd` on all sixteen 256-bit registers: 12 sums, the two
  factors, the ones that widen, and what is on its way. `vpmaddubsw` alone is no product in 8 bits:
  its 16-bit sums would overflow with the next pair, so the widening belongs to the price.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
import time
from dataclasses import dataclass

_TURNS = 2_000_000


@dataclass(frozen=True, slots=True)
class Way:
    """One loop of machine code. It takes the number of turns in `rdi`."""

    name: str
    flag: str
    """What /proc/cpuinfo says of a processor that can run it."""
    head: str
    loop: str
    """Ends with `dec rdi; jnz`, back to its beginning."""
    macs: int
    """Multiplications of one turn."""

    @property
    def code(self) -> bytes:
        """The whole function: the loop, then `vzeroupper; ret`."""
        return bytes.fromhex(f"{self.head} {self.loop} c5f877 c3")


_VNNI = Way(
    "VNNI",
    "avx512_vnni",
    head="62010d40eff6 62010540efff",  # zero zmm30 and zmm31
    # vpdpbusd zmm0..zmm15, zmm31, zmm30
    loop="""
    6292054050c6 6292054050ce 6292054050d6 6292054050de
    6292054050e6 6292054050ee 6292054050f6 6292054050fe
    6212054050c6 6212054050ce 6212054050d6 6212054050de
    6212054050e6 6212054050ee 6212054050f6 6212054050fe
    48ffcf 759b
    """,
    macs=16 * 64,
)
# vpmaddubsw ymm12, ymm14, ymm13; vpmaddwd ymm12, ymm12, ymm15; then vpaddd ymm0..ymm11, ymm12
_PRODUCT = "c4420d04e5 c4411df5e7"
_SUMS = (
    "c4c17dfec4 c4c175fecc c4c16dfed4 c4c165fedc c4c15dfee4 c4c155feec "
    "c4c14dfef4 c4c145fefc c4413dfec4 c44135fecc c4412dfed4 c44125fedc"
)
_AVX2 = Way(
    "AVX2",
    "avx2",
    # bytes of 1 in ymm13 and ymm14, words of 1 in ymm15
    head="c4411574ed c4427d1ced c4417d6ff5 c4410575ff c4427d1dff",
    loop=" ".join(f"{_PRODUCT} {one}" for one in _SUMS.split()) + " 48ffcf 0f8543ffffff",
    macs=12 * 32,
)


def best_way() -> Way | None:
    """Return the fastest way that this processor has, or None where that cannot be found out."""
    try:
        with open("/proc/cpuinfo", encoding="ascii") as stream:
            flags = stream.read().split()
    except OSError:
        return None
    return next((way for way in (_VNNI, _AVX2) if way.flag in flags), None)


def measure(way: Way, threads: int, *, tries: int = 7) -> float:
    """Return the best of `tries` rates of all `threads` together, in GMAC/s."""
    area = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    area.write(way.code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    loop = ctypes.CFUNCTYPE(None, ctypes.c_uint64)(address)
    best = 0.0
    for _ in range(tries):
        workers = [threading.Thread(target=loop, args=(_TURNS,)) for _ in range(threads)]
        begun = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        taken = time.perf_counter() - begun
        best = max(best, threads * _TURNS * way.macs / taken / 1e9)
    return best


def main() -> None:
    """Print the peak of one and of two threads."""
    way = best_way()
    if way is None:
        raise SystemExit("this is no x86-64 processor with AVX2, or /proc/cpuinfo is missing")
    for count in (1, 2):
        print(f"{way.name}, {count} thread{'s' * (count > 1)}: {measure(way, count):.0f} GMAC/s")


if __name__ == "__main__":
    main()
