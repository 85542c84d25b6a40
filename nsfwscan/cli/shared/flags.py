"""Groups of options that `scan` and `watch` share, and the settings of a scan made from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from nsfwscan.cli.shared.options import (
    AnyName,
    Exclude,
    FlagAt,
    Hidden,
    Include,
    Jobs,
    MaxSize,
    ModelName,
    Offline,
    OneFileSystem,
    ProviderName,
    ReviewAt,
    SymlinksChoice,
    Threads,
    bytes_of,
)
from nsfwscan.media.discover import Symlinks, WalkOptions
from nsfwscan.models.provider import Provider
from nsfwscan.scanning.session import Settings

if TYPE_CHECKING:
    from nsfwscan.actions.rules import Rule
    from nsfwscan.cli.shared.acting import ActOptions
    from nsfwscan.scanning.scanner import ScanOptions


@dataclass(frozen=True, slots=True)
class WalkFlags:
    """Which files in a folder to scan."""

    include: Include = None
    exclude: Exclude = None
    hidden: Hidden = False
    any_name: AnyName = False
    symlinks: SymlinksChoice = Symlinks.SKIP
    one_file_system: OneFileSystem = False
    max_size: MaxSize = "512M"

    def options(self, *, own: tuple[str, ...] = ()) -> WalkOptions:
        """Return the options of a walk. Raises `UsageError` for a wrong size."""
        return WalkOptions(
            include=tuple(self.include or ()),
            exclude=tuple(self.exclude or ()),
            hidden=self.hidden,
            any_name=self.any_name,
            symlinks=self.symlinks,
            one_file_system=self.one_file_system,
            own=own,
            max_bytes=bytes_of(self.max_size),
        )


@dataclass(frozen=True, slots=True)
class ModelFlags:
    """Which model to use, and the thresholds."""

    model: ModelName = "auto"
    flag_at: FlagAt = None
    review_at: ReviewAt = None
    offline: Offline = False


@dataclass(frozen=True, slots=True)
class SpeedFlags:
    """How much of the computer a scan may use."""

    jobs: Jobs = 0
    threads: Threads = 0
    provider: ProviderName = Provider.AUTO


def settings(
    model: ModelFlags, speed: SpeedFlags, scan: ScanOptions, *, use_cache: bool = True
) -> Settings:
    """Return the settings of a scan."""
    return Settings(
        model=model.model,
        review_at=model.review_at,
        flag_at=model.flag_at,
        offline=model.offline,
        provider=speed.provider,
        threads=speed.threads,
        use_cache=use_cache,
        scan=scan,
    )


class ActFlags(Protocol):
    """Options for actions; `scan` and `watch` describe the limits differently."""

    @property
    def action(self) -> list[str] | None:
        """`--action`."""

    @property
    def dry_run(self) -> bool:
        """`--dry-run`."""

    @property
    def limit_files(self) -> int:
        """`--limit-files`."""

    @property
    def limit_percent(self) -> float:
        """`--limit-percent`."""

    @property
    def again(self) -> bool:
        """`--again`."""

    @property
    def quarantine(self) -> str | None:
        """`--quarantine`."""


def act_options(
    flags: ActFlags,
    configured: tuple[Rule, ...],
    *,
    limit_least: int = 10,
    limit_window_s: float | None = None,
) -> ActOptions | None:
    """Return the actions to take, or None: then the code for actions is not loaded."""
    if not (flags.action or configured):
        return None
    from nsfwscan.cli.shared.acting import ActOptions, rules_of

    return ActOptions(
        rules_of(flags.action or (), configured),
        limit_files=flags.limit_files,
        limit_percent=flags.limit_percent,
        limit_least=limit_least,
        limit_window_s=limit_window_s,
        dry_run=flags.dry_run,
        again=flags.again,
        quarantine=flags.quarantine,
    )
