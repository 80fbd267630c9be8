"""Norms of each category: the median price and its spread, the usual currency and language.

A census counts the whole catalog before any product is inspected. Its memory is limited: if a catalog has more
categories than it keeps, the lowest levels are counted with the level above. Counts of any split of the rows merge to
the same census.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain, groupby

from shelfwise.retrieval.filters.schema import fold_value
from shelfwise.retrieval.records import Product

CategoryPath = tuple[str, ...]

MAX_CATEGORIES = 5_000
MIN_PRODUCTS = 20
"""A category with fewer products has no own norm and uses that of its parent."""
OUTLIER = 20.0
"""The factor of the category's median within which a price is never an outlier."""
WIDE_OUTLIER = 100.0
"""The factor for the median of a wider category: shoes and laces are both under Shoes."""
_DEVIATIONS = 5.0
_USUAL_SHARE = 0.95
_STEP = 0.05
"""Width of a bin of prices in natural logarithms: medians are accurate to five percent."""


@dataclass(frozen=True, slots=True)
class PriceNorm:
    """Prices of one category in one currency; a price is an outlier beyond this factor from the median."""

    category: str
    median: float
    factor: float

    def is_outlier(self, price: float) -> bool:
        return not self.median / self.factor <= price <= self.median * self.factor


@dataclass(frozen=True, slots=True)
class UsualValue:
    """The value that nearly all products of a category have."""

    category: str
    value: str


@dataclass(frozen=True, slots=True)
class Norm:
    """Usual values of a category; None if fewer than 95% agree, or there are too few products."""

    currency: UsualValue | None = None
    language: UsualValue | None = None
    prices: Mapping[str, PriceNorm] = field(default_factory=dict)
    """The price norm by currency."""

    def inherit(self, wider: Norm) -> Norm:
        """This norm, with missing values taken from a wider category, which may be less similar."""
        prices = {
            currency: replace(norm, factor=max(norm.factor, WIDE_OUTLIER)) for currency, norm in wider.prices.items()
        }
        return Norm(self.currency or wider.currency, self.language or wider.language, {**prices, **self.prices})


@dataclass(frozen=True, slots=True)
class Norms:
    """The norms of a catalog, by folded category path; picklable, and limited like the census."""

    categories: Mapping[CategoryPath, Norm]

    def of(self, category: CategoryPath) -> Norm:
        """The norm of a category, with missing values taken from the nearest level above that has them."""
        path = folded_path(category)
        norm = Norm()
        for depth in range(1, len(path) + 1):
            norm = self.categories.get(path[:depth], Norm()).inherit(norm)
        return norm


@dataclass(slots=True)
class _CategoryCounts:
    """The counts of one category."""

    currencies: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    prices: Counter[tuple[str, int]] = field(default_factory=Counter)
    """The number of products by currency and bin of prices."""

    def merge(self, other: _CategoryCounts) -> None:
        self.currencies.update(other.currencies)
        self.languages.update(other.languages)
        self.prices.update(other.prices)


class CategoryCensus:
    """Counts prices, currencies and languages by category."""

    def __init__(self) -> None:
        self._counts: dict[CategoryPath, _CategoryCounts] = {}
        self._depth = 100

    def add(self, product: Product) -> None:
        """Counts one product; one without a category is not counted."""
        if not product.category:
            return
        path = folded_path(product.category)
        if path[: self._depth] not in self._counts:
            self._counts[path[: self._depth]] = _CategoryCounts()
            self._bound()
        counts = self._counts[path[: self._depth]]
        if product.language:
            counts.languages[product.language] += 1
        price = product.price
        if price is None:
            return
        if product.currency:
            counts.currencies[product.currency] += 1
        if price > 0:
            counts.prices[product.currency, math.floor(math.log(price) / _STEP)] += 1

    def merge(self, other: CategoryCensus) -> None:
        self._cut(min(self._depth, other._depth), (self._counts, other._counts))
        self._bound()

    def norms(self) -> Norms:
        """The norms of every category, and of every level above, that has enough products."""
        levels: dict[CategoryPath, _CategoryCounts] = {}
        for path, counts in self._counts.items():
            for depth in range(1, len(path) + 1):
                levels.setdefault(path[:depth], _CategoryCounts()).merge(counts)
        return Norms({path: norm for path, counts in sorted(levels.items()) if (norm := _norm(path, counts))})

    def _bound(self) -> None:
        while len(self._counts) > MAX_CATEGORIES and self._depth > 1:
            self._cut(min(self._depth, max(map(len, self._counts))) - 1, (self._counts,))

    def _cut(self, depth: int, parts: Sequence[Mapping[CategoryPath, _CategoryCounts]]) -> None:
        """Counts the categories of all parts again, to this depth."""
        self._depth, self._counts = depth, {}
        for path, counts in chain.from_iterable(part.items() for part in parts):
            self._counts.setdefault(path[:depth], _CategoryCounts()).merge(counts)


@lru_cache(maxsize=20_000)
def folded_path(category: CategoryPath) -> CategoryPath:
    """A category in a form in which two spellings of it are equal."""
    return tuple(map(fold_value, category))


def _norm(path: CategoryPath, counts: _CategoryCounts) -> Norm | None:
    name = " > ".join(path)
    prices = {}
    for currency, group in groupby(sorted(counts.prices.items()), key=lambda each: each[0][0]):
        norm = _price_norm(name, [(step, count) for (_, step), count in group])
        if norm is not None:
            prices[currency] = norm
    currency, language = _usual(name, counts.currencies), _usual(name, counts.languages)
    return Norm(currency, language, prices) if prices or currency or language else None


def _usual(name: str, values: Counter[str]) -> UsualValue | None:
    total = values.total()
    if total < MIN_PRODUCTS:
        return None
    value, count = max(values.items(), key=lambda item: (item[1], item[0]))
    return UsualValue(name, value) if count >= _USUAL_SHARE * total else None


def _price_norm(name: str, bins: Sequence[tuple[int, int]]) -> PriceNorm | None:
    """Median and median absolute deviation of the logarithms, which a tenth of wrong prices cannot change (Leys et al.
    2013, "Detecting outliers: do not use standard deviation around the mean"). 1.4826 makes the deviation comparable
    with a standard deviation.
    """
    if sum(count for _, count in bins) < MIN_PRODUCTS:
        return None
    median = _median([((step + 0.5) * _STEP, count) for step, count in bins])
    spread = _median(sorted((abs((step + 0.5) * _STEP - median), count) for step, count in bins))
    reach = max(math.log(OUTLIER), _DEVIATIONS * 1.4826 * spread)
    return PriceNorm(name, math.exp(median), math.exp(reach))


def _median(pairs: Sequence[tuple[float, int]]) -> float:
    """The lower median of values with counts, given in ascending order."""
    half = (sum(count for _, count in pairs) + 1) // 2
    for value, count in pairs:
        half -= count
        if half <= 0:
            return value
    raise ValueError("the median of nothing")
