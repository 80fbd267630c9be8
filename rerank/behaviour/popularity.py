"""Popularity of products: what is chosen, put into carts and bought of late, and whether more than usual."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from rerank.behaviour.acts import ACT_PART, COUNT_PART, counted
from rerank.behaviour.decay import day_decay, exact_sum, with_trend
from rerank.behaviour.options import ActWeights, Window
from rerank.behaviour.parts import WHO, Context, PartReader, TableMaker

_COUNTS = ("impressions", "clicks", "consultations", "carts", "purchases")


def popularity(read: PartReader, context: Context) -> pl.DataFrame:
    """One row a product, by category and rank; products of too few shoppers are left out.

    Ranks are among the products that are left, from 1 within each category (the whole path).
    """
    options = context.options
    daily = read(COUNT_PART)
    counts = daily.group_by("product_id").agg(pl.col(_COUNTS).sum())
    shoppers = read(ACT_PART).group_by("product_id").agg(shoppers=pl.col(WHO).n_unique())
    scores = with_trend(daily, "product_id", weighted(options.weights), context.window, options)
    table = counts.join(shoppers, on="product_id").join(scores, on="product_id")
    table = with_category(table.filter(pl.col("shoppers") >= options.least_shoppers), context.products)
    ranked = table.sort("category", "score", "product_id", descending=[False, True, False])
    rank = pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).over("category")
    return ranked.select("product_id", "category", *_COUNTS, "shoppers", "score", "trend", rank=rank)


def scores_before(acts: pl.DataFrame, end: datetime, context: Context) -> pl.DataFrame:
    """product_id and score as that table had them at a time within its window: of the rows of `ACT_PART` before `end`
    alone, so that who learns from what came then is told nothing of it."""
    options = context.options
    before = acts.filter(pl.col("time") < end)
    daily = before.group_by("product_id", "day").agg(
        clicks=counted("click"),
        consultations=counted("consultation"),
        carts=counted("cart"),
        purchases=counted("purchase"),
    )
    window = Window(context.window.first, end - timedelta(milliseconds=1))
    amount = weighted(options.weights) * day_decay(window, options.half_life)
    scores = daily.group_by("product_id").agg(score=exact_sum(amount))
    shoppers = before.group_by("product_id").agg(shoppers=pl.col(WHO).n_unique())
    known = scores.join(shoppers, on="product_id").filter(pl.col("shoppers") >= options.least_shoppers)
    return known.select("product_id", "score").sort("product_id")


def weighted(weights: ActWeights) -> pl.Expr:
    """What the acts that are counted in a row are worth together."""
    return (
        weights.click * pl.col("clicks")
        + weights.consultation * pl.col("consultations")
        + weights.cart * pl.col("carts")
        + weights.purchase * pl.col("purchases")
    )


def with_category(table: pl.DataFrame, products: pl.DataFrame | None) -> pl.DataFrame:
    """The table with the `category` of its `product_id`; empty where it is not known."""
    if products is None:
        return table.with_columns(category=pl.lit(""))
    categories = products.select("product_id", "category").unique("product_id", keep="first")
    joined = table.join(categories, on="product_id", how="left", maintain_order="left")
    return joined.with_columns(pl.col("category").fill_null(""))


POPULARITY = TableMaker("popularity", (COUNT_PART, ACT_PART), popularity)
