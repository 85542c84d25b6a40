"""Commands, the world they run in, and what must hold however a command ends.

A command runs in a child of this process, where everything is loaded. After it, what it left half
done is ended by another command. Then each picture must be in one place, and the exit code must
have told the truth.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import loopback_hub
import small_vits
import tiny_model
import tiny_packages
from model_calls import Caller, prepare, warm_up
from PIL import Image

import nsfwscan
from nsfwscan.cli.main import main
from nsfwscan.models import catalogue
from nsfwscan.models.fetch import hub
from nsfwscan.watch import watcher
from quantize.__main__ import main as quantize

BOUND_S = 20.0
"""In which every command must end, in seconds, also when a call fails or is interrupted."""


def _picture(form: str, colour: tuple[int, int, int], **options: bytes) -> bytes:
    """Return a picture with the same verdict by `scan_fakes` and by `tiny_model`."""
    stream = io.BytesIO()
    Image.new("RGB", (48, 48), colour).save(stream, form, **options)
    return stream.getvalue()


FLAGGED = [
    _picture("JPEG", tiny_model.RED, comment=b"flagged picture %d" % number) for number in range(3)
]
SAFE = _picture("GIF", tiny_model.GREEN)
ALL = Counter([*FLAGGED, SAFE])
_PULLED = tiny_packages.content(300_000)
"""The model that `models pull` fetches."""


def small_catalogue() -> None:
    """Let a known model be one that the hub of the tests has."""
    entry = tiny_packages.entry(_PULLED, size=len(_PULLED))
    known = {**catalogue.load(), entry.name: entry}
    catalogue.load = lambda: known  # type: ignore[assignment]


class World:
    """Where a command runs: pictures, a home, and a quarantine perhaps on another file system."""

    def __init__(self, base: Path, elsewhere: Path) -> None:
        self.base, self.top = base, base / "world"
        self.said: dict[str, bytes] = {}
        """What a command prints when nothing happens, by its name."""
        self.elsewhere = elsewhere
        self.pictures, self.home = self.top / "pics", self.top / "home"
        self.other = self.top / "package"
        self.checkpoint, self.built = base / "mini", base / "built"
        os.environ["NSFWSCAN_HOME"] = str(self.home / "ns")
        os.environ["HOME"] = str(self.home)

    def quarantine(self, where: str) -> Path:
        return self.elsewhere / "q" if where == "copy" else self.top / "q"

    def fresh(self, state: str) -> None:
        """Make the world anew: `plain`, `ruled`, or `rename` or `copy` with pictures held."""
        for folder in (self.top, self.elsewhere / "q"):
            shutil.rmtree(folder, ignore_errors=True)
        kept = self.base / f"kept-{state}"
        if not kept.exists():
            self._make(state)
            shutil.copytree(self.top, kept / "world", symlinks=True)
            if self.quarantine("copy").exists():
                shutil.copytree(self.quarantine("copy"), kept / "q")
            return
        shutil.copytree(kept / "world", self.top, symlinks=True)
        if (kept / "q").exists():
            shutil.copytree(kept / "q", self.quarantine("copy"))

    def _make(self, state: str) -> None:
        for number, content in enumerate([*FLAGGED, SAFE]):
            path = self.pictures / f"{number % 2}/{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.setxattr(path, "user.note", b"kept")
        tiny_model.write_package(str(self.home / "ns/models"))
        tiny_model.write_package(str(self.other), name="other")
        assert self.run("deny", self.pictures / "1/3.jpg") == 0
        assert self.run("scan", "-q", self.pictures) == 1
        with (self.top / "exported.jsonl").open("wb") as file:
            self.run("rulings", "export")
            file.write((self.base / "out").read_bytes())
        if state != "ruled":
            # Never decided; what was taken back later is not taken over again.
            assert self.run("rulings", "path") == 0
            os.unlink((self.base / "out").read_text().strip())
        if state in {"rename", "copy"}:
            assert self.run(*scan(self, state)) == 1

    def prepare(self, name: str) -> None:
        """Make the world anew for a command."""
        self.fresh(TASKS[name].state)
        for one in ("out", "err", "log"):
            (self.base / one).write_bytes(b"")

    def run(self, *words: str | Path) -> int:
        (self.base / "out").write_bytes(b"")
        (self.base / "err").write_bytes(b"")
        call = Caller(self.base)
        return call.wait(call.start(words, self.top, 0.0, None))

    def census(self) -> tuple[Counter[bytes], Counter[bytes], list[Path]]:
        """Return what is outside and what is held, by content, and files that are neither."""
        outside: Counter[bytes] = Counter()
        held: Counter[bytes] = Counter()
        strays = []
        for top in (self.pictures, self.quarantine("rename"), self.quarantine("copy")):
            for path in (one for one in top.rglob("*") if one.is_file()):
                content = path.read_bytes()
                if content in ALL:
                    (held if path.is_relative_to(self.top / "q") or top != self.pictures
                     else outside)[content] += 1  # fmt: skip
                elif path.name not in {"lock", "journal.jsonl"}:
                    strays.append(path)
        return outside, held, strays

    def ruled(self) -> set[str]:
        assert self.run("rulings", "export") == 0
        lines = (self.base / "out").read_text().splitlines()
        return {json.loads(line)["sha256"] for line in lines}


def scan(world: World, where: str) -> list[str | Path]:
    return [
        "scan", "-q", "-y", "--offline", "--action", "quarantine",
        "--quarantine", world.quarantine(where), world.pictures,
    ]  # fmt: skip


class Task(NamedTuple):
    """A command, what it starts from, and what its exit code promises."""

    state: str
    words: Callable[[World], Sequence[str | Path]]
    promise: Callable[[World, int], bool]
    """Given the exit code: whether it is true."""
    codes: tuple[int, ...] = (0, 2, 6)
    """What it may exit with; the first when nothing happens."""
    loses: bool = False
    """Whether pictures in quarantine may be gone afterwards."""
    run: Callable[[list[str]], int] = main
    """What runs it."""
    before: str = ""
    """Python that a process runs before it."""
    bound_s: float = BOUND_S
    """It ends within this, whatever fails."""


def _moved(world: World, code: int) -> bool:
    """Return False if a flagged picture stayed and is not mentioned, nor its folder."""
    said = (world.base / "out").read_text() + (world.base / "err").read_text()
    left = [
        path for path in world.pictures.rglob("*.jpg")
        if path.read_bytes() != SAFE and str(path.parent) not in said
    ]  # fmt: skip
    return code not in {0, 1} or not left


def _back(world: World, code: int) -> bool:
    return code != 0 or not world.census()[1]


def _told(world: World, code: int) -> bool:
    return code != 0 or b"Checked 3" in (world.base / "out").read_bytes()


def _has(sha256: str, there: bool) -> Callable[[World, int], bool]:
    return lambda world, code: code != 0 or (sha256 in world.ruled()) == there


def _purged(world: World, code: int) -> bool:
    gone = not (world.home / "ns/models/tiny-1").exists()
    return code != 0 or (gone and not (world.home / "ns/library.sqlite3").exists())


def _whole(folder: str, *files: str) -> Callable[[World, int], bool]:
    """Return a promise: a folder is there if the code is 0, and whole or not at all."""

    def promise(world: World, code: int) -> bool:
        found = list(world.top.glob(folder))
        if not found:
            return code != 0
        return all(sorted(os.listdir(one)) == sorted(files) for one in found)

    return promise


_PROGRAM = b"\nThe program itself was installed"
_ADMITS = (b"cannot be", b"could not be", b"broken")
"""What a command prints of something that it did not reach."""


def _same(name: str) -> Callable[[World, int], bool]:
    """Return a promise: with the first code, a command prints what it always does, or says why."""

    def promise(world: World, code: int) -> bool:
        if code != TASKS[name].codes[0]:
            return True
        out, err = ((world.base / one).read_bytes() for one in ("out", "err"))
        out = out.partition(_PROGRAM)[0]  # how it was installed is not told where that is unread
        out = re.sub(rb'"pictures_a_second": [0-9.]+', b"", out)  # measured each time
        same = out == world.said.setdefault(name, out)
        return same or any(one in out for one in _ADMITS) or bool(err)

    return promise


def _anything(_world: World, _code: int) -> bool:
    return True


def _removed(world: World, code: int) -> bool:
    return (code != 0) or not (world.home / "ns/models/tiny-1").exists()


def _classify(words: list[str]) -> int:
    """Classify pictures by the Python interface; exit with 1 if one is flagged, as a scan does."""
    try:
        found = [nsfwscan.classify(path, offline=True).verdict.decision for path in words]
    except nsfwscan.NsfwscanError as error:
        print(f"classify: {error}")
        return 2
    except KeyboardInterrupt:
        return 130
    return int("nsfw" in found)


_SHA = {one: hashlib.sha256(one).hexdigest() for one in ALL}
_GIVE = ["quarantine", "restore", "--all"]
_PACKAGE = ("LICENSE", "manifest.json", "model.onnx")
_BUILT = (*_PACKAGE, "quantization.json", "weights.bin")


def _reads(name: str, *codes: int, state: str = "rename") -> Task:
    """Return a command that only reads."""
    return Task(state, lambda _: name.split(), _same(name), codes or (0, 2, 6))


TASKS = {
    "quarantine": Task("plain", lambda world: scan(world, "rename"), _moved, (1, 2, 3, 4, 6)),
    "quarantine by copy": Task("plain", lambda world: scan(world, "copy"), _moved, (1, 2, 3, 4, 6)),
    "restore": Task("rename", lambda _: _GIVE, _back),
    "restore by copy": Task("copy", lambda _: _GIVE, _back),
    "delete": Task(
        "rename", lambda _: ["quarantine", "delete", "--all", "--yes"], _back, loses=True
    ),
    "quarantine list": _reads("quarantine list"),
    "quarantine verify": Task(
        "rename", lambda _: ["quarantine", "verify"], _told, (0, 2, 6, 7)
    ),
    "self-uninstall": _reads("self-uninstall"),
    "purge": Task("rename", lambda _: ["self-uninstall", "--purge", "--yes"], _purged),
    "scan": Task(
        "plain", lambda world: ["scan", "-q", "--offline", world.pictures], _moved, (1, 2, 3, 4, 6)
    ),
    "scan anew": Task(
        "plain", lambda world: ["scan", "--no-cache", "-fjson", "--offline", world.pictures],
        _moved, (1, 2, 3, 4, 6),
    ),
    "watch": Task(
        "plain", lambda world: ["watch", "--once", "--settle-ms=50", "--offline", world.pictures],
        _moved, (0, 2, 3, 4, 6), bound_s=90.0,  # a file that cannot be reached is waited for
    ),
    "classify": Task(
        "plain", lambda world: [world.pictures / "0/0.jpg"], _anything, (1, 2), run=_classify
    ),
    "allow": Task(
        "plain", lambda world: ["allow", world.pictures / "0/0.jpg"], _has(_SHA[FLAGGED[0]], True),
        (0, 2, 3, 6),
    ),
    "deny": Task(
        "plain", lambda world: ["deny", world.pictures / "0/0.jpg"], _has(_SHA[FLAGGED[0]], True),
        (0, 2, 3, 6),
    ),
    "forget": Task(
        "ruled", lambda world: ["rulings", "forget", world.pictures / "1/3.jpg"],
        _has(_SHA[SAFE], False),
    ),
    "rulings list": _reads("rulings list", state="ruled"),
    "rulings export": _reads("rulings export", state="ruled"),
    "rulings repair": _reads("rulings repair", state="ruled"),
    "import": Task(
        "plain", lambda world: ["rulings", "import", world.top / "exported.jsonl"],
        _has(_SHA[SAFE], True),
    ),
    "cache prune": Task("plain", lambda _: ["cache", "prune"], _anything),
    "cache clear": Task("plain", lambda _: ["cache", "clear", "--yes"], _anything),
    "cache stats": _reads("cache stats"),
    "cache verify": _reads("cache verify", 0, 2, 6, 7),
    "cache export": _reads("cache export"),
    "models list": _reads("models list", 0, 2, 4, 6),
    "models show tiny": _reads("models show tiny", 0, 2, 4, 6),
    "models verify": _reads("models verify", 0, 2, 4, 6, 7),
    "models add": Task(
        "plain", lambda world: ["models", "add", world.other / "other-1"],
        _whole("home/ns/models/other-1", *_PACKAGE[1:]), (0, 2, 4, 6),
    ),
    "models remove": Task("plain", lambda _: ["models", "remove", "tiny"], _removed, (0, 2, 4, 6)),
    "models pull": Task(
        "plain", lambda _: ["models", "pull", "falconsai"],
        _whole("home/ns/models/falconsai-*", *_PACKAGE), (0, 2, 4, 6),
        before="import signal; signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "import calls_world; calls_world.small_catalogue()",
    ),
    "build": Task(
        "plain", lambda world: [world.checkpoint, "-o", "built", "--recipe", "float"],
        _whole("built", *_BUILT), run=quantize,
    ),
    "models build": Task(
        "plain", lambda world: ["models", "build", world.checkpoint, "--recipe=float", "--offline"],
        _anything, (0, 2, 4, 6),
    ),
    "selftest": Task(
        "plain", lambda world: ["selftest", "--model", world.built], _anything, (0, 2, 4, 6, 7)
    ),
    "status": _reads("status", 8, 2, 6),
    "doctor": Task("plain", lambda _: ["doctor"], _anything, (0, 2, 6, 7)),
}  # fmt: skip
FORKED = [name for name in TASKS if name != "models build"]
"""What runs in a child of this process; `build` is the other half of `models build`."""
PROGRAMS = [name for name, task in TASKS.items() if task.run is main]
"""What runs in a process of its own."""


KINDS = {
    "loss": "losses", "traceback": "tracebacks", "over-long": "over-long",
    "exit code": "wrong exit codes", "untrue exit code": "untrue exit codes",
    "left behind": "files left behind",
}  # fmt: skip
"""What `judge` may find wrong: one, and many."""


@contextlib.contextmanager
def opened(elsewhere: str, names: Sequence[str]) -> Iterator[World]:
    """Make a world for some commands; `elsewhere` is a folder on another file system."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    prepare()
    small_catalogue()
    watcher._ABSENCE_S = 0.1
    of_environment = hub.Hub.from_environment
    hub.Hub.from_environment = lambda environ: dataclasses.replace(  # type: ignore[method-assign]
        of_environment(environ), patience=loopback_hub.QUICK
    )
    with (
        tempfile.TemporaryDirectory(prefix="nsfwscan-calls-") as base,
        tempfile.TemporaryDirectory(prefix="nsfwscan-calls-", dir=elsewhere) as other,
        _hub() as endpoint,
    ):
        os.environ["HF_ENDPOINT"] = endpoint
        world = World(Path(base), Path(other))
        if not {"build", "models build", "selftest"}.isdisjoint(names):
            small_vits.transformers(world.checkpoint)
            warm_up([world.checkpoint, "-o", world.built, "--recipe", "float"], run=quantize)
        try:
            yield world
        finally:
            os.chdir("/")


@contextlib.contextmanager
def _hub() -> Iterator[str]:
    """Run a model hub in a process of its own, for this one forks; yield its address."""
    hear, tell = os.pipe()
    child = os.fork()
    if not child:
        try:
            with loopback_hub.running() as hub:
                hub.put(tiny_packages.REPO, tiny_packages.REVISION, tiny_packages.FILE, _PULLED)
                os.write(tell, hub.endpoint.encode())
                os.close(tell)
                signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    try:
        yield os.read(hear, 100).decode()
    finally:
        os.close(hear)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def warm(world: World, names: Sequence[str]) -> None:
    """Load whatever these commands need."""
    for name in names:
        world.fresh(TASKS[name].state)
        os.chdir(world.top)
        warm_up(TASKS[name].words(world), run=TASKS[name].run)


def judge(
    world: World, name: str, code: int, took: float, *, codes: Sequence[int], absent: bool = False
) -> list[str]:
    """Return what is wrong after a command; ends what it left half done."""
    task, problems = TASKS[name], []
    err = (world.base / "err").read_text("utf-8", "replace")
    if "Traceback" in err or "internal error" in err:
        problems.append("traceback")
    if took >= task.bound_s:
        problems.append("over-long")
    if code not in codes:
        problems.append("exit code")
    elif not absent and not task.promise(world, code):
        problems.append("untrue exit code")
    words = ["quarantine", "restore", "0" * 32]
    for where in ("rename", "copy"):
        if world.quarantine(where).exists():
            world.run(*words, "--quarantine", world.quarantine(where))
    outside, held, strays = world.census()
    lost = ALL - outside - held
    if outside + held - ALL or SAFE in lost or (lost and not task.loses):
        problems.append("loss")
    if strays:
        problems.append(f"left behind: {strays[0].name}")
    return [f"{one} (exit code {code}): {err.strip()[:300]}" for one in problems]
