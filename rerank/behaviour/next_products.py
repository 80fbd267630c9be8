"""Next products: what shoppers look at after a product, and what they buy after they have bought one.

A first-order Markov chain over what each shopper did, as counts of one product after another. Purchases of a visit
are one basket without an order, so they are followed by those of the next visit in which something was bought
(Rendle, Freudenthaler & Schmidt-Thieme 2010, Factorizing Personalized Markov Chains, section 4).
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from rerank.behaviour.acts import ACT_PART, VIEWS
from rerank.behaviour.decay import decay_at, exact_sum
from rerank.behaviour.parts import WHO, Context, PartReader, TableMaker

_LARGEST_BASKET = 50
"""What is bought in larger ones says little of what goes with what, and has many pairs."""


def next_products(read: PartReader, context: Context) -> pl.DataFrame:
    """One row a pair, by kind ("view" or "purchase"), product and rank; pairs of too few shoppers are left out.

    `probability` is the pair's weight among all pairs of its product, rare ones too, each pair weighing less the longer
    the pause was (half after `next_view_half_life` or `next_purchase_half_life`).
    """
    options = context.options
    acts = read(ACT_PART)
    views, purchases = _views(acts), _baskets(acts)
    return pl.concat(
        [
            _ranked("view", views, options.next_view_half_life, context),
            _ranked("purchase", purchases, options.next_purchase_half_life, context),
        ]
    )


def _views(acts: pl.DataFrame) -> pl.DataFrame:
    """Each view with the one of another product that came next: who, product_id, next_id, pause."""
    views = acts.filter(pl.col("kind").is_in(VIEWS)).sort(WHO, "time", "product_id")
    # A click and the page view that it led to are one look.
    is_again = (pl.col("product_id") == pl.col("product_id").shift(1)).over(WHO).fill_null(False)
    looks = views.filter(~is_again)
    following = [pl.col("product_id").shift(-1).over(WHO).alias("next_id"), pl.col("time").shift(-1).over(WHO)]
    paired = looks.select(WHO, "product_id", *following, began="time")
    return paired.filter(pl.col("next_id").is_not_null()).select(*_PAIR, pause=pl.col("time") - pl.col("began"))


def _baskets(acts: pl.DataFrame) -> pl.DataFrame:
    """Each product of a basket with each other one of the shopper's next basket: who, product_id, next_id, pause."""
    bought = acts.filter(pl.col("kind") == "purchase")
    items = bought.group_by(WHO, "day", "visit", "product_id").agg(pl.col("time").min())
    began = pl.col("time").min().over(WHO, "day", "visit")
    items = items.with_columns(began=began, size=pl.len().over(WHO, "day", "visit"))
    items = items.filter(pl.col("size") <= _LARGEST_BASKET)
    numbered = items.with_columns(basket=pl.struct("began", "day", "visit").rank("dense").over(WHO).cast(pl.Int64))
    following = numbered.select(WHO, pl.col("basket") - 1, next_id="product_id", then="began")
    pairs = numbered.join(following, on=[WHO, "basket"]).filter(pl.col("product_id") != pl.col("next_id"))
    return pairs.select(*_PAIR, pause=pl.col("then") - pl.col("began"))


_PAIR = (WHO, "product_id", "next_id")


def _ranked(kind: str, pairs: pl.DataFrame, half_life: timedelta, context: Context) -> pl.DataFrame:
    options = context.options
    pause = pl.col("pause").dt.total_milliseconds()
    weight = exact_sum(decay_at(pause, half_life / timedelta(milliseconds=1)))
    table = pairs.group_by("product_id", "next_id").agg(
        count=pl.len().cast(pl.UInt32), shoppers=pl.col(WHO).n_unique().cast(pl.UInt32), weight=weight
    )
    whole = pairs.group_by("product_id").agg(whole=weight)
    # All pauses can be so long that their weights are next to nothing.
    share = pl.when(pl.col("whole") > 0).then(pl.col("weight") / pl.col("whole")).otherwise(0.0)
    frequent = table.join(whole, on="product_id").filter(pl.col("shoppers") >= options.least_shoppers)
    scored = frequent.with_columns(kind=pl.lit(kind), probability=share)
    ordered = scored.sort("product_id", "probability", "count", "next_id", descending=[False, True, True, False])
    ranked = ordered.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).over("product_id"))
    ranked = ranked.filter(pl.col("rank") <= options.neighbours)
    return ranked.select("kind", "product_id", "next_id", "count", "shoppers", "weight", "probability", "rank")


NEXT_PRODUCTS = TableMaker("next_products", (ACT_PART,), next_products)
