"""How the adapters answer, as the person who runs the server wants it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ClassNames(StrEnum):
    """Which classes the program behind the Misskey protocol knows."""

    NSFWJS = "nsfwjs"
    """Drawing, Hentai, Neutral, Porn and Sexy."""
    BINARY = "binary"
    """nsfw and safe, as the fork HanaMisskey."""


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """What differs between sites."""

    misskey_classes: ClassNames = ClassNames.NSFWJS
    flag_unjudged: bool = True
    """Answer Misskey and PhotoPrism as if a picture that could not be judged were not safe.
    Without it they get their protocol's error, which they take, or once took, for "not sensitive".
    """
    pass_review: bool = False
    """Let pict-rs accept pictures to review."""
    pass_unavailable: bool = False
    """Let pict-rs accept everything while nothing can be judged. Counted in the metrics."""
