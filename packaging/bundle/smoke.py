"""`packaging/smoke BUNDLE`: drive a bundle as a person would, step by step.

In: the folder of a bundle, or of an unpacked archive. Out: a line a step, and exit code 1 when one
of them is not as it should be. The bundle, and everything it writes, stay in a home of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import queue
import re
import signal
import sys
import tempfile
import threading
import time
import urllib.parse
from typing import TYPE_CHECKING, NamedTuple

from bundle import damage
from bundle.driven import Done, Driven, Unlike, paint, wanted

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Sequence

_PICTURES = 8
_MANY = 80
"""Pictures of a scan that is interrupted: it takes some seconds."""
_PATIENCE_S = 60
_SETTLED_S = 3.5


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the steps the command line asks for, and exit with 1 when one fails."""
    parser = argparse.ArgumentParser(prog="packaging/smoke", description=__doc__)
    parser.add_argument("bundle", help="the folder with the program in it")
    parser.add_argument("--only", nargs="+", choices=[*STEPS], default=[*STEPS], metavar="STEP")
    parser.add_argument(
        "--damage",
        action="store_true",
        help="damage each file that is loaded in turn instead, in a copy; takes some minutes",
    )
    parser.add_argument("--damage-only", nargs="+", metavar="PART", help="of files named like that")
    given = parser.parse_args(arguments)
    bundle = os.path.abspath(given.bundle)
    with tempfile.TemporaryDirectory(prefix="nsfwscan-smoke-") as home:
        if given.damage or given.damage_only:
            files = damage.targets(bundle)
            if given.damage_only:
                files = [one for one in files if any(part in one for part in given.damage_only)]
            failed = damage.run(bundle, home, files)
        else:
            failed = run(Driven(bundle, os.path.realpath(home)), given.only)
    sys.exit(1 if failed else 0)


def run(bundle: Driven, steps: Sequence[str]) -> list[str]:
    """Run steps by name, printing how each went, and return the names of those that failed."""
    failed = []
    for name in steps:
        begun = time.monotonic()
        try:
            note = STEPS[name](bundle)
        except Unlike as problem:
            failed.append(name)
            note = f"FAILED: {problem}"
        print(f"{name:12} {time.monotonic() - begun:5.1f} s  {note or 'ok'}", flush=True)
    return failed


def _pictures(bundle: Driven) -> str:
    folder = os.path.join(bundle.home, "Pictures")
    for number in range(_PICTURES):
        path = os.path.join(folder, f"{number}.png")
        if not os.path.exists(path):
            paint(path, number)
    return folder


def _version(bundle: Driven) -> str:
    done = bundle.run("--version")
    wanted(done.out.startswith("nsfwscan "), "no version", done)
    wanted("Exit codes" in bundle.run("--help").out, "help without exit codes")
    return done.out.strip()


def _models(bundle: Driven) -> str:
    rows = json.loads(bundle.run("models", "list", "--format", "json").out)
    installed = [
        f"{row['name']}-{row['version']}" for row in rows if row["state"].startswith("installed")
    ]
    wanted(bool(installed), "no model came with the bundle")
    bundle.run("models", "verify")
    refused = bundle.run("models", "remove", installed[0], expect=2)
    wanted("is part of this bundle" in refused.err, "its own model can be removed", refused)
    return f"{', '.join(installed)} came with it"


def _scan(bundle: Driven) -> str:
    folder = _pictures(bundle)
    done = bundle.run("scan", "--offline", "--format", "jsonl", folder)
    states = [(one["status"], one["origin"]) for one in done.records]
    wanted(states == [("scanned", "model")] * _PICTURES, "not all were scored", done)
    wanted(f"{_PICTURES} pictures" in done.err, "no summary", done)
    table = bundle.run("scan", "--offline", "--flag-at", "0", folder, expect=1)
    wanted("nsfw" in table.out, "nothing was flagged above 0", table)
    return f"{_PICTURES} pictures"


def _cached(bundle: Driven) -> str:
    folder = _pictures(bundle)
    bundle.run("scan", "--offline", "--quiet", folder)
    done = bundle.run("scan", "--offline", "--format", "jsonl", folder)
    wanted({one["origin"] for one in done.records} == {"cache"}, "scored again", done)
    bundle.run("cache", "stats")
    bundle.run("cache", "verify")
    return ""


def _report(bundle: Driven) -> str:
    if not bundle.knows("report"):
        return "left out: no such command"
    folder, page = _pictures(bundle), os.path.join(bundle.home, "report.html")
    bundle.run("scan", "--offline", "--quiet", folder)
    done = bundle.run("report", "--thumbnails", "all", "--output", page, folder)
    with open(page, encoding="utf-8") as file:
        text = file.read()
    for part in ("Content-Security-Policy", "DecompressionStream", "--accent", "</html>"):
        wanted(part in text, f"the page has no {part}", done)
    return f"{len(text):,} characters"


def _selftest(bundle: Driven) -> str:
    done = bundle.run("selftest", "--offline")
    wanted("all is well" in done.out, "selftest is not content", done)
    return ""


def _doctor(bundle: Driven) -> str:
    done = bundle.run("doctor")
    wanted("of unknown version" not in done.out, "doctor does not know a version", done)
    wanted("files as they were packed" in " ".join(done.out.split()), "not checked", done)
    return ""


def _completion(bundle: Driven) -> str:
    for shell in ("bash", "zsh", "fish"):
        done = bundle.run(
            "--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
        )
        wanted("_NSFWSCAN_COMPLETE" in done.out, f"no completion for {shell}", done)
    done = bundle.run(_NSFWSCAN_COMPLETE="complete_bash", COMP_WORDS="nsfwscan sc", COMP_CWORD="1")
    wanted(done.out.split() == ["scan"], "`nsfwscan sc` is not completed", done)
    return ""


def _wrong(bundle: Driven) -> str:
    folder = os.path.join(bundle.home, "odd")
    broken = paint(os.path.join(folder, "broken.png"), 99)
    with open(broken, "r+b") as file:
        file.truncate(os.path.getsize(broken) // 2)
    for arguments, code, said in (
        (["scan", os.path.join(bundle.home, "nowhere")], 2, "nowhere"),
        (["scan", "--flag-at", "2", folder], 2, "flag-at"),
        (["scan", "--no-such-option", folder], 2, "no such option"),
        (["scna"], 2, "scan"),
        (["scan", "--offline", "--model", "falconsai", folder], 4, "network"),
        (["scan", "--model", "./nothing", folder], 4, "nothing"),
        (["models", "pull", "nonsense"], 2, "nonsense"),
        (["models", "build", "falconsai"], 2, "bundle"),
        (["scan", "--offline", folder], 3, "1 without a verdict"),
    ):
        done = bundle.run(*arguments, expect=code)
        said_all = " ".join((done.out + done.err).replace("│", " ").split())
        wanted(said in said_all, f"`{' '.join(arguments)}` does not speak of {said!r}", done)
    return ""


def _interrupt(bundle: Driven) -> str:
    if os.name == "nt":
        return "left out: no SIGINT for another process here"
    folder = os.path.join(bundle.home, "many")
    for number in range(_MANY):
        paint(os.path.join(folder, f"{number}.png"), 1000 + number)
    child = bundle.start("scan", "--offline", "--format", "jsonl", folder)
    lines = _Lines(child)
    lines.next()  # it is under way
    os.killpg(child.pid, signal.SIGINT)
    code = child.wait(_PATIENCE_S)
    said = Done(code, "\n".join(lines.rest()), lines.complaint())
    lines.close()
    wanted(code == 130, f"exit code {code}, not 130", said)
    wanted("Traceback" not in said.err, "a traceback", said)
    with contextlib.suppress(ProcessLookupError):
        time.sleep(0.5)
        os.killpg(child.pid, 0)
        raise Unlike("processes were left behind")
    after = bundle.run("scan", "--offline", "--format", "jsonl", folder)
    kept = sum(one["origin"] == "cache" for one in after.records)
    wanted(kept > 0 and len(after.records) == _MANY, "what was scored is forgotten", after)
    return f"{kept} of {_MANY} pictures were kept"


def _watch(bundle: Driven) -> str:
    if not bundle.knows("watch"):
        return "left out: no such command"
    folder = os.path.join(bundle.home, "watched")
    paint(os.path.join(folder, "old.png"), 2001)
    with _watching(bundle, folder) as lines:
        wanted(os.path.basename(lines.next()["path"]) == "old.png", "the first is not told")
        paint(os.path.join(folder, "new.png"), 2002)
        told = lines.next()
        wanted(os.path.basename(told["path"]) == "new.png", f"not the new one: {told}")
        wanted(told["status"] == "scanned", f"not scanned: {told}")
        if bundle.knows("status"):
            _until(lambda: folder in bundle.run("status", expect=None).out, "status knows nothing")
    return "a new picture was told"


def _quarantine(bundle: Driven) -> str:
    if not bundle.knows("quarantine"):
        return "left out: no such command"
    folder = os.path.join(bundle.home, "Downloads")
    path = paint(os.path.join(folder, "flagged.png"), 3001)
    with open(path, "rb") as file:
        before = file.read()
    # Without it the quarantine would be in the topmost folder of the volume: root's is /.
    kept = ["--quarantine", os.path.join(bundle.home, "quarantine")]
    act = ["scan", "--offline", "--flag-at", "0", "--action", "quarantine", "--yes", *kept, folder]
    bundle.run(*act, "--dry-run", expect=1)
    wanted(os.path.exists(path), "--dry-run moved a picture")
    done = bundle.run(*act, expect=1)
    wanted(not os.path.exists(path), "the picture was not moved", done)
    listed = bundle.run("quarantine", "list", *kept)
    wanted("flagged.png" in "".join(listed.out.split()), "it is not listed", listed)
    bundle.run("quarantine", "verify", *kept)
    done = bundle.run("quarantine", "restore", "--all", *kept)
    wanted(os.path.exists(path), "it was not restored", done)
    with open(path, "rb") as file:
        wanted(file.read() == before, "its bytes are others now")
    return "moved, listed, verified, restored"


def _review(bundle: Driven) -> str:
    if not bundle.knows("review"):
        return "left out: no such command"
    folder = _pictures(bundle)
    time.sleep(_SETTLED_S)  # a scan does not trust the times of files this young
    bundle.run("scan", "--offline", "--quiet", folder)
    child = bundle.start("review", "--no-browser", "--review-at", "0", "--flag-at", "0.9", folder)
    try:
        assert child.stdout is not None
        where = urllib.parse.urlsplit(child.stdout.readline().decode().strip())
        wanted(where.hostname == "127.0.0.1", f"no address: {where}")
        entered = _ask(where, where.path)
        secrets = {
            "Cookie": entered.headers["Set-Cookie"].partition(";")[0],
            "X-Review-Key": entered.headers["Location"].partition("#")[2],
        }
        for path in ("/", "/review.js", "/review.css"):
            wanted(_ask(where, path, **secrets).status == 200, f"no {path}")
        pictures = json.loads(_ask(where, "/api/pictures", **secrets).body)["pictures"]
        shown = _ask(where, f"/api/picture/{pictures[0]['id']}/large", **secrets)
        wanted(shown.body.startswith(b"\xff\xd8"), f"no picture: {shown}")
        child.terminate()
        code = child.wait(_PATIENCE_S)
        wanted(code == 0 or os.name == "nt", f"the review ended with {code}")
    finally:
        child.kill()
        child.communicate()
    return f"{len(pictures)} pictures on a page"


def _serve(bundle: Driven) -> str:
    if not bundle.knows("serve"):
        return "left out: no such command"
    folder = _pictures(bundle)
    child = bundle.start("serve", "--port", "0", "--offline", "--no-cache", "--no-jobs")
    lines = _Lines(child)
    try:
        _until(lambda: "Listening on" in lines.complaint(), "the server does not listen")
        found = re.search(r"http://\S+:\d+", lines.complaint())
        wanted(found is not None, f"no address: {lines.complaint()}")
        where = urllib.parse.urlsplit(found[0] if found else "")
        _until(lambda: _ask(where, "/health").status == 200, "the server has no model")
        form = b""
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name), "rb") as file:
                head = f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="a"\r\n\r\n'
                form += head.encode() + file.read() + b"\r\n"
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = _send(where, "POST", "/v1/scan", form + b"--x--\r\n", kind)
        wanted(answer.status == 200, f"a form is answered with {answer}")
        count = len(json.loads(answer.body)["results"])
        for path in ("/", "/metrics", "/openapi.json"):
            wanted(_ask(where, path, Accept="text/html").status == 200, f"no {path}")
        child.terminate()
        code = child.wait(_PATIENCE_S)
        wanted(code == 0 or os.name == "nt", f"the server ended with {code}: {lines.complaint()}")
    finally:
        child.kill()
        child.wait()
        lines.close()
    return f"{count} pictures in a form"


class _Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def _ask(where: urllib.parse.SplitResult, path: str, **headers: str) -> _Answer:
    return _send(where, "GET", path, None, headers)


def _send(
    where: urllib.parse.SplitResult,
    method: str,
    path: str,
    body: bytes | None,
    headers: dict[str, str],
) -> _Answer:
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=_PATIENCE_S)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return _Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def _service(bundle: Driven) -> str:
    if not bundle.knows("service"):
        return "left out: no such command"
    if sys.platform != "linux":
        return "left out: only tried on Linux"
    done = bundle.run("service", "install", "--print", bundle.home)
    wanted(f'ExecStart="{bundle.program}"' in done.out, "the unit starts another program", done)
    return "the unit starts this program"


@contextlib.contextmanager
def _watching(bundle: Driven, folder: str) -> Iterator[_Lines]:
    child = bundle.start("watch", "--offline", "--format", "jsonl", "--settle-ms", "200", folder)
    lines = _Lines(child)
    try:
        yield lines
        child.send_signal(signal.SIGTERM)
        code = child.wait(_PATIENCE_S)
        wanted(code == 0, f"the watcher ended with {code}: {lines.complaint()}")
    finally:
        child.kill()
        child.wait()
        lines.close()


def _until(holds: Callable[[], bool], otherwise: str) -> None:
    """Wait until something holds. Raises `Unlike` when it never does."""
    deadline = time.monotonic() + _PATIENCE_S / 4
    while not holds():
        wanted(time.monotonic() < deadline, otherwise)
        time.sleep(0.2)


class _Lines:
    """The lines that a process prints, read by threads so that none blocks it."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        self._lines: queue.Queue[str] = queue.Queue()
        self._said: list[bytes] = []
        self._threads = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._listen, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def next(self) -> dict[str, str]:
        """Return the next line, a JSON object. Raises `Unlike` when none comes."""
        try:
            line = self._lines.get(timeout=_PATIENCE_S)
        except queue.Empty:
            raise Unlike(f"no line within {_PATIENCE_S} s; {self.complaint()}") from None
        found: dict[str, str] = json.loads(line)
        return found

    def rest(self) -> list[str]:
        """Return the lines that are left, of a process that has ended."""
        for thread in self._threads:
            thread.join(_PATIENCE_S)
        return [self._lines.get_nowait() for _ in range(self._lines.qsize())]

    def complaint(self) -> str:
        """Return what was said on standard error so far."""
        return b"".join(self._said).decode("utf-8", "replace")

    def close(self) -> None:
        self.rest()
        for stream in (self._child.stdout, self._child.stderr):
            if stream is not None:
                stream.close()

    def _read(self) -> None:
        for line in self._child.stdout or ():
            self._lines.put(line.decode("utf-8", "replace"))

    def _listen(self) -> None:
        self._said.extend(self._child.stderr or ())


STEPS: dict[str, Callable[[Driven], str]] = {
    "version": _version,
    "models": _models,
    "scan": _scan,
    "cached": _cached,
    "report": _report,
    "selftest": _selftest,
    "doctor": _doctor,
    "completion": _completion,
    "wrong-input": _wrong,
    "interrupt": _interrupt,
    "watch": _watch,
    "quarantine": _quarantine,
    "review": _review,
    "serve": _serve,
    "service": _service,
}
"""Name of a step to what it does; it returns what to say beside ok."""
