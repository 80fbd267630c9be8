"""What the shoppers of a store did, in the arrays that a shopper tower is trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl
import xxhash

from rerank.ranker.inputs import ACT_KINDS
from rerank.shoppers.histories import ONE_CHOICE, Histories

RowOf = Callable[[str], int | None]
"""The row of a product id, None where the catalog does not have it."""


@dataclass(frozen=True, slots=True, eq=False)
class ShopperActs:
    """What shoppers who are known by a pseudonym did."""

    histories: Histories
    gone: int
    """Acts on products that the catalog does not have; they are left out."""

    def __str__(self) -> str:
        told = f"{len(self.histories.products):,} acts of {len(self.histories):,} shoppers"
        return f"{told}, {self.gone:,} on products that are gone" if self.gone else told

    @property
    def digest(self) -> str:
        """Names them: a run that was interrupted goes on where these are the same."""
        made = xxhash.xxh3_64()
        for array in (self.histories.products, self.histories.kinds, self.histories.times, self.histories.starts):
            made.update(np.ascontiguousarray(array).tobytes())
        return made.hexdigest()


def shopper_acts(acts: pl.DataFrame, row_of: RowOf) -> ShopperActs:
    """From `rerank.behaviour.derived.Derived.acts`. Several acts on one product in a row, within `ONE_CHOICE`, are one,
    the last of them: a click, the look that it led to and a purchase are one choice."""
    ids = acts["product_id"].cast(pl.String).unique().to_list()
    rows = pl.DataFrame(
        {"product_id": ids, "row": [row_of(each) for each in ids]}, {"product_id": pl.String, "row": pl.Int64}
    )
    numbers = pl.DataFrame(
        {"kind": list(ACT_KINDS), "number": range(len(ACT_KINDS))}, {"kind": pl.String, "number": pl.Int64}
    )
    named = acts.with_columns(pl.col("product_id", "kind").cast(pl.String))
    placed = named.join(rows, on="product_id", how="left").join(numbers, on="kind")
    known = placed.filter(pl.col("row").is_not_null()).sort("shopper", "time", "row", "number")
    is_last = (pl.col("row") != pl.col("row").shift(-1)) | (pl.col("shopper") != pl.col("shopper").shift(-1))
    is_later = (pl.col("time").shift(-1) - pl.col("time")) > timedelta(seconds=ONE_CHOICE)
    kept = known.filter((is_last | is_later).fill_null(value=True))
    lengths = kept.group_by("shopper", maintain_order=True).len()["len"].to_list()
    histories = Histories(
        kept["row"].to_numpy().astype(np.int64),
        kept["number"].to_numpy().astype(np.int64),
        kept["time"].dt.epoch("ms").to_numpy().astype(np.float64) / 1_000,
        np.cumsum([0, *lengths], dtype=np.int64),
    )
    return ShopperActs(histories, len(placed) - len(known))
