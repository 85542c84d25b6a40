"""A bundle and a person's home around it: starting the program and looking at what it does.

Uses the standard library alone: what tries the bundle must not lend it anything.
"""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import zlib
from dataclasses import dataclass
from typing import Any

_EDGE = 160


class Unlike(Exception):
    """The bundle did not do what it should; the message says what it did instead."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records of `--format jsonl`."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True, slots=True)
class Driven:
    """The bundle in `folder`, used by somebody whose home is the folder `home`."""

    folder: str
    home: str

    @property
    def program(self) -> str:
        """The path of the program."""
        return os.path.join(self.folder, "nsfwscan.exe" if os.name == "nt" else "nsfwscan")

    def environment(self, **more: str) -> dict[str, str]:
        """Return what the program finds in its environment: a home, and no tools in the path."""
        kept = {name: os.environ[name] for name in ("SYSTEMROOT", "LANG") if name in os.environ}
        return {**kept, "HOME": self.home, "USERPROFILE": self.home, "PATH": "", **more}

    def run(self, *arguments: str, expect: int | None = 0, **more: str) -> Done:
        """Run a command to its end. Raises `Unlike` for another exit code, or a traceback."""
        result = self.end(*arguments, **more)
        if expect is not None:
            wanted(result.code == expect, f"exit code {result.code}, not {expect}", result)
        wanted("Traceback" not in result.err + result.out, "a traceback", result)
        return result

    def end(self, *arguments: str, **more: str) -> Done:
        """Run a command to its end, whatever that is."""
        try:
            done = subprocess.run(
                [self.program, *arguments],
                env=self.environment(**more),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=300,
                check=False,
            )
        except OSError as error:  # the system refuses the program
            done = subprocess.CompletedProcess([], -1, b"", str(error).encode())
        return Done(
            done.returncode,
            done.stdout.decode("utf-8", "replace"),
            done.stderr.decode("utf-8", "replace"),
        )

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own, with pipes from it."""
        return subprocess.Popen(
            [self.program, *arguments],
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def knows(self, command: str) -> bool:
        """Tell whether the program has a command of that name."""
        return self.run(command, "--help", expect=None).code == 0


def wanted(holds: bool, otherwise: str, done: Done | None = None) -> None:
    """Raise `Unlike` unless something holds."""
    if not holds:
        said = f"\n{done.out[-2000:]}{done.err[-2000:]}" if done else ""
        raise Unlike(f"{otherwise}{said}")


def paint(path: str, seed: int) -> str:
    """Write a PNG file that no other seed gives, and return its path."""
    choose = random.Random(seed)
    slopes = [choose.randrange(1, 5) for _ in range(3)]
    base = [choose.randrange(256) for _ in range(3)]
    rows = bytearray()
    for y in range(_EDGE):
        rows.append(0)
        for x in range(_EDGE):
            rows += bytes((base[c] + slopes[c] * (x if c % 2 else y)) & 0xFF for c in range(3))
    header = struct.pack(">IIBBBBB", _EDGE, _EDGE, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows), 1)), (b"IEND", b""))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, body in parts:
            file.write(struct.pack(">I", len(body)) + kind + body)
            file.write(struct.pack(">I", zlib.crc32(kind + body)))
    return path
