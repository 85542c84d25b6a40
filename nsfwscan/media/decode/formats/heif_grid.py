"""HEICs with more pixels than fit into memory, as written by phones of 108 and 200 MP.

Such a picture is a grid of tiles (ISO/IEC 23008-12, 6.6.2.3). It is decoded one row of tiles at a
time, as a separate file, and each row is reduced at once. No tile is left out.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from nsfwscan.media.decode.formats.bmff import size_of
from nsfwscan.media.decode.formats.boxes import broken
from nsfwscan.media.decode.formats.disputed import grid_size
from nsfwscan.media.decode.formats.heif_codec import colour_of, opened
from nsfwscan.media.decode.formats.picture import MEGA, Frame, Picture, check_pixels
from nsfwscan.media.decode.formats.remade import RemadePart, box, picture_of
from nsfwscan.media.decode.formats.transforms import in_order
from nsfwscan.media.decode.formats.views import what_viewers_show
from nsfwscan.values.results import ImageFacts

if TYPE_CHECKING:
    from nsfwscan.media.decode.formats.bmff import Bmff, Item

MAX_GRID_PIXELS = 256 * MEGA
"""A 200 MP sensor has 199.8 million."""

REDUCED_PIXELS = 16 * MEGA
"""The reduced picture is at least 16 times the size that a model takes."""

_BYTES_PER_PIXEL = 12
_PIXELS_PER_SECOND = 10 * MEGA
"""CPU time, on a slow machine."""
_TRANSFORMS = (b"clap", b"imir", b"irot")


class Grid(NamedTuple):
    """The tiles of a picture, row by row."""

    size: tuple[int, int]
    tile: tuple[int, int]
    columns: int
    tiles: list[Item]


def large_grid(file: Bmff, limit: int) -> Grid | None:
    """Return the grid of a picture of more than `limit` pixels; None for other pictures.

    Raises `DecodeError` for more than `MAX_GRID_PIXELS`.
    """
    primary, meta = file.primary, file.meta
    if meta is None or primary is None or primary.kind != b"grid":
        return None
    head = file.bytes_of(primary.extents, 12)
    if len(head) < 8:
        return None
    columns = head[3] + 1
    size = grid_size(head)
    if size is None or size[0] * size[1] <= limit:
        return None
    width, height = size
    tiles = meta.coded_parts(meta.primary)
    sizes = {size_of(file.data, tile.properties) for tile in tiles}
    tile = next(iter(sizes), None)
    even = tile is not None and all(edge % 8 == 0 and edge > 0 for edge in tile)
    fits = tile is not None and tile[0] * columns >= width and tile[1] * (head[2] + 1) >= height
    whole = len(tiles) == columns * (head[2] + 1) and meta.alpha_of(meta.primary) is None
    whole = whole and not meta.others() and not file.tracks
    if tile is None or len(sizes) != 1 or not (even and fits and whole):
        return None
    check_pixels(width, height, MAX_GRID_PIXELS)
    return Grid((width, height), tile, columns, tiles)


class GridPicture(Picture):
    """A picture made of tiles, reduced while it is decoded."""

    def __init__(self, file: Bmff, grid: Grid) -> None:
        self._file, self._grid = file, grid
        self.facts = ImageFacts("HEIF", *grid.size, 1)
        self._factor = 2
        while grid.size[0] * grid.size[1] > REDUCED_PIXELS * self._factor**2:
            self._factor *= 2
        self.seconds = grid.size[0] * grid.size[1] / _PIXELS_PER_SECOND
        row = grid.columns * grid.tile[0] * grid.tile[1]
        self.memory = _BYTES_PER_PIXEL * row + 8 * REDUCED_PIXELS
        properties = file.primary.properties if file.primary is not None else []
        uncropped = [box for box in properties if box.kind != b"clap"]
        self._shown = what_viewers_show(
            in_order(file.data, properties, grid.size), in_order(file.data, uncropped, grid.size)
        )
        self.views = len(self._shown)
        self.missing = file.shortage()
        self._whole: Frame | None = None

    def show(self, view: int) -> Frame:
        """Decode the picture once; further views only cost a crop."""
        if self._whole is None:
            with self._file.truncation_named():
                self._whole = self._decode()
        whole, shown = self._whole, self._shown[view]
        left, top, right, bottom = (round(edge / self._factor) for edge in shown.edges)
        part = whole.image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
        return Frame(part, whole.profile, shown.orientation, to_srgb=whole.to_srgb)

    def _decode(self) -> Frame:
        width, height = (-(-edge // self._factor) for edge in self._grid.size)
        whole: Frame | None = None
        for row in range(-(-self._grid.size[1] // self._grid.tile[1])):
            with opened(self._row(row)) as image:
                part = image.reduce(self._factor)
                if whole is None:
                    profile = image.info.get("icc_profile") or b""
                    to_srgb = None if profile else colour_of(image).to_srgb()
                    canvas = Image.new(image.mode, (width, height))
                    whole = Frame(canvas, profile, to_srgb=to_srgb)
                whole.image.paste(part, (0, row * self._grid.tile[1] // self._factor))
        if whole is None:
            raise broken("a grid without rows")
        return whole

    def _row(self, row: int) -> bytes:
        """Return one row of the grid as a file."""
        data, grid = self._file.data, self._grid
        tiles = grid.tiles[row * grid.columns : (row + 1) * grid.columns]
        width, height = grid.size[0], min(grid.tile[1], grid.size[1] - row * grid.tile[1])
        head = struct.pack(">BBBBII", 0, 1, 0, len(tiles) - 1, width, height)
        kept = [
            data[prop.start : prop.end]
            for prop in (self._file.primary.properties if self._file.primary else ())
            if prop.kind not in (*_TRANSFORMS, b"ispe")
        ]
        size = box(b"ispe", struct.pack(">III", 0, width, height))
        parts = [
            RemadePart(
                tile.kind,
                self._file.bytes_of(tile.extents),
                [data[prop.start : prop.end] for prop in tile.properties],
            )
            for tile in tiles
        ]
        return picture_of(RemadePart(b"grid", head, [size, *kept]), parts)
