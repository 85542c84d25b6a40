"""Pictures for calibration and verification, decoded like those of a scan."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nsfwscan.media.decode.pool import DecodePool
from nsfwscan.models import probes
from nsfwscan.system.reading import open_bytes
from nsfwscan.values.errors import DecodeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsfwscan.models.graphs.graph import Array
    from nsfwscan.values.geometry import Geometry

MAX_PICTURES = 2000
"""More do not improve the calibration, and take hours."""

_GENERATED = 8


class CalibrationPicture(NamedTuple):
    """One picture at the model's size."""

    name: str
    pixels: Array
    """(height, width, 3) uint8 RGB."""
    unsafe: bool | None = None
    """True or False if a person labelled it, otherwise None."""


def load(folder: str, geometry: Geometry, say: Callable[[str], None]) -> list[CalibrationPicture]:
    """Decode the pictures below `folder`, in the order of their names.

    Files that are not readable pictures are counted and left out. Raises `UsageError` if none is
    left.
    """
    return _decode(_files(folder), geometry, say, None)


def load_labelled(
    folder: str, geometry: Geometry, say: Callable[[str], None]
) -> list[CalibrationPicture]:
    """Decode `folder`/safe and `folder`/unsafe, labelled by their folder's name.

    Raises `UsageError` if either is missing or empty.
    """
    both = []
    for word, unsafe in (("safe", False), ("unsafe", True)):
        both += _decode(_files(os.path.join(folder, word)), geometry, say, unsafe)
    return both


def generated(geometry: Geometry) -> list[CalibrationPicture]:
    """Return generated pictures: the probes, and blurred noise of many grain sizes.

    They reveal a broken graph. They are not photographs, so they say nothing about real pictures,
    and scales are never taken from them.
    """
    pictures = [CalibrationPicture(name, probe(name, geometry)) for name in probes.PROBES]
    height, width = geometry.crop_height, geometry.crop_width
    for at in range(_GENERATED):
        random = np.random.default_rng(at)
        cells = 2 + at
        coarse = random.uniform(0, 255, (cells, cells, 3))
        rows = np.linspace(0, cells - 1, height)
        columns = np.linspace(0, cells - 1, width)
        tall = _interpolate(coarse, rows)
        fine = _interpolate(tall.swapaxes(0, 1), columns).swapaxes(0, 1)
        grain = random.normal(0, 2 * (at % 5), fine.shape)
        pixels = np.clip(np.rint(fine + grain), 0, 255).astype(np.uint8)
        pictures.append(CalibrationPicture(f"generated-{at}", np.ascontiguousarray(pixels)))
    return pictures


def probe(name: str, geometry: Geometry) -> Array:
    """Return the probe `name` as (height, width, 3) uint8."""
    with DecodePool(1) as pool:
        return _first_frame(pool, probes.render(name), geometry)


def _interpolate(values: Array, at: Array) -> Array:
    """Sample `values` linearly along their first axis."""
    below = np.minimum(at.astype(np.int64), len(values) - 2)
    share = (at - below)[:, None, None]
    mixed: Array = values[below] * (1 - share) + values[below + 1] * share
    return mixed


def _files(folder: str) -> list[str]:
    found = []
    for where, folders, names in os.walk(folder):
        folders.sort()
        found += [os.path.join(where, name) for name in sorted(names)]
    if not found:
        raise UsageError(f"there are no files below {folder}")
    return found


def _decode(
    paths: list[str], geometry: Geometry, say: Callable[[str], None], unsafe: bool | None
) -> list[CalibrationPicture]:
    if len(paths) > MAX_PICTURES:
        step = -(-len(paths) // MAX_PICTURES)
        paths = paths[::step]
    pictures, left_out = [], 0
    with DecodePool(1) as pool:
        for path in paths:
            try:
                with open_bytes(path) as stream:
                    pixels = _first_frame(pool, stream.read(), geometry)
            except (DecodeError, OSError):
                left_out += 1
                continue
            pictures.append(CalibrationPicture(path, pixels, unsafe))
    if left_out:
        say(f"left out {left_out} of {len(paths)} files, which are not readable pictures")
    if not pictures:
        raise UsageError(f"none of the {len(paths)} files is a readable picture")
    return pictures


def _first_frame(pool: DecodePool, data: bytes, geometry: Geometry) -> Array:
    decoded = pool.decode(data, geometry)
    shape = (decoded.views, geometry.crop_height, geometry.crop_width, 3)
    frames: Array = np.frombuffer(decoded.pixels, np.uint8).reshape(shape)
    first: Array = frames[0]
    return first
