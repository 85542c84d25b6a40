"""Options that several commands share, so that they read and work the same everywhere."""

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
    """Output formats of commands that show the state of nsfwscan."""

    TABLE = "table"
    JSON = "json"


ShownAs = Annotated[
    TableFormat,
    typer.Option(
        "--format", "-f", metavar="table|json", help="Print a table, or JSON for programs."
    ),
]

WALK_PANEL = "Which files"
MODEL_PANEL = "Model and thresholds"
OUTPUT_PANEL = "Output"
ACTION_PANEL = "Actions (only if requested)"
CACHE_PANEL = "Cache"
SPEED_PANEL = "Speed"


def bytes_of(size: str) -> int:
    """Return a size such as `100000`, `64K`, `1.5M` or `2G` in bytes. Raises `UsageError`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)i?b?", size.strip().lower())
    if not found:
        raise UsageError(
            f"{size!r} is not a size", hint="give bytes, or a number with K, M or G such as 64M"
        )
    return int(float(found[1]) * {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}[found[2]])


def checked_size(size: str) -> str:
    """Refuse a wrong size here, where typer can still say which option it came from."""
    try:
        bytes_of(size)
    except UsageError as error:
        raise typer.BadParameter(f"{error}; {error.hint}.") from None
    return size


def _checked_score(score: float | None) -> float | None:
    """Refuse a wrong score here, where typer can still say which option it came from."""
    if score is not None and not 0 <= score <= 1:  # also refuses NaN
        raise typer.BadParameter(f"{score:g} is not between 0 and 1.")
    return score


def model_names(incomplete: str) -> list[str]:
    """Return the names of models that begin with `incomplete`. Never raises."""
    from nsfwscan.models import catalogue
    from nsfwscan.models.package import InstalledModel
    from nsfwscan.models.store import ModelStore
    from nsfwscan.system import locations

    names = dict.fromkeys(catalogue.load())
    with contextlib.suppress(NsfwscanError):  # completion cannot show errors
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
        help="The model to use: a name from `nsfwscan models list` (downloaded if it is not "
        "installed), or the folder of a model package, beginning with `./` or `/`. `auto` uses the "
        "best installed model, and downloads one if there is none.",
    ),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        envvar="NSFWSCAN_OFFLINE",
        rich_help_panel=MODEL_PANEL,
        help="Never use the network, not even to download a missing model.",
    ),
]
ProviderName = Annotated[
    Provider,
    typer.Option(
        "--provider",
        metavar="PROVIDER",
        envvar="NSFWSCAN_PROVIDER",
        rich_help_panel=SPEED_PANEL,
        help="Where the model runs: `cpu`, `cuda`, `directml`, `coreml`, `openvino`, or `auto`: an "
        "accelerator if the installed onnxruntime supports one, or else the CPU.",
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
        help="Cores used to score one picture. 0 means automatic: one core, or more if you scan "
        "fewer files than there are cores.",
    ),
]
Actions = Annotated[
    list[str] | None,
    typer.Option(
        "--action",
        "-a",
        metavar="ACTION",
        rich_help_panel=ACTION_PANEL,
        help="What to do with flagged pictures once all pictures are scanned: `quarantine` (move "
        "them; `nsfwscan quarantine restore` moves them back), `trash`, `copy=DIR`, `tag` (an XMP "
        "sidecar), `tag=xattr`, `command='PROGRAM {path}'` (run without a shell, with the record "
        "as JSON on standard input), or `notify`. May be given several times. `[[rule]]` tables "
        "in the configuration file set actions for every run, for single folders, and for review.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        rich_help_panel=ACTION_PANEL,
        help="Only show what would be done.",
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
        help="Ask before moving, or running a command on, more pictures than this.",
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
        help="Also ask if that is more than this percentage of the pictures scanned, and more than "
        "10 pictures.",
    ),
]
Again = Annotated[
    bool,
    typer.Option(
        "--again",
        rich_help_panel=ACTION_PANEL,
        help="Also quarantine pictures that you restored earlier.",
    ),
]
NoRules = Annotated[
    bool,
    typer.Option(
        "--no-rules",
        rich_help_panel=ACTION_PANEL,
        help="Ignore the rules in the configuration file.",
    ),
]
QuarantineFolder = Annotated[
    str | None,
    typer.Option(
        "--quarantine",
        metavar="DIR",
        envvar="NSFWSCAN_QUARANTINE",
        rich_help_panel=ACTION_PANEL,
        help="Use DIR as the quarantine for pictures from all volumes. Without it, each volume has "
        "its own: `.nsfwscan-quarantine`, in the highest folder above the picture that you own or "
        "can write to.",
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
        help="Pictures to scan in parallel. 0 means one per core.",
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        envvar="NSFWSCAN_QUIET",
        rich_help_panel=OUTPUT_PANEL,
        help="Print no progress, summary or remarks. Errors and warnings are still printed.",
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
        help="Only scan files that match a pattern, written as in a .gitignore file: `'*.png'`, "
        "`2024/`. May be given several times; in the environment variable, separate patterns with "
        "spaces.",
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
        help="Skip files and folders that match a pattern. Takes precedence over --include.",
    ),
]
Hidden = Annotated[
    bool,
    typer.Option(
        "--hidden",
        envvar="NSFWSCAN_HIDDEN",
        rich_help_panel=WALK_PANEL,
        help="Also scan hidden files and folders (names that begin with a dot).",
    ),
]
AnyName = Annotated[
    bool,
    typer.Option(
        "--any-name",
        envvar="NSFWSCAN_ANY_NAME",
        rich_help_panel=WALK_PANEL,
        help="Check every file for a picture, whatever its extension.",
    ),
]
SymlinksChoice = Annotated[
    Symlinks,
    typer.Option(
        "--symlinks",
        metavar="skip|follow",
        envvar="NSFWSCAN_SYMLINKS",
        rich_help_panel=WALK_PANEL,
        help="What to do with symbolic links inside folders. No folder is scanned twice.",
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
        callback=checked_size,
        help="Skip larger files. SIZE is in bytes, or has a K, M or G.",
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
        help="Flag pictures with this score (0 to 1) or more. Without it, the model's own "
        "threshold applies (`nsfwscan models show`). Changing it does not score pictures again.",
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
        help="List pictures with this score or more for review, unless they are flagged.",
    ),
]
