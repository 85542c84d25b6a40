"""Image sequences: the tracks of a `moov` box (ISO/IEC 14496-12, 8)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from nsfwscan.media.decode.formats.boxes import (
    MAX_ENTRIES,
    Box,
    Cursor,
    Extent,
    boxes,
    broken,
    find,
    of_kind,
)

HEVC = (b"hvc1", b"hev1")
READ = (b"av01", *HEVC)
"""The supported codings of sequences."""

_MAX_TRACKS = 64
_VISUAL_SAMPLE_ENTRY = 78
"""The bytes before the boxes of a sample entry."""


@dataclass(slots=True)
class Track:
    """An image sequence, by the first of its sample descriptions that is supported."""

    kind: bytes
    """The coding of its samples, such as av01."""
    properties: list[Box]
    table: Box
    """Its `stbl`."""
    first: Extent
    """Its first sample."""
    size: tuple[int, int]
    """Width and height in pixels."""
    auxiliary: bool
    """Whether it belongs to another track, as alpha does."""


def tracks_of(data: bytes, moov: Box) -> list[Track]:
    """Return the tracks that contain pictures. Those without number or samples are ignored."""
    found = []
    for trak in of_kind(boxes(data, moov.body, moov.end), b"trak"):
        track = _track(data, trak)
        if track is not None:
            found.append(track)
        if len(found) > _MAX_TRACKS:
            raise broken("too many tracks")
    return found


def _track(data: bytes, trak: Box) -> Track | None:
    head, table = find(data, trak, b"tkhd"), find(data, trak, b"mdia", b"minf", b"stbl")
    description = table and find(data, table, b"stsd")
    if head is None or table is None or description is None:
        return None
    cursor = Cursor(data, head)
    cursor.take(16 if cursor.version()[0] == 1 else 8)
    samples, _ = samples_of(data, table, 1)
    entries = boxes(data, description.body + 8, description.end)
    entry = next((box for box in entries if box.kind in READ), entries[0] if entries else None)
    if not cursor.number(4) or not samples or entry is None:
        return None
    inner = entry.body + _VISUAL_SAMPLE_ENTRY
    if inner > entry.end:  # not a picture but sound or text
        return None
    width, height = struct.unpack_from(">HH", data, entry.body + 24)
    auxiliary = find(data, trak, b"tref", b"auxl") is not None
    properties = boxes(data, inner, entry.end)
    return Track(entry.kind, properties, table, samples[0], (width, height), auxiliary)


def samples_of(data: bytes, table: Box, most: int | None = None) -> tuple[list[Extent], list[int]]:
    """Return the first samples of a track, and the indices of independently coded samples."""
    sizes, chunks, wide = find(data, table, b"stsz"), find(data, table, b"stco"), 4
    if chunks is None:
        chunks, wide = find(data, table, b"co64"), 8
    runs, alone = find(data, table, b"stsc"), find(data, table, b"stss")
    if sizes is None or chunks is None or runs is None:
        return [], []
    cursor = Cursor(data, sizes)
    cursor.version()
    size = cursor.number(4)
    count = min(cursor.number(4), most) if most else cursor.count(4)
    lengths = [size or cursor.number(4) for _ in range(count)]
    places = [at for (at,) in _rows(data, chunks, most, wide)]
    spans = _rows(data, runs, most, 4, 4, 4)
    samples: list[Extent] = []
    for at, (first, many, _) in enumerate(spans):
        last = spans[at + 1][0] - 1 if at + 1 < len(spans) else len(places)
        for chunk in places[max(0, first - 1) : last]:
            offset = chunk
            for length in lengths[len(samples) : len(samples) + many]:
                samples.append(Extent(0, offset, length))
                offset += length
    if alone is None:
        return samples, list(range(len(samples)))
    numbers = [at - 1 for (at,) in _rows(data, alone, most, 4)]
    return samples, [at for at in numbers if 0 <= at < len(samples)]


def times_of(data: bytes, table: Box) -> list[int]:
    """Return how long each sample of a track is shown, in units of the track (`stts`)."""
    runs, times = find(data, table, b"stts"), list[int]()
    for count, time in [] if runs is None else _rows(data, runs, None, 4, 4):
        if count > MAX_ENTRIES - len(times):
            raise broken("a track of too many samples")
        times += [time] * count
    return times


def _rows(data: bytes, table: Box, most: int | None, *sizes: int) -> list[tuple[int, ...]]:
    """Read rows of numbers of these sizes in bytes."""
    cursor = Cursor(data, table)
    cursor.version()
    count = min(cursor.number(4), most) if most else cursor.count(4)
    return [tuple(cursor.number(size) for size in sizes) for _ in range(count)]
