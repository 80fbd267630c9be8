"""What shoppers bought, in order, and what of it is held out: the purchases that come next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from retrieval.errors import InputError
from retrieval.events.stored import DAY_MS, moment

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Purchases:
    """Purchases of shoppers, (n,) each, ordered by shopper, then by time."""

    shoppers: Ints
    """Numbers of shoppers."""
    products: Ints
    """Rows of the catalog."""
    visits: Ints
    """What was bought together: a number that no other visit has."""
    times: Ints
    """Milliseconds since 1970; where `timed` is False only the order counts."""
    timed: bool = True

    @property
    def histories(self) -> list[Ints]:
        """The products of each shopper who bought something, oldest first."""
        return self._by_shopper(self.products)

    @property
    def history_times(self) -> list[Ints]:
        """When each of `histories` was bought."""
        return self._by_shopper(self.times)

    def before(self, time: int) -> Purchases:
        """Those that were made before a time."""
        kept = self.times < time
        shoppers, products, visits = (column[kept] for column in (self.shoppers, self.products, self.visits))
        return Purchases(shoppers, products, visits, self.times[kept], self.timed)

    def counts(self, products: int) -> Ints:
        """How often each product of the catalog was bought, (products,)."""
        return np.bincount(self.products, minlength=products)

    def _by_shopper(self, values: Ints) -> list[Ints]:
        return np.split(values, np.flatnonzero(np.diff(self.shoppers)) + 1) if len(values) else []


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One shopper before a purchase: what is known, and what came."""

    shopper: int
    history: Ints
    """(n,) rows of what was bought before, oldest first."""
    times: Ints
    """(n,) when."""
    targets: Ints
    """The rows of what was bought next, each once."""
    now: int
    """Just before that, in milliseconds since 1970."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What may be learned from, and the purchases after it that are to be foretold."""

    training: Purchases
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PurchaseSet:
    """Two parts: ways choose their options on the first, learn anew from all before the second, are judged there."""

    tuning: Part
    judging: Part
    divided: str
    """How, in words."""


def purchases_of_events(events: Iterable[pl.DataFrame], row_of: Callable[[str], int | None]) -> Purchases:
    """The purchases of shoppers who are known, of products that the catalog has, in tables of a store of events.

    Where a product is several times in one visit it is bought once.
    """
    # Without a session what was bought on one day is one visit.
    day = pl.col("time").dt.date().cast(pl.String)
    session = pl.when(pl.col("session") == "").then(day).otherwise(pl.col("session"))
    bought = [
        each.filter((pl.col("kind") == "purchase") & (pl.col("shopper") != "")).select(
            "shopper", "product_id", pl.col("time").dt.epoch("ms"), visit=pl.concat_str("shopper", pl.lit(" "), session)
        )
        for each in events
    ]
    if not bought:
        raise InputError("there are no events: nothing was bought")
    table = pl.concat(bought)
    ids = table["product_id"].unique().sort()
    rows = pl.DataFrame({"product_id": ids, "row": [row_of(each) for each in ids]}, schema_overrides={"row": pl.Int64})
    table = table.join(rows.drop_nulls(), on="product_id", maintain_order="left")
    table = table.unique(["visit", "row"], keep="first", maintain_order=True)
    numbered = table.with_columns(pl.col("shopper", "visit").rank("dense").cast(pl.Int64))
    ordered = numbered.sort("shopper", "time", maintain_order=True)
    shoppers, rows_bought, visits, times = (ordered[name].to_numpy() for name in ("shopper", "row", "visit", "time"))
    return Purchases(shoppers, rows_bought, visits, times)


def divided_by_time(purchases: Purchases, days: int) -> PurchaseSet:
    """The last `days` are judged, as many before them tune; one time for all shoppers, so nothing later is known.

    Raises InputError where nothing is left to learn from.
    """
    if not len(purchases.times):
        raise InputError("no purchase of a shopper who is known is of a product of the index")
    end = int(purchases.times.max()) + 1
    judged, tuned = end - days * DAY_MS, end - 2 * days * DAY_MS
    if purchases.times.min() >= tuned:
        reached = (end - int(purchases.times.min())) / DAY_MS
        raise InputError(f"purchases reach {reached:.0f} days back; to hold out {days} twice, there must be more")
    told = f"learned until {moment(judged):%Y-%m-%d %H:%M} UTC, judged on the {days} days after it"
    return PurchaseSet(_part(purchases, tuned, judged), _part(purchases, judged, end), told)


def _part(purchases: Purchases, start: int, end: int) -> Part:
    """What was bought before `start`, and each shopper's first visit from then on, if it was before `end`."""
    places = np.flatnonzero((purchases.times >= start) & (purchases.times < end))
    first = places[np.unique(purchases.shoppers[places], return_index=True)[1]]
    return Part(purchases.before(start), tuple(_case(purchases, start, end, int(place)) for place in first))


def _case(purchases: Purchases, start: int, end: int, place: int) -> Case:
    """What is bought of a visit from `start` to `end` is the answer, what was bought before `start` is known."""
    shopper = purchases.shoppers[place]
    begin, after = np.searchsorted(purchases.shoppers, (shopper, shopper + 1))
    cut, over = begin + np.searchsorted(purchases.times[begin:after], (start, end))
    visit = purchases.products[cut:over][purchases.visits[cut:over] == purchases.visits[place]]
    history, times = purchases.products[begin:cut], purchases.times[begin:cut]
    return Case(int(shopper), history, times, np.unique(visit), int(purchases.times[place]))


def seen_left_out(cases: Sequence[Case]) -> tuple[Case, ...]:
    """The cases with what the shopper had not bought before as their only targets; those without any are left out."""
    kept = []
    for case in cases:
        targets = np.setdiff1d(case.targets, case.history)
        if len(targets):
            kept.append(Case(case.shopper, case.history, case.times, targets, case.now))
    return tuple(kept)
