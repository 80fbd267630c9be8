"""Who shops at the demo store, what each shopper likes, and what draws a click or a purchase from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from retrieval.records import Availability
from service.demo.catalog import GRAMMARS, Catalog
from service.demo.dice import Dice
from service.demo.events import opaque_id
from service.demo.grammar import Grammar

_CLICK_BY_GRADE = (0.02, 0.09, 0.24, 0.52)
_CART_BY_GRADE = (0.005, 0.02, 0.08, 0.22)
_PURCHASE_AFTER_CART = 0.4


@dataclass(frozen=True, slots=True)
class Shopper:
    """A shopper's latent taste. `price_level` is in standard deviations of a type's log price from its median."""

    id: str
    languages: tuple[str, ...]
    kinds: tuple[str, ...]
    brands: frozenset[str]
    price_level: float
    activity: float


@dataclass(frozen=True, slots=True)
class _Traits:
    kind: str
    brand: str
    price_level: float
    appeal: float
    quality: float
    in_stock: bool


class Attraction:
    """Probabilities of a shopper's reactions to a product; pictures and fit draw clicks, quality and price carts."""

    def __init__(self, catalog: Catalog) -> None:
        self._traits = tuple(
            _Traits(
                kind=item.line.kind.key,
                brand=item.line.brand.name,
                price_level=math.log((item.product.price or 1.0) / item.line.kind.median) / item.line.kind.sigma,
                appeal=math.exp(0.25 * item.line.appeal),
                quality=math.exp(0.35 * item.line.quality),
                in_stock=item.product.availability is not Availability.OUT_OF_STOCK,
            )
            for item in catalog.products
        )

    def click(self, shopper: Shopper, product: int, grade: int) -> float:
        """The probability that the shopper clicks the product once they have examined it."""
        traits = self._traits[product]
        distance = (traits.price_level - shopper.price_level) / 0.9
        fit = 0.55 + 0.45 * math.exp(-0.5 * distance * distance)
        liked = 1.35 if traits.brand in shopper.brands else 1.0
        known = 1.15 if traits.kind in shopper.kinds else 1.0
        stock = 1.0 if traits.in_stock else 0.7
        return _bounded(_CLICK_BY_GRADE[grade] * traits.appeal * fit * liked * known * stock)

    def cart(self, shopper: Shopper, product: int, grade: int) -> float:
        """The probability that a click is followed by the cart; nobody can buy what is out of stock."""
        traits = self._traits[product]
        if not traits.in_stock:
            return 0.0
        too_dear = max(0.0, traits.price_level - shopper.price_level)
        return _bounded(_CART_BY_GRADE[grade] * traits.quality * math.exp(-0.5 * too_dear))

    def purchase(self, product: int) -> float:
        """The probability that what is in the cart is paid for."""
        return _bounded(_PURCHASE_AFTER_CART * math.sqrt(self._traits[product].quality))


def _bounded(probability: float) -> float:
    return min(0.95, max(0.002, probability))


def make_shoppers(seed: int, count: int) -> tuple[Shopper, ...]:
    """Shoppers with their tastes: most read one language, some both."""
    dice = Dice(seed, "shoppers")
    return tuple(_shopper(opaque_id("u", seed, number), dice) for number in range(count))


def _shopper(name: str, dice: Dice) -> Shopper:
    roll = dice.unit()
    english, chinese = GRAMMARS
    grammars = (english,) if roll < 0.62 else (chinese,) if roll < 0.9 else GRAMMARS
    return Shopper(
        id=name,
        languages=tuple(grammar.language for grammar in grammars),
        kinds=tuple(kind.key for grammar in grammars for kind in dice.some(grammar.types, 5)),
        brands=frozenset(brand for grammar in grammars for brand in _favourites(grammar, dice)),
        price_level=0.6 * dice.normal(),
        activity=dice.lognormal(1.0, 0.9),
    )


def _favourites(grammar: Grammar, dice: Dice) -> list[str]:
    return [dice.pick(pool).name for _, pool in sorted(grammar.brands.items())]
