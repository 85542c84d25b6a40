"""How well a likeness knows a picture again, and how often it takes another one for it.

`python -m benchmarks.likeness` changes photographs as people and programs do, computes the likeness
of each as a scan does, and prints for every distance how many of the changed ones are found and how
many pairs of different pictures are taken for the same. The default of `--within` comes from here.

Different pictures are the photographs themselves; tiles cut from them, so that there are enough
pairs to see what is rare; and pages of text, which all look alike from afar. dHash, the other
well-known definition, is measured beside it.
"""

from __future__ import annotations

import argparse
import io
import itertools
import random
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageEnhance

from benchmarks import measure, photos
from nsfwscan.media.decode.decode import decode, prepare_process
from nsfwscan.values import likeness
from nsfwscan.values.facts import LIKENESS
from nsfwscan.values.geometry import Geometry, Resample, Resize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_STRETCH = Geometry(Resize.STRETCH, 224, 224, Resample.BILINEAR, 224, 224)
_CROPPED = Geometry(Resize.SHORTEST_EDGE, 256, 256, Resample.BILINEAR, 224, 224)
_LONG_EDGE = 2000
"""Pixels. The originals; larger ones would only take longer to change."""
_TILES = 4
_DISTANCES = (0, 2, 4, 6, 8, 10, 12, 16)
_PAGES = 100


def changes() -> dict[str, Callable[[Image.Image], bytes]]:
    """Return what is done to a picture, by name; each gives the bytes of a file."""
    found: dict[str, Callable[[Image.Image], bytes]] = {}
    for quality in (50, 65, 80, 95):
        found[f"JPEG, quality {quality}"] = partial(_file, format_="JPEG", quality=quality)
    for percent in (25, 50, 75, 150, 200):
        found[f"resized to {percent} %"] = partial(_resized, percent=percent)
    for name in ("PNG", "WEBP", "AVIF"):
        found[f"as {name}"] = partial(_file, format_=name)
    for percent in (1, 2, 5, 10):
        found[f"{percent} % cut off each edge"] = partial(_trimmed, percent=percent)
    for factor in (0.8, 1.2):
        found[f"brightness times {factor}"] = partial(_lit, factor=factor)
    found["25 %, quality 50"] = partial(_resized, percent=25, quality=50)
    return found


def phash(data: bytes, geometry: Geometry = _STRETCH) -> int:
    """Compute the likeness as a scan does."""
    return likeness.unpack(decode(data, geometry).content_facts[LIKENESS])


def dhash(data: bytes) -> int:
    """Compute the other well-known one: which of neighbouring areas is the brighter one."""
    with Image.open(io.BytesIO(data)) as image:
        luma = image.convert("L").resize((9, 8), Image.Resampling.BOX).tobytes()
    bits = 0
    for row in range(8):
        for at in range(9 * row, 9 * row + 8):
            bits = bits << 1 | (luma[at] < luma[at + 1])
    return bits


def originals(paths: Sequence[str]) -> list[Image.Image]:
    """Load the photographs, none larger than is needed."""
    found = []
    for path in paths:
        with Image.open(path) as image:
            image.draft("RGB", (_LONG_EDGE, _LONG_EDGE))
            one = image.convert("RGB")
        one.thumbnail((_LONG_EDGE, _LONG_EDGE))
        found.append(one)
    return found


def tiles(photographs: Sequence[Image.Image]) -> list[tuple[int, bytes]]:
    """Cut every photograph up; each tile comes with the number of its photograph."""
    found = []
    for number, one in enumerate(photographs):
        width, height = one.width // _TILES, one.height // _TILES
        for across, down in itertools.product(range(_TILES), repeat=2):
            left, top = across * width, down * height
            tile = one.crop((left, top, left + width, top + height))
            found.append((number, _file(tile, "JPEG", quality=92)))
    return found


def pages() -> Iterator[bytes]:
    """Write pages of black text on white, all different."""
    choose = random.Random(1)
    for _ in range(_PAGES):
        page = Image.new("RGB", (620, 877), "white")
        draw = ImageDraw.Draw(page)
        for line in range(choose.randint(20, 50)):
            words = ("x" * choose.randint(2, 9) for _ in range(choose.randint(3, 12)))
            draw.text((40, 40 + 16 * line), " ".join(words), fill="black")
        yield _file(page, "PNG")


def false_matches(groups: Sequence[tuple[int, int]]) -> list[int]:
    """Return the distances of all pairs from different groups that have a likeness both."""
    return [
        likeness.distance(one, other)
        for (group, one), (other_group, other) in itertools.combinations(groups, 2)
        if group != other_group and likeness.is_comparable(one) and likeness.is_comparable(other)
    ]


def report(paths: Sequence[str]) -> str:
    """Measure and lay out all tables."""
    prepare_process()
    photographs = originals(paths)
    files = [_file(one, "JPEG", quality=92) for one in photographs]
    cut, written = tiles(photographs), list(pages())
    parts = [f"{len(files)} photographs. {measure.machine()}."]
    for name, compute in (("pHash, which is used", phash), ("dHash", dhash)):
        measure.note(name)
        own = [compute(one) for one in files]
        rows = []
        for change, apply in changes().items():
            away = [
                likeness.distance(before, compute(apply(one)))
                for before, one in zip(own, photographs, strict=True)
                if likeness.is_comparable(before)
            ]
            rows.append([change, *_shares(away), str(max(away))])
        if compute is phash:
            away = [
                likeness.distance(before, phash(one, _CROPPED))
                for before, one in zip(own, files, strict=True)
            ]
            rows.append(["for a model of another shape", *_shares(away), str(max(away))])
        for kind, groups in (
            ("pairs of photographs", list(enumerate(own))),
            ("pairs of tiles", [(number, compute(one)) for number, one in cut]),
            ("pairs of pages of text", [(at, compute(one)) for at, one in enumerate(written)]),
        ):
            away = false_matches(groups)
            if away:
                counts = [str(sum(one <= limit for one in away)) for limit in _DISTANCES]
                rows.append([f"{len(away):,} {kind}: taken for the same", *counts, str(min(away))])
        header = [name, *(f"<= {limit}" for limit in _DISTANCES), "worst"]
        parts.append(measure.table(header, rows))
    parts.append(f"One likeness takes {_cost_ms(files):.2f} ms of a core beside decoding.")
    return "\n\n".join(parts)


def _shares(away: Sequence[int]) -> list[str]:
    return [f"{100 * sum(one <= limit for one in away) / len(away):.0f} %" for limit in _DISTANCES]


def _cost_ms(files: Sequence[bytes]) -> float:
    """Return the median processor time of what `decode` does for the likeness alone."""
    lumas = []
    for one in files:
        with Image.open(io.BytesIO(one)) as image:
            lumas.append(image.convert("RGB").resize((224, 224)))
    spent = []
    for pixels in lumas:
        begun = time.process_time()
        small = pixels.convert("L").resize((likeness.SIDE, likeness.SIDE), Image.Resampling.BOX)
        likeness.of_luma(small.tobytes())
        spent.append(time.process_time() - begun)
    return 1e3 * statistics.median(spent)


def _resized(image: Image.Image, *, percent: int, quality: int = 75) -> bytes:
    size = (image.width * percent // 100, image.height * percent // 100)
    return _file(image.resize(size), "JPEG", quality=quality)


def _trimmed(image: Image.Image, *, percent: int) -> bytes:
    across, down = image.width * percent // 100, image.height * percent // 100
    return _file(image.crop((across, down, image.width - across, image.height - down)), "JPEG")


def _lit(image: Image.Image, *, factor: float) -> bytes:
    return _file(ImageEnhance.Brightness(image).enhance(factor), "JPEG")


def _file(image: Image.Image, format_: str, *, quality: int = 75) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, quality=quality)
    return stream.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--photographs",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="folders of photographs, no two of them alike; without it they are fetched",
    )
    given = parser.parse_args(arguments)
    print(report(photos.photographs(*given.photographs) or photos.gather(photos.GATHERED)))


if __name__ == "__main__":
    main()
