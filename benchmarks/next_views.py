"""What a shopper looks at after a product, held out by time: found by texts, by co-views, or by both as is served.

Co-views are those of the table `neighbours` as it stood before the first held-out view, so nothing sees the future.
Other weights of the mixture are tried on the days before those that judge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.shopper_means import over_shoppers
from rerank.behaviour.acts import VIEWS
from rerank.behaviour.derived import Derived
from rerank.gate.bootstrap import Difference
from rerank.shoppers.histories import Ints
from rerank.shoppers.measures import hit_rate, ndcg
from retrieval.errors import InputError
from service.coviews import CoViews
from service.derived_tables import coviews_of
from service.similar import TEXTS_ALONE, Mixture, similar_products
from service.snapshot import Snapshot

Ranker = Callable[[str], Sequence[str]]
"""The ids of the best `DEPTH` products beside one."""
DEPTH = 10
WEIGHTS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""That are tried on the part that tunes; 0 is texts alone."""
LONGEST_PAUSE = timedelta(minutes=30)
"""Between two views of one visit."""
TEXTS, COVIEWS, MIXED = "texts", "co-views", "mixed"
EVERYTHING, KNOWN = "all views", "after products with co-views"


@dataclass(frozen=True, slots=True)
class Views:
    """Views that were each followed by one of another product."""

    shoppers: Ints
    """(n,): by number."""
    products: tuple[str, ...]
    """(n)."""
    following: tuple[str, ...]
    """(n): what was looked at next."""


@dataclass(frozen=True, slots=True)
class ViewPart:
    """What may be known, and the views after it."""

    coviews: CoViews
    views: Views


@dataclass(frozen=True, slots=True)
class Figures:
    """What one way reached; intervals of 95%, by bootstrap over shoppers."""

    recall: Difference
    """Recall@10; `queries` counts shoppers."""
    ndcg: Difference
    """nDCG@10."""
    mixed_above: Difference | None
    """The mixture's nDCG@10 less this one's, paired by shopper; None for the mixture itself."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Some of the views that judge, by way."""

    views: int
    shoppers: int
    figures: Mapping[str, Figures]


@dataclass(frozen=True, slots=True)
class SimilarReport:
    """All ways on the same views."""

    products: int
    known: int
    """Products with co-views."""
    weight: float
    """That is served, and judged here."""
    tuning_views: int
    tuning: Mapping[float, float]
    """nDCG@10 on the part that tunes, by weight."""
    slices: Mapping[str, Slice]


def split_views(derived: Derived, days: int, is_known: Callable[[str], bool]) -> tuple[ViewPart, ViewPart]:
    """What tunes, and what judges: the last `days` of the acts, and as many before them; raises InputError where
    nobody did anything."""
    acts = derived.acts()
    if acts.is_empty():
        raise InputError("no shopper who is known looked at anything: there is nothing to judge by")
    last: datetime = acts["time"].max()  # type: ignore[assignment]
    ends = [last + timedelta(milliseconds=1) - timedelta(days=days * ago) for ago in (2, 1, 0)]
    tuning, judging = (
        ViewPart(coviews_of(derived.neighbours_before(begin)), next_views(acts, begin, end, is_known))
        for begin, end in pairwise(ends)
    )
    return tuning, judging


def next_views(acts: pl.DataFrame, begin: datetime, end: datetime, is_known: Callable[[str], bool]) -> Views:
    """The views within [begin, end), each with the next other product of the same shopper that follows within
    `LONGEST_PAUSE`; `acts` has shopper, product_id, kind and time. Products that are not known are passed over."""
    known = [name for name in acts["product_id"].unique().to_list() if is_known(name)]
    looked = pl.col("kind").is_in(VIEWS) & pl.col("product_id").is_in(known)
    within = (pl.col("time") >= begin) & (pl.col("time") < end)
    views = acts.filter(looked & within).sort("shopper", "time", "product_id")
    # A click and the look at the page that it leads to are one view.
    runs = views.filter(pl.col("product_id").ne_missing(pl.col("product_id").shift().over("shopper")))
    following = runs.with_columns(
        following=pl.col("product_id").shift(-1).over("shopper"),
        pause=pl.col("time").shift(-1).over("shopper") - pl.col("time"),
    ).filter(pl.col("pause") <= LONGEST_PAUSE)
    shoppers = following["shopper"].rank("dense").cast(pl.Int64).to_numpy()
    return Views(shoppers, tuple(following["product_id"]), tuple(following["following"]))


def measure_similar(snapshot: Snapshot, tuning: ViewPart, judging: ViewPart, weight: float) -> SimilarReport:
    """Texts, co-views and their mixture by `weight` on the views that judge, other weights on those that tune; raises
    InputError where either has no view."""
    for name, part in (("tunes", tuning), ("judges", judging)):
        if not part.views.products:
            raise InputError(f"nobody looked at one product after another in the part that {name}: give more days")
    tried = {each: _mixed(snapshot, Mixture(tuning.coviews, each)) for each in WEIGHTS}
    ways: dict[str, Ranker] = {
        TEXTS: _mixed(snapshot, TEXTS_ALONE),
        COVIEWS: _coviewed(snapshot, judging.coviews),
        MIXED: _mixed(snapshot, Mixture(judging.coviews, weight)),
    }
    ranks = {name: found_ranks(judging.views, way) for name, way in ways.items()}
    has_coviews = np.array([bool(judging.coviews.of(each)) for each in judging.views.products])
    parts = {EVERYTHING: np.ones(len(has_coviews), np.bool_), KNOWN: has_coviews}
    return SimilarReport(
        len(snapshot.products),
        int((np.diff(judging.coviews.starts) > 0).sum()),
        weight,
        len(tuning.views.products),
        {each: float(ndcg(found_ranks(tuning.views, way), DEPTH).mean()) for each, way in tried.items()},
        {name: _slice(judging.views, chosen, ranks) for name, chosen in parts.items() if chosen.any()},
    )


def found_ranks(views: Views, ranker: Ranker) -> Ints:
    """(n,): where what was looked at next stands beside each product, from 1; `DEPTH` + 1 where it is not found."""
    best = {product: list(ranker(product)) for product in dict.fromkeys(views.products)}
    found = (
        best[product].index(wanted) + 1 if wanted in best[product] else DEPTH + 1
        for product, wanted in zip(views.products, views.following, strict=True)
    )
    return np.fromiter(found, np.int64, len(views.products))


def _mixed(snapshot: Snapshot, mixture: Mixture) -> Ranker:
    def best(product: str) -> list[str]:
        return [hit.product.id for hit in similar_products(snapshot, product, DEPTH, "", mixture=mixture).hits]

    return best


def _coviewed(snapshot: Snapshot, coviews: CoViews) -> Ranker:
    def best(product: str) -> list[str]:
        there = [name for name, _ in coviews.of(product) if snapshot.products.row_of(name) is not None]
        return there[:DEPTH]

    return best


def _slice(views: Views, chosen: NDArray[np.bool_], ranks: Mapping[str, Ints]) -> Slice:
    shoppers = views.shoppers[chosen]
    gains = {name: ndcg(found[chosen], DEPTH) for name, found in ranks.items()}
    figures = {
        name: Figures(
            over_shoppers(hit_rate(ranks[name][chosen], DEPTH), shoppers),
            over_shoppers(gain, shoppers),
            None if name == MIXED else over_shoppers(gains[MIXED] - gain, shoppers),
        )
        for name, gain in gains.items()
    }
    return Slice(len(shoppers), len(np.unique(shoppers)), figures)
