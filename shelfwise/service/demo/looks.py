"""Looks of the demo store's products, which pictures show and texts do not: the pictures, and queries about looks.

A product whose text names a colour is drawn in it. All others get a colour, and printable products a pattern, that no
text names: only the picture shows it. The outlines are those of the store page (service/web/assets/drawings.json);
Pillow fills them. Pictures of the same type, colour and pattern differ in size, rotation, position, background and
shade.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from shelfwise.retrieval.extras import optional_imports
from shelfwise.service.demo.catalog import GRAMMARS, Catalog, DemoProduct, Dice, Grammar, ProductType, named_rng
from shelfwise.service.demo.queries import DemoQuery, Grader, Intent, JudgedQuery, QueryClass, Requirement

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
            # Points of the Bezier curve with these control points, without the first.
            times, degree = np.arange(1, _SEGMENTS + 1)[:, None] / _SEGMENTS, len(points)
            weights = [math.comb(degree, k) * (1 - times) ** (degree - k) * times**k for k in range(degree + 1)]
            contours[-1] += map(tuple, (np.hstack(weights) @ np.array([contours[-1][-1], *points])).tolist())
    return tuple(map(tuple, contours))


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


# The looks of each product, and queries about them.

_PLAIN_SHARE = 0.4
_PRINTED_TYPES = """
laptop_sleeve mouse_pad earbud_case travel_mug vacuum_flask coffee_mug water_bottle tshirt hoodie rain_jacket
socks gloves tent sleeping_bag backpack backpack_cover bike_helmet dog_bed plush_bear pot notebook sofa
sofa_cover running_shoes hiking_boots zh_sofa zh_pot zh_notebook zh_thermos zh_mug zh_running_shoes zh_tshirt
zh_hoodie zh_down_jacket zh_dress zh_backpack zh_tent zh_helmet zh_plush
"""
_PATTERNED = frozenset(_PRINTED_TYPES.split())
"""Keys of types that can have a printed pattern."""
_PAINTED_TYPES = """
gloves headlamp flashlight bike_light shampoo conditioner moisturizer sunscreen lip_balm dog_food cat_litter
board_game puzzle tool_battery screwdriver_set claw_hammer zh_shampoo zh_cleanser zh_sunscreen zh_flashlight
zh_screwdriver zh_power_strip zh_puzzle
"""
_COLOURLESS = frozenset(_PAINTED_TYPES.split())
"""Keys of types whose text names no colour, but whose drawing has a large coloured part."""
_CHINESE_COLOURS = {
    "黑": "Black",
    "白": "White",
    "红": "Red",
    "蓝": "Blue",
    "绿": "Green",
    "灰": "Gray",
    "粉": "Pink",
    "黄": "Yellow",
    "米": "Beige",
    "棕": "Brown",
    "咖": "Brown",
    "紫": "Purple",
    "橙": "Orange",
}
_PATTERN_WORDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "en": {
        STRIPES: ("striped", "stripy"),
        DOTS: ("polka dot", "dotted", "spotted"),
        CHECKS: ("checked", "checkered", "plaid"),
        ZIGZAG: ("zigzag", "chevron"),
        PLAIN: ("plain",),
    },
    "zh": {
        STRIPES: ("条纹",),
        DOTS: ("波点", "圆点"),
        CHECKS: ("格子", "格纹"),
        ZIGZAG: ("锯齿纹", "折线纹"),
        PLAIN: ("纯色",),
    },
}


def look_of(item: DemoProduct, seed: int) -> Look:
    """Looks of a product: the colour that its text names, else the colour of its line, and the pattern of its line."""
    dice = Dice(seed, f"looks/{item.line.number}")
    shares = dice.unit(), dice.unit(), dice.unit()
    named = next((value for name, value in item.product.attributes.items() if name in ("color", "ink_color")), "")
    words = {name: name for name in COLOURS} | _CHINESE_COLOURS
    own = next((colour for word, colour in words.items() if word in str(named)), "")
    colour = own or [*COLOURS][int(shares[0] * len(COLOURS))]
    is_plain = item.line.kind.key not in _PATTERNED or shares[1] < _PLAIN_SHARE
    return Look(colour, PLAIN if is_plain else PATTERNS[1 + int(shares[2] * (len(PATTERNS) - 1))])


def picture_of(item: DemoProduct, look: Look, seed: int) -> bytes:
    """Picture of a product as the bytes of a WebP file."""
    return to_webp(draw(item.line.kind.names, look, named_rng(seed, f"pictures/{item.product.id}")))


@dataclass(frozen=True, slots=True)
class LookRequirement(Requirement):
    """A condition on a product's looks: `field` is colour or pattern."""

    looks: Mapping[str, Look] = field(default_factory=dict)
    """Looks by product id."""

    def is_met(self, item: DemoProduct) -> bool:
        look = self.looks[item.product.id]
        return (look.colour if self.field == "colour" else look.pattern) == self.value


def make_look_queries(catalog: Catalog, looks: Mapping[str, Look], seed: int) -> tuple[JudgedQuery, ...]:
    """Queries for product types with certain looks, each text once and met by at least one product, graded by
    `shelfwise.service.demo.queries.Grader`."""
    grader, found = Grader(catalog, seed), dict[str, DemoQuery]()
    for grammar in GRAMMARS:
        for kind in grammar.types:
            for text, requirements in _phrased(catalog, grammar, kind, looks, seed):
                intent = Intent((kind.key,), (), requirements)
                found.setdefault(text, DemoQuery(text, QueryClass.ATTRIBUTE, grammar.language, intent))
    return tuple(JudgedQuery(query, grader.judge(query.text, query.intent)) for query in found.values())


def _phrased(
    catalog: Catalog, grammar: Grammar, kind: ProductType, looks: Mapping[str, Look], seed: int
) -> Iterator[tuple[str, tuple[Requirement, ...]]]:
    dice = Dice(seed, f"queries/looks/{kind.key}")
    there = [looks[catalog.products[at].product.id] for at in catalog.by_kind[kind.key]]
    wanted: list[tuple[str, str]] = []
    if kind.key in _PATTERNED:
        patterns = sorted({look.pattern for look in there} - {PLAIN})
        wanted += [("", pattern) for pattern in patterns]
        wanted += sorted({(look.colour, look.pattern) for look in there if look.pattern != PLAIN and dice.chance(0.3)})
    elif kind.key in _COLOURLESS:
        wanted += [(colour, "") for colour in dice.some(sorted({look.colour for look in there}), 3)]
    for colour, pattern in wanted:
        if grammar.language == "en":
            name = colour or "Red"
            word = dice.pick((name, name, *grammar.shades.get(name, ()))).lower()
        else:
            word = dice.pick([word for word, name in _CHINESE_COLOURS.items() if name == (colour or "Red")]) + "色"
        pattern_word = dice.pick(_PATTERN_WORDS[grammar.language][pattern or PLAIN])
        parts = (word if colour else "", pattern_word if pattern else "", kind.names[0].lower())
        text = (" " if grammar.language == "en" else "").join(filter(None, parts))
        pairs = (("colour", colour), ("pattern", pattern))
        yield text, tuple(LookRequirement(name, value, looks=looks) for name, value in pairs if value)
