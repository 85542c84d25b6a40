"""Options of `serve` about other programs' protocols, and about jobs."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from nsfwscan.cli.shared.options import bytes_of, checked_size
from nsfwscan.serve.adapters.options import AdapterSettings, ClassNames
from nsfwscan.serve.jobs.settings import JobSettings
from nsfwscan.system import locations
from nsfwscan.values.errors import UsageError
from nsfwscan.values.text import readable

ADAPTER_PANEL = "Answers to other programs"
JOB_PANEL = "Jobs"
_SECRET = "NSFWSCAN_CALLBACK_SECRET"  # noqa: S105  the name of a variable
_LEAST_SECRET = 16
_HOST = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?")


class WhenUnjudged(StrEnum):
    """What Misskey and PhotoPrism are told about a picture that could not be judged."""

    FLAG = "flag"
    REPORT = "report"


class WhenUnavailable(StrEnum):
    """What becomes of an upload to pict-rs while nothing can be judged."""

    REJECT = "reject"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class AdapterFlags:
    """Answers to other programs."""

    when_unjudged: Annotated[
        WhenUnjudged,
        typer.Option(
            "--when-unjudged",
            envvar="NSFWSCAN_WHEN_UNJUDGED",
            rich_help_panel=ADAPTER_PANEL,
            help="Misskey and PhotoPrism: flag a picture that could not be judged, or report an "
            "error, which some versions take for safe.",
        ),
    ] = WhenUnjudged.FLAG
    when_unavailable: Annotated[
        WhenUnavailable,
        typer.Option(
            "--when-unavailable",
            envvar="NSFWSCAN_WHEN_UNAVAILABLE",
            rich_help_panel=ADAPTER_PANEL,
            help="pict-rs: reject uploads, or allow them unjudged, while there is no model or too "
            "much is waiting.",
        ),
    ] = WhenUnavailable.REJECT
    pass_review: Annotated[
        bool,
        typer.Option(
            "--pass-review",
            envvar="NSFWSCAN_PASS_REVIEW",
            rich_help_panel=ADAPTER_PANEL,
            help="pict-rs: accept pictures to review, too.",
        ),
    ] = False
    misskey_classes: Annotated[
        ClassNames,
        typer.Option(
            "--misskey-classes",
            envvar="NSFWSCAN_MISSKEY_CLASSES",
            rich_help_panel=ADAPTER_PANEL,
            help="Misskey: the classes to answer with; `binary` for HanaMisskey.",
        ),
    ] = ClassNames.NSFWJS


@dataclass(frozen=True, slots=True)
class JobFlags:
    """Jobs: many pictures, scored in the background."""

    no_jobs: Annotated[
        bool,
        typer.Option(
            "--no-jobs",
            envvar="NSFWSCAN_NO_JOBS",
            rich_help_panel=JOB_PANEL,
            help="Take no jobs. Then no picture that is sent is ever on disk.",
        ),
    ] = False
    job_folder: Annotated[
        list[str] | None,
        typer.Option(
            "--job-folder",
            metavar="FOLDER",
            envvar="NSFWSCAN_JOB_FOLDER",
            rich_help_panel=JOB_PANEL,
            help="A folder of this computer that jobs may scan, with all below it. May be given "
            "several times.",
        ),
    ] = None
    max_upload: Annotated[
        str,
        typer.Option(
            "--max-upload",
            metavar="SIZE",
            envvar="NSFWSCAN_MAX_UPLOAD",
            callback=checked_size,
            rich_help_panel=JOB_PANEL,
            help="Refuse longer uploads of one job. SIZE is in bytes, or has a K, M or G.",
        ),
    ] = "4G"
    keep_jobs: Annotated[
        float,
        typer.Option(
            "--keep-jobs",
            metavar="HOURS",
            min=0,
            max=8760,
            envvar="NSFWSCAN_KEEP_JOBS",
            rich_help_panel=JOB_PANEL,
            help="Forget a job and its results this long after it ended.",
        ),
    ] = 24.0
    callback_host: Annotated[
        list[str] | None,
        typer.Option(
            "--callback-host",
            metavar="HOST[:PORT]",
            envvar="NSFWSCAN_CALLBACK_HOST",
            rich_help_panel=JOB_PANEL,
            help=f"A host that may be told about the end of jobs, signed with the secret in the "
            f"variable {_SECRET}. May be given several times.",
        ),
    ] = None


def adapter_settings(flags: AdapterFlags) -> AdapterSettings:
    """Return what the options mean."""
    return AdapterSettings(
        misskey_classes=flags.misskey_classes,
        flag_unjudged=flags.when_unjudged is WhenUnjudged.FLAG,
        pass_review=flags.pass_review,
        pass_unavailable=flags.when_unavailable is WhenUnavailable.ALLOW,
    )


def job_settings(flags: JobFlags) -> JobSettings | None:
    """Return what the options mean; None without jobs. Raises `UsageError`."""
    # Not inherited by other processes, and no option: other users see a program's arguments.
    secret = os.environ.pop(_SECRET, "").encode("utf-8", "surrogateescape")
    if flags.no_jobs:
        return None
    if flags.callback_host and len(secret) < _LEAST_SECRET:
        raise UsageError(
            "--callback-host needs a secret, so that receivers can tell who calls",
            hint=f"set {_SECRET} to {_LEAST_SECRET} or more characters",
        )
    return JobSettings(
        home=locations.jobs_folder(),
        folders=tuple(map(_folder, flags.job_folder or ())),
        bytes_each=bytes_of(flags.max_upload),
        keep_s=flags.keep_jobs * 3600,
        callback_hosts=frozenset(map(_callback_host, flags.callback_host or ())),
        callback_secret=secret,
    )


def _folder(path: str) -> str:
    full = os.path.abspath(os.path.expanduser(path))
    if not os.path.isdir(full):
        raise UsageError(
            f"--job-folder: {readable(path)} is not a folder", hint="give a folder that exists"
        )
    return full


def _callback_host(host: str) -> str:
    if not _HOST.fullmatch(host):
        raise UsageError(
            f"--callback-host: {host!r} is not a host",
            hint="give a name or a number and perhaps a port, such as `example.org:8443`",
        )
    return host.lower()
