"""Colour spaces given by transfer function and primaries, converted to sRGB.

The code points are those of ITU-T H.273, used by PNG's cICP and the nclx of AVIF and HEIC. Where
they leave a choice, we follow Chromium on a standard display: BT.709 and similar curves are shown
with a gamma of 2.4 (the display of ITU-R BT.1886), and PQ and HLG are mapped to standard range by
the reference white tone mapping of SMPTE ST 2094-50.
"""

from __future__ import annotations

import math
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from collections.abc import Callable

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]


class Curve(NamedTuple):
    """A transfer function, from a sample of 0 to 1 to light of 0 to 1.

    The parameters are those of ICC's parametricCurveType 3: (scale * v + offset) ** power from
    `knee` upwards, and slope * v below it.
    """

    power: float
    scale: float = 1.0
    offset: float = 0.0
    slope: float = 0.0
    knee: float = 0.0

    def light(self, value: float) -> float:
        """Return the light of a sample."""
        if value < self.knee:
            return self.slope * value
        return math.pow(max(0.0, self.scale * value + self.offset), self.power)


class HighRange(Enum):
    """Transfer functions whose light goes far beyond the white of a page."""

    PQ = "PQ"
    HLG = "HLG"

    def light(self, value: float) -> float:
        """Return the light of a sample: of 10,000 cd/m2 in PQ, of the scene's peak in HLG."""
        if self is HighRange.PQ:  # ITU-R BT.2100, table 4
            root = math.pow(max(0.0, value), 1 / 78.84375)
            ratio = max(0.0, root - 0.8359375) / (18.8515625 - 18.6875 * root)
            return math.pow(ratio, 1 / 0.1593017578125)
        if value <= 0.5:  # ITU-R BT.2100, table 5
            return value * value / 3
        return (math.exp((value - 0.55991073) / 0.17883277) + 0.28466892) / 12


class Primaries(NamedTuple):
    """CIE 1931 x and y of white and the primaries, in the order of PNG's cHRM."""

    white: tuple[float, float]
    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]


_D65 = (0.3127, 0.3290)
_C = (0.310, 0.316)

SRGB_CURVE = Curve(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
SRGB_PRIMARIES = Primaries(_D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
BT2020_PRIMARIES = Primaries(_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046))

_BT1886 = Curve(2.4)

# ITU-T H.273, table 3. Logarithmic (9, 10) and extended (12) curves are shown as sRGB, like 2.
_CURVES: dict[int, Curve | HighRange] = {
    1: _BT1886,
    4: Curve(2.2),
    5: Curve(2.8),
    6: _BT1886,
    7: Curve(1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4.0, 0.0912),
    8: Curve(1.0),
    11: _BT1886,
    13: SRGB_CURVE,
    14: _BT1886,
    15: _BT1886,
    16: HighRange.PQ,
    17: Curve(2.6, (52.37 / 48) ** (1 / 2.6)),
    18: HighRange.HLG,
}

# ITU-T H.273, table 2.
_NTSC = Primaries(_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070))
_PRIMARIES = {
    1: SRGB_PRIMARIES,
    4: Primaries(_C, (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)),
    5: Primaries(_D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: _NTSC,
    7: _NTSC,
    8: Primaries(_C, (0.681, 0.319), (0.243, 0.692), (0.145, 0.049)),
    9: BT2020_PRIMARIES,
    10: Primaries((1 / 3, 1 / 3), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)),
    11: Primaries((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: Primaries(_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    22: Primaries(_D65, (0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),
}

_WHITE_NITS = 203.0
"""The light in PQ and HLG that is as bright as a white page (ITU-R BT.2408)."""

DEFAULT_PEAK_NITS = 1000.0
"""The brightest light in PQ if a picture does not give it, and of HLG's reference display."""

_PQ_NITS = 10_000.0
_HLG_GAMMA = 1.2

_GRID = 33
"""Nodes per edge of the lookup cubes. Building one takes 0.1 s; a picture then costs 1 ms."""

_BRADFORD: Matrix = (
    (0.8951, 0.2664, -0.1614),
    (-0.7502, 1.7135, 0.0367),
    (0.0389, -0.0685, 1.0296),
)


class ColourSpace(NamedTuple):
    """What the samples of a picture in RGB or grey mean."""

    curve: Curve | HighRange
    primaries: Primaries = SRGB_PRIMARIES
    peak_nits: float = DEFAULT_PEAK_NITS
    """The brightest light of a picture in PQ (its MaxCLL, or its mastering display's peak)."""

    def is_srgb(self) -> bool:
        """Return True if the samples can be shown unchanged."""
        return self.curve == SRGB_CURVE and self.primaries == SRGB_PRIMARIES

    def grey_levels(self, count: int) -> list[int]:
        """Return the sRGB level (0 to 255) for each of `count` evenly spaced grey samples."""
        return list(_grey_levels(self, count))

    def to_srgb(self, image: Image.Image) -> Image.Image:
        """Convert an image of mode L, I;16, I (0 to 65535) or RGB to RGB in sRGB.

        Meant for an image after the resize: this costs more per pixel than a resize.
        """
        if image.mode in ("I;16", "I"):
            return image.convert("I").point(self.grey_levels(65536), "L").convert("RGB")
        if image.mode == "L":
            return image.point(self.grey_levels(256)).convert("RGB")
        if isinstance(self.curve, HighRange):
            return image.filter(_cube(self))
        if self.curve != SRGB_CURVE:
            image = image.point(self.grey_levels(256) * 3)
        if self.primaries == SRGB_PRIMARIES:
            return image
        # A cube over linear samples would be too coarse in dark areas, so the curve comes first.
        return image.filter(_cube(ColourSpace(SRGB_CURVE, self.primaries)))


def of_code_points(
    primaries: int, transfer: int, peak_nits: float = DEFAULT_PEAK_NITS
) -> ColourSpace | None:
    """Return the colour space of two code points of H.273, or None if sRGB is to be assumed."""
    curve, corners = _CURVES.get(transfer), _PRIMARIES.get(primaries)
    if curve is None or corners is None:
        return None
    space = ColourSpace(curve, corners, peak_nits)
    return None if space.is_srgb() else space


def usable(primaries: Primaries) -> bool:
    """Return True if the chromaticities span a colour space."""
    try:
        _to_srgb_matrix(primaries)
    except (ZeroDivisionError, OverflowError):
        return False
    return True


@lru_cache(maxsize=8)
def _grey_levels(space: ColourSpace, count: int) -> tuple[int, ...]:
    """Return the levels of grey, which stays grey in any primaries, so only light matters."""
    curve = space.curve
    tone = _tone_curve(space.peak_nits)
    levels = []
    for at in range(count):
        light = curve.light(at / (count - 1))
        if curve is HighRange.PQ:
            light = tone(light * _PQ_NITS / _WHITE_NITS)
        elif curve is HighRange.HLG:
            light = tone(light**_HLG_GAMMA * DEFAULT_PEAK_NITS / _WHITE_NITS)
        levels.append(round(255 * _encoded(light)))
    return tuple(levels)


@lru_cache(maxsize=4)
def _cube(space: ColourSpace) -> ImageFilter.Color3DLUT:
    """Tabulate the complete conversion of a colour to sRGB."""
    axis = [space.curve.light(at / (_GRID - 1)) for at in range(_GRID)]
    show = _high_range(space) if isinstance(space.curve, HighRange) else _standard_range(space)

    def node(red: float, green: float, blue: float) -> Vector:
        # Pillow gives the node's position as a sample.
        at = [axis[round(value * (_GRID - 1))] for value in (red, green, blue)]
        shown = show((at[0], at[1], at[2]))
        return _encoded(shown[0]), _encoded(shown[1]), _encoded(shown[2])

    return ImageFilter.Color3DLUT.generate(_GRID, node)


def _standard_range(space: ColourSpace) -> Callable[[Vector], Vector]:
    matrix = _to_srgb_matrix(space.primaries)
    return lambda light: _apply(matrix, light)


def _high_range(space: ColourSpace) -> Callable[[Vector], Vector]:
    """Scale to the white of a page, for HLG through its reference display, and map the tones.

    Tones are mapped by the largest component in BT.2020 (SMPTE ST 2094-50, annex C).
    """
    to_bt2020 = _product(_inverse(_to_xyz(BT2020_PRIMARIES)), _to_xyz(space.primaries))
    to_srgb = _to_srgb_matrix(BT2020_PRIMARIES)
    luminance = _to_xyz(space.primaries)[1]
    tone = _tone_curve(space.peak_nits)
    is_hlg = space.curve is HighRange.HLG

    def shown(light: Vector) -> Vector:
        factor = _PQ_NITS / _WHITE_NITS
        if is_hlg:
            scene = sum(weight * part for weight, part in zip(luminance, light, strict=True))
            factor = DEFAULT_PEAK_NITS / _WHITE_NITS * scene ** (_HLG_GAMMA - 1)
        red, green, blue = _apply(to_bt2020, light)
        largest = factor * max(red, green, blue)
        if largest <= 0:
            return 0.0, 0.0, 0.0
        factor *= tone(largest) / largest
        return _apply(to_srgb, (red * factor, green * factor, blue * factor))

    return shown


def _tone_curve(peak_nits: float) -> Callable[[float], float]:
    """Return a function from light, where 1 is the white of a page, to displayed light, 0 to 1.

    Everything up to white is dimmed equally; from there a parabola leads to the peak (SMPTE ST
    2094-50, annex C, for a display of standard range).
    """
    peak = max(1.0, peak_nits / _WHITE_NITS)
    white = 1 - 0.5 * min(1.0, math.log(peak) / math.log(DEFAULT_PEAK_NITS / _WHITE_NITS))
    middle_x = 0.35 + 0.65 / white
    middle_y = 0.35 * white + 0.65
    across, along_x = 1 - 2 * middle_x + peak, 2 * middle_x - 2
    down, along_y = white - 2 * middle_y + 1, 2 * middle_y - 2 * white

    def tone(light: float) -> float:
        if light <= 1:
            return light * white
        if light >= peak:
            return 1.0
        # Where the parabola reaches `light`: 0 to 1 from white to the peak.
        rest = 1 - light
        at = -2 * rest / (along_x + math.sqrt(along_x * along_x - 4 * across * rest))
        return white + at * (along_y + at * down)

    return tone


def _encoded(light: float) -> float:
    """Return the sRGB sample of light. Beyond 0 to 1 the curve continues, odd around zero.

    The lookup cubes keep such values, so that interpolation between nodes is right.
    """
    if light < 0:
        return -_encoded(-light)
    if light <= 0.0031308:
        return 12.92 * light
    return 1.055 * math.pow(light, 1 / 2.4) - 0.055


def _to_srgb_matrix(primaries: Primaries) -> Matrix:
    """Return the matrix from light in these primaries to light in sRGB's, with white unchanged."""
    from_white, to_white = (
        _apply(_BRADFORD, _xyz(*white)) for white in (primaries.white, SRGB_PRIMARIES.white)
    )
    ratio = [there / here for there, here in zip(to_white, from_white, strict=True)]
    scale: Matrix = ((ratio[0], 0.0, 0.0), (0.0, ratio[1], 0.0), (0.0, 0.0, ratio[2]))
    adapt = _product(_inverse(_BRADFORD), _product(scale, _BRADFORD))
    return _product(_inverse(_to_xyz(SRGB_PRIMARIES)), _product(adapt, _to_xyz(primaries)))


def _to_xyz(primaries: Primaries) -> Matrix:
    """Return the matrix from light in these primaries to CIE XYZ, in which white has a Y of 1."""
    red, green, blue = ((x, y, 1 - x - y) for x, y in primaries[1:])
    columns: Matrix = (
        (red[0], green[0], blue[0]),
        (red[1], green[1], blue[1]),
        (red[2], green[2], blue[2]),
    )
    weights = _apply(_inverse(columns), _xyz(*primaries.white))
    first, second, third = (
        (row[0] * weights[0], row[1] * weights[1], row[2] * weights[2]) for row in columns
    )
    return first, second, third


def _xyz(x: float, y: float) -> Vector:
    return x / y, 1.0, (1 - x - y) / y


def _apply(matrix: Matrix, vector: Vector) -> Vector:
    x, y, z = vector
    first, second, third = (row[0] * x + row[1] * y + row[2] * z for row in matrix)
    return first, second, third


def _product(one: Matrix, other: Matrix) -> Matrix:
    columns = [_apply(one, (other[0][at], other[1][at], other[2][at])) for at in range(3)]
    first, second, third = ((columns[0][at], columns[1][at], columns[2][at]) for at in range(3))
    return first, second, third


def _inverse(matrix: Matrix) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    first = e * i - f * h, c * h - b * i, b * f - c * e
    second = f * g - d * i, a * i - c * g, c * d - a * f
    third = d * h - e * g, b * g - a * h, a * e - b * d
    determinant = a * first[0] + b * second[0] + c * third[0]
    return (
        (first[0] / determinant, first[1] / determinant, first[2] / determinant),
        (second[0] / determinant, second[1] / determinant, second[2] / determinant),
        (third[0] / determinant, third[1] / determinant, third[2] / determinant),
    )
