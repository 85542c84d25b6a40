"""Thumbnails for pages, made on all cores, with a progress bar."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsfwscan.scanning.examine import identify
from nsfwscan.values.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nsfwscan.cli.shared.talk import Talk
    from nsfwscan.media.decode.thumbnail import Thumbnail
    from nsfwscan.report.html.page import WantedThumbnail
    from nsfwscan.scanning.engine import Engine

CLEAR_LONGEST = 96
"""The longest side of a clear thumbnail in pixels: about 2.5 kB."""


@dataclass(frozen=True, slots=True)
class ThumbnailMaker:
    """Makes thumbnails with the decode processes of an engine; no model is loaded."""

    engine: Engine
    talk: Talk
    clear: bool = False

    def __call__(self, wanted: Sequence[WantedThumbnail]) -> Iterator[Thumbnail | None]:
        """Yield the thumbnail of each content; None if it is not there any more, or undecodable.

        Raises `NsfwscanError` if no decode process can be started.
        """
        threads = ThreadPoolExecutor(self.engine.jobs, "nsfwscan-thumbnail")
        try:
            with self.talk.bar("thumbnails") as bar:
                for number, made in enumerate(threads.map(self._one, wanted), 1):
                    bar.show(number, len(wanted))
                    yield made
        except BaseException:
            self.engine.abandon()
            raise
        finally:
            threads.shutdown(cancel_futures=True)

    def _one(self, wanted: WantedThumbnail) -> Thumbnail | None:
        for path in wanted.paths:
            try:
                content = identify(path)
                if content.sha256 == wanted.sha256:
                    return self.engine.thumbnail(
                        content, CLEAR_LONGEST, pixelated=not self.clear, frame=wanted.frame
                    ).thumbnail
            except DecodeError:
                continue
        return None
