"""Finds, among a store's events, the lists that shoppers who are known were shown, and what each had done before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rerank.clicks.click_log import ClickLog, shown_places
from rerank.clicks.outcomes import outcomes
from rerank.ranker.inputs import ACT_KINDS
from rerank.training.click_evidence import ClickEvidence, acts_of
from rerank.training.click_lists import placed
from rerank.training.lists import CandidateLists
from rerank.training.shopper_displays import Acts, ShopperDisplays

RowOf = Callable[[str], int | None]
"""The row of a product id, None where the catalog does not have it."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A period's lists, and what was done on them."""

    events: pl.DataFrame
    """Of the columns that `rerank.clicks.click_log.click_log` takes, and shopper."""
    pairs: pl.DataFrame
    log: ClickLog
    acts: NDArray[np.bool_]
    """(n, depth, 3)"""

    @classmethod
    def learned(cls, events: pl.DataFrame, evidence: ClickEvidence) -> Shown:
        """Of the period that evidence was made of."""
        return cls(events, evidence.pairs, evidence.log, evidence.acts)

    @classmethod
    def of(cls, events: pl.DataFrame, depth: int) -> Shown:
        """Of any period."""
        happened = outcomes(events, depth)
        return cls(events, happened.pairs, happened.log, acts_of(happened))


@dataclass(frozen=True, slots=True, eq=False)
class Shoppers:
    """Who is known by what they did."""

    names: pl.DataFrame
    """shopper (pseudonym), number."""
    past: Acts

    @classmethod
    def of(cls, acts: pl.DataFrame, row_of: RowOf) -> Shoppers:
        """From `rerank.behaviour.derived.Derived.acts`; acts on products that are gone are left out."""
        ids = acts["product_id"].unique()
        rows = pl.DataFrame(
            {"product_id": ids, "row": [row_of(each) for each in ids.to_list()]},
            schema={"product_id": pl.String, "row": pl.Int64},
        )
        kinds = pl.DataFrame({"kind": ACT_KINDS, "place": range(len(ACT_KINDS))}, schema_overrides={"place": pl.Int64})
        known = (
            acts.filter(pl.col("shopper") != "")
            .with_columns(pl.col("kind").cast(pl.String), at=pl.col("time").dt.epoch("ms"))
            .join(rows.drop_nulls(), on="product_id")
            .join(kinds, on="kind")
            .sort("shopper", "at", "row", "place")
            .with_columns(number=pl.col("shopper").rle_id().cast(pl.Int64))
        )
        columns = (known[name].to_numpy() for name in ("number", "row", "place", "at"))
        return cls(known.select("shopper", "number").unique(), Acts(*columns))


def displays_of(shown: Shown, shoppers: Shoppers, lists: CandidateLists, row_of: RowOf) -> ShopperDisplays:
    """The lists of a period on which something was done, and which one shopper alone was shown who is known, the
    earliest first, as they point into the candidates that their queries have now."""
    acted = pl.DataFrame({"row": np.flatnonzero(shown.acts.any(axis=(1, 2)))}, schema={"row": pl.Int64})
    told = _whose(shown, shoppers).join(acted, on="row", how="semi", maintain_order="left")
    at, shopper, times = (told[name].to_numpy() for name in ("row", "number", "at"))
    pairs, _ = placed(shown.pairs, lists, row_of)
    places = np.append(pairs["place"].fill_null(-1).to_numpy(), -1)[shown.log.pairs[at]]
    acts = shown.acts[at] & (places >= 0)[..., None]
    return ShopperDisplays(shopper, times, places, acts, *shoppers.past.before(shopper, times))


def _whose(shown: Shown, shoppers: Shoppers) -> pl.DataFrame:
    """row (of the log), number (of the shopper), at: those lists that one shopper alone was shown."""
    rows = shown_places(shown.events, shown.log.depth).select("row", "query_id").unique()
    seen = shown.events.filter((pl.col("kind").cast(pl.String) == "impression") & (pl.col("query_id") != ""))
    whose = seen.group_by("query_id").agg(
        pl.col("shopper").first(), _shoppers=pl.col("shopper").n_unique(), at=pl.col("time").min().dt.epoch("ms")
    )
    one = whose.filter(pl.col("_shoppers") == 1)
    found = rows.join(one, on="query_id").join(shoppers.names, on="shopper").sort("row")
    return found.select(pl.col("row").cast(pl.Int64), "number", "at")
