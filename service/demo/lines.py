"""Product lines: what the variants of one model share, drawn from a product type."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, product

from service.demo.dice import Dice
from service.demo.grammar import Axis, Brand, Grammar, ProductType, Scalar
from service.demo.identifiers import ModelNumbers

CATALOG_DAY = datetime(2025, 1, 5, tzinfo=UTC)
"""When the catalog was made; every event happens later."""

_MOST_VARIANTS = 6


@dataclass(frozen=True, slots=True)
class Line:
    """One model of one brand. `appeal` and `quality` are latent: pictures draw clicks, only quality makes buyers."""

    number: int
    kind: ProductType
    brand: Brand
    series: str
    model: str
    name: str
    style: str
    point: str
    facts: tuple[str, ...]
    closing: str
    fixed: tuple[tuple[Axis, Scalar], ...]
    told: frozenset[str]
    """Fixed attributes that the titles tell."""
    shade: int
    """Which finer colour name titles use; -1 for the plain one."""
    price: float
    created: datetime
    rating: float
    popularity: float
    appeal: float
    quality: float


Variant = tuple[tuple[Axis, Scalar], ...]


class LineMaker:
    """Draws lines, with model numbers unique over the catalog and series names unique for a brand and a type."""

    def __init__(self, grammar: Grammar, models: ModelNumbers) -> None:
        self._grammar = grammar
        self._models = models
        self._generations: dict[tuple[str, str, str], int] = {}

    def make(self, number: int, kind: ProductType, dice: Dice) -> Line:
        """The next line of this type."""
        brand = dice.pick(self._grammar.brands[kind.brands])
        fixed = tuple((axis, dice.pick(axis.values)) for axis in kind.fixed)
        quality = dice.normal()
        return Line(
            number=number,
            kind=kind,
            brand=brand,
            series=self._series(kind, brand, dice),
            model=self._models.next(brand.code, dice),
            name=dice.pick(kind.names),
            style=dice.pick(self._grammar.styles),
            point=dice.pick(kind.points) if kind.points and dice.chance(0.55) else "",
            facts=dice.some(kind.facts, 2),
            closing=dice.pick(self._grammar.closings[kind.path[0]]),
            fixed=fixed,
            told=frozenset(axis.name for axis, _ in fixed if dice.chance(0.65)),
            shade=dice.below(2) if dice.chance(0.35) else -1,
            price=dice.lognormal(kind.median * brand.level, kind.sigma * 0.6),
            created=CATALOG_DAY - timedelta(days=30 + dice.below(1070), seconds=dice.below(86_400)),
            rating=min(5.0, max(1.8, 4.15 + 0.3 * quality + 0.2 * dice.normal())),
            popularity=dice.lognormal(1.0, 1.1),
            appeal=dice.normal(),
            quality=quality,
        )

    def _series(self, kind: ProductType, brand: Brand, dice: Dice) -> str:
        name = dice.pick(self._grammar.series)
        key = (kind.key, brand.name, name)
        generation = self._generations[key] = self._generations.get(key, 0) + 1
        return name if generation == 1 else f"{name} {generation}"


def variants(line: Line, dice: Dice, most: int) -> Iterator[Variant]:
    """The variants that the line is sold in: a few values of each axis that varies, at most `most` of them."""
    chosen = [[(axis, value) for value in dice.some(axis.values, 1 + dice.below(3))] for axis in line.kind.varies]
    return islice(product(*chosen), min(most, _MOST_VARIANTS))


def variant_price(line: Line, variant: Variant) -> float:
    """What the variant costs before rounding: bigger, longer and stronger ones cost more."""
    factor = math.prod(_size_factor(axis, value) for axis, value in variant)
    return line.price * factor


def _size_factor(axis: Axis, value: Scalar) -> float:
    if not axis.power or isinstance(value, str):
        return 1.0
    sizes = sorted(size for size in axis.values if not isinstance(size, str))
    return math.pow(value / sizes[len(sizes) // 2], axis.power)
