"""Whether what is scored is what viewers show: our pixels beside those of libvips and a browser.

`python -m benchmarks.shown FOLDER...` decodes every file of a readable format below the folders at
the size of OpenNSFW, and compares the pixels with those that libvips makes of the file, and for a
sample (`--browser N`) with what headless Chromium shows. It prints groups of files that differ by
more than 6 of 255 in the mean, and how many of each format were refused. Without a folder it makes
its files itself: `--files N` of the generated ones that the tests use.

Where viewers differ we score each of their pictures; a file agrees when one of ours is theirs.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from PIL import Image, ImageChops, ImageStat

from benchmarks import measure
from nsfwscan.media.decode.pool import DecodePool
from nsfwscan.media.sniff import HEAD_BYTES, READABLE, sniff
from nsfwscan.values.errors import DecodeError
from nsfwscan.values.geometry import Geometry, Resample, Resize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

TOLERANCE = 6.0
"""Levels of 255, the mean over a picture at the model's size."""

_EDGE = 224
_GEOMETRY = Geometry(Resize.STRETCH, _EDGE, _EDGE, Resample.BILINEAR, _EDGE, _EDGE)
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_ACROSS = 4
"""Pictures in a row of the page that the browser shows."""
_EXAMPLES = 5


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return the mean difference of two RGB pictures of one size, in levels of 255."""
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean) / 3


def vips_picture(data: bytes) -> Image.Image | None:
    """Return the first frame as libvips shows it: turned, in sRGB, over white; None if it fails."""
    import pyvips

    try:
        image = pyvips.Image.new_from_buffer(data, "", fail_on="truncated")
        image = image.autorot()
        if image.get_typeof("icc-profile-data"):
            with contextlib.suppress(pyvips.Error):
                image = image.icc_transform("srgb", embedded=True)
        image = image.colourspace("srgb")
        if image.hasalpha():
            image = image.flatten(background=[255, 255, 255])
        image = image.cast("uchar")
        if image.bands == 1:
            image = image.bandjoin([image, image])
        pixels = image.extract_band(0, n=3).write_to_memory()
    except pyvips.Error:
        return None
    return Image.frombytes("RGB", (image.width, image.height), pixels)


@dataclass(slots=True)
class Group:
    """Files of one kind and how far they are from another viewer."""

    compared: int = 0
    differ: list[tuple[float, str]] = field(default_factory=list)


@dataclass(slots=True)
class Found:
    """What the comparison of a set of files came to."""

    files: int = 0
    refused: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    """(format, reason) -> names."""
    groups: dict[tuple[str, str], Group] = field(default_factory=lambda: defaultdict(Group))
    """(format, viewer) -> the files compared."""

    def add(self, kind: str, viewer: str, name: str, apart: float) -> None:
        """Count one comparison."""
        group = self.groups[kind, viewer]
        group.compared += 1
        if apart > TOLERANCE:
            group.differ.append((apart, name))


def compare(files: Iterable[tuple[str, bytes]], browser: int) -> Found:
    """Compare each (name, content) with libvips, and every so many of them with a browser.

    `browser` is how many at most are shown to one.
    """
    found, asked = Found(), list[tuple[str, str, bytes, list[Image.Image]]]()
    with DecodePool(1) as pool, _Vips() as vips:
        for name, data in files:
            kind = sniff(data[:HEAD_BYTES])
            if kind not in READABLE:
                continue
            found.files += 1
            measure.note(name)
            try:
                views = _views(pool, data)
            except DecodeError as error:
                found.refused[kind, error.reason].append(name)
                continue
            other = vips.picture(data)
            if other is not None:
                found.add(kind, "libvips", name, _apart(views, other))
            asked.append((kind, name, data, views))
    measure.note("")
    if browser:
        _ask_browser(found, asked[:: max(1, -(-len(asked) // browser))])
    return found


def _views(pool: DecodePool, data: bytes) -> list[Image.Image]:
    decoded = pool.decode(data, _GEOMETRY)
    each = _EDGE * _EDGE * 3
    return [
        Image.frombytes("RGB", (_EDGE, _EDGE), decoded.pixels[at * each : (at + 1) * each])
        for at in range(decoded.views)
    ]


def _apart(views: Sequence[Image.Image], other: Image.Image) -> float:
    small = other.resize((_EDGE, _EDGE), Image.Resampling.BILINEAR)
    return min(difference(view, small) for view in views)


class _Vips:
    """libvips in a process of its own, which a hostile file may end."""

    def __enter__(self) -> Self:
        self._pool = ProcessPoolExecutor(1)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._pool.shutdown()

    def picture(self, data: bytes) -> Image.Image | None:
        """Return what libvips shows, or None when it shows nothing."""
        try:
            return self._pool.submit(_small_vips_picture, data).result(timeout=60)
        except (BrokenProcessPool, TimeoutError):
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = ProcessPoolExecutor(1)
            return None


def _small_vips_picture(data: bytes) -> Image.Image | None:
    image = vips_picture(data)
    return image and image.resize((_EDGE, _EDGE), Image.Resampling.BILINEAR)


def _ask_browser(found: Found, asked: Sequence[tuple[str, str, bytes, list[Image.Image]]]) -> None:
    program = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if program is None:
        print("no Chromium is installed; compared with libvips only", file=sys.stderr)
        return
    batch = _ACROSS * _ACROSS
    for start in range(0, len(asked), batch):
        some = asked[start : start + batch]
        measure.note(f"browser: {start} of {len(asked)}")
        sheet = browser_sheet(program, [(kind, data) for kind, _, data, _ in some])
        for (kind, name, _, views), cell in zip(some, sheet, strict=True):
            if cell is not None:
                found.add(kind, "Chromium", name, _apart(views, cell))
    measure.note("")


_TYPES = {
    "JPEG": "jpeg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff",
    "AVIF": "avif", "HEIF": "heic",
}  # fmt: skip
_NOT_SHOWN = (255, 0, 254)


def browser_sheet(program: str, pictures: Sequence[tuple[str, bytes]]) -> list[Image.Image | None]:
    """Return each (format, content) as the browser shows it, stretched; None where it fails."""
    cells = "".join(
        f'<img src="data:image/{_TYPES[kind]};base64,{base64.b64encode(data).decode()}" '
        'onerror="this.replaceWith(document.createElement(`b`))">'
        for kind, data in pictures
    )
    page = (
        f"<style>*{{margin:0}}body{{width:{_ACROSS * _EDGE}px;background:#fff;line-height:0}}"
        f"img,b{{display:inline-block;width:{_EDGE}px;height:{_EDGE}px}}"
        f"b{{background:rgb{_NOT_SHOWN}}}</style>{cells}"
    )
    with tempfile.TemporaryDirectory() as folder:
        source, shot = os.path.join(folder, "page.html"), os.path.join(folder, "shot.png")
        with open(source, "w", encoding="ascii") as file:
            file.write(page)
        command = [
            program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--hide-scrollbars", "--force-color-profile=srgb", "--virtual-time-budget=3000",
            f"--user-data-dir={folder}/profile", f"--screenshot={shot}",
            f"--window-size={_ACROSS * _EDGE},{_ACROSS * _EDGE}", f"file://{source}",
        ]  # fmt: skip
        subprocess.run(command, capture_output=True, timeout=120, check=False)
        with open(shot, "rb") as file:
            sheet = Image.open(io.BytesIO(file.read())).convert("RGB")
    found: list[Image.Image | None] = []
    for at in range(len(pictures)):
        left, top = at % _ACROSS * _EDGE, at // _ACROSS * _EDGE
        cell = sheet.crop((left, top, left + _EDGE, top + _EDGE))
        empty = cell.getpixel((_EDGE // 2, _EDGE // 2)) == _NOT_SHOWN
        found.append(None if empty else cell)
    return found


def report(found: Found) -> str:
    """Lay out what was compared, refused, and what differs."""
    rows = []
    for (kind, viewer), group in sorted(found.groups.items()):
        worst = max((apart for apart, _ in group.differ), default=0.0)
        rows.append((kind, viewer, str(group.compared), str(len(group.differ)), f"{worst:.1f}"))
    lines = [f"{found.files} files of readable formats", ""]
    lines.append(measure.table(("format", "viewer", "compared", "differ", "worst"), rows))
    for (kind, viewer), group in sorted(found.groups.items()):
        if group.differ:
            lines += ["", f"{kind}, not as {viewer} shows it:"]
            worst_first = sorted(group.differ, reverse=True)
            lines += [f"  {apart:6.1f}  {name}" for apart, name in worst_first[:_EXAMPLES]]
    if found.refused:
        lines += ["", "without a verdict:"]
    for (kind, reason), names in sorted(found.refused.items()):
        lines.append(f"  {len(names):5}  {kind} {reason}: {', '.join(names[:_EXAMPLES])}")
    return "\n".join(lines)


def files_below(folders: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of every file below the folders, in a stable order."""
    for folder in folders:
        for parent, inner, names in os.walk(folder):
            inner.sort()
            for name in sorted(names):
                path = os.path.join(parent, name)
                with contextlib.suppress(OSError), open(path, "rb") as file:
                    yield os.path.relpath(path, folder), file.read()


def generated(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield that many of the wrappings that the differential test draws."""
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(__file__)), "tests"))
    import wrappings  # type: ignore[import-not-found]  # a part of the tests, not a package
    from hypothesis import HealthCheck, Phase, given, settings

    each = settings(
        max_examples=max(1, count // len(wrappings.FORMATS)),
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for kind, strategy in wrappings.FORMATS.items():
        for at, wrapped in enumerate(_drawn(each, strategy(), given)):
            yield f"{kind} {at}: {wrapped.kind}", wrapped.data


def _drawn(each: Any, strategy: Any, given: Any) -> list[Any]:
    """Return what Hypothesis draws from a strategy under these settings."""
    drawn: list[Any] = []

    def collect(wrapped: Any) -> None:
        drawn.append(wrapped)

    each(given(strategy)(collect))()
    return drawn


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare and print; exit with 1 when something differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", metavar="FOLDER", nargs="*")
    parser.add_argument("--files", type=int, default=20_000, help="how many to generate")
    parser.add_argument("--browser", type=int, default=200, help="how many to show to Chromium")
    given_ = parser.parse_args(arguments)
    files = files_below(given_.folders) if given_.folders else generated(given_.files)
    found = compare(files, given_.browser)
    print(report(found))
    sys.exit(1 if any(group.differ for group in found.groups.values()) else 0)


if __name__ == "__main__":
    main()
