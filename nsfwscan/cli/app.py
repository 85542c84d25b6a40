"""The command tree. Each command has a file of its own, which `lazy` imports when it is named."""

from __future__ import annotations

from typing import Annotated

import typer

from nsfwscan._version import __version__
from nsfwscan.cli.shared import config
from nsfwscan.cli.shared.lazy import MARKUP, Root

app = typer.Typer(
    name="nsfwscan",
    cls=Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=MARKUP,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Exit codes: 0 done, nothing flagged; 1 something flagged; 2 a wrong option, setting or "
        "path; 3 some files have no verdict; 4 no model; 5 nothing was done, because of a limit or "
        "because you answered no; 6 something failed, as the message says; 7 a check found "
        "something wrong; 8 no watcher is running; 70 a bug in nsfwscan; 130 interrupted; 141 the "
        "reader of the output ended first. If several apply, the first of 130, 70, 2, 4, 6, 7, 5, "
        "1, 3, 0 is used."
    ),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nsfwscan {__version__}")
        raise typer.Exit


@app.callback()
def nsfwscan(
    context: typer.Context,
    config_file: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="FILE",
            envvar="NSFWSCAN_CONFIG",
            help="Read settings from FILE instead of the usual place, which `nsfwscan doctor` "
            "names. It is TOML: below `[scan]`, `flag-at = 0.9` stands for `--flag-at 0.9`. "
            "`[[rule]]` tables say what to do about pictures.",
        ),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Find the pictures that are not safe for work, offline.

    `nsfwscan scan ~/Pictures` scores every picture in a folder with a neural network that runs on
    this computer, lists those that are probably not safe for work, and remembers the scores, so
    that the next scan only looks at what is new. Pictures never leave the computer, are never
    changed, and are only moved if you ask. The network is used for one thing: to fetch a model,
    once.

    `nsfwscan COMMAND --help` explains a command in full. An option on the command line wins over
    its environment variable, which wins over the configuration file and the built-in default.
    `NSFWSCAN_HOME` names a folder for the models, the cache and the configuration.
    """
    # doctor has no options, and a wrong configuration is one of the things it is there to find.
    if context.invoked_subcommand != "doctor":
        context.obj = config.read(context, config_file)
        context.default_map = context.obj.defaults
