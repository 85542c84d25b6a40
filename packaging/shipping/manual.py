"""nsfwscan(1), made from the same help that `--help` prints, so that the two cannot differ.

There are generators for man pages (help2man, click-man). The first reads `--help`, whose boxes are
drawn for a terminal, the second click's commands, which typer no longer builds on. So this walks
typer's command tree itself.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer.main

from nsfwscan._version import __version__
from nsfwscan.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILES = """\
Models, cache, state and configuration are where the system wants them. On Linux that is
`~/.local/share/nsfwscan`, `~/.cache/nsfwscan`, `~/.local/state/nsfwscan` and
`~/.config/nsfwscan/config.toml`, or wherever the XDG variables point; all of them are below
`NSFWSCAN_HOME` when that is set. `nsfwscan doctor` names the places in use, and
`nsfwscan self-uninstall` lists every file."""


def render(epoch_s: int) -> str:
    """Return the manual page in the man(7) language."""
    root = typer.main.get_command(app)
    day = datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d")
    about, *more = _paragraphs(root.help or "")
    lines = [
        f'.TH NSFWSCAN 1 "{day}" "nsfwscan {__version__}" "User Commands"',
        ".SH NAME",
        f"nsfwscan \\- {_text(about[0].lower() + about[1:].rstrip('.'))}",
        ".SH SYNOPSIS",
        ".B nsfwscan",
        "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]",
        ".SH DESCRIPTION",
        *_body(more, first=True),
        ".SH OPTIONS",
        *_options(root),
        ".SH COMMANDS",
    ]
    for words, command in _commands(root):
        lines += [f".SS nsfwscan {_text(' '.join(words))}{_arguments(command)}"]
        lines += _body(_paragraphs(command.help or ""), first=True)
        lines += _options(command)
        if command.epilog:
            lines += _body(_paragraphs(command.epilog))
    lines += [".SH EXIT STATUS", *_body(_paragraphs(root.epilog or ""), first=True)]
    lines += [".SH FILES", *_body(_paragraphs(_FILES), first=True)]
    return "\n".join(lines) + "\n"


def _commands(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command and group below `group`; typer's `Command` is not a public type."""
    for name, command in group.commands.items():
        if not command.hidden:
            yield (*before, name), command
        if hasattr(command, "commands"):
            yield from _commands(command, (*before, name))


def _arguments(command: Any) -> str:
    words = [
        f" \\fI{_text(one.metavar or one.name.upper())}\\fR{'...' if one.nargs == -1 else ''}"
        for one in command.params
        if _is_argument(one)
    ]
    return "".join([*words, *([" \\fICOMMAND\\fR"] if hasattr(command, "commands") else [])])


def _options(command: Any) -> list[str]:
    lines = []
    for one in command.params:
        if getattr(one, "hidden", False) or not one.help:
            continue
        if _is_argument(one):
            name = f"\\fI{_text(one.metavar or one.name.upper())}\\fR"
        else:
            name = ", ".join(f"\\fB{_text(flag)}\\fR" for flag in one.opts)
            if not one.is_flag:
                name += f" \\fI{_text(one.metavar or one.name.upper())}\\fR"
        lines += [".TP", name, *_body([one.help], first=True)]
        if variable := getattr(one, "envvar", None):
            lines += [f"Environment variable: \\fB{_text(variable)}\\fR."]
    return lines


def _is_argument(parameter: Any) -> bool:
    return not parameter.opts[0].startswith("-")


def _paragraphs(help_: str) -> list[str]:
    return [one for one in re.split(r"\n\s*\n", help_.strip().replace("\b\n", "")) if one.strip()]


def _body(paragraphs: list[str], *, first: bool = False) -> list[str]:
    lines = []
    for paragraph in paragraphs:
        is_list = re.match(r"\s*[-*] ", paragraph) is not None
        lines += [] if first or is_list else [".PP"]
        first = False
        given = paragraph.split("\n")
        if all(line.startswith("    ") for line in given) or "```" in paragraph:
            code = [line.strip() for line in given if "```" not in line]
            lines += [".nf", *(_line(line) for line in code), ".fi"]
        elif is_list:
            for item in re.split(r"\n\s*[-*] ", "\n" + paragraph)[1:]:
                lines += [".IP \\(bu 2", _line(" ".join(item.split()))]
        else:
            lines.append(_line(" ".join(paragraph.split())))
    return lines


def _line(markdown: str) -> str:
    r"""Return one line of roff: `code` and **strong** become bold, the rest is escaped."""
    parts = re.split(r"`([^`]+)`|\*\*([^*]+)\*\*", markdown)
    line = ""
    for at in range(0, len(parts), 3):
        line += _text(parts[at])
        strong = (parts[at + 1] or parts[at + 2]) if at + 2 < len(parts) else ""
        line += f"\\fB{_text(strong)}\\fR" if strong else ""
    return f"\\&{line}" if line.startswith((".", "'")) else line


def _text(plain: str) -> str:
    return plain.replace("\\", "\\e").replace("-", "\\-")
