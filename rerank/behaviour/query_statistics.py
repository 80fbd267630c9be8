"""Statistics of queries: how often they are asked, by how many, what they show, what comes of them."""

from __future__ import annotations

import polars as pl

from rerank.behaviour.answers import ANSWER_PART
from rerank.behaviour.decay import with_trend
from rerank.behaviour.parts import WHO, Context, PartReader, TableMaker

_SUMS = ("impressions", "clicks", "carts", "purchases")


def query_statistics(read: PartReader, context: Context) -> pl.DataFrame:
    """One row a query (normalised), most searched first; queries of too few shoppers are left out."""
    options = context.options
    answers = read(ANSWER_PART)
    searched = answers.filter("searched")
    daily = searched.group_by("query", "day").agg(searches=pl.len())
    trends = with_trend(daily, "query", pl.col("searches"), context.window, options).select("query", "trend")
    sums = answers.group_by("query").agg(pl.col(_SUMS).sum())
    table = searched.group_by("query").agg(*_facts()).filter(pl.col("shoppers") >= options.least_shoppers)
    table = table.join(sums, on="query").join(trends, on="query").join(_spellings(searched), on="query")
    ordered = table.sort("searches", "query", descending=[True, False])
    return ordered.select(
        "query",
        "spelling",
        "searches",
        "shoppers",
        *_SUMS,
        _share(pl.col("clicks"), pl.col("impressions")).alias("ctr"),
        _share(pl.col("clicked"), pl.col("searches")).alias("clicked_share"),
        "mean_first_click",
        "empty",
        _share(pl.col("reformulated"), pl.col("searches")).alias("reformulated_share"),
        "trend",
    )


def _facts() -> tuple[pl.Expr, ...]:
    return (
        pl.len().cast(pl.UInt32).alias("searches"),
        pl.col(WHO).n_unique().cast(pl.UInt32).alias("shoppers"),
        (pl.col("clicks") > 0).sum().cast(pl.UInt32).alias("clicked"),
        # Whole numbers are added up, so that the order of days does not show.
        _share(pl.col("first_click").cast(pl.Int64).sum(), pl.col("first_click").count()).alias("mean_first_click"),
        pl.col("empty").sum().cast(pl.UInt32),
        pl.col("following").is_not_null().sum().cast(pl.UInt32).alias("reformulated"),
    )


def _share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    """Null where there is nothing of which it could be a share."""
    return pl.when(whole > 0).then(part / whole)


def _spellings(answers: pl.DataFrame) -> pl.DataFrame:
    """The spelling of each query that is used most, of equally frequent ones the first."""
    counts = answers.group_by("query", "spelling").len()
    ordered = counts.sort("query", "len", "spelling", descending=[False, True, False])
    return ordered.unique("query", keep="first").select("query", "spelling")


QUERIES = TableMaker("queries", (ANSWER_PART,), query_statistics)
