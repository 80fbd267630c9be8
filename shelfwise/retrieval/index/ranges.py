"""Ranges of a numeric field, such as price buckets: their bounds, as given or by quantiles, and their filters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from shelfwise.retrieval.errors import QueryError, UnknownFieldError
from shelfwise.retrieval.filters.ast import And, Comparison, Filter, format_filter
from shelfwise.retrieval.filters.conditions import NumberWithin
from shelfwise.retrieval.filters.schema import FieldCatalog, FieldKind
from shelfwise.retrieval.records import Facet, RangeCount

MAX_BOUNDS = 100
_AUTOMATIC = 6
"""The most ranges of a field without given bounds."""
_STEPS = np.array([1.0, 2.0, 5.0])


@dataclass(frozen=True, slots=True)
class RangedField:
    """A numeric field and the bounds of its ranges, ascending. A range ends below the next bound; the last one is
    open-ended."""

    request: str
    field: str
    bounds: tuple[float, ...] = ()
    """Empty for quantile ranges."""


def parse_ranges(text: str, catalog: FieldCatalog) -> RangedField:
    """A field (`price`), or a field and the bounds of its ranges (`price:0,50,100`).

    Raises UnknownFieldError for a field that is not numeric, QueryError for bounds that do not ascend, or too many.
    """
    name, colon, given = ("", "", "") if text in catalog.fields else text.rpartition(":")
    info = catalog.resolve(name if colon else text)
    if FieldKind.NUMBER not in info.kinds:
        message = f"ranges: {info.name} has no numbers; use a numeric field, such as price"
        raise UnknownFieldError(message, info.name, ("price",))
    if not colon:
        return RangedField(text, info.name)
    try:
        bounds = tuple(map(float, given.split(",")))
    except ValueError:
        bounds = (math.nan,)
    if not (all(map(math.isfinite, bounds)) and all(low < high for low, high in pairwise(bounds))):
        raise QueryError(f"ranges has {text[:100]!r}; the bounds must be ascending numbers, such as price:0,50,100")
    if len(bounds) > MAX_BOUNDS:
        raise QueryError(f"ranges has {len(bounds)} bounds of {info.name}; at most {MAX_BOUNDS} are allowed")
    return RangedField(name, info.name, bounds)


def quantile_bounds(facet: Facet) -> tuple[float, ...]:
    """Bounds of at most six ranges with about equal numbers of products, from all values of a facet; minus infinity
    first. Empty if there are fewer than two values.

    Each quantile is rounded down by less than half of its distance to its neighbours, so that no range is empty.
    """
    counts = {float(each.value): each.count for each in facet.counts if type(each.value) is float}
    values = np.array(sorted(counts))
    if len(values) < 2:
        return ()
    shares = np.cumsum([counts[value] for value in values.tolist()])
    wanted = np.arange(1, _AUTOMATIC) / _AUTOMATIC * shares[-1]
    quantiles = np.unique(values[np.searchsorted(shares, wanted)])
    places = np.unique([values[0], *quantiles, values[-1]])
    bounds = []
    for quantile in quantiles[quantiles > values[0]].tolist():
        at = int(np.searchsorted(places, quantile))
        nearest = np.diff(places[max(at - 1, 0) : at + 2]).min()
        bounds.append(_rounded_down(quantile, float(nearest) / 2))
    return (-math.inf, *bounds)


def _rounded_down(number: float, most: float) -> float:
    """Rounds down to a multiple of the largest of 1, 2 and 5 times a power of ten that is at most `most`."""
    digits = math.floor(math.log10(most))
    step = float(_STEPS[_STEPS * 10.0**digits <= most * (1 + 1e-9)].max(initial=1.0))
    # Computed with integer powers of ten, so that 0.3 does not become 0.30000000000000004.
    count = math.floor(number / (step * 10.0**digits) + 1e-9)
    rounded = round(count * step * 10.0**digits, max(0, -digits))
    return rounded if rounded <= number else round((count - 1) * step * 10.0**digits, max(0, -digits))


def conditions(field: str, bounds: Sequence[float]) -> Iterator[NumberWithin]:
    """The condition of each range."""
    for low, high in pairwise((*bounds, math.inf)):
        yield NumberWithin(field, low, high, include_high=high == math.inf)


def range_filter(within: NumberWithin) -> Filter:
    """The filter for the products of a range, which has at least one end."""
    ends = [Comparison(within.field, ">=", within.low)] if math.isfinite(within.low) else []
    ends += [Comparison(within.field, "<", within.high)] if math.isfinite(within.high) else []
    return ends[0] if len(ends) == 1 else And(tuple(ends))


def range_count(within: NumberWithin, count: int) -> RangeCount:
    """A range with its number of hits."""
    low, high = (bound if math.isfinite(bound) else None for bound in (within.low, within.high))
    return RangeCount(low, high, count, format_filter(range_filter(within)))
