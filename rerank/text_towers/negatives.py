"""Hard negatives: products that a retriever ranks high for a query, and that do not answer it as far as is known."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from rerank.text_towers.dataset import Floats, Rows, TowerDataset
from retrieval.records import Product
from retrieval.text.analysis import CHUNKS, fold
from retrieval.text.units import QUANTITIES, in_one, quantities

_BLOCK = 256
"""Queries whose cosines with all products are in memory at once."""
_JUDGED_SHARE = 0.5
"""How often the first negative is one that was judged, where there is one and it is no near miss."""
_NOTHING = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class NegativeOptions:
    """Which products to take, and how many."""

    count: int = 1
    """Of each pair; the other pairs of its batch are negatives besides."""
    first: int = 101
    last: int = 500
    """Ranks of both retrievers. What stands above is too often right, though nobody said so."""
    pool: int = 50_000
    """The most products that are encoded to rank them anew; ranks shrink with the share of the catalog that these
    are."""
    near_misses: float = 0.0
    """The share of pairs whose first negative is a near miss of their positive, where there is one."""


@dataclass(frozen=True, slots=True, eq=False)
class NegativePools:
    """What to draw from, for each query that trains; positives are not among it."""

    retrieved: Sequence[Rows]
    judged: Sequence[Rows]
    """Products that are known and worth too little."""
    near_misses: Mapping[int, Rows] = field(default_factory=dict)
    """By the row of a positive, whatever its query: other positives of that one may be among them."""


def window(ranked: Rows, first: int, last: int) -> Rows:
    """The ranks `first` to `last`, from 1, of rows best first; the lower half where there are fewer than that."""
    return ranked[min(first - 1, len(ranked) // 2) : last]


def build_pools(
    made: TowerDataset,
    rankings: Sequence[Sequence[Rows]],
    near_misses: Mapping[int, Rows] = MappingProxyType({}),
) -> NegativePools:
    """`rankings` has, for each retriever, what it found for each query of `made.training`, in order; `near_misses` has
    those of each positive's row."""
    retrieved, judged = [], []
    for place, (positive, unfit) in enumerate(_known(made)):
        found = [_NOTHING, *(ranking[place] for ranking in rankings)]
        retrieved.append(np.setdiff1d(np.concatenate(found), positive))
        judged.append(unfit)
    return NegativePools(retrieved, judged, near_misses)


def draw_negatives(
    made: TowerDataset, pairs: Rows, found: NegativePools, options: NegativeOptions, size: int, rng: np.random.Generator
) -> Rows:
    """Rows (n, count) of negatives for pairs of queries that train, `pairs` (n,); `size` is the catalog's.

    Where too little was retrieved for a query, any product that is not its positive stands in.
    """
    place_of = {number: place for place, number in enumerate(made.training.tolist())}
    positives = [positive for positive, _ in _known(made)]
    result = np.empty((len(pairs), options.count), np.int64)
    for at, (query, row) in enumerate(zip(made.query_of[pairs].tolist(), made.rows[pairs].tolist(), strict=True)):
        place = place_of[query]
        near = found.near_misses.get(row, _NOTHING)
        chosen = _some(found.retrieved[place], options.count, rng)
        chosen = _led(chosen, found.judged[place], _JUDGED_SHARE, options.count, rng)
        chosen = _led(chosen, near[~np.isin(near, positives[place])], options.near_misses, options.count, rng)
        missing = options.count - len(chosen)
        result[at] = np.concatenate([chosen, _any(positives[place], missing, size, rng)]) if missing else chosen
    return result


def nearest(queries: Floats, products: Floats, rows: Rows, last: int) -> list[Rows]:
    """For each query (q, d) the `last` products of greatest cosine, best first, of those whose unit vectors are
    `products` (p, d) and that stand at `rows` (p,)."""
    last = min(last, len(rows))
    blocks = (queries[start : start + _BLOCK] for start in range(0, len(queries), _BLOCK))
    return [ranked for block in blocks for ranked in _best(block @ products.T, rows, last)]


def _best(scores: NDArray[np.float32], rows: Rows, last: int) -> Iterator[Rows]:
    places = np.argpartition(-scores, last - 1, axis=1)[:, :last]
    # Equal scores stand in the order of rows, whatever the partition made of them.
    places = np.sort(places, axis=1)
    order = np.argsort(-np.take_along_axis(scores, places, axis=1), axis=1, kind="stable")
    yield from rows[np.take_along_axis(places, order, axis=1)]


def _known(made: TowerDataset) -> Iterator[tuple[Rows, Rows]]:
    """Of each query that trains: its positives, and what is known and no positive, ascending."""
    starts = np.searchsorted(made.query_of, made.training)
    ends = np.searchsorted(made.query_of, made.training, side="right")
    is_positive = made.is_positive
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        rows, fits = made.rows[start:end], is_positive[start:end]
        yield rows[fits], rows[~fits]


def _some(rows: Rows, count: int, rng: np.random.Generator) -> Rows:
    return rng.choice(rows, min(count, len(rows)), replace=False) if len(rows) else rows


def _led(chosen: Rows, first: Rows, share: float, count: int, rng: np.random.Generator) -> Rows:
    """What was chosen, so often with one of `first` before it; `count` at most."""
    if not count or not len(first) or rng.random() >= share:
        return chosen
    return np.concatenate([rng.choice(first, 1), chosen])[:count]


def _any(positive: Rows, count: int, size: int, rng: np.random.Generator) -> Rows:
    proposed = rng.integers(0, size, count + len(positive) + 8)
    left = proposed[~np.isin(proposed, positive)]
    # A catalog of nothing but positives has no negatives: the loss masks what stands here.
    return np.resize(left if len(left) else proposed, count)


_QUANTITY = re.compile(QUANTITIES)
_MAX_TITLE = 1_000
"""Characters of a title that are read for sizes."""


@dataclass(frozen=True, slots=True)
class ProductTraits:
    """What tells a product from those near to it."""

    title: str
    """Folded."""
    sizes: Mapping[str, Counter[str]]
    """The numbers of its title by their unit, each as often as it stands there."""
    category: tuple[str, ...]
    """Folded; the deepest level is its type."""


def traits_of(product: Product) -> ProductTraits:
    """Read from title and category; a number without a unit is no size."""
    title = fold(product.title)
    return ProductTraits(title, _sizes(title), tuple(map(fold, product.category)))


def is_near_miss(one: ProductTraits, other: ProductTraits) -> bool:
    """Whether two products, near to each other, differ in a size or in their type; never where their titles are equal.

    Only what both tell can differ: a size where both have one of its unit, the type where both have a category.
    """
    return one.title != other.title and (_differ_in_size(one, other) or _differ_in_type(one, other))


def _sizes(folded: str) -> Mapping[str, Counter[str]]:
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for chunk in CHUNKS.findall(folded[:_MAX_TITLE]):
        if not _QUANTITY.fullmatch(chunk) or in_one(chunk):
            continue
        # "8 x 10 ft": the unit behind is that of all before it.
        unit = ""
        for each in reversed(quantities(chunk)):
            unit = each.unit or unit
            if unit:
                found[unit][each.number] += 1
    return dict(found)


def _differ_in_size(one: ProductTraits, other: ProductTraits) -> bool:
    """Whether, in one unit, each has a number that the other lacks: a title that tells more sizes differs in none."""
    pairs = ((one.sizes[unit], other.sizes[unit]) for unit in one.sizes.keys() & other.sizes.keys())
    return any(mine - theirs and theirs - mine for mine, theirs in pairs)


def _differ_in_type(one: ProductTraits, other: ProductTraits) -> bool:
    if not one.category or not other.category:
        return False
    return one.category[-1] not in other.category and other.category[-1] not in one.category
