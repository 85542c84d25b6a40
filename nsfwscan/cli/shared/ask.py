"""Asking a person at the terminal before something that cannot easily be taken back."""

from __future__ import annotations

import sys

import typer

from nsfwscan.cli.shared.codes import INTERRUPTED, NOT_DONE
from nsfwscan.values.errors import UsageError


def is_sure(question: str) -> bool:
    """Return the answer. Raises `typer.Exit` with 130 at Ctrl-C."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:  # typer makes exit code 1 of Ctrl-C here, and that means "flagged"
        typer.echo(err=True)  # the terminal has written ^C behind the question
        raise typer.Exit(INTERRUPTED) from None


def insist(question: str, *, what: str, otherwise: str) -> None:
    """Return only when the answer is yes.

    `what` says in a clause what is asked about, for a shell in which nobody can answer;
    `otherwise` is said when the answer is no. Raises `typer.Exit` with 5 for no and with 130 at
    Ctrl-C, and `UsageError` when nobody is there.
    """
    if not sys.stdin.isatty():
        raise UsageError(
            f"{what}, and there is no terminal to ask", hint="add --yes to go on without a question"
        )
    if not is_sure(question):
        typer.echo(otherwise, err=True)
        raise typer.Exit(NOT_DONE)
