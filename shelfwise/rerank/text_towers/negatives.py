"""Hard negatives: products that a retriever ranks high for a query and that are not known positives."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.text_towers.dataset import Floats, Rows, TowerDataset
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.text.analysis import CHUNKS, fold
from shelfwise.retrieval.text.units import QUANTITIES, in_one, quantities

_BLOCK = 256
"""Queries per block of cosines."""
_JUDGED_SHARE = 0.5
"""Probability that the first negative is a judged one, if there is one and no near miss."""
_NOTHING = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class NegativeOptions:
    """Options of negative sampling."""

    count: int = 1
    """Negatives of each pair, in addition to the other pairs of its batch."""
    first: int = 101
    last: int = 500
    """Ranks of both retrievers; products above are too often relevant though unjudged."""
    pool: int = 50_000
    """Maximum products that are encoded to mine again; ranks are scaled by their share of the catalog."""
    near_misses: float = 0.0
    """Share of pairs whose first negative is a near miss of their positive, if there is one."""


@dataclass(frozen=True, slots=True, eq=False)
class NegativePools:
    """Negative pools of each training query, without its positives."""

    retrieved: Sequence[Rows]
    judged: Sequence[Rows]
    """Judged products below the gain of a positive."""
    near_misses: Mapping[int, Rows] = field(default_factory=dict)
    """Near misses by row of a positive; may contain other positives of the query."""


def window(ranked: Rows, first: int, last: int) -> Rows:
    """Ranks `first` to `last`, from 1, of rows best first; the lower half if there are fewer."""
    return ranked[min(first - 1, len(ranked) // 2) : last]


def build_pools(
    made: TowerDataset, rankings: Sequence[Sequence[Rows]], near_misses: Mapping[int, Rows] = MappingProxyType({})
) -> NegativePools:
    """Builds pools; `rankings` has each retriever's results for each query of `made.training`, `near_misses` those of
    each positive's row."""
    retrieved, judged = [], []
    for place, (positive, unfit) in enumerate(_known(made)):
        found = [_NOTHING, *(ranking[place] for ranking in rankings)]
        retrieved.append(np.setdiff1d(np.concatenate(found), positive))
        judged.append(unfit)
    return NegativePools(retrieved, judged, near_misses)


def draw_negatives(
    made: TowerDataset, pairs: Rows, found: NegativePools, options: NegativeOptions, size: int, rng: np.random.Generator
) -> Rows:
    """Draws negatives (n, count) for training pairs (n,); `size` is the catalog's. Random products that are not
    positives fill up short pools."""
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
    """The `last` products of greatest cosine for each query (q, d), best first; `products` (p, d) are unit vectors with
    their `rows` (p,)."""
    last = min(last, len(rows))
    blocks = (queries[start : start + _BLOCK] for start in range(0, len(queries), _BLOCK))
    return [ranked for block in blocks for ranked in _best(block @ products.T, rows, last)]


def _best(scores: NDArray[np.float32], rows: Rows, last: int) -> Iterator[Rows]:
    places = np.argpartition(-scores, last - 1, axis=1)[:, :last]
    # Ties are ordered by row, whatever the partition returned.
    places = np.sort(places, axis=1)
    order = np.argsort(-np.take_along_axis(scores, places, axis=1), axis=1, kind="stable")
    yield from rows[np.take_along_axis(places, order, axis=1)]


def _known(made: TowerDataset) -> Iterator[tuple[Rows, Rows]]:
    """The positives of each training query, and its judged non-positives, ascending."""
    starts = np.searchsorted(made.query_of, made.training)
    ends = np.searchsorted(made.query_of, made.training, side="right")
    is_positive = made.is_positive
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        rows, fits = made.rows[start:end], is_positive[start:end]
        yield rows[fits], rows[~fits]


def _some(rows: Rows, count: int, rng: np.random.Generator) -> Rows:
    return rng.choice(rows, min(count, len(rows)), replace=False) if len(rows) else rows


def _led(chosen: Rows, first: Rows, share: float, count: int, rng: np.random.Generator) -> Rows:
    if not count or not len(first) or rng.random() >= share:
        return chosen
    return np.concatenate([rng.choice(first, 1), chosen])[:count]


def _any(positive: Rows, count: int, size: int, rng: np.random.Generator) -> Rows:
    proposed = rng.integers(0, size, count + len(positive) + 8)
    left = proposed[~np.isin(proposed, positive)]
    # A catalog of positives only has no negatives: the loss masks these.
    return np.resize(left if len(left) else proposed, count)


_QUANTITY = re.compile(QUANTITIES)
_MAX_TITLE = 1_000
"""Characters of a title parsed for sizes."""


@dataclass(frozen=True, slots=True)
class ProductTraits:
    """Product traits that identify near misses."""

    title: str
    """Folded."""
    sizes: Mapping[str, Counter[str]]
    """Numbers of the title by unit, with multiplicity."""
    category: tuple[str, ...]
    """Folded; the deepest level is the type."""


def traits_of(product: Product) -> ProductTraits:
    """Reads traits from title and category; numbers without a unit are ignored."""
    title = fold(product.title)
    return ProductTraits(title, _sizes(title), tuple(map(fold, product.category)))


def is_near_miss(one: ProductTraits, other: ProductTraits) -> bool:
    """Whether two similar products differ in a size or in type; False for equal titles. Only sizes with a common unit
    and known categories are compared."""
    return one.title != other.title and (_differ_in_size(one, other) or _differ_in_type(one, other))


def _sizes(folded: str) -> Mapping[str, Counter[str]]:
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for chunk in CHUNKS.findall(folded[:_MAX_TITLE]):
        if not _QUANTITY.fullmatch(chunk) or in_one(chunk):
            continue
        # "8 x 10 ft": the unit applies to all numbers before it.
        unit = ""
        for each in reversed(quantities(chunk)):
            unit = each.unit or unit
            if unit:
                found[unit][each.number] += 1
    return dict(found)


def _differ_in_size(one: ProductTraits, other: ProductTraits) -> bool:
    """Whether, in one unit, each has a number that the other lacks."""
    pairs = ((one.sizes[unit], other.sizes[unit]) for unit in one.sizes.keys() & other.sizes.keys())
    return any(mine - theirs and theirs - mine for mine, theirs in pairs)


def _differ_in_type(one: ProductTraits, other: ProductTraits) -> bool:
    if not one.category or not other.category:
        return False
    return one.category[-1] not in other.category and other.category[-1] not in one.category
