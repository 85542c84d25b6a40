"""What is written for systemd, launchd and Windows, judged by their own rules."""

from __future__ import annotations

import os
import plistlib
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xmlschema
from shell import tool

from nsfwscan.service import spec as spec_module
from nsfwscan.service.launchd_agent import LABEL, agent
from nsfwscan.service.spec import ServiceSpec, program, spec_for
from nsfwscan.service.systemd_unit import UNIT, unit
from nsfwscan.service.windows_task import task

_SCHEMA = Path(__file__).parent / "data" / "task.xsd"
ODD = (
    "/home/a b/pictures",
    "/100%/of $HOME and ${HOME}",
    "/quotes \" and ' and \\ back",
    "/line\nbreak\tand tab",
    "/umläut/日本",
    "--option-like",
    "; & | < > * ? ~ #",
    "/ends with backslash\\",
)
SPEC = ServiceSpec(("/opt/nsfwscan/nsfwscan", "watch", "--", *ODD), (("NSFWSCAN_HOME", "/a b%$"),))


def test_the_command_is_this_program_with_absolute_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in spec_module._PLACES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    found = spec_for(("Pictures", "~/Downloads", "-x"), config="own.toml")
    *command, last = found.command
    assert command[: len(program())] == list(program())
    assert command[len(program()) :] == [
        "--config",
        str(tmp_path / "own.toml"),
        "watch",
        "--",
        str(tmp_path / "Pictures"),
        os.path.expanduser("~/Downloads"),
    ]
    assert last == str(tmp_path / "-x")
    assert found.environment == ()
    monkeypatch.setenv("NSFWSCAN_HOME", "portable")
    monkeypatch.setenv("XDG_STATE_HOME", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/big/cache")
    found = spec_for(("a",), config=None, options=("--settle-ms=5", "--poll"))
    assert found.environment == (
        ("NSFWSCAN_HOME", str(tmp_path / "portable")),
        ("XDG_CACHE_HOME", "/big/cache"),
    )
    assert found.command[len(program()) :] == (
        "watch",
        "--settle-ms=5",
        "--poll",
        "--",
        str(tmp_path / "a"),
    )


def test_a_bundle_starts_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert program() == (sys.executable, "-P", "-m", "nsfwscan")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/opt/nsfwscan/nsfwscan")
    assert program() == ("/opt/nsfwscan/nsfwscan",)


def test_a_folder_of_the_same_name_is_not_the_program(tmp_path: Path) -> None:
    (tmp_path / "nsfwscan").mkdir()
    (tmp_path / "nsfwscan" / "__main__.py").write_text("print('somebody else')")
    done = subprocess.run(
        [*program(), "--version"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("nsfwscan ")


def test_no_window_on_windows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(spec_module.sys, "platform", "win32")
    monkeypatch.setattr(spec_module.sys, "executable", str(tmp_path / "python.exe"))
    assert program()[0] == str(tmp_path / "python.exe")
    (tmp_path / "pythonw.exe").write_bytes(b"")
    assert program()[0] == str(tmp_path / "pythonw.exe")


# systemd


def exec_start(text: str) -> str:
    (line,) = re.findall(r"^ExecStart=(.*)$", text, flags=re.MULTILINE)
    return str(line)


def read_back(line: str) -> list[bytes]:
    """Undo systemd's quoting as systemd.syntax(7) and systemd.service(5) describe it."""
    words = []
    for word in re.findall(r'"((?:[^"\\]|\\.)*)"', line):
        plain = re.sub(
            r"\\x([0-9a-f]{2})|\\(.)|%%|\$\$",
            lambda m: chr(int(m[1], 16)) if m[1] else (m[2] or m[0][0]),
            word,
        )
        words.append(plain.encode("latin-1"))
    return words


def test_systemd_reads_back_what_was_meant() -> None:
    text = unit(SPEC)
    assert read_back(exec_start(text)) == [os.fsencode(word) for word in SPEC.command]
    assert 'Environment="NSFWSCAN_HOME=/a b%%$"\n' in text
    odd = ServiceSpec(("/bin/true", "/not utf-8 \udcff"))
    assert read_back(exec_start(unit(odd)))[-1] == b"/not utf-8 \xff"


@pytest.fixture
def verify(tmp_path: Path) -> Callable[[str], tuple[str, str]]:
    """Return systemd's own judgement of a unit: what it understood, and what it complains of."""
    checker = tool("systemd-analyze", "systemd")
    tool("kill", "procps")  # a unit starts it, and systemd looks for it

    def run(text: str) -> tuple[str, str]:
        (tmp_path / UNIT).write_text(text)
        command = [checker, "verify", "--user", "--man=no", "--recursive-errors=no"]
        env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
        options: dict[str, Any] = {"capture_output": True, "text": True, "check": False}
        done = subprocess.run([*command, str(tmp_path / UNIT)], env=env, **options)
        # Other units of this machine are none of our business.
        complaints = [line for line in done.stderr.splitlines() if "nsfwscan" in line]
        env["SYSTEMD_LOG_LEVEL"] = "debug"  # makes it print what it read
        done = subprocess.run([*command, str(tmp_path / UNIT)], env=env, **options)
        return done.stdout, "\n".join(complaints)

    return run


def test_systemd_finds_nothing_wrong(
    verify: Callable[[str], tuple[str, str]], tmp_path: Path
) -> None:
    tool = tmp_path / "a b" / "nsfwscan"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    good = unit(ServiceSpec((str(tool), *SPEC.command[1:]), SPEC.environment))
    assert verify(good)[1] == ""
    # The checker sees what is wrong, when something is.
    assert "Nize" in verify(good.replace("Nice=", "Nize="))[1]
    assert "not executable" in verify(good.replace(str(tool), f"{tool}-gone"))[1]


def test_systemd_understands_the_very_command(
    verify: Callable[[str], tuple[str, str]],
) -> None:
    spec = ServiceSpec((sys.executable, *SPEC.command[1:], "/not utf-8 \udcff"), SPEC.environment)
    understood, complaints = verify(unit(spec))
    assert complaints == ""
    (line,) = re.findall(rf"Command Line: ({re.escape(sys.executable)} .*)", understood)
    words = [_unescaped(word) for word in re.findall(r'"(?:[^"\\]|\\.)*"|[^ "]+', line)]
    # What is left of the quoting is the doubled dollar, which goes when the command is started.
    assert [word.replace(b"$$", b"$") for word in words] == [os.fsencode(w) for w in spec.command]
    assert "Environment: NSFWSCAN_HOME=/a b%$" in understood


def _unescaped(word: str) -> bytes:
    """Undo the quoting of systemd's dump: a shell's, with the escapes of C."""
    if not word.startswith('"'):
        return word.encode()
    body = word[1:-1].encode()
    named = {b"n": b"\n", b"t": b"\t"}

    def one(found: re.Match[bytes]) -> bytes:
        code = found[1]
        return bytes([int(code, 8)]) if len(code) == 3 else named.get(code, code)

    return re.sub(rb"\\([0-7]{3}|.)", one, body)


# launchd


def test_launchd_reads_back_what_was_meant() -> None:
    found = plistlib.loads(agent(SPEC))
    assert found["Label"] == LABEL
    assert found["ProgramArguments"] == list(SPEC.command)
    assert found["EnvironmentVariables"] == dict(SPEC.environment)
    assert found["KeepAlive"] == {"SuccessfulExit": False}
    assert found["RunAtLoad"] is True
    assert found["ProcessType"] == "Background"
    # launchd.plist(5): what each key takes.
    kinds = {"ThrottleInterval": int, "ExitTimeOut": int, "Nice": int, "Umask": int}
    kinds |= {"LowPriorityIO": bool}
    assert {key: type(found[key]) for key in kinds} == kinds


# Windows


def xml(spec: ServiceSpec) -> str:
    data = task(spec, r"HOME\some & one")
    assert data[:2] in {b"\xff\xfe", b"\xfe\xff"}, "schtasks wants UTF-16 with its mark"
    return data.decode("utf-16").split("?>", 1)[1]


def windows_words(line: str) -> list[str]:
    """Take a command line apart as Microsoft's C runtime does."""
    words, word, quoted, at = [], "", False, 0
    begun = False
    while at < len(line):
        run = len(line) - at - len(line[at:].lstrip("\\"))
        after = line[at + run : at + run + 1]
        if run and after == '"':
            word, begun = word + "\\" * (run // 2), True
            if run % 2:
                word, at = word + '"', at + run + 1
                continue
            at += run
        elif run:
            word, begun, at = word + "\\" * run, True, at + run
            continue
        if line[at] == '"':
            quoted, begun = not quoted, True
        elif line[at] in " \t" and not quoted:
            if begun:
                words.append(word)
            word, begun = "", False
        else:
            word, begun = word + line[at], True
        at += 1
    return [*words, word] if begun else words


def test_the_task_fits_its_schema_and_reads_back() -> None:
    spec = ServiceSpec(SPEC.command)
    schema = xmlschema.XMLSchema(str(_SCHEMA))
    schema.validate(xml(spec))
    found = schema.to_dict(xml(spec))
    (trigger,) = found["Triggers"]["LogonTrigger"]
    assert trigger["UserId"] == found["Principals"]["Principal"]["UserId"] == r"HOME\some & one"
    (action,) = found["Actions"]["Exec"]
    assert action["Command"] == SPEC.command[0]
    wanted = [word.replace("\n", " ").replace("\t", " ") for word in SPEC.command[1:]]
    got = [
        word.replace("\n", " ").replace("\t", " ") for word in windows_words(action["Arguments"])
    ]
    assert got == wanted
    assert found["Settings"]["ExecutionTimeLimit"] == "PT0S"
    assert found["Settings"]["MultipleInstancesPolicy"] == "IgnoreNew"


def test_the_schema_finds_what_is_wrong() -> None:
    schema = xmlschema.XMLSchema(str(_SCHEMA))
    good = xml(ServiceSpec(("program.exe",)))
    for before, after in (
        ("<Priority>8<", "<Priority>11<"),
        ("PT1M", "one minute"),
        ("IgnoreNew", "Ignore"),
        ("RunLevel>", "Runlevel>"),
        ('id="Author"', 'id="Another"'),
    ):
        assert before in good
        with pytest.raises(xmlschema.XMLSchemaValidationError):
            schema.validate(good.replace(before, after))


def test_a_task_with_a_home_of_its_own() -> None:
    spec = ServiceSpec((r"C:\nsfwscan\nsfwscan.exe", "watch", "--", r"D:\My & pictures"), ENV)
    xmlschema.XMLSchema(str(_SCHEMA)).validate(xml(spec))
    assert "<Command>cmd.exe</Command>" in xml(spec)
    assert 'set "NSFWSCAN_HOME=D:\\portable"&amp;&amp; ' in xml(spec)


ENV = (("NSFWSCAN_HOME", r"D:\portable"),)
