"""Options that several commands share, so that they read and behave alike everywhere."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from nsfwscan.models.provider import Provider


class TableFormat(StrEnum):
    """How a command that tells of nsfwscan itself writes it."""

    TABLE = "table"
    JSON = "json"


WALK_PANEL = "Which files"
MODEL_PANEL = "Model and thresholds"
OUTPUT_PANEL = "Output"
MEMORY_PANEL = "Earlier results"
SPEED_PANEL = "Speed"

ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        envvar="NSFWSCAN_MODEL",
        rich_help_panel=MODEL_PANEL,
        help="Score with this model: a name from `nsfwscan models list`, fetched when it is not "
        "installed, or the folder of a model package, which begins with `./` or `/`. `auto` takes "
        "the best installed model and fetches one when there is none.",
    ),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        envvar="NSFWSCAN_OFFLINE",
        rich_help_panel=MODEL_PANEL,
        help="Never use the network, not even to fetch a missing model.",
    ),
]
ProviderName = Annotated[
    Provider,
    typer.Option(
        "--provider",
        metavar="PROVIDER",
        envvar="NSFWSCAN_PROVIDER",
        rich_help_panel=SPEED_PANEL,
        help="What computes: `cpu`, `cuda`, `directml`, `coreml`, `openvino`, or `auto`, which "
        "takes an accelerator if the installed onnxruntime supports one, or else the CPU.",
    ),
]
Threads = Annotated[
    int,
    typer.Option(
        "--threads",
        metavar="N",
        min=0,
        envvar="NSFWSCAN_THREADS",
        rich_help_panel=SPEED_PANEL,
        help="Cores for one run of the model. 0 chooses: one core, because many pictures at a "
        "time are faster, or several when single files are given, fewer than there are cores.",
    ),
]
Jobs = Annotated[
    int,
    typer.Option(
        "--jobs",
        "-j",
        metavar="N",
        min=0,
        max=64,
        envvar="NSFWSCAN_JOBS",
        rich_help_panel=SPEED_PANEL,
        help="Pictures at a time. 0 means one for each core.",
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        envvar="NSFWSCAN_QUIET",
        rich_help_panel=OUTPUT_PANEL,
        help="Print no progress, no summary and no remarks; errors are still printed.",
    ),
]
