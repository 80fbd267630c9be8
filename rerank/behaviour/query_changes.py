"""Reformulations: which query shoppers replaced by which other one, for the same need, and how that need ended."""

from __future__ import annotations

import polars as pl

from rerank.behaviour.answers import ANSWER_PART
from rerank.behaviour.parts import WHO, Context, PartReader, TableMaker

_CHAIN = ("day", "visit", "need")
_ENDS = ("purchases", "carts", "clicks")
"""From the furthest on."""


def reformulations(read: PartReader, context: Context) -> pl.DataFrame:
    """One row a pair of queries, most frequent first; pairs of too few shoppers are left out.

    A chain ends with the furthest that was done on any of its answers from the second query of the pair on:
    `purchased`, `carted` and `clicked` count chains, each under one of the three at most. A chain that goes back and
    forth between two queries counts once for each direction, from the first time on.
    """
    answers = read(ANSWER_PART).sort(*_CHAIN, "start", "query_id")
    later = [pl.col(end).reverse().cum_sum().reverse().shift(-1).over(_CHAIN).fill_null(0).alias(end) for end in _ENDS]
    pairs = answers.with_columns(*later).filter(pl.col("following").is_not_null())
    pairs = pairs.unique([*_CHAIN, "query", "following"], keep="first", maintain_order=True)
    purchased, carted, clicked = (pl.col(end) > 0 for end in _ENDS)
    table = pairs.group_by("query", "following").agg(
        _number(pl.len()).alias("count"),
        _number(pl.col(WHO).n_unique()).alias("shoppers"),
        _number(purchased.sum()).alias("purchased"),
        _number((carted & ~purchased).sum()).alias("carted"),
        _number((clicked & ~carted & ~purchased).sum()).alias("clicked"),
    )
    frequent = table.filter(pl.col("shoppers") >= context.options.least_shoppers)
    ordered = frequent.sort("count", "query", "following", descending=[True, False, False])
    return ordered.rename({"following": "to_query"})


def _number(count: pl.Expr) -> pl.Expr:
    return count.cast(pl.UInt32)


REFORMULATIONS = TableMaker("reformulations", (ANSWER_PART,), reformulations)
