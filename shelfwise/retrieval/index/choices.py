"""Guided choice: the fields whose values best divide the products that a broad query may mean.

A shopper looks for one of the candidates, more likely one of the first. Choosing a value keeps the candidates that have
it. The gain is the negative logarithm of their share, in bits, or nothing if the wanted product's value is not shown.
Fields are selected one by one, by the information that they are expected to add to the previous ones (Quinlan 1986,
Induction of Decision Trees).
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.filters.ast import Filter, In, Value, format_filter
from shelfwise.retrieval.filters.schema import CATEGORY_SEPARATOR, attribute_kinds, fold_value, normalize_space
from shelfwise.retrieval.index.ranges import conditions, quantile_bounds, range_filter
from shelfwise.retrieval.records import Choice, ChoiceValue, Facet, FacetCount, Product

CONSIDERED = 60
"""The number of first candidates that are divided."""
MAX_VALUES = 8
"""The most values of a field that are shown."""
_FEW_NUMBERS = 8
"""Up to this many distinct numbers of a field, each is a value; more are divided into ranges."""
_MIN_SHARE = 0.3
"""The share of the candidates, by weight, that must have a field."""
_MIN_GAIN = 0.3
"""The least gain of a field: bits, times the share of shoppers who choose by the field."""
_PRICED = 0.5
"""The share of shoppers who choose by price; for other fields it is the share of titles that contain their value."""
_SAMPLED = 5
"""One in this many candidates is sampled to find the fields that are worth considering."""
_ATTRIBUTE = "attributes."

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Option:
    """A value or a range of numbers, and the candidates (n,) that have it."""

    tree: Filter
    has: NDArray[np.bool_]
    value: str | float | bool | None
    low: float | None = None
    high: float | None = None


def guided_choices(
    products: Sequence[Product],
    ranks: NDArray[np.int64],
    count: Callable[[Sequence[Filter]], Sequence[int]],
    most: int,
    without: Collection[str] = (),
) -> tuple[Choice, ...]:
    """The best fields to choose by, at most `most`, except `without`, with their values.

    `products` (n,) are the candidates of `ranks` (n,), from 1; `count` returns the number of hits per filter.
    """
    weights = 1 / np.log2(ranks + 1)
    weights /= weights.sum()
    # Most attributes are rare or never in titles; a sample of the candidates shows which.
    few = products[::_SAMPLED]
    frequent = Counter(name for product in few for name in product.attributes)
    names = [f"{_ATTRIBUTE}{name}" for name, number in frequent.items() if number > _MIN_SHARE / 2 * len(few)]
    likely = _interests(few, weights[::_SAMPLED], {*names, "brand", "price", "category"}.difference(without))
    interest = _interests(products, weights, likely)
    options = {name: _options(name, _columns(products, name), weights) for name in interest}
    best: list[str] = []
    cells = np.zeros(len(products), np.int64)
    while len(best) < most:
        gains = {n: interest[n] * _gain(each, cells, weights) for n, each in options.items() if n not in best}
        name = max(gains, key=lambda name: gains[name], default="")
        if gains.get(name, 0.0) < _MIN_GAIN:
            break
        best.append(name)
        cells = _refined(cells, options[name])
    return tuple(_counted(name, options[name], count([each.tree for each in options[name]])) for name in best)


def _counted(name: str, options: Sequence[_Option], counts: Sequence[int]) -> Choice:
    pairs = zip(options, counts, strict=True)
    return Choice(name, tuple(ChoiceValue(o.value, o.low, o.high, n, format_filter(o.tree)) for o, n in pairs))


def _interests(products: Sequence[Product], weights: Floats, names: Collection[str]) -> dict[str, float]:
    """The share of shoppers who choose by each field, for fields that enough products have and enough shoppers choose
    by. It is estimated from titles, in which sellers write what shoppers choose by."""
    titles = [fold_value(product.title) for product in products]
    found = {}
    for name in sorted(names):
        values = _columns(products, name)
        has = weights[list(values)]
        in_title = [
            name == "price" or any(is_in_title(titles[place], each) for each in values[place]) for place in values
        ]
        share = float((has * in_title).sum() / has.sum()) if values else 0.0
        if has.sum() >= _MIN_SHARE * weights.sum() and share * math.log2(MAX_VALUES) >= _MIN_GAIN:
            found[name] = _PRICED if name == "price" else share
    return found


def _columns(products: Sequence[Product], name: str) -> dict[int, list[Value]]:
    """The values of the products that have a field, by index; for categories, the whole path."""
    found = {place: _values(product, name) for place, product in enumerate(products)}
    return {place: values for place, values in found.items() if values}


def _values(product: Product, name: str) -> list[Value]:
    if name == "price":
        return [] if product.price is None else [float(product.price)]
    if name in ("brand", "category"):
        text = product.brand if name == "brand" else CATEGORY_SEPARATOR.join(product.category)
        return [text] if text else []
    attribute = product.attributes.get(name.removeprefix(_ATTRIBUTE), ())
    values = [value for _, value in attribute_kinds(attribute)]
    return list(dict.fromkeys(each if isinstance(each, bool | str) else float(each) for each in values))


def is_in_title(title: str, value: Value) -> bool:
    """Whether a folded title contains a value."""
    text = fold_value(value) if isinstance(value, str) else "" if isinstance(value, bool) else f"{value:g}"
    if not text or text not in title:
        return False
    return isinstance(value, str) or re.search(rf"(?<![\d.]){re.escape(text)}(?!\.?\d)", title) is not None


def _options(name: str, values: Mapping[int, Sequence[Value]], weights: Floats) -> list[_Option]:
    """The values of a field to show: texts by weight, numbers in order, many numbers as ranges."""
    places: defaultdict[Value, list[int]] = defaultdict(list)
    shown: dict[Value, Value] = {}
    for place, own in values.items():
        for value in own:
            key: Value = fold_value(value) if isinstance(value, str) else value
            places[key].append(place)
            shown.setdefault(key, normalize_space(value) if isinstance(value, str) else value)
    numbers = {value: some for value, some in places.items() if isinstance(value, float)}
    if name == "price" or len(numbers) > max(_FEW_NUMBERS, len(places) // 2):
        return _ranges(name, numbers, len(weights))
    best = sorted(places, key=lambda value: -weights[places[value]].sum())[:MAX_VALUES]
    if len(numbers) == len(places):
        best.sort(key=float)
    return [_Option(In(name, (shown[key],)), _mask(places[key], len(weights)), shown[key]) for key in best]


def _ranges(name: str, numbers: Mapping[float, Sequence[int]], count: int) -> list[_Option]:
    facet = Facet(name, tuple(FacetCount(value, len(places)) for value, places in numbers.items()))
    found = []
    for within in conditions(name, quantile_bounds(facet)):
        places = [place for value, some in numbers.items() if within.low <= value < within.high for place in some]
        low, high = (bound if math.isfinite(bound) else None for bound in (within.low, within.high))
        if places and (low is not None or high is not None):
            found.append(_Option(range_filter(within), _mask(places, count), None, low, high))
    return found


def _mask(places: Sequence[int], count: int) -> NDArray[np.bool_]:
    made = np.zeros(count, bool)
    made[list(places)] = True
    return made


def _gain(options: Sequence[_Option], cells: NDArray[np.int64], weights: Floats) -> float:
    """The bits that a choice among the options is expected to add to the information in the cells (n,). A candidate
    with several values counts in part for each."""
    if len(options) < 2:
        return 0.0
    has = np.array([each.has for each in options])
    parts = has * (weights / np.maximum(has.sum(axis=0), 1))
    whole = np.bincount(cells, weights)
    gained = 0.0
    for part in parts:
        within = np.bincount(cells, part, minlength=len(whole))
        of = within > 0
        gained += float((within[of] * np.log2(whole[of] / within[of])).sum())
    return gained


def _refined(cells: NDArray[np.int64], options: Sequence[_Option]) -> NDArray[np.int64]:
    """The cells, each divided by the first option of its candidates."""
    has = np.array([*(each.has for each in options), np.ones(len(cells), bool)])
    _, refined = np.unique(np.stack([cells, has.argmax(axis=0)]), axis=1, return_inverse=True)
    return refined.reshape(-1).astype(np.int64)
