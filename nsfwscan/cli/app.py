"""The command tree. Each command has its own file, which `lazy` imports when it is needed."""

from __future__ import annotations

from typing import Annotated

import typer

from nsfwscan._version import __version__
from nsfwscan.cli.shared import config
from nsfwscan.cli.shared.lazy import MARKUP, Root

_EXIT_CODES = """Exit codes:

- 0 done, nothing flagged

- 1 something flagged

- 2 wrong option, setting or path

- 3 some files have no verdict

- 4 no model

- 5 nothing was done: over a limit, or you answered no

- 6 something failed; the message says what

- 7 a check found a problem

- 8 no watcher is running

- 70 a bug in nsfwscan

- 130 interrupted

- 141 the program that read the output ended first

If several apply, the first of 130, 70, 2, 4, 6, 7, 5, 1, 3, 0 is used."""

app = typer.Typer(
    name="nsfwscan",
    cls=Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=MARKUP,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EXIT_CODES,
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
            help="Read settings from FILE, not from the file that `nsfwscan doctor` shows. The "
            "format is TOML: `flag-at = 0.9` under `[scan]` means `--flag-at 0.9`, and `[[rule]]` "
            "tables set actions for each folder.",
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
    """Find pictures that are not safe for work, offline.

    `nsfwscan scan ~/Pictures` scores every picture in a folder with a neural network that runs on
    this computer, and lists those that are probably not safe for work. Scores are cached, so the
    next scan reads only new and changed files. Pictures never leave the computer, are never
    changed, and are moved only if you ask. The network is used only to download a model, once.

    `nsfwscan COMMAND --help` explains a command in full. An option overrides its environment
    variable, which overrides the configuration file. `NSFWSCAN_HOME` is the folder for models,
    cache and configuration.
    """
    # doctor has no options, and reports a wrong configuration itself.
    if context.invoked_subcommand != "doctor":
        context.obj = config.read(context, config_file)
        context.default_map = context.obj.defaults
