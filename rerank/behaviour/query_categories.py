"""The categories that a query means, by what is chosen and bought after it."""

from __future__ import annotations

import polars as pl

from rerank.behaviour.answers import QUERY_PRODUCT_PART
from rerank.behaviour.decay import exact_sum
from rerank.behaviour.parts import WHO, Context, PartReader, TableMaker
from rerank.behaviour.popularity import weighted, with_category


def query_categories(read: PartReader, context: Context) -> pl.DataFrame:
    """One row a query (normalised) and category (the whole path), the likeliest first; those of too few shoppers are
    left out, so that the probabilities of a query can add up to less than 1.

    P(category | query) = (w + m P(category)) / (W + m): w is the weight of the query's acts in the category, W of all
    its acts, m the prior `category_prior`, P(category) the share of all queries' acts. Dirichlet smoothing (Zhai &
    Lafferty 2004, A Study of Smoothing Methods for Language Models, section 3). Empty without a catalog.
    """
    options = context.options
    acts = with_category(read(QUERY_PRODUCT_PART), context.products).filter(pl.col("category") != "")
    weight = exact_sum(weighted(options.weights))
    table = acts.group_by("query", "category").agg(weight=weight, shoppers=pl.col(WHO).n_unique().cast(pl.UInt32))
    general = acts.group_by("category").agg(prior=weight).with_columns(pl.col("prior") / weight_of(acts, weight))
    whole = acts.group_by("query").agg(whole=weight)
    table = table.join(general, on="category").join(whole, on="query")
    prior = options.category_prior
    smoothed = (pl.col("weight") + prior * pl.col("prior")) / (pl.col("whole") + prior)
    frequent = table.with_columns(probability=smoothed).filter(pl.col("shoppers") >= options.least_shoppers)
    ordered = frequent.sort("query", "probability", "category", descending=[False, True, False])
    return ordered.select("query", "category", "weight", "shoppers", "probability")


def weight_of(acts: pl.DataFrame, weight: pl.Expr) -> float:
    """The weight of all acts together."""
    return float(acts.select(weight).item())


QUERY_CATEGORIES = TableMaker("query_categories", (QUERY_PRODUCT_PART,), query_categories)
