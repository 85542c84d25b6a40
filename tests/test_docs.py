"""README, the pages below docs/, help and code say the same, and examples run as printed."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_model
import typer.main

from nsfwscan.cli.app import app
from nsfwscan.cli.main import main
from nsfwscan.cli.shared import codes
from nsfwscan.media.sniff import READABLE
from nsfwscan.models import catalogue
from nsfwscan.report.formats import Format
from nsfwscan.values.results import FailReason

_ROOT = Path(__file__).parents[1]
_README = (_ROOT / "README.md").read_text(encoding="utf-8")
_PAGES = {path: path.read_text(encoding="utf-8") for path in sorted((_ROOT / "docs").glob("*.md"))}
_TEXT = "\n".join([_README, *_PAGES.values()])
_LINKING = [
    path
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "packaging/*.md", "quantize/*.md")
    for path in sorted(_ROOT.glob(pattern))
]
_OURS = re.compile(r"https://github\.com/nsfwscan/nsfwscan/(?:blob|tree)/main/")
"""Pages that are built cannot link out of docs/, except by the address of the repository."""


def _commands(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*before, name))
        else:
            yield (*before, name), command


COMMANDS = dict(_commands(typer.main.get_command(app)))


def _quoted() -> list[str]:
    """Return every command line of nsfwscan in README and docs, in blocks and in running text."""
    spans = [span for span in _spans() if span.startswith("nsfwscan ")]
    lines = re.findall(
        r"^(?:\$ |.*bin/)?(nsfwscan [^\n]*)$", "\n".join(_lines()), flags=re.MULTILINE
    )
    piped = [part.strip() for one in spans + lines for part in one.split("|")]
    return [one for one in piped if one.startswith("nsfwscan ")]


def _spans() -> list[str]:
    """Return what stands in code type in running text and tables, one line each."""
    prose = re.sub(r"^```.*?^```", "", _TEXT, flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`]+)`", prose)
    return [" ".join(span.split()).replace("\\|", "|") for span in spans]


def _lines() -> list[str]:
    """Return the lines that a person types, of all blocks."""
    typed = [line for block in _blocks("sh") for line in block.splitlines()]
    typed += re.findall(r"^\$ (.+)$", "\n".join(_blocks("console")), flags=re.MULTILINE)
    return [line for line in typed if line.strip()]


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", _TEXT, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_is_documented_and_has_a_manual(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"nsfwscan {' '.join(words)}" in _TEXT
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert len(shown.split()) > 20
    for parameter in COMMANDS[words].params:
        assert getattr(parameter, "help", None), f"{parameter.name} has no help"


@pytest.mark.parametrize("line", sorted(set(_quoted())))
def test_every_documented_command_line_is_one_that_exists(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    if words[0] in {"COMMAND", "--help", "--config", "--install-completion"}:
        return
    if words[0].startswith("~/"):  # a path means `scan`
        words = ["scan", *words]
    depth = 2 if tuple(words[:2]) in COMMANDS else 1
    command = COMMANDS[tuple(words[:depth])]
    known = {flag for parameter in command.params for flag in parameter.opts} | {"--help", "-h"}
    for word in words[depth:]:
        if re.match(r"--?[a-z0]", word):
            assert word.split("=")[0] in known


def test_the_python_example_runs(
    tiny: Path, paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (example,) = _blocks("python")
    paint(tmp_path / "Pictures" / "red.png", tiny_model.RED)
    paint(tmp_path / "holiday.jpg", tiny_model.GREEN)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/python.md", "exec"), {})
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith(str(tmp_path / "Pictures" / "red.png"))
    assert "safe" in shown[1]


@pytest.mark.parametrize("example", _blocks("toml"))
def test_the_configuration_examples_are_accepted(
    tiny: Path, home: Path, tmp_path: Path, example: str
) -> None:
    (home / "config.toml").write_text(example)
    assert main(["scan", "--quiet", str(tmp_path)]) == 0


def test_the_page_on_models_lists_those_that_are_known() -> None:
    table = (_ROOT / "docs" / "models.md").read_text(encoding="utf-8").split("\n\n")[1]
    assert set(re.findall(r"^\| (\w+) \|", table, flags=re.MULTILINE)) - {"name"} == set(
        catalogue.load()
    )


@pytest.mark.parametrize("page", ["README.md", "docs/scanning.md"])
@pytest.mark.parametrize("format_", sorted(READABLE))
def test_every_readable_format_is_named(page: str, format_: str) -> None:
    called = {"HEIF": "HEIC", "WEBP": "WebP"}.get(format_, format_)
    assert called in (_ROOT / page).read_text()


def test_how_often_models_are_right_is_what_the_source_of_their_thresholds_says() -> None:
    section = _README.split("## How often each model is right")[1].split("## ")[0]
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \|(.*)$", section, flags=re.MULTILINE)
    known = catalogue.load()
    assert {name for name, _, _ in rows} == set(known)
    for name, review_at, rest in rows:
        thresholds = known[name].thresholds
        assert float(review_at) == thresholds.review_at
        figures = re.findall(r"[\d.]+ %", rest)
        assert figures, f"README's row for {name} needs a figure that its thresholds.source has"
        assert all(figure in thresholds.source for figure in figures)


@pytest.mark.parametrize("word", [*Format, *FailReason])
def test_formats_and_reasons_are_explained(word: str) -> None:
    assert f"`{word}`" in _TEXT or f"--format {word}" in _TEXT


_CODES = [code for name, code in vars(codes).items() if name.isupper() and type(code) is int]


def test_each_exit_code_has_one_meaning() -> None:
    assert len(set(_CODES)) == len(_CODES) == 12
    assert set(_CODES) - set(codes.ORDER) == {codes.NOT_RUNNING, codes.READER_GONE}


@pytest.mark.parametrize("code", _CODES)
def test_exit_codes_are_documented_and_in_the_help(
    code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(rf"^\| {code} \|", _TEXT, flags=re.MULTILINE)
    assert main(["--help"]) == 0
    assert re.search(rf"\b{code}\b", capsys.readouterr().out)


def test_the_order_of_exit_codes_is_documented_and_in_the_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    order = ", ".join(map(str, codes.ORDER))
    assert f"the first of {order} is" in " ".join(_TEXT.split())
    assert main(["--help"]) == 0
    assert f"the first of {order} is" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("mark", ["scan command", "test command"])
def test_the_two_commands_are_marked(mark: str) -> None:
    """`.ci/run` runs what stands behind the second mark."""
    assert _README.count(f"<!-- {mark} -->\n```sh\n") == 1


def test_the_readme_has_at_most_150_lines() -> None:
    assert len(_README.splitlines()) <= 150


def _anchors(page: str) -> set[str]:
    """Return the anchors that GitHub and mkdocs make of a page's headings."""
    prose = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", _LINKING, ids=lambda path: path.relative_to(_ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        base, target = page.parent, link
        if _OURS.match(link):
            base, target = _ROOT, _OURS.sub("", link)
        elif re.match(r"\w+:", link):
            continue
        name, _, anchor = target.partition("#")
        leads_to = base / name if name else page
        assert leads_to.exists(), link
        if anchor:
            assert anchor in _anchors(leads_to.read_text(encoding="utf-8")), link


def test_the_pages_are_built_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=_ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    for page in _PAGES:
        name = "" if page.stem == "index" else page.stem
        assert (tmp_path / "site" / name / "index.html").is_file()


def test_every_page_is_in_the_contents() -> None:
    contents = (_ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("nav:")[1]
    for page in _PAGES:
        assert page.name in contents
        assert page.name == "index.md" or f"]({page.name}" in _PAGES[_ROOT / "docs" / "index.md"]


# Every shell example runs as it is printed.

_PROGRAMS = (
    r"nsfwscan|find|sudo|tar|sha256sum|sh|ln|pip|pipx|uv|python|python3|\.|tail|packaging/\S+"
)
_NOT_RUN = {
    r"python3 -m venv": "needs the package index; .ci/run runs the second of the two",
    r"pip install|pipx install|uv tool install|pipx ensurepath|uv tool update-shell":
        "needs the package index, or changes the PATH of the user",
    r"\. \.venv": "needs the environment that the line before makes",
    r"nsfwscan models (pull|build)|nsfwscan scan --model falconsai": "needs the network",
    r"nsfwscan service (install(?! --print)|uninstall|start|stop|status|logs)":
        "needs a service manager, and would change the user's; see test_service.py",
    r"nsfwscan --install-completion": "asks which shell started it",
    r"sudo|tar -xf|sh ~/\.local/lib|ln -s|tail -n \+2|sha256sum":
        "needs a release; see test_shipping.py",
    r"python -m benchmarks": "measures for minutes; see benchmarks/README.md",
    r"nsfwscan review": "serves a page until it is closed; see test_cli_review.py",
    r"curl": "needs a server that runs; see test_serve.py",
}  # fmt: skip
"""Examples that cannot run on any machine without network, and why."""
_FAILS = {
    "nsfwscan COMMAND --help": (codes.WRONG_COMMAND, "COMMAND is not a command"),
    "nsfwscan models add PATH": (codes.WRONG_COMMAND, "PATH does not exist"),
    "nsfwscan models add FILE.onnx --like falconsai": (
        codes.WRONG_COMMAND, "FILE.onnx does not exist"),
    "nsfwscan --config FILE scan ~/Pictures": (codes.WRONG_COMMAND, "FILE does not exist"),
    "nsfwscan scan ~/Pictures /media/usb holiday.jpg": (
        codes.WRONG_COMMAND, "no stick is plugged in"),
    "nsfwscan watch --poll /mnt/nas": (codes.WRONG_COMMAND, "nothing is mounted there"),
    "nsfwscan models remove opennsfw": (codes.WRONG_COMMAND, "another model is installed"),
    "nsfwscan selftest": (codes.WRONG_COMMAND, "no scores are recorded for the tiny model"),
    "nsfwscan cache clear": (codes.WRONG_COMMAND, "it asks, and there is no terminal"),
    "nsfwscan self-uninstall --purge": (codes.WRONG_COMMAND, "it asks, and there is no terminal"),
    "nsfwscan quarantine delete ~/Downloads": (
        codes.WRONG_COMMAND, "it asks, and there is no terminal"),
}  # fmt: skip
"""Examples that cannot succeed in this home: their exit code, and why."""
_BEFORE = {
    r"nsfwscan quarantine": "nsfwscan scan --action quarantine ~/Downloads ~/Pictures",
    r"nsfwscan rulings": "nsfwscan allow holiday.jpg",
    r"nsfwscan (cache|report)": "nsfwscan scan ~/Pictures",
}
"""What a person has done before, so that there is something to show, restore or forget."""


def _is_example(span: str) -> bool:
    """Return True for a command line; a bare name, such as `nsfwscan allow`, is just a name."""
    command = COMMANDS.get(tuple(span.split()[1:]))
    named = command and any(one.param_type_name == "argument" for one in command.params)
    return bool(re.match(rf"(?:{_PROGRAMS}) ", span)) and not named


def _examples() -> list[str]:
    return sorted({*_lines(), *filter(_is_example, _spans())})


_EXAMPLES = _examples()
_RUN = [line for line in _EXAMPLES if not any(re.match(one, line) for one in _NOT_RUN)]


def test_examples_that_do_not_run_are_there_and_name_what_exists() -> None:
    assert len(_RUN) > 2 * len(_NOT_RUN)
    for pattern in _NOT_RUN:
        assert any(re.match(pattern, line) for line in _EXAMPLES), pattern
    for line in _FAILS:
        assert line in _RUN
    for module in re.findall(r"python -m (benchmarks\.\w+)", _TEXT):
        assert (_ROOT / f"{module.replace('.', '/')}.py").is_file()


@pytest.fixture
def somebody(tiny: Path, paint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an ordinary home, the working folder, in which `nsfwscan` is on the PATH."""
    del tiny
    for name in ("green.png", "family/green.jpg", "ordinary/green.png"):
        paint(tmp_path / "Pictures" / name, tiny_model.GREEN)
    paint(tmp_path / "Pictures" / "2024" / "red.png", tiny_model.RED)
    paint(tmp_path / "Downloads" / "red.png", tiny_model.RED)
    paint(tmp_path / "holiday.jpg", tiny_model.GREEN, size=(320, 240))
    paint(tmp_path / "secret.png", tiny_model.ORANGE)
    (tmp_path / "last").touch()
    (tmp_path / "tokens").write_text("photos 8c7f7b0e3a5d4f1e9d0c6b2a1f3e5d7c\n")
    (tmp_path / "mine.jsonl").touch()
    program = tmp_path / "bin" / "nsfwscan"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nsfwscan "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(_ROOT))
    # Where root runs the tests, the highest folder that is theirs is the root of the disk.
    monkeypatch.setenv("NSFWSCAN_QUARANTINE", str(tmp_path / "quarantine"))
    monkeypatch.setenv("NSFWSCAN_LISTEN_PORT", "0")  # any that is free
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("example", _RUN)
def test_an_example_runs_as_printed(example: str, somebody: Path) -> None:
    with (somebody / "said").open("w+b") as said:
        for pattern, before in _BEFORE.items():
            if re.match(pattern, example):
                done = subprocess.run(["/bin/sh", "-c", before], capture_output=True, check=False)
                assert done.returncode in _FINE
        started = subprocess.Popen(
            ["/bin/sh", "-c", f"trap : INT\n{example}"],  # the shell survives the Ctrl-C
            stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip
        if re.match(r"(\w+=\w+ )?nsfwscan (watch|serve)", example) and "--once" not in example:
            _stop_when_it_runs(started, somebody / "said")
        code = started.wait(30)
        said.seek(0)
        shown = said.read().decode()
    assert "Traceback" not in shown
    assert shown.strip() or code == 0, "it failed without a word"
    assert code in ({_FAILS[example][0]} if example in _FAILS else _FINE), shown


_FINE = {codes.OK, codes.FLAGGED, codes.NO_VERDICT, codes.NOT_DONE, codes.NOT_RUNNING}


def _stop_when_it_runs(started: subprocess.Popen[bytes], said: Path) -> None:
    """Send Ctrl-C once a watcher or a server has said that it runs."""
    for _ in range(300):
        if started.poll() is not None:
            return
        if any(word in said.read_bytes() for word in (b"Watching ", b"Listening on ")):
            os.killpg(started.pid, signal.SIGINT)
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(0.05)
