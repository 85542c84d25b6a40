"""`nsfwscan serve`: an HTTP server that scores pictures."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from nsfwscan.cli.shared.flags import ModelFlags, SpeedFlags, settings
from nsfwscan.cli.shared.groups import grouped
from nsfwscan.cli.shared.options import CACHE_PANEL, SPEED_PANEL, Quiet, bytes_of, checked_size
from nsfwscan.cli.shared.serve_flags import (
    AdapterFlags,
    JobFlags,
    adapter_settings,
    job_settings,
)
from nsfwscan.cli.shared.talk import Talk
from nsfwscan.scanning.scanner import ScanOptions
from nsfwscan.system.reading import open_text
from nsfwscan.values.errors import UsageError
from nsfwscan.values.text import readable

if TYPE_CHECKING:
    from nsfwscan.serve.tokens import Tokens

LISTEN_PANEL = "Where to listen, and to whom"
LIMIT_PANEL = "Limits"
DEFAULT_PORT = 8470
_TOKEN = "NSFWSCAN_TOKEN"  # noqa: S105  the name of a variable


@dataclass(frozen=True, slots=True)
class ListenFlags:
    """Where to listen, and to whom."""

    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            envvar="NSFWSCAN_LISTEN_HOST",
            rich_help_panel=LISTEN_PANEL,
            help="The address to listen on. Any but this computer's own needs a token.",
        ),
    ] = "127.0.0.1"
    # Not NSFWSCAN_PORT: Kubernetes sets that for a service called nsfwscan, to an address.
    port: Annotated[
        int,
        typer.Option(
            "--port",
            metavar="N",
            min=0,
            max=65535,
            envvar="NSFWSCAN_LISTEN_PORT",
            rich_help_panel=LISTEN_PANEL,
            help="The port to listen on. 0 takes any that is free.",
        ),
    ] = DEFAULT_PORT
    token_file: Annotated[
        str | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            envvar="NSFWSCAN_TOKEN_FILE",
            rich_help_panel=LISTEN_PANEL,
            help="Answer only requests with a token from FILE: a name and a token on each line, "
            "then `at-once=N` or `per-minute=N` to limit it.",
        ),
    ] = None
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            envvar="NSFWSCAN_ALLOW_HOST",
            rich_help_panel=LISTEN_PANEL,
            help="A name by which clients call this server, besides `localhost` and numbers. May "
            "be given several times.",
        ),
    ] = None
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin",
            metavar="URL",
            envvar="NSFWSCAN_ALLOW_ORIGIN",
            rich_help_panel=LISTEN_PANEL,
            help="A web page that may ask, such as `https://example.org`. May be given several "
            "times.",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class LimitFlags:
    """How much clients may ask for."""

    max_body: Annotated[
        str,
        typer.Option(
            "--max-body",
            metavar="SIZE",
            envvar="NSFWSCAN_MAX_BODY",
            callback=checked_size,
            rich_help_panel=LIMIT_PANEL,
            help="Refuse longer requests. SIZE is in bytes, or has a K, M or G.",
        ),
    ] = "64M"
    max_waiting: Annotated[
        int,
        typer.Option(
            "--max-waiting",
            metavar="N",
            min=1,
            max=10_000,
            envvar="NSFWSCAN_MAX_WAITING",
            rich_help_panel=LIMIT_PANEL,
            help="Refuse pictures, with status 429, while this many are waiting.",
        ),
    ] = 128


@dataclass(frozen=True, slots=True)
class ServeCacheFlags:
    """What is remembered."""

    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache",
            rich_help_panel=CACHE_PANEL,
            help="Do not answer from the cache.",
        ),
    ] = False
    write_cache: Annotated[
        bool,
        typer.Option(
            "--write-cache",
            rich_help_panel=CACHE_PANEL,
            help="Remember the scores of pictures that are sent, by their SHA-256.",
        ),
    ] = False


@grouped
def serve(
    listening: ListenFlags,
    model: ModelFlags,
    limiting: LimitFlags,
    caching: ServeCacheFlags,
    adapting: AdapterFlags,
    queueing: JobFlags,
    speed: SpeedFlags,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            metavar="N",
            min=1,
            max=64,
            envvar="NSFWSCAN_WORKERS",
            rich_help_panel=SPEED_PANEL,
            help="Server processes. One uses all cores; more only help if thousands of requests "
            "come in a second.",
        ),
    ] = 1,
    quiet: Quiet = False,
) -> None:
    """Answer programs that send pictures, over HTTP, in the format of the Hugging Face hub.

    Misskey, PhotoPrism, pict-rs and OpenAI's moderation clients are answered in their own formats.
    Pictures stay in memory, except those of jobs, and nothing is fetched from anywhere. The server
    starts without a model, says so at /health, and refuses pictures until there is one. Ctrl-C and
    SIGTERM end it with exit code 0 once the pictures under way are answered.

    For example:

        nsfwscan serve
        nsfwscan serve --port 9000 --flag-at 0.9
    """
    from nsfwscan.cli.shared.streams import never_wait_for_stderr
    from nsfwscan.serve.opening import check
    from nsfwscan.serve.parts import can_read
    from nsfwscan.serve.processes import run_many
    from nsfwscan.serve.server import listen, passed_sockets, reachable_from_elsewhere, run
    from nsfwscan.serve.settings import Limits, ServeSettings

    talk = Talk(quiet=quiet)
    scan = ScanOptions(jobs=speed.jobs)
    wanted = ServeSettings(
        scan=settings(model, speed, scan, use_cache=not caching.no_cache),
        limits=Limits(body_bytes=bytes_of(limiting.max_body), waiting=limiting.max_waiting),
        tokens=_tokens(listening.token_file),
        hosts=frozenset(map(_host, listening.allow_host or ())),
        origins=frozenset(map(_origin, listening.allow_origin or ())),
        write_cache=caching.write_cache,
        adapters=adapter_settings(adapting),
        jobs=job_settings(queueing),
    )
    check(wanted, talk.warn)
    with contextlib.ExitStack() as stack:
        sockets = passed_sockets() or listen(listening.host, listening.port)
        for one in sockets:
            stack.enter_context(one)
        if not wanted.tokens and any(map(reachable_from_elsewhere, sockets)):
            raise UsageError(
                "other computers could use this server, so it needs a token",
                hint="give --token-file FILE, or set NSFWSCAN_TOKEN; or listen on 127.0.0.1",
            )
        if not can_read():
            talk.say(
                "Without the extra, forms (Misskey, uploads of jobs, many pictures at /v1/scan) "
                "and /metrics are refused: pip install 'nsfwscan[serve]'"
            )
        never_wait_for_stderr()
        if workers == 1:
            run(wanted, sockets, talk.say, talk.warn)
        else:
            run_many(workers, wanted, sockets, talk.say, talk.warn)


def _tokens(path: str | None) -> Tokens:
    """Return the tokens of a file and of the environment variable."""
    from nsfwscan.serve.tokens import parse

    lines: list[str] = []
    if path is not None:
        try:
            with open_text(os.path.expanduser(path)) as file:
                lines = file.read().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            what = error.strerror if isinstance(error, OSError) else "it is not text"
            raise UsageError(f"the token file {readable(path)} cannot be read: {what}") from None
        if not parse(lines, readable(path)):  # as if there were no file, everybody could ask
            raise UsageError(
                f"the token file {readable(path)} has no token",
                hint="write a name and a token on a line, or leave --token-file out",
            )
    # Never an option: other users see the arguments of a program. Nor does a child inherit it.
    if token := os.environ.pop(_TOKEN, ""):
        lines.append(f"{_TOKEN} {token}")
    return parse(lines, readable(path or _TOKEN))


def _host(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise UsageError(
            f"{name!r} is not the name of a host",
            hint="give a name alone, such as `pictures.example.org`",
        )
    return name.lower()


def _origin(url: str) -> str:
    if not re.fullmatch(r"https?://[^/?#\s@]+", url):
        raise UsageError(
            f"{url!r} is not an origin", hint="give scheme and host, such as `https://example.org`"
        )
    return url.lower()
