"""Sequences: the last acts of each shopper who is known by a pseudonym, for the user tower."""

from __future__ import annotations

import polars as pl

from rerank.behaviour.acts import ACT_PART
from rerank.behaviour.parts import Context, PartReader, TableMaker, shopper_is_known


def sequences(read: PartReader, context: Context) -> pl.DataFrame:
    """One row an act, by shopper and time, the oldest first; `age` counts back from 1, the shopper's last act."""
    acts = read(ACT_PART).filter(shopper_is_known())
    ordered = acts.sort("shopper", "time", "product_id", "kind")
    aged = ordered.with_columns(age=pl.int_range(pl.len(), 0, -1, dtype=pl.UInt32).over("shopper"))
    return aged.filter(pl.col("age") <= context.options.sequence).select("shopper", "age", "product_id", "kind", "time")


SEQUENCES = TableMaker("sequences", (ACT_PART,), sequences)
