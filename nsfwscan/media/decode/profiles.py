"""ICC profiles: the transform to sRGB that viewers derive from a profile.

We use Little CMS, as most viewers do; Chromium uses skcms. Profiles that the two interpret
differently are refused. Section numbers refer to ICC.1:2022.
"""

from __future__ import annotations

import io
import itertools
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from PIL import Image, ImageChops, ImageStat

from nsfwscan.values.errors import DecodeError
from nsfwscan.values.results import FailReason

if TYPE_CHECKING:
    from PIL import ImageCms

MAX_ICC_BYTES = 4 << 20
"""Printers' CMYK profiles have 0.5 to 2.5 MB. Viewers follow larger profiles; we refuse them."""

_NOT_OF_PICTURES = (b"link", b"abst", b"nmcl")
"""Profile classes that do not describe a picture's colours (7.2.5)."""
_SPACES = (b"RGB ", b"GRAY", b"CMYK")

_SRGB_TOLERANCE = 2
"""How far a profile may differ from sRGB, in levels of 255, and still count as sRGB."""

_ALIKE = 24.0
"""How far two renderings by a profile may differ in the mean, in levels of 255: printers' profiles
render dark colours lighter in one than in the other."""

_PERCEPTUAL, _COLORIMETRIC = 0, 1
"""Rendering intents. Chromium uses the tables of the first intent that has any."""

_HEADER_BYTES = 128
_MAX_TAGS = 100
"""The modes that Little CMS reads."""
_TABLES = (b"A2B0", b"A2B1")


@lru_cache(maxsize=8)
def transform_of(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform to sRGB, or None if there is nothing to do or no usable profile.

    Raises `DecodeError` for a profile that viewers interpret differently. Cached, because most
    pictures in a folder have one of a few profiles, and building a transform takes 3 ms.
    """
    if not (profile or mode == "LAB"):
        return None
    tags = {} if mode == "LAB" else _checked(profile)
    only_colorimetric = _TABLES[0] not in tags and _TABLES[1] in tags
    transform = _built(profile, mode, _COLORIMETRIC if only_colorimetric else _PERCEPTUAL)
    if transform is None and mode == "RGB" and _is_complete(profile, tags):
        raise _unsupported("is used by some viewers only")
    if transform is None or (mode == "RGB" and _changes_nothing(transform)):
        return None
    if mode in ("RGB", "CMYK"):
        _refuse_disputed(profile, mode, tags, transform)
    return transform


def _checked(profile: bytes) -> dict[bytes, bytes]:
    """Return a profile's tags; none if it is broken. Raises `DecodeError`."""
    if profile[36:40] != b"acsp":
        return {}
    if len(profile) > MAX_ICC_BYTES:
        raise _unsupported(f"of {len(profile) / 1e6:.0f} MB is not supported")
    kind, space = profile[12:16], profile[16:20]
    if kind in _NOT_OF_PICTURES or space not in _SPACES:
        raise _unsupported("is not one for pictures")
    tags = _tags(profile)
    if profile[20:24] == b"XYZ " and any(name in tags for name in _TABLES):
        raise _unsupported("has tables of XYZ, which viewers scale differently")
    if any(name in tags for name in (b"D2B0", b"D2B1")):
        raise _unsupported("has tables of floats, which only some viewers use")
    if any(_is_odd_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC") if name in tags):
        raise _unsupported("has an invalid curve")
    return tags


def _tags(profile: bytes) -> dict[bytes, bytes]:
    """Read the tag table (7.3). A tag that lies outside the profile is empty."""
    if len(profile) < _HEADER_BYTES + 4:
        return {}
    count = min(int.from_bytes(profile[_HEADER_BYTES : _HEADER_BYTES + 4], "big"), _MAX_TAGS)
    table = profile[_HEADER_BYTES + 4 :][: 12 * count]
    tags: dict[bytes, bytes] = {}
    for name, at, size in struct.iter_unpack(">4sII", table[: len(table) // 12 * 12]):
        if name in tags:
            raise _unsupported("has a tag twice")
        tags[name] = profile[at : at + size] if at + size <= len(profile) else b""
    return tags


def _is_complete(profile: bytes, tags: dict[bytes, bytes]) -> bool:
    """Return True if an RGB profile up to version 4 has all that Chromium needs."""
    if profile[16:20] != b"RGB " or profile[8:9] > b"\4":
        return False
    matrix = [name + part for name in (b"r", b"g", b"b") for part in (b"XYZ", b"TRC")]
    found = all(name in tags for name in matrix) or any(name in tags for name in _TABLES)
    return found and all(tags.values())


def _is_odd_curve(curve: bytes) -> bool:
    """Return True if a parametric curve (10.18) decreases: Chromium then ignores the profile."""
    if curve[:4] != b"para" or len(curve) < 16:
        return False
    kind = int.from_bytes(curve[8:10], "big")
    count = (1, 3, 4, 5, 7)[kind] if kind < 5 else 0
    values = [at[0] for at in struct.iter_unpack(">i", curve[12 : 12 + 4 * count])]
    gamma_scale_slope = [*values[:2], *values[3:4]]
    return len(values) < count or values[:1] == [0] or min(gamma_scale_slope, default=0) < 0


def _refuse_disputed(
    profile: bytes, mode: str, tags: dict[bytes, bytes], transform: ImageCms.ImageCmsTransform
) -> None:
    """Compare the transform with what other viewers would apply. Raises `DecodeError`."""
    seen = transform.apply(_probe(mode))
    if int.from_bytes(profile[:4], "big") > len(profile) or not all(tags.values()):
        raise _unsupported("is cut short, and only some viewers use it")
    if all(name in tags for name in _TABLES):
        other = _built(profile, mode, _COLORIMETRIC)
        if other is None or _apart(seen, other.apply(_probe(mode))) > _ALIKE:
            raise _unsupported("has two sets of tables that differ")
    # Chromium follows the code points of ITU-T H.273 instead of the curves and primaries.
    if b"cicp" in tags and len(tags[b"cicp"]) >= 12:
        from nsfwscan.media.decode.formats.transfer import of_code_points

        space = of_code_points(*tags[b"cicp"][8:10])
        shown = _probe(mode) if space is None else space.to_srgb(_probe(mode))
        if _apart(seen, shown) > _ALIKE:
            raise _unsupported("names another colour space than it describes")


def _built(profile: bytes, mode: str, intent: int) -> ImageCms.ImageCmsTransform | None:
    from PIL import ImageCms

    try:
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        source = ImageCms.ImageCmsProfile(
            ImageCms.createProfile("LAB") if mode == "LAB" else io.BytesIO(profile)
        )
        wanted = ImageCms.Intent(intent)
        return ImageCms.ImageCmsTransform(source, srgb, mode, "RGB", wanted)
    except Exception:  # noqa: BLE001 - a broken profile does not make the pixels unreadable
        return None


@lru_cache(maxsize=2)
def _probe(mode: str) -> Image.Image:
    """Draw colours from the whole colour space: every 17th level of RGB, or five of each ink."""
    bands = Image.getmodebands(mode)
    levels = range(0, 256, 17) if bands == 3 else (0, 64, 128, 192, 255)
    colours = list(itertools.product(levels, repeat=bands))
    return Image.frombytes(mode, (len(colours), 1), bytes(itertools.chain(*colours)))


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Recognise sRGB by a profile's effect, not its name: many different bytes mean sRGB."""
    probe = _probe("RGB")
    changed = ImageChops.difference(probe, transform.apply(probe))
    extrema = cast("tuple[tuple[int, int], ...]", changed.getextrema())
    return all(high <= _SRGB_TOLERANCE for _, high in extrema)


def _apart(one: Image.Image, other: Image.Image) -> float:
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean) / 3


def _unsupported(what: str) -> DecodeError:
    return DecodeError(FailReason.UNSUPPORTED, f"its ICC profile {what}")
