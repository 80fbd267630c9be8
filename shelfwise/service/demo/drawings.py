"""Pictures of the demo store's products: the drawing of the product type, in the product's colour and pattern.

The outlines are those of the store page (service/web/assets/drawings.js); Pillow fills them. Pictures of the same
type, colour and pattern differ in size, rotation, position, background and shade.
"""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from fontTools.pens.basePen import BasePen
from fontTools.svgLib.path import parse_path
from PIL import Image, ImageChops, ImageDraw, ImageFilter

_SCRIPT = Path(__file__).parents[1] / "web" / "assets" / "drawings.js"
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
"""Colours that do not depend on the product, by their letter in the script."""
_LINES = {"s": 5.0, "h": 5.0, "t": 1.6}
"""Widths of the paints that are lines; `s` has the product's colour."""


@dataclass(frozen=True, slots=True)
class Look:
    """The looks of a product: one of COLOURS and one of PATTERNS."""

    colour: str
    pattern: str = PLAIN


class _Outline(BasePen):  # type: ignore[misc]  # fontTools has no types
    """Collects the contours of a path as points."""

    def __init__(self) -> None:
        super().__init__(None)
        self.contours: list[list[tuple[float, float]]] = []

    def _moveTo(self, pt: tuple[float, float]) -> None:  # noqa: N802 - fontTools' names
        self.contours.append([pt])

    def _lineTo(self, pt: tuple[float, float]) -> None:  # noqa: N802
        self.contours[-1].append(pt)

    def _curveToOne(self, *points: tuple[float, float]) -> None:  # noqa: N802
        controls = np.array([self._getCurrentPoint(), *points])
        times = np.arange(1, _SEGMENTS + 1)[:, None] / _SEGMENTS
        weights = np.hstack([(1 - times) ** 3, 3 * (1 - times) ** 2 * times, 3 * (1 - times) * times**2, times**3])
        self.contours[-1] += map(tuple, (weights @ controls).tolist())


Part = tuple[str, tuple[tuple[tuple[float, float], ...], ...]]
"""Letter of a paint, and the contours that it fills."""


def _oval(x: float, y: float, a: float, b: float) -> str:
    return f"M{x - a} {y}a{a} {b} 0 1 0 {2 * a} 0a{a} {b} 0 1 0 {-2 * a} 0z"


def _box(x: float, y: float, w: float, h: float, r: float = 3) -> str:
    arc = f"a{r} {r} 0 0 1 "
    top = f"M{x + r} {y}h{w - 2 * r}{arc}{r} {r}v{h - 2 * r}{arc}{-r} {r}"
    return f"{top}h{2 * r - w}{arc}{-r} {-r}v{2 * r - h}{arc}{r} {-r}z"


_SHAPES: dict[str, Callable[..., str]] = {"box": _box, "oval": _oval, "circle": lambda x, y, r: _oval(x, y, r, r)}
_COAT = re.compile(r'^const COAT = "([^"]+)"', re.MULTILINE)


@cache
def _drawings() -> dict[str, tuple[Part, ...]]:
    """Parts of each drawing, by each word that names it."""
    script = _SCRIPT.read_text("utf-8")
    rows = script.partition("const DRAWINGS = [\n")[2].partition("\n];")[0]
    keys = "".join(_box(x, y, 5, 5, 1) for y in (24, 32) for x in (9, 16, 23, 30, 37, 44, 51))
    coat = _COAT.search(script)
    names = {"KEYS": keys, "COAT": coat[1] if coat else ""}
    table = ast.parse(f"[{rows}]", mode="eval").body
    found: dict[str, tuple[Part, ...]] = {}
    for row in table.elts if isinstance(table, ast.List) else ():
        words, *parts = (_text(each, names) for each in row.elts)  # type: ignore[attr-defined]  # a list of lists
        outlines = tuple((paint, _contours(path)) for paint, path in zip(parts[::2], parts[1::2], strict=True))
        found |= dict.fromkeys(words.split("|"), outlines)
    return found


def _text(node: ast.expr, names: dict[str, str]) -> str:
    """Evaluates an expression of the table to text: a literal, a name, a shape, or a concatenation."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name):
            return names[name]
        case ast.BinOp(left=left, right=right):
            return _text(left, names) + _text(right, names)
        case ast.Call(func=ast.Name(id=name), args=numbers):
            return _SHAPES[name](*map(ast.literal_eval, numbers))
    raise ValueError(f"{_SCRIPT.name} has {ast.unparse(node)}, which is not an outline")


def _contours(path: str) -> tuple[tuple[tuple[float, float], ...], ...]:
    pen = _Outline()
    parse_path(path, pen)
    return tuple(map(tuple, pen.contours))


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
