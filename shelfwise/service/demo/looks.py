"""Looks of the demo store's products, which their pictures show and their texts do not, and queries about them.

A product whose text names a colour is drawn in it. All others get a colour, and printable products a pattern, that no
text names: only the picture shows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from shelfwise.service.demo.catalog import Catalog, DemoProduct, Dice, named_rng
from shelfwise.service.demo.drawings import CHECKS, COLOURS, DOTS, PATTERNS, PLAIN, STRIPES, ZIGZAG, Look, draw, to_webp
from shelfwise.service.demo.grammar import GRAMMARS, Grammar, ProductType, Scalar
from shelfwise.service.demo.queries import DemoQuery, Grader, Intent, JudgedQuery, QueryClass, Requirement

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
    colour = _colour_named(str(named)) or [*COLOURS][int(shares[0] * len(COLOURS))]
    is_plain = item.line.kind.key not in _PATTERNED or shares[1] < _PLAIN_SHARE
    return Look(colour, PLAIN if is_plain else PATTERNS[1 + int(shares[2] * (len(PATTERNS) - 1))])


def _colour_named(value: str) -> str:
    if value in COLOURS:
        return value
    return next((colour for word, colour in _CHINESE_COLOURS.items() if word in value), "")


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
        words = look_words(Look(colour or "Red", pattern or PLAIN), grammar, dice)
        text = joined_words((words[0] if colour else "", words[1] if pattern else "", kind.names[0].lower()), grammar)
        pairs = (("colour", colour), ("pattern", pattern))
        yield text, tuple(LookRequirement(name, value, looks=looks) for name, value in pairs if value)


def look_words(look: Look, grammar: Grammar, dice: Dice) -> tuple[str, str]:
    """Words of the grammar's language for a colour and a pattern."""
    if grammar.language == "en":
        colour = dice.pick((look.colour, look.colour, *grammar.shades.get(look.colour, ()))).lower()
    else:
        words = [word for word, name in _CHINESE_COLOURS.items() if name == look.colour]
        colour = f"{dice.pick(words)}色"
    return colour, dice.pick(_PATTERN_WORDS[grammar.language][look.pattern])


def joined_words(words: Sequence[Scalar], grammar: Grammar) -> str:
    """Joins the nonempty words as the grammar's language does."""
    return (" " if grammar.language == "en" else "").join(str(word) for word in words if word)
