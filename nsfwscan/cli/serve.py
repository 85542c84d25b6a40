"""`nsfwscan serve`: an HTTP server that scores pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from nsfwscan.cli.shared.flags import ModelFlags, SpeedFlags, settings
from nsfwscan.cli.shared.groups import grouped
from nsfwscan.cli.shared.options import CACHE_PANEL, Quiet, bytes_of
from nsfwscan.cli.shared.talk import Talk
from nsfwscan.scanning.scanner import ScanOptions

LISTEN_PANEL = "Where to listen, and to whom"
LIMIT_PANEL = "Limits"
DEFAULT_PORT = 8470


@dataclass(frozen=True, slots=True)
class ListenFlags:
    """Where to listen, and to whom."""

    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            envvar="NSFWSCAN_HOST",
            rich_help_panel=LISTEN_PANEL,
            help="The address to listen on. Any but this computer's own needs a token.",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        typer.Option(
            "--port",
            metavar="N",
            min=0,
            max=65535,
            envvar="NSFWSCAN_PORT",
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
    speed: SpeedFlags,
    quiet: Quiet = False,
) -> None:
    """Answer programs that send pictures, over HTTP, in the format of the Hugging Face hub.

    Pictures stay in memory, and nothing that is sent is fetched from anywhere. The server starts
    without a model, says so at /health, and refuses pictures until there is one. Ctrl-C and SIGTERM
    end it with exit code 0 once the pictures under way are answered.

    For example:

        nsfwscan serve
        nsfwscan serve --port 9000 --flag-at 0.9
    """
    from nsfwscan.serve.server import listen, passed_sockets, run
    from nsfwscan.serve.settings import Limits, ServeSettings

    scan = ScanOptions(jobs=speed.jobs)
    wanted = ServeSettings(
        scan=settings(model, speed, scan, use_cache=not caching.no_cache),
        limits=Limits(body_bytes=bytes_of(limiting.max_body), waiting=limiting.max_waiting),
        hosts=frozenset(listening.allow_host or ()),
        origins=frozenset(listening.allow_origin or ()),
        write_cache=caching.write_cache,
    )
    talk = Talk(quiet=quiet)
    sockets = passed_sockets() or listen(listening.host, listening.port)
    run(wanted, sockets, talk.say, talk.warn)
