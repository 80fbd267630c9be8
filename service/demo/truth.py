"""What only the maker of the demo store knows: kept in a file of its own, to measure with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from retrieval.events.event import EventKind
from service.demo.catalog import Catalog
from service.demo.fraud import Fraud
from service.demo.shelf import PAGE_SIZE, Shelf
from service.demo.shoppers import ETA, Traffic, examination


@dataclass(frozen=True, slots=True)
class ShownTruth:
    """A product as honest shoppers found it: how often it was shown, and the mean probability of a click once seen."""

    impressions: int
    attractiveness: float


@dataclass(frozen=True, slots=True)
class ProductTruth:
    """Where a product comes from. `appeal` moves clicks, `quality` purchases; both are standard normal."""

    type: str
    line: int
    appeal: float
    quality: float


@dataclass(frozen=True, slots=True)
class ShopperTruth:
    """An honest shopper's taste."""

    languages: tuple[str, ...]
    types: tuple[str, ...]
    brands: tuple[str, ...]
    price_level: float


@dataclass(frozen=True, slots=True)
class FraudTruth:
    """One planted scheme: about whom (a brand or a model number), by which accounts, in which sessions."""

    subject: str
    shoppers: tuple[str, ...]
    sessions: tuple[str, ...]
    clicks: int


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth file. `examination` is by position, from 1; `attractiveness` by query, then product id."""

    seed: int
    eta: float
    examination: tuple[float, ...]
    attractiveness: Mapping[str, Mapping[str, ShownTruth]]
    fraud: Mapping[str, FraudTruth]
    shoppers: Mapping[str, ShopperTruth]
    products: Mapping[str, ProductTruth]


def tell_truth(seed: int, catalog: Catalog, shelf: Shelf, traffic: Traffic, fraud: tuple[Fraud, ...]) -> Truth:
    """Everything that the events came from."""
    return Truth(
        seed=seed,
        eta=ETA,
        examination=tuple(round(examination(position), 6) for position in range(1, 3 * PAGE_SIZE + 1)),
        attractiveness=_attractiveness(catalog, shelf, traffic),
        fraud={plot.scheme: _fraud(plot) for plot in fraud},
        shoppers={
            shopper.id: ShopperTruth(
                shopper.languages, shopper.kinds, tuple(sorted(shopper.brands)), round(shopper.price_level, 4)
            )
            for shopper in traffic.shoppers
        },
        products={
            item.product.id: ProductTruth(
                item.line.kind.key, item.line.number, round(item.line.appeal, 4), round(item.line.quality, 4)
            )
            for item in catalog.products
        },
    )


def _attractiveness(catalog: Catalog, shelf: Shelf, traffic: Traffic) -> dict[str, dict[str, ShownTruth]]:
    found: dict[str, dict[str, ShownTruth]] = {}
    for (number, product), tally in sorted(traffic.attractiveness.items()):
        of_query = found.setdefault(shelf.queries[number].query.text, {})
        mean = round(tally.attractiveness / tally.impressions, 5)
        of_query[catalog.products[product].product.id] = ShownTruth(tally.impressions, mean)
    return found


def _fraud(plot: Fraud) -> FraudTruth:
    clicks = sum(action.kind is EventKind.CLICK for action in plot.actions)
    return FraudTruth(plot.subject, plot.shoppers, plot.sessions, clicks)
