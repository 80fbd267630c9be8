"""Catalog of the demo store: the grammar of each language, read from TOML, and the products sampled from it, with the
latent traits that grades and shoppers use."""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from statistics import NormalDist
from typing import TypeVar

import msgspec
import numpy as np

from shelfwise.retrieval.records import Availability, Product

Scalar = str | int | float | bool

DATA = Path(__file__).parent / "data"
PICTURE_MODEL = DATA / "clip"
"""Folder of the small picture encoder, trained by `shelfwise.service.demo.picture_model` at commit 99216ba0."""


class Axis(msgspec.Struct, frozen=True):
    """An attribute of product types: its values and their spellings in titles and queries."""

    name: str
    values: tuple[Scalar, ...]
    """Texts, numbers (the unit is in the name and the spellings), or booleans for a feature."""
    title: str = "{}"
    """Format of a value in titles ("{}V"); empty if titles omit it."""
    phrases: tuple[str, ...] = ("{}",)
    """Formats that shoppers type ("{}v", "{} volt")."""
    precedes_type: bool = True
    """Whether shoppers type it before the type ("red shoes") or after it ("shoes size 9")."""
    price_exponent: float = 0.0
    """The price of a numeric attribute grows with value ** price_exponent."""

    def spell_in_title(self, value: Scalar) -> str:
        """Spelling of the value in a title; empty for a feature that the product lacks."""
        return "" if value is False or not self.title else self.title.format(value)


class Brand(msgspec.Struct, frozen=True):
    """A fictional brand. `code` is the prefix of its model numbers; `level` multiplies the median price of a type."""

    name: str
    code: str
    level: float


class ProductType(msgspec.Struct, frozen=True):
    """A product type; the head query is the first of its `names`."""

    key: str
    path: tuple[str, ...]
    names: tuple[str, ...]
    brands: str
    """Key of the pool of brands."""
    median_price: float
    price_sigma: float
    """Standard deviation of the price's logarithm."""
    related: tuple[str, ...]
    """Keys of types that a shopper for this one may also want."""
    facts: tuple[str, ...]
    """Sentences for descriptions."""
    synonyms: tuple[str, ...] = ()
    """Words that shoppers type and that no title of this type contains."""
    typos: tuple[str, ...] = ()
    """Misspellings that the rules do not generate."""
    varies: tuple[Axis, ...] = ()
    """Attributes in which the variants of one line differ."""
    fixed: tuple[Axis, ...] = ()
    """Attributes that all variants of a line share."""
    selling_points: tuple[str, ...] = ()
    """Phrases added to some titles."""
    counterpart: str = ""
    """Key of the same type in the other language."""
    weight: float = 1.0
    """Share of the language's products, relative to the other types."""
    technical: bool = False
    """Whether titles contain the model number."""

    @property
    def axes(self) -> tuple[Axis, ...]:
        return self.varies + self.fixed


class DescriptiveQuery(msgspec.Struct, frozen=True):
    """A query that names no product type, with the types that answer it fully and those that answer it in part."""

    text: str
    targets: tuple[str, ...]
    near: tuple[str, ...] = ()


class Grammar(msgspec.Struct, frozen=True):
    """The vocabulary of one language of the demo store."""

    language: str
    currency: str
    types: tuple[ProductType, ...]
    brands: Mapping[str, tuple[Brand, ...]]
    series: tuple[str, ...]
    shades: Mapping[str, tuple[str, ...]]
    """Colour to the shade names that some titles use instead."""
    styles: tuple[str, ...]
    """Title layouts."""
    closings: Mapping[str, tuple[str, ...]]
    """Department to closing sentences of descriptions."""
    labels: Mapping[str, str]
    """Attribute to the format of the sentence of a description that states its value."""
    ceilings: tuple[str, ...]
    """Formats in which shoppers type a maximum price."""
    broad: tuple[DescriptiveQuery, ...]
    gifts: tuple[DescriptiveQuery, ...]
    uses: tuple[DescriptiveQuery, ...]
    mixed: tuple[DescriptiveQuery, ...] = ()


def load_grammar(path: Path) -> Grammar:
    """Reads a grammar; its types name attributes by the keys of the table `attributes`."""
    tables = tomllib.loads(path.read_text("utf-8"))
    attributes = tables.pop("attributes")
    for each in tables["types"]:
        for key in ("varies", "fixed"):
            each[key] = [attributes[name] for name in each.get(key, ())]
    return msgspec.convert(tables, Grammar)


ENGLISH, CHINESE = (load_grammar(DATA / f"{name}.toml") for name in ("english", "chinese"))
GRAMMARS = (ENGLISH, CHINESE)


CATALOG_DAY = datetime(2025, 1, 5, tzinfo=UTC)
"""Date of the catalog; every event is later."""


@dataclass(frozen=True, slots=True)
class ProductLine:
    """One model of one brand. `appeal` (of its pictures) raises clicks and `quality` purchases; both are latent."""

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
    title_axes: frozenset[str]
    """Names of the fixed attributes that titles include."""
    shade: int
    """Index of the shade name that titles use for a colour; -1 for the plain name."""
    price: float
    created: datetime
    rating: float
    popularity: float
    appeal: float
    quality: float


Variant = tuple[tuple[Axis, Scalar], ...]


class LineMaker:
    """Sampler of lines; model numbers are unique in the catalog, series names within a brand and a type."""

    def __init__(self, grammar: Grammar, models: ModelNumbers) -> None:
        self._grammar = grammar
        self._models = models
        self._generations: dict[tuple[str, str, str], int] = {}

    def make(self, number: int, kind: ProductType, dice: Dice) -> ProductLine:
        brand = dice.pick(self._grammar.brands[kind.brands])
        fixed = tuple((axis, dice.pick(axis.values)) for axis in kind.fixed)
        quality = dice.normal()
        series = dice.pick(self._grammar.series)
        key = (kind.key, brand.name, series)
        generation = self._generations[key] = self._generations.get(key, 0) + 1
        return ProductLine(
            number=number,
            kind=kind,
            brand=brand,
            series=series if generation == 1 else f"{series} {generation}",
            model=self._models.next(brand.code, dice),
            name=dice.pick(kind.names),
            style=dice.pick(self._grammar.styles),
            point=dice.pick(kind.selling_points) if kind.selling_points and dice.chance(0.55) else "",
            facts=dice.some(kind.facts, 2),
            closing=dice.pick(self._grammar.closings[kind.path[0]]),
            fixed=fixed,
            title_axes=frozenset(axis.name for axis, _ in fixed if dice.chance(0.65)),
            shade=dice.below(2) if dice.chance(0.35) else -1,
            price=dice.lognormal(kind.median_price * brand.level, kind.price_sigma * 0.6),
            created=CATALOG_DAY - timedelta(days=30 + dice.below(1070), seconds=dice.below(86_400)),
            rating=min(5.0, max(1.8, 4.15 + 0.3 * quality + 0.2 * dice.normal())),
            popularity=dice.lognormal(1.0, 1.1),
            appeal=dice.normal(),
            quality=quality,
        )


def _size_factor(axis: Axis, value: Scalar) -> float:
    if not axis.price_exponent or isinstance(value, str):
        return 1.0
    sizes = sorted(size for size in axis.values if not isinstance(size, str))
    return math.pow(value / sizes[len(sizes) // 2], axis.price_exponent)


_ENGLISH_SHARE = 0.7
_RARE_AVAILABILITY = ((0.06, Availability.OUT_OF_STOCK), (0.09, Availability.BACKORDER), (0.1, Availability.PREORDER))


@dataclass(frozen=True, slots=True)
class DemoProduct:
    """A product with its latent line, which determines its type."""

    product: Product
    line: ProductLine


@dataclass(frozen=True, slots=True)
class Catalog:
    """Products by id, positions of products by type key, and types by key."""

    products: tuple[DemoProduct, ...]
    by_kind: Mapping[str, Sequence[int]]
    kinds: Mapping[str, ProductType]


def make_catalog(seed: int, count: int) -> Catalog:
    """Generates a catalog of exactly `count` products; equal arguments give equal catalogs.

    Raises ValueError if `count` is too small for one product of each type.
    """
    kinds = {kind.key: kind for grammar in GRAMMARS for kind in grammar.types}
    english = round(count * _ENGLISH_SHARE)
    shares = _divide(ENGLISH, english) | _divide(CHINESE, count - english)
    if min(shares.values()) < 1:
        raise ValueError(f"products is {count}, but the demo store has {len(kinds)} types: use 300 or more")
    # Ids are random, because a run breaks ties by id and an id must not reveal the type.
    places = named_rng(seed, "catalog/places").permutation(count).tolist()
    drawn = dict(zip(places, _draw(seed, shares, places), strict=True))
    products = tuple(drawn[place] for place in range(count))
    by_kind: dict[str, list[int]] = {}
    for position, item in enumerate(products):
        by_kind.setdefault(item.line.kind.key, []).append(position)
    return Catalog(products, dict(sorted(by_kind.items())), kinds)


def _divide(grammar: Grammar, count: int) -> dict[str, int]:
    """Number of products by type, in proportion to the weights (largest remainder method)."""
    total = sum(kind.weight for kind in grammar.types)
    exact = {kind.key: count * kind.weight / total for kind in grammar.types}
    shares = {key: int(share) for key, share in exact.items()}
    by_remainder = sorted(exact, key=lambda key: (shares[key] - exact[key], key))
    for key in by_remainder[: count - sum(shares.values())]:
        shares[key] += 1
    return shares


def _draw(seed: int, shares: Mapping[str, int], places: list[int]) -> Iterator[DemoProduct]:
    models = ModelNumbers()
    index = number = 0
    for grammar in GRAMMARS:
        maker = LineMaker(grammar, models)
        for kind in grammar.types:
            dice = Dice(seed, f"catalog/{kind.key}")
            left = shares[kind.key]
            while left:
                line = maker.make(number, kind, dice)
                number += 1
                values = [
                    [(axis, value) for value in dice.some(axis.values, 1 + dice.below(3))] for axis in kind.varies
                ]
                for letter, variant in zip("ABCDEF"[:left], product(*values), strict=False):
                    yield DemoProduct(_product(line, variant, letter, places[index], grammar, dice), line)
                    index += 1
                    left -= 1


def _product(line: ProductLine, variant: Variant, letter: str, place: int, grammar: Grammar, dice: Dice) -> Product:
    amount = line.price * math.prod(_size_factor(axis, value) for axis, value in variant)
    price = store_price(amount, grammar.currency, dice)
    ratings = int(line.popularity * 40 * dice.unit())
    roll = dice.unit()
    # From the price in dollars, the only measure of size that every type has.
    kilograms = 0.08 * (line.kind.median_price / (7.0 if grammar.currency == "CNY" else 1.0)) ** 0.75
    return Product(
        id=f"d{place:06d}",
        title=title(line, variant, grammar),
        description=description(line, variant, grammar),
        brand=line.brand.name,
        category=line.kind.path,
        price=round(price, 2),
        currency=grammar.currency,
        availability=next((kind for bound, kind in _RARE_AVAILABILITY if roll < bound), Availability.IN_STOCK),
        rating=round(line.rating, 1) if ratings else None,
        rating_count=ratings,
        identifiers={"sku": (sku(line.brand.code, place),), "ean": (ean13(place),), "mpn": (f"{line.model}-{letter}",)},
        attributes={
            **{axis.name: value for axis, value in (*variant, *line.fixed)},
            "package_weight_kg": round(dice.lognormal(kilograms, 0.3), 2),
        },
        created=line.created,
        updated=line.created + timedelta(seconds=int((CATALOG_DAY - line.created).total_seconds() * dice.unit())),
        language=grammar.language,
    )


_BLANKS = re.compile(r"\s+")
_BEFORE_COMMA = re.compile(r"\s+([,)])")


def title(line: ProductLine, variant: Variant, grammar: Grammar) -> str:
    """Title of the variant, with all varying attributes and some of the fixed ones."""
    titled = [(axis, value) for axis, value in line.fixed if axis.name in line.title_axes]
    text = line.style.format(
        brand=line.brand.name,
        series=line.series,
        model=line.model if line.kind.technical else "",
        name=line.name,
        point=line.point,
        lead=_spelled(titled, line, grammar, " "),
        tail=_spelled(variant, line, grammar, ", " if grammar.language == "en" else " "),
    )
    return _BEFORE_COMMA.sub(r"\1", _BLANKS.sub(" ", text)).strip(" ,-").removesuffix("()").strip()


def _spelled(values: list[tuple[Axis, Scalar]] | Variant, line: ProductLine, grammar: Grammar, between: str) -> str:
    shown = (axis.spell_in_title(_shaded(value, line.shade, grammar)) for axis, value in values)
    return between.join(text for text in shown if text)


def _shaded(value: Scalar, shade: int, grammar: Grammar) -> Scalar:
    finer = grammar.shades.get(value) if isinstance(value, str) and shade >= 0 else None
    return finer[shade] if finer else value


def description(line: ProductLine, variant: Variant, grammar: Grammar) -> str:
    """Description of the variant: two facts, up to three sentences about attributes, and a closing sentence."""
    labels = [
        grammar.labels[axis.name].format(value)
        for axis, value in (*variant, *line.fixed)
        if axis.name in grammar.labels and not isinstance(value, bool)
    ]
    between = " " if grammar.language == "en" else ""
    return between.join((*line.facts, *labels[:3], line.closing))


def store_price(amount: float, currency: str, dice: Dice) -> float:
    """Rounds the amount to a typical store price: 24.99, 129.00, 199, 39.9."""
    whole = max(1, round(amount))
    if currency == "CNY":
        if whole < 50 and dice.chance(0.6):
            return whole - 0.1
        return float(whole // 10 * 10 + 9 if dice.chance(0.7) else whole)
    return whole - dice.pick((0.01, 0.01, 0.51, 0.0) if whole < 100 else (0.01, 0.0))


# Multipliers coprime to the modulus reach every number once: unique, but not sequential.
_EAN_STEP, _EAN_START, _EAN_SPACE = 73_687_871, 12_345_677, 10**11
_SKU_STEP, _SKU_START, _SKU_SPACE = 791_903, 104_729, 10**7


def ean13(index: int) -> str:
    """A valid EAN-13 in the range for in-store use (20 to 29), unique among indexes below 10**11; for its check digit
    see GS1 General Specifications, section 7.9."""
    body = f"2{(_EAN_START + index * _EAN_STEP) % _EAN_SPACE:011d}"
    return f"{body}{-sum(int(digit) * (3 if at % 2 else 1) for at, digit in enumerate(body)) % 10}"


def sku(prefix: str, index: int) -> str:
    """A stock number, unique among indexes below 10**7."""
    return f"{prefix}-{(_SKU_START + index * _SKU_STEP) % _SKU_SPACE:07d}"


class ModelNumbers:
    """Generator of unique model numbers: the brand's code, digits, sometimes a letter."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def next(self, prefix: str, dice: Dice) -> str:
        while True:
            number = 100 + dice.below(9900)
            model = f"{prefix}{number}{dice.pick(('', '', 'E', 'S', 'X'))}"
            if model not in self._used:
                self._used.add(model)
                return model


T = TypeVar("T")

_BLOCK = 4096
_NORMAL = NormalDist()


def named_rng(seed: int, name: str) -> np.random.Generator:
    """Random generator seeded by seed and name only, so that a new stream does not change the others."""
    digest = hashlib.sha256(name.encode()).digest()
    words = [int.from_bytes(digest[at : at + 4], "little") for at in range(0, 16, 4)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *words])))


class Dice:
    """Scalar random values of a named stream, sampled in blocks for speed."""

    def __init__(self, seed: int, name: str) -> None:
        self._rng = named_rng(seed, name)
        self._block: list[float] = []

    def unit(self) -> float:
        """Random number, uniform in [0, 1)."""
        if not self._block:
            self._block = self._rng.random(_BLOCK).tolist()
        return self._block.pop()

    def below(self, bound: int) -> int:
        """Random integer, uniform in [0, bound)."""
        return int(self.unit() * bound)

    def chance(self, probability: float) -> bool:
        return self.unit() < probability

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.unit() * len(options))]

    def some(self, options: Sequence[T], count: int) -> tuple[T, ...]:
        """Random sample of `count` options (all, if there are fewer), in the order of `options`."""
        keys = sorted(range(len(options)), key=[self.unit() for _ in options].__getitem__)
        return tuple(options[at] for at in sorted(keys[:count]))

    def normal(self) -> float:
        return _NORMAL.inv_cdf(max(self.unit(), 1e-12))

    def lognormal(self, median: float, sigma: float) -> float:
        """Random log-normal number; `sigma` is the standard deviation of the logarithm."""
        return median * math.exp(sigma * self.normal())
