"""The most 8-bit multiplications a second that this machine can do, in GMAC/s.

    python -m benchmarks.vnni_peak

Runs a loop of 16 independent `vpdpbusd` instructions on 512-bit registers, 64 multiplications each,
straight from machine code, so that no compiler is needed. Linux on x86-64 with AVX-512 VNNI only.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
import time

_HEAD = bytes.fromhex("62010d40eff6 62010540efff")  # zero zmm30 and zmm31
# vpdpbusd zmm0..zmm15, zmm31, zmm30; dec rdi; jnz
_LOOP = bytes.fromhex(
    """
    6292054050c6 6292054050ce 6292054050d6 6292054050de
    6292054050e6 6292054050ee 6292054050f6 6292054050fe
    6212054050c6 6212054050ce 6212054050d6 6212054050de
    6212054050e6 6212054050ee 6212054050f6 6212054050fe
    48ffcf 759b
    """
)
_TAIL = bytes.fromhex("c5f877 c3")  # vzeroupper, ret
_MACS_PER_TURN = 16 * 64
_TURNS = 4_000_000


def has_vnni() -> bool:
    """Tell whether this processor has the instruction, where that can be found out."""
    try:
        with open("/proc/cpuinfo", encoding="ascii") as stream:
            return "avx512_vnni" in stream.read()
    except OSError:
        return False


def measure(threads: int, *, tries: int = 7) -> float:
    """Return the best of `tries` rates of all `threads` together, in GMAC/s."""
    area = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    area.write(_HEAD + _LOOP + _TAIL)
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
        best = max(best, threads * _TURNS * _MACS_PER_TURN / taken / 1e9)
    return best


if __name__ == "__main__":
    if not has_vnni():
        raise SystemExit("this processor has no AVX-512 VNNI")
    for count in (1, 2):
        print(f"{count} thread{'s' * (count > 1)}: {measure(count):.0f} GMAC/s")
