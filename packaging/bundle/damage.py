"""`packaging/smoke BUNDLE --damage`: damage every file of a bundle that is loaded, one at a time.

In: a bundle. Out: a line a file: how the program ended, and the first line it said, for each of
three damages. Right is a sentence that names the damage and the exit code of a failed check;
a traceback, a crash without a word, or exit code 0 for a file that is gone is a failure. The bundle
itself is not touched: each time it is copied by links, and the one file replaced.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from bundle import check
from bundle.driven import Done, Driven, Unlike, wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "samples")
"""A picture of each format, one with a colour profile, so that every decoder is asked for."""
_LAUNCHER = "nsfwscan"
"""Nothing looks at it before the system starts it, so a signal may be all that is said of it."""
_UNSOUND = 7
"""The exit code of a check that found something wrong; `nsfwscan.cli.shared.codes.UNSOUND`."""
_FLIPPED = 64
"""Bytes that are overwritten in the middle of a file."""


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flip(data: bytes) -> bytes:
    middle = len(data) // 2
    wrong = bytes(byte ^ 0xA5 for byte in data[middle : middle + _FLIPPED])
    return data[:middle] + wrong + data[middle + len(wrong) :]


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "cut": _cut,
    "flipped": _flip,
    "gone": lambda _: None,
}
"""Name of a damage to what it makes of a file's bytes; None for no file."""


def targets(bundle: str) -> list[str]:
    """Return the files to damage, relative to the bundle: all native ones, archives, the model."""
    native = [os.path.relpath(path, bundle) for path in check.native_files(bundle)]
    others = [os.path.join("_internal", "base_library.zip")]
    others.append(os.path.join("_internal", "nsfwscan", "contents.tsv"))
    for parent, _, names in os.walk(os.path.join(bundle, "models")):
        others += [os.path.relpath(os.path.join(parent, name), bundle) for name in names]
    return sorted({*native, *others})


def run(
    bundle: str, scratch: str, files: Sequence[str], kinds: Sequence[str] = tuple(DAMAGES)
) -> list[str]:
    """Damage `files` one at a time, print what came of it, and return what went wrong."""
    wrong = []
    for name in files:
        for kind in kinds:
            scan, selftest = _try(bundle, scratch, name, DAMAGES[kind])
            said = f"{scan.code:4} {_first_line(scan)}"
            try:
                _judge(scan, selftest, may_crash=name == _LAUNCHER)
            except Unlike as problem:
                wrong.append(f"{name}, {kind}: {problem}")
                said = f"WRONG {problem}"
            print(f"{kind:8} {name:60} {said}", flush=True)
    return wrong


def _try(
    bundle: str, scratch: str, name: str, change: Callable[[bytes], bytes | None]
) -> tuple[Done, Done]:
    """Return what a scan and `selftest` of a bundle with one damaged file say."""
    copy = os.path.join(scratch, "copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(bundle, copy, symlinks=True, copy_function=_link)
    path = os.path.join(copy, name)
    with open(path, "rb") as file:
        data, mode = change(file.read()), os.stat(path).st_mode
    os.unlink(path)
    if data is not None:
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, mode)
    home = os.path.join(scratch, "home")
    shutil.rmtree(home, ignore_errors=True)
    os.mkdir(home)
    driven = Driven(copy, home)
    scan = driven.end("scan", "--offline", "--format", "jsonl", SAMPLES)
    selftest = driven.end("selftest", "--offline")
    shutil.rmtree(copy)
    return scan, selftest


def _judge(scan: Done, selftest: Done, *, may_crash: bool) -> None:
    """Raise `Unlike` unless both commands ended as they should with a damaged file."""
    if scan.code == 0:  # the file is not needed for this
        wanted(scan.out.count('"status": "scanned"') == len(os.listdir(SAMPLES)), "missed", scan)
        wanted(selftest.code == _UNSOUND, f"selftest ends with {selftest.code}", selftest)
    for done in (scan, selftest):
        wanted(may_crash or "Traceback" not in done.err + done.out, "a traceback", done)
        if done.code and not may_crash:
            wanted(done.code == _UNSOUND, f"exit code {done.code}", done)
            wanted("damaged" in done.err + done.out, "damage is not spoken of", done)


def _first_line(done: Done) -> str:
    return (done.err.strip().splitlines() or ["(not a word)"])[0]


def _link(source: str, target: str) -> None:
    os.link(source, target)
