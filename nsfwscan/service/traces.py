"""What the command line leaves on the disk: configuration, the last crash, shell completion.

They are here, and not in `cli`, because the service may not import commands.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nsfwscan.system import locations
from nsfwscan.system.traces import is_file, is_link, is_there, lines, own_parent, state_traces
from nsfwscan.values.traces import TraceKind, Traces

if TYPE_CHECKING:
    from collections.abc import Iterator


def crash() -> Iterator[Traces]:
    """Yield the last traceback. Raises `NsfwscanError`."""
    name = os.path.basename(locations.crash_file())
    yield state_traces(lambda found: found == name)


def configuration() -> Iterator[Traces]:
    """Yield the configuration, which the user wrote. Raises `NsfwscanError`."""
    path = locations.config_file()
    files = (path,) if is_file(path) or is_link(path) else ()
    yield Traces(TraceKind.CONFIGURATION, path, files, tuple(own_parent(path)))


def completion() -> Iterator[Traces]:
    """Yield what `--install-completion` wrote. Raises `NsfwscanError`.

    The lines in zsh's start file stay, because completions of other programs need them, too. So do
    those in PowerShell's profile, whose path only PowerShell knows.
    """
    home = os.path.expanduser("~")
    bash = os.path.join(home, ".bash_completions", "nsfwscan.sh")
    zsh = os.path.join(home, ".zfunc", "_nsfwscan")
    fish = os.path.join(home, ".config", "fish", "completions", "nsfwscan.fish")
    start, line = os.path.join(home, ".bashrc"), f"source '{bash}'"
    added = ((start, line),) if line in lines(start) else ()
    for path, begun in ((bash, added), (zsh, ()), (fish, ())):
        files = (path,) if any("_NSFWSCAN_COMPLETE" in one for one in lines(path)) else ()
        if path == bash and files and not os.access(start, os.R_OK) and is_there(start):
            # An unreadable start file may have a line that would fail without the script.
            yield Traces(TraceKind.COMPLETION, path, (), strangers=files)
        else:
            yield Traces(TraceKind.COMPLETION, path, files, lines=begun)
