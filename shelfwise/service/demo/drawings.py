"""Pictures of the demo store's products: the drawing of the product type, in the product's colour and pattern.

The outlines are those of the store page (service/web/assets/drawings.json); Pillow fills them. Pictures of the same
type, colour and pattern differ in size, rotation, position, background and shade.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from shelfwise.retrieval.extras import optional_imports

_DRAWINGS = Path(__file__).parents[1] / "web" / "assets" / "drawings.json"
_GRID = 64
"""Width and height of the outlines' coordinate system."""
_SIDE = 160
"""Width and height of a picture in pixels; it is drawn at twice the size."""
_SEGMENTS = 8
"""Number of line segments that approximate a curve."""
_QUALITY = 82

RGB = tuple[int, int, int]
COLOURS: dict[str, RGB] = {
    "Black": (48, 50, 56),
    "White": (244, 244, 240),
    "Red": (200, 60, 54),
    "Blue": (62, 108, 190),
    "Green": (84, 150, 92),
    "Gray": (150, 155, 160),
    "Pink": (232, 150, 176),
    "Yellow": (232, 196, 66),
    "Beige": (226, 212, 178),
    "Brown": (132, 92, 62),
    "Purple": (134, 98, 172),
    "Orange": (228, 138, 58),
}
PLAIN, STRIPES, DOTS, CHECKS, ZIGZAG = PATTERNS = ("plain", "stripes", "dots", "checks", "zigzag")
_FIXED: dict[str, RGB] = {
    "k": (69, 76, 84),
    "g": (180, 187, 194),
    "z": (180, 187, 194),
    "w": (253, 253, 251),
    "n": (195, 154, 104),
    "y": (242, 208, 107),
    "v": (109, 159, 111),
}
"""Colours that do not depend on the product, by their letter in the file."""
_LINES = {"s": 5.0, "h": 5.0, "t": 1.6}
"""Widths of the paints that are lines; `s` has the product's colour."""


@dataclass(frozen=True, slots=True)
class Look:
    """The looks of a product: one of COLOURS and one of PATTERNS."""

    colour: str
    pattern: str = PLAIN


Part = tuple[str, tuple[tuple[tuple[float, float], ...], ...]]
"""Letter of a paint, and the contours that it fills."""


@cache
def _drawings() -> dict[str, tuple[Part, ...]]:
    """Parts of each drawing, by each word that names it."""
    found: dict[str, tuple[Part, ...]] = {}
    for words, *parts in msgspec.json.decode(_DRAWINGS.read_bytes(), type=list[list[str]]):
        outlines = tuple((paint, _contours(path)) for paint, path in zip(parts[::2], parts[1::2], strict=True))
        found |= dict.fromkeys(words.split("|"), outlines)
    return found


def _contours(path: str) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Contours of a path in SVG's notation, as points."""
    with optional_imports():
        from fontTools.pens.recordingPen import RecordingPen
        from fontTools.svgLib.path import parse_path

    pen = RecordingPen()
    parse_path(path, pen)
    contours: list[list[tuple[float, float]]] = []
    for name, points in pen.value:
        if name == "moveTo":
            contours.append([*points])
        elif name == "lineTo":
            contours[-1] += points
        elif name in ("curveTo", "qCurveTo"):
            contours[-1] += _curve(np.array([contours[-1][-1], *points]))
    return tuple(map(tuple, contours))


def _curve(controls: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Points of the Bezier curve with these control points, without the first."""
    times, degree = np.arange(1, _SEGMENTS + 1)[:, None] / _SEGMENTS, len(controls) - 1
    weights = [math.comb(degree, k) * (1 - times) ** (degree - k) * times**k for k in range(degree + 1)]
    return [*map(tuple, (np.hstack(weights) @ controls).tolist())]


def drawing_of(names: Sequence[str]) -> tuple[Part, ...]:
    """Parts of the drawing for a type's names: by the longest word in the first name that has one; else KeyError."""
    for name in names:
        lower = name.lower()
        known = [
            word for word in _drawings() if re.search(word if not word.isascii() else rf"\b{word}(?:e?s)?\b", lower)
        ]
        if known:
            return _drawings()[max(known, key=len)]
    raise KeyError(f"there is no drawing of {names[0]}")


def draw(names: Sequence[str], look: Look, dice: np.random.Generator, side: int = _SIDE) -> Image.Image:
    """Draws a product whose type has these names: RGB, `side` by `side` pixels."""
    drawn = 2 * side
    main = _shaded(COLOURS[look.colour], dice.uniform(0.88, 1.1))
    ground = tuple(int(each) for each in dice.integers(222, 252, 3))
    picture = Image.new("RGB", (drawn, drawn), ground)
    paints = {**_FIXED, "m": main, "d": _mixed(main, (20, 24, 29), 0.26), "l": _mixed(main, (255, 255, 255), 0.5)}
    scale, turn = dice.uniform(0.72, 0.92) * drawn / _GRID, np.radians(dice.uniform(-9, 9))
    place = drawn / 2 + dice.uniform(-0.04, 0.04, 2) * drawn
    rotation = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    fabric = _fabric(look.pattern, main, dice, drawn)
    for paint, contours in drawing_of(names):
        shape = Image.new("L", picture.size)
        pencil = ImageDraw.Draw(shape)
        for contour in contours:
            points = [*map(tuple, ((np.array(contour) - _GRID / 2) @ rotation.T + place).tolist())]
            if width := _LINES.get(paint):
                pencil.line(points, 255, max(1, round(width * scale)), "curve")
            elif len(points) > 2:
                pencil.polygon(points, 255)
        if paint in _LINES:
            picture.paste(main if paint == "s" else _FIXED["k"], mask=shape)
            continue
        edge = ImageChops.subtract(shape.filter(ImageFilter.MaxFilter(3)), shape)
        picture.paste(fabric if paint == "m" else paints[paint], (0, 0) if paint == "m" else None, shape)
        picture.paste(_FIXED["k"], mask=edge.point(lambda each: each // 2))
    return picture.resize((side, side), Image.Resampling.LANCZOS)


def _fabric(pattern: str, main: RGB, dice: np.random.Generator, side: int) -> Image.Image:
    """Fills a whole picture with the product's colour and pattern."""
    other = _mixed(main, (24, 26, 34) if sum(main) > 330 else (255, 255, 255), dice.uniform(0.62, 0.85))
    angle, period = np.radians(dice.uniform(-14, 14)), dice.uniform(0.11, 0.15) * side
    if pattern == PLAIN:
        return Image.new("RGB", (side, side), main)
    y, x = np.mgrid[:side, :side].astype(np.float32) / period
    across, down = (x * np.cos(angle) + y * np.sin(angle)) % 1, (y * np.cos(angle) - x * np.sin(angle)) % 1
    if pattern == STRIPES:
        is_other = down < 0.42
    elif pattern == DOTS:
        is_other = (across - 0.5) ** 2 + (down - 0.5) ** 2 < 0.085
    elif pattern == CHECKS:
        is_other = (across < 0.5) ^ (down < 0.5)
    else:
        is_other = (down + np.abs(across - 0.5)) % 1 < 0.42
    return Image.fromarray(np.where(is_other[..., None], np.array(other, np.uint8), np.array(main, np.uint8)))


def _mixed(one: RGB, other: RGB, share: float) -> RGB:
    red, green, blue = (round((1 - share) * a + share * b) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _shaded(colour: RGB, factor: float) -> RGB:
    red, green, blue = (min(255, round(each * factor)) for each in colour)
    return red, green, blue


def to_webp(picture: Image.Image) -> bytes:
    """Encodes the picture as a WebP file."""
    output = io.BytesIO()
    picture.save(output, "WEBP", quality=_QUALITY)
    return output.getvalue()
