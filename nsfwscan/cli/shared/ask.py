"""Asks the user at the terminal before doing something that is hard to undo."""

from __future__ import annotations

import sys

import typer

from nsfwscan.cli.shared.codes import NOT_DONE
from nsfwscan.cli.shared.talk import fitted
from nsfwscan.values.errors import UsageError

_ANSWERS = {"y": True, "yes": True, "n": False, "no": False, "": False}


def is_sure(question: str) -> bool:
    """Return the answer; the end of standard input means no. Raises `KeyboardInterrupt`.

    Not `typer.confirm`, which turns an interrupt into the same exception as the end of input.
    """
    while True:
        print(fitted(f"{question} [y/N]:", sys.stderr), end=" ", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            print(file=sys.stderr)
        answer = _ANSWERS.get(line.strip().lower())
        if answer is not None:
            return answer
        print("Please answer y or n.", file=sys.stderr)


def insist(question: str, *, what: str, otherwise: str) -> None:
    """Return only if the answer is yes.

    `what` says in a clause what would be done, for the error if there is no terminal; `otherwise`
    is printed if the answer is no. Raises `typer.Exit` with 5 for no, `UsageError` without a
    terminal, and `KeyboardInterrupt`.
    """
    if not sys.stdin.isatty():
        raise UsageError(
            f"{what}, and there is no terminal to ask", hint="add --yes to skip the question"
        )
    if not is_sure(question):
        typer.echo(otherwise, err=True)
        raise typer.Exit(NOT_DONE)
