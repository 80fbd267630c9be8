"""Our ways of foretelling what a shopper buys next, over arrays: as they are served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.next_baselines import profiles
from benchmarks.next_ways import Chosen, Fit, Floats, Judge, Material, Scorer, Way, best_of
from benchmarks.purchases import Case, Purchases
from rerank.behaviour.next_products import next_products
from rerank.behaviour.options import DeriveOptions
from rerank.behaviour.parts import Context
from retrieval.events.stored import DAY_MS, moment
from service.recommending import FADING, NEWEST

TOWER = "shopper-tower"


def our_ways(tower: Fit | None = None, least_shoppers: int = 1) -> list[Way]:
    """Near texts, next products, and the shopper tower, which chooses for itself when to stop, and knows products and
    pairs that so many shoppers chose."""
    return [
        Way("near-texts", best_of({"": near_texts}), ours=True),
        Way(
            "next-products",
            best_of({f"pairs of {least} shoppers": partial(markov, least=least) for least in (1, 2, 5)}),
            ours=True,
        ),
        Way(TOWER, partial(_as_it_comes, tower or partial(shopper_tower, least_shoppers=least_shoppers)), ours=True),
    ]


def _as_it_comes(fit: Fit, _material: Material, _judge: Judge) -> Chosen:
    return Chosen("", fit)


def near_texts(material: Material) -> Scorer:
    """Each product by the one of the last purchases that its text is nearest to, as `service.recommending` does."""

    def scores(cases: Sequence[Case]) -> NDArray[np.float32]:
        found = np.zeros((len(cases), material.products), np.float32)
        for row, case in enumerate(cases):
            newest = list(dict.fromkeys(case.history[::-1].tolist()))[:NEWEST]
            if newest:
                weights = (FADING ** np.arange(len(newest)))[:, None]
                found[row] = (weights * (material.vectors[newest] @ material.vectors.T)).max(axis=0)
        return found

    return scores


def markov(material: Material, least: int) -> Scorer:
    """The table of next products, of pairs that so many shoppers made, added up over the last purchases."""
    from scipy.sparse import csr_matrix

    table = next_products(lambda _part: _acts(material.purchases), _context(material.purchases, least))
    pairs = table.filter(pl.col("kind") == "purchase")
    ends = (pairs[name].cast(pl.Int64).to_numpy() for name in ("product_id", "next_id"))
    after = csr_matrix((pairs["probability"].to_numpy(), tuple(ends)), shape=(material.products, material.products))

    def scores(cases: Sequence[Case]) -> Floats:
        return np.asarray((profiles(cases, material.products, FADING, NEWEST) @ after).toarray())

    return scores


def _acts(purchases: Purchases) -> pl.DataFrame:
    """As `rerank.behaviour.acts.ACT_PART` gives them."""
    who = pl.Series(purchases.shoppers).cast(pl.String)
    columns = {
        "who": who,
        "shopper": who,
        "visit": pl.Series(purchases.visits),
        "product_id": pl.Series(purchases.products).cast(pl.String),
        "time": pl.Series(purchases.times).cast(pl.Datetime("ms", "UTC")),
        "day": pl.Series(purchases.times // DAY_MS, dtype=pl.Int32),
    }
    return pl.DataFrame(columns).with_columns(kind=pl.lit("purchase"))


def _context(purchases: Purchases, least: int) -> Context:
    newest = moment(int(purchases.times.max()))
    options = replace(DeriveOptions(until=newest), least_shoppers=least)
    return Context(options.window(newest), options, None)


def shopper_tower(material: Material, least_shoppers: int = 1) -> Scorer:
    """`rerank.shoppers`: a transformer over the last acts, in the space of the products' texts."""
    from rerank.shoppers.histories import Histories
    from rerank.shoppers.training import ShopperTowerOptions, fit

    purchases = material.purchases
    times = [(each / 1000).tolist() for each in purchases.history_times] if purchases.timed else None
    acts = Histories.of([each.tolist() for each in purchases.histories], times=times)
    options = ShopperTowerOptions(hide_seen=material.hide_seen, seed=material.seed, least_shoppers=least_shoppers)
    tower = fit(material.vectors, acts, options, categories=material.categories)

    def scores(cases: Sequence[Case]) -> NDArray[np.float32]:
        when = [(case.times / 1000).tolist() for case in cases] if purchases.timed else None
        now = np.array([case.now / 1000 for case in cases]) if purchases.timed else None
        return np.asarray(tower.scores(Histories.of([case.history.tolist() for case in cases], times=when), now))

    return scores
