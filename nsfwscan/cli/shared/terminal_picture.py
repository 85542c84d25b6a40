"""Pictures in a terminal: kitty's and iTerm2's protocols, the program chafa, or coloured blocks.

In: a function that makes thumbnails. Out: bytes for the terminal. No byte of a picture file gets
here: the decode process makes new pixels. The terminal is recognised by its environment and never
asked, because its answer would come as typed input.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
from enum import Enum, auto
from typing import TYPE_CHECKING, assert_never

from nsfwscan.media.decode.thumbnail import ThumbnailForm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from rich.console import Console

    from nsfwscan.media.decode.thumbnail import Thumbnail

    MakeThumbnail: TypeAlias = Callable[[int, ThumbnailForm], Thumbnail]
    """From the longest side in pixels, and the form."""

_MOST_COLUMNS, _MOST_ROWS = 48, 24
_LONGEST = 512
"""Pixels of the longest side where the terminal shows real pixels."""
_CHUNK = 4096
"""Characters in one command of kitty's protocol."""
_CHAFA_SECONDS = 10.0


class Graphics(Enum):
    """How pictures can be shown."""

    KITTY = auto()
    ITERM2 = auto()
    CHAFA = auto()
    """By a program that speaks sixel and others, and knows better characters than we do."""
    BLOCKS = auto()
    """Two pixels in each character."""


def graphics(environ: Mapping[str, str]) -> Graphics:
    """Return how to show pictures in the terminal of this environment."""
    terminal, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    # Inside these, the terminal around them does not get such commands.
    if "TMUX" not in environ and not terminal.startswith(("screen", "tmux")):
        if terminal in {"xterm-kitty", "xterm-ghostty"} or "KITTY_WINDOW_ID" in environ:
            return Graphics.KITTY
        if program in {"iTerm.app", "WezTerm"} or environ.get("LC_TERMINAL") == "iTerm2":
            return Graphics.ITERM2
    return Graphics.CHAFA if shutil.which("chafa") else Graphics.BLOCKS


def draw(make: MakeThumbnail, environ: Mapping[str, str]) -> str:
    """Show a picture on standard output, a terminal. Return why it cannot, or nothing.

    Raises what `make` raises.
    """
    from rich.console import Console

    console = Console()
    colourless = console.color_system is None or console.no_color
    how = graphics(environ)
    if colourless and how in {Graphics.CHAFA, Graphics.BLOCKS}:
        return "this terminal shows no colours"
    most = (min(_MOST_COLUMNS, console.width), min(_MOST_ROWS, max(4, console.height - 4)))
    match how:
        case Graphics.KITTY:
            _write(_kitty(make(_LONGEST, ThumbnailForm.RGB), most))
        case Graphics.ITERM2:
            _write(_iterm2(make(_LONGEST, ThumbnailForm.PNG), most))
        case Graphics.CHAFA:
            if not _chafa(make(_LONGEST, ThumbnailForm.PNG), most):
                _blocks(make(max(most), ThumbnailForm.RGB), most, console)
        case Graphics.BLOCKS:
            _blocks(make(max(most), ThumbnailForm.RGB), most, console)
        case _:
            assert_never(how)
    return ""


def cells(thumbnail: Thumbnail, most: tuple[int, int]) -> tuple[int, int]:
    """Return how many columns and rows a picture takes: as many as fit, keeping its shape.

    A character is taken to be twice as high as wide.
    """
    columns, rows = most
    scale = min(columns / thumbnail.width, 2 * rows / thumbnail.height)
    across, down = thumbnail.width * scale, thumbnail.height * scale / 2
    return max(1, round(across)), max(1, round(down))


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _kitty(thumbnail: Thumbnail, most: tuple[int, int]) -> str:
    """Return the commands that show RGB pixels (kitty's graphics protocol, `a=T,f=24`)."""
    columns, rows = cells(thumbnail, most)
    keys = f"a=T,f=24,q=2,s={thumbnail.width},v={thumbnail.height},c={columns},r={rows},"
    text = base64.b64encode(thumbnail.data).decode("ascii")
    commands = []
    for at in range(0, len(text), _CHUNK):
        more = at + _CHUNK < len(text)
        commands.append(f"\x1b_G{keys}m={int(more)};{text[at : at + _CHUNK]}\x1b\\")
        keys = ""
    return "".join(commands)


def _iterm2(thumbnail: Thumbnail, most: tuple[int, int]) -> str:
    """Return the command that shows a file (iTerm2's inline images protocol)."""
    columns, rows = cells(thumbnail, most)
    text = base64.b64encode(thumbnail.data).decode("ascii")
    keys = f"inline=1;size={len(thumbnail.data)};width={columns};height={rows}"
    return f"\x1b]1337;File={keys}:{text}\x07"


def _chafa(thumbnail: Thumbnail, most: tuple[int, int]) -> bool:
    """Have chafa show a file. Return False if it fails."""
    size = "{}x{}".format(*cells(thumbnail, most))
    sys.stdout.flush()
    try:
        done = subprocess.run(
            ["chafa", f"--size={size}", "--stretch", "--animate=off", "-"],  # noqa: S607  as the user finds it
            input=thumbnail.data,
            stderr=subprocess.DEVNULL,
            timeout=_CHAFA_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _blocks(thumbnail: Thumbnail, most: tuple[int, int], console: Console) -> None:
    """Print characters whose upper half is one pixel and whose lower half is another."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    columns, rows = cells(thumbnail, most)

    def pixel(x: int, y: int) -> Color:
        column = x * thumbnail.width // columns
        row = y * thumbnail.height // (2 * rows)
        at = 3 * (row * thumbnail.width + column)
        return Color.from_rgb(*thumbnail.data[at : at + 3])

    for row in range(rows):
        line = Text(end="")
        for column in range(columns):
            style = Style(color=pixel(column, 2 * row), bgcolor=pixel(column, 2 * row + 1))
            line.append("▀", style)
        console.print(line)
