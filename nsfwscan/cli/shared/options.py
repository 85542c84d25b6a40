"""Options that several commands share, so that they read and behave alike everywhere."""

from __future__ import annotations

import contextlib
import re
from enum import StrEnum
from typing import Annotated

import typer

from nsfwscan.media.discover import Symlinks
from nsfwscan.models.provider import Provider
from nsfwscan.values.errors import NsfwscanError, UsageError


class TableFormat(StrEnum):
    """How a command that tells of nsfwscan itself writes it."""

    TABLE = "table"
    JSON = "json"


WALK_PANEL = "Which files"
MODEL_PANEL = "Model and thresholds"
OUTPUT_PANEL = "Output"
ACTION_PANEL = "Actions, of which none is taken unless asked for"
MEMORY_PANEL = "Earlier results"
SPEED_PANEL = "Speed"


def bytes_of(size: str) -> int:
    """Return a size such as `100000`, `64K`, `1.5M` or `2G` in bytes. Raises `UsageError`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)i?b?", size.strip().lower())
    if not found:
        raise UsageError(
            f"{size!r} is not a size", hint="give a number of bytes, or one with K, M or G: 64M"
        )
    return int(float(found[1]) * {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}[found[2]])


def _checked_size(size: str) -> str:
    """Refuse what is no size while typer still knows where the value came from."""
    try:
        bytes_of(size)
    except UsageError as error:
        raise typer.BadParameter(f"{error}; {error.hint}.") from None
    return size


def _checked_score(score: float | None) -> float | None:
    """Refuse what is no score while typer still knows where the value came from."""
    if score is not None and not 0 <= score <= 1:  # also refuses NaN
        raise typer.BadParameter(f"{score:g} is not between 0 and 1.")
    return score


def model_names(incomplete: str) -> list[str]:
    """Return the models whose names begin so, for completion. Never raises."""
    from nsfwscan.models import catalogue
    from nsfwscan.models.package import InstalledModel
    from nsfwscan.models.store import ModelStore
    from nsfwscan.system import locations

    names = dict.fromkeys(catalogue.load())
    with contextlib.suppress(NsfwscanError):  # a shell that completes has no use for a reason
        for one in ModelStore(locations.models_folder()).packages():
            if isinstance(one, InstalledModel):
                names[one.manifest.name] = None
    return [name for name in names if name.startswith(incomplete)]


ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        envvar="NSFWSCAN_MODEL",
        autocompletion=model_names,
        rich_help_panel=MODEL_PANEL,
        help="Score with this model: a name from `nsfwscan models list`, fetched when it is not "
        "installed, or the folder of a model package, which begins with `./` or `/`. `auto` takes "
        "the best installed model, and fetches one if there is none.",
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
        help="Where the model runs: `cpu`, `cuda`, `directml`, `coreml`, `openvino`, or `auto`, "
        "which takes an accelerator if the installed onnxruntime supports one, or else the CPU.",
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
Actions = Annotated[
    list[str] | None,
    typer.Option(
        "--action",
        "-a",
        metavar="ACTION",
        rich_help_panel=ACTION_PANEL,
        help="Do this about flagged pictures, once all are scanned: `quarantine` (move; "
        "`nsfwscan quarantine restore` undoes it), `trash`, `copy=DIR`, `tag` (an XMP sidecar) "
        "or `tag=xattr`, `command='PROGRAM {path}'` (without a shell; gets the record as JSON "
        "on standard input), `notify`. May be given several times. `[[rule]]` tables in the "
        "configuration do the same for good, for single folders, and for review.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        rich_help_panel=ACTION_PANEL,
        help="Only say what would be done.",
    ),
]
LimitFiles = Annotated[
    int,
    typer.Option(
        "--limit-files",
        metavar="N",
        min=0,
        envvar="NSFWSCAN_LIMIT_FILES",
        rich_help_panel=ACTION_PANEL,
        help="Ask before a run moves, or runs a command on, more pictures than this.",
    ),
]
LimitPercent = Annotated[
    float,
    typer.Option(
        "--limit-percent",
        metavar="P",
        min=0,
        max=100,
        envvar="NSFWSCAN_LIMIT_PERCENT",
        rich_help_panel=ACTION_PANEL,
        help="Also ask before it does so with more than this share of the pictures scanned, unless "
        "that is 10 or fewer.",
    ),
]
Again = Annotated[
    bool,
    typer.Option(
        "--again",
        rich_help_panel=ACTION_PANEL,
        help="Also quarantine pictures that you restored before.",
    ),
]
NoRules = Annotated[
    bool,
    typer.Option(
        "--no-rules",
        rich_help_panel=ACTION_PANEL,
        help="Ignore the rules of the configuration.",
    ),
]
QuarantineFolder = Annotated[
    str | None,
    typer.Option(
        "--quarantine",
        metavar="DIR",
        envvar="NSFWSCAN_QUARANTINE",
        rich_help_panel=ACTION_PANEL,
        help="Keep the quarantine in DIR, for pictures of all volumes. Without it each volume has "
        "one, `.nsfwscan-quarantine`, in the highest folder above the picture that you own, or "
        "that you may write to.",
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
Include = Annotated[
    list[str] | None,
    typer.Option(
        "--include",
        "-i",
        metavar="PATTERN",
        envvar="NSFWSCAN_INCLUDE",
        rich_help_panel=WALK_PANEL,
        help="Only look at files that match a pattern, written as in a .gitignore file: "
        "`'*.png'`, `2024/`. May be given several times; in the variable, patterns are "
        "separated by spaces.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        "-e",
        metavar="PATTERN",
        envvar="NSFWSCAN_EXCLUDE",
        rich_help_panel=WALK_PANEL,
        help="Leave out files and folders that match such a pattern. It wins over --include.",
    ),
]
Hidden = Annotated[
    bool,
    typer.Option(
        "--hidden",
        envvar="NSFWSCAN_HIDDEN",
        rich_help_panel=WALK_PANEL,
        help="Also scan hidden files and folders, whose names begin with a dot.",
    ),
]
AnyName = Annotated[
    bool,
    typer.Option(
        "--any-name",
        envvar="NSFWSCAN_ANY_NAME",
        rich_help_panel=WALK_PANEL,
        help="Look inside every file for a picture, whatever its name ends with.",
    ),
]
SymlinksChoice = Annotated[
    Symlinks,
    typer.Option(
        "--symlinks",
        metavar="skip|follow",
        envvar="NSFWSCAN_SYMLINKS",
        rich_help_panel=WALK_PANEL,
        help="What to do with symbolic links inside folders; no folder is entered twice.",
    ),
]
OneFileSystem = Annotated[
    bool,
    typer.Option(
        "--one-file-system",
        "-x",
        envvar="NSFWSCAN_ONE_FILE_SYSTEM",
        rich_help_panel=WALK_PANEL,
        help="Stay on the file system of each PATH.",
    ),
]
MaxSize = Annotated[
    str,
    typer.Option(
        "--max-size",
        metavar="SIZE",
        envvar="NSFWSCAN_MAX_SIZE",
        rich_help_panel=WALK_PANEL,
        callback=_checked_size,
        help="Skip files larger than this: a number of bytes, or with K, M or G.",
    ),
]
FlagAt = Annotated[
    float | None,
    typer.Option(
        "--flag-at",
        metavar="SCORE",
        envvar="NSFWSCAN_FLAG_AT",
        rich_help_panel=MODEL_PANEL,
        callback=_checked_score,
        help="Flag pictures that score this (0 to 1) or more. Without it, the model's own "
        "threshold applies (`nsfwscan models show`). Changing it costs nothing: no picture is "
        "scored again.",
    ),
]
ReviewAt = Annotated[
    float | None,
    typer.Option(
        "--review-at",
        metavar="SCORE",
        envvar="NSFWSCAN_REVIEW_AT",
        rich_help_panel=MODEL_PANEL,
        callback=_checked_score,
        help="List pictures that score this or more, but are not flagged, for review.",
    ),
]
