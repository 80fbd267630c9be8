"""The demo catalog: products drawn from the grammar, with the latent structure that grades and shoppers follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from retrieval.records import Availability, Product
from service.demo.dice import Dice, named_rng
from service.demo.grammar import Grammar, ProductType
from service.demo.grammar_en import ENGLISH
from service.demo.grammar_zh import CHINESE
from service.demo.identifiers import ModelNumbers, ean13, sku
from service.demo.lines import CATALOG_DAY, Line, LineMaker, Variant, variant_price, variants
from service.demo.texts import description, store_price, title

GRAMMARS = (ENGLISH, CHINESE)

_ENGLISH_SHARE = 0.7
_RARE_AVAILABILITY = ((0.06, Availability.OUT_OF_STOCK), (0.09, Availability.BACKORDER), (0.1, Availability.PREORDER))


@dataclass(frozen=True, slots=True)
class DemoProduct:
    """A product and what only its maker knows: the line (hence the type) that it came from."""

    product: Product
    line: Line


@dataclass(frozen=True, slots=True)
class Catalog:
    """All products in the order of their ids, and for each type (by key) the positions of its products."""

    products: tuple[DemoProduct, ...]
    by_kind: Mapping[str, tuple[int, ...]]
    kinds: Mapping[str, ProductType]


def make_catalog(seed: int, count: int) -> Catalog:
    """A catalog of exactly `count` products, the same for the same arguments.

    Raises ValueError when `count` is too small to hold one product of each type.
    """
    kinds = {kind.key: kind for grammar in GRAMMARS for kind in grammar.types}
    shares = _shares(count)
    if min(shares.values()) < 1:
        raise ValueError(f"products is {count}, but the demo store has {len(kinds)} types: ask for 300 or more")
    # Ids are dealt at random, because a run's ties are broken by id and an id must not tell the type.
    places = named_rng(seed, "catalog/places").permutation(count).tolist()
    drawn = dict(zip(places, _draw(seed, shares, places), strict=True))
    products = tuple(drawn[place] for place in range(count))
    return Catalog(products, MappingProxyType(_positions(products)), MappingProxyType(kinds))


def _shares(count: int) -> dict[str, int]:
    english = round(count * _ENGLISH_SHARE)
    return _divide(ENGLISH, english) | _divide(CHINESE, count - english)


def _divide(grammar: Grammar, count: int) -> dict[str, int]:
    """Products of each type in proportion to the weights (largest remainders)."""
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
                for letter, variant in zip("ABCDEF", variants(line, dice, left), strict=False):
                    yield DemoProduct(_product(_Draft(line, variant, letter, places[index]), grammar, dice), line)
                    index += 1
                    left -= 1


@dataclass(frozen=True, slots=True)
class _Draft:
    line: Line
    variant: Variant
    letter: str
    place: int


def _product(draft: _Draft, grammar: Grammar, dice: Dice) -> Product:
    line, variant = draft.line, draft.variant
    price = store_price(variant_price(line, variant), grammar.currency, dice)
    ratings = int(line.popularity * 40 * dice.unit())
    return Product(
        id=f"d{draft.place:06d}",
        title=title(line, variant, grammar),
        description=description(line, variant, grammar),
        brand=line.brand.name,
        category=line.kind.path,
        price=round(price, 2),
        currency=grammar.currency,
        availability=_availability(dice),
        rating=round(line.rating, 1) if ratings else None,
        rating_count=ratings,
        identifiers={
            "sku": (sku(line.brand.code, draft.place),),
            "ean": (ean13(draft.place),),
            "mpn": (f"{line.model}-{draft.letter}",),
        },
        attributes={
            **{axis.name: value for axis, value in (*variant, *line.fixed)},
            "package_weight_kg": _package_weight(line, grammar, dice),
        },
        created=line.created,
        updated=_updated(line.created, dice),
        language=grammar.language,
    )


def _package_weight(line: Line, grammar: Grammar, dice: Dice) -> float:
    """Dearer things tend to be heavier; the median in dollars is the only size that every type has."""
    dollars = line.kind.median / (7.0 if grammar.currency == "CNY" else 1.0)
    return round(dice.lognormal(0.08 * dollars**0.75, 0.3), 2)


def _availability(dice: Dice) -> Availability:
    roll = dice.unit()
    return next((kind for bound, kind in _RARE_AVAILABILITY if roll < bound), Availability.IN_STOCK)


def _updated(created: datetime, dice: Dice) -> datetime:
    return created + timedelta(seconds=int((CATALOG_DAY - created).total_seconds() * dice.unit()))


def _positions(products: tuple[DemoProduct, ...]) -> dict[str, tuple[int, ...]]:
    found: dict[str, list[int]] = {}
    for position, item in enumerate(products):
        found.setdefault(item.line.kind.key, []).append(position)
    return {key: tuple(positions) for key, positions in sorted(found.items())}
