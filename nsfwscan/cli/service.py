"""`nsfwscan service`: runs the watcher as a service from login to logout."""

from __future__ import annotations

import collections
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer
from typer.core import TyperOption

from nsfwscan.cli.shared.codes import NOT_RUNNING, OK
from nsfwscan.cli.shared.commands import Command, Group
from nsfwscan.cli.shared.options import ShownAs, TableFormat
from nsfwscan.cli.shared.paths import absolute
from nsfwscan.cli.shared.tables import print_rows
from nsfwscan.cli.shared.talk import Talk
from nsfwscan.media.discover import check_roots
from nsfwscan.service.spec import spec_for
from nsfwscan.system import locations
from nsfwscan.system.reading import open_bytes
from nsfwscan.values.errors import ServiceError, UsageError
from nsfwscan.values.text import readable
from nsfwscan.watch import instance

if TYPE_CHECKING:
    from nsfwscan.service.managers import Manager

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Keep the watcher running in the background, from login to logout.",
    epilog="The service is a systemd user unit on Linux, a launchd agent on macOS, and a scheduled "
    "task on Windows. No administrator rights are needed.",
)

_LOOK_S = 0.5


@app.command(cls=Command, context_settings={"ignore_unknown_options": True})
def install(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="Folders to watch, and options of `nsfwscan watch`.",
            show_default=False,
        ),
    ],
    only_print: Annotated[
        bool,
        typer.Option("--print", help="Only print the file that it would write."),
    ] = False,
    start_now: Annotated[
        bool, typer.Option("--start/--no-start", help="Start now, or only at the next login.")
    ] = True,
) -> None:
    """Install a service that watches these folders whenever you are logged in.

    All options of `nsfwscan watch` can be given and become part of the service. At each start, the
    service also reads the settings under `[watch]` in the configuration file. Installing again
    replaces the service. A service that nsfwscan did not write is never replaced.

    For example:

        nsfwscan service install ~/Pictures ~/Downloads
        nsfwscan service install ~/Pictures --exclude '*.tmp' --print
    """
    paths, options = _for_watch(context, words)
    check_roots([absolute(path) for path in paths])
    found = _manager()
    config = context.find_root().params.get("config_file")
    spec = spec_for(paths, config=config, options=options)
    where, text = found.written(spec)
    if only_print:
        typer.echo(f"{readable(where)}:", err=True)
        typer.echo(text, nl=not text.endswith("\n"))
        return
    found.install(spec)
    if start_now:
        found.start()
    _say(
        f"Installed as {readable(where)}"
        + (" and started." if start_now else ". It starts at the next login.")
        + " `nsfwscan status` shows what it is doing."
    )


def _for_watch(context: typer.Context, words: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split arguments for `nsfwscan watch` into paths and options, as that command would.

    Raises typer's own errors for wrong options.
    """
    group: Any = context.find_root().command  # typer's command classes are not public
    command = group.commands["watch"]
    watch = command.make_context("install", list(words), parent=context.parent)
    if watch.params.get("once"):
        raise UsageError("a service cannot use --once", hint="leave out --once")
    given, _, order = command.make_parser(watch).parse_args(list(words))
    options: list[str] = []
    for parameter in dict.fromkeys(order):
        if not isinstance(parameter, TyperOption):
            continue
        value = given[parameter.name]
        name, other = ([*names][-1:] for names in (parameter.opts[:1], parameter.secondary_opts))
        if parameter.is_flag:
            options += name if value else other
        else:
            many = value if parameter.multiple else [value]
            options += [f"{name[0]}={one}" for one in many]
    return tuple(given["paths"]), tuple(options)


@app.command(cls=Command)
def uninstall() -> None:
    """Stop and remove the service. Pictures, cache and quarantine are not touched."""
    _manager().uninstall()
    _say("Removed the service.")


@app.command(cls=Command)
def start() -> None:
    """Start the service, or restart it if it is running."""
    _manager().start()
    _say("Started the service. `nsfwscan status` shows what it is doing.")


@app.command(cls=Command)
def stop() -> None:
    """Stop the service until the next login. Pictures being scored are finished first."""
    _manager().stop()
    _say("Stopped the service.")


@app.command(cls=Command)
def status(output_format: ShownAs = TableFormat.TABLE) -> None:
    """Show whether the service is installed and running.

    `nsfwscan status` shows what it is doing. Exits with 0 if it is running, and with 8 if not.
    """
    found = _manager()
    state = found.state()
    # Any watcher holds the lock, also one that a user started.
    watching = instance.is_held(locations.watch_lock())
    installed = "yes" if state.installed else "no (nsfwscan service install PATH)"
    rows = [
        ("service manager", found.name),
        ("installed", installed),
        ("running", "yes" if state.running else "no"),
        ("watcher running", "yes" if watching else "no"),
    ]
    document = {
        "service_manager": found.name,
        "installed": state.installed,
        "running": state.running,
        "watcher_running": watching,
    }
    print_rows(output_format, ("what", "value"), rows, document)
    running = state.running or (state.installed and watching)
    raise typer.Exit(OK if running else NOT_RUNNING)


@app.command(cls=Command)
def logs(
    lines: Annotated[
        int, typer.Option("--lines", "-n", metavar="N", min=0, help="How many lines to print.")
    ] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", help="Keep printing new lines, until Ctrl-C.")
    ] = False,
) -> None:
    """Print the end of the watcher's log."""
    path = locations.log_file()
    try:
        with open_bytes(path) as file:
            for line in collections.deque(file, maxlen=lines):
                typer.echo(line.decode("utf-8", "replace"), nl=False)
            for line in _added(path, file) if follow else ():
                typer.echo(line.decode("utf-8", "replace"), nl=False)
                sys.stdout.flush()
    except OSError as error:
        raise ServiceError(
            f"the log {readable(path)} cannot be read: {error.strerror}",
            hint="the watcher writes it: run `nsfwscan service start` or `nsfwscan watch`",
        ) from error


def _say(sentence: str) -> None:
    Talk(quiet=False).say(sentence)


def _manager() -> Manager:
    from nsfwscan.service.managers import manager  # slow to import, and needed by few commands

    return manager()


def _added(path: str, file: BinaryIO) -> Iterator[bytes]:
    """Yield lines as they are added to the log, also after the log was rotated; never ends."""
    with contextlib.ExitStack() as stack:
        while True:
            if line := file.readline():
                yield line
                continue
            time.sleep(_LOOK_S)
            try:
                moved = not os.path.samestat(os.stat(path), os.fstat(file.fileno()))
                begun = open_bytes(path) if moved else None
            except FileNotFoundError:
                continue
            if begun is not None:
                yield from file  # lines written between the last read and the rotation
                stack.close()
                file = stack.enter_context(begun)
