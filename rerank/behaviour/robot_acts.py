"""What visits and sources did, in the sums that robots are told by. A source is a shopper, or a visit of nobody known.

Sums are made for visits, and added up for sources: the evidence of one visit counts for all that its shopper did.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

_SHORTEST_MS = 50
"""No dwell counts as less: clocks are not finer than that."""
LAST_POSITION = 50
"""Positions from here on are taken together."""


@dataclass(frozen=True, slots=True, eq=False)
class Acts:
    """The tables that every signal is made of.

    `visits`: visit, source, shopper, session, first, events, clicks, purchases, answers, and of the time from a click
    to the next act its logarithm's count, sum and sum of squares about the visit's mean (dwells, dwell_sum, dwell_ss).
    `shown`: one row for each product of each answer in a visit: visit, source, answer, product_id, position (1 to
    `LAST_POSITION`), clicked (Boolean). `steps`: one row for each two clicks of one answer, one right after the other:
    visit, source, next (whether the second is on the next position). `clicked`: source, product_id, times (in how many
    answers it was clicked).
    """

    visits: pl.DataFrame
    shown: pl.DataFrame
    steps: pl.DataFrame
    clicked: pl.DataFrame


def acts_of(events: pl.DataFrame) -> Acts:
    """The acts in a table of `CLEAN_SCHEMA`, ordered by visit and time."""
    sources = _sources(events)
    kept = events.select("visit", "time", "kind", "query_id", "product_id", "position")
    kept = _without_opened_pages(kept).with_columns(_next=pl.col("time").shift(-1).over("visit"))
    kept = kept.join(sources, on="visit", how="left")
    clicks = kept.filter(pl.col("kind") == "click")
    visits = _visits(events, kept, clicks).join(sources, on="visit", how="left").sort("visit")
    clicked = clicks.group_by("source", "product_id").agg(times=pl.struct("visit", "query_id").n_unique())
    return Acts(visits, _shown(kept, clicks), _steps(clicks), clicked)


def _without_opened_pages(kept: pl.DataFrame) -> pl.DataFrame:
    """Without the product's page that a click itself has opened: no act of its own, so it ends no dwell."""
    before = [pl.col(name).shift(1).over("visit") for name in ("kind", "product_id")]
    is_opened = (pl.col("kind") == "consultation") & (before[0] == "click") & (before[1] == pl.col("product_id"))
    return kept.filter(~is_opened.fill_null(value=False))


def _sources(events: pl.DataFrame) -> pl.DataFrame:
    """For each visit its source: a number, the same for all visits of a shopper."""
    named = pl.when(pl.col("shopper") != "").then(pl.col("shopper"))
    shoppers = events.group_by("visit").agg(_shopper=named.drop_nulls().first())
    owner = pl.coalesce("u" + pl.col("_shopper"), "v" + pl.col("visit").cast(pl.String))
    return shoppers.select("visit", source=owner.rank("dense") - 1).with_columns(pl.col("source").cast(pl.UInt32))


def _visits(events: pl.DataFrame, kept: pl.DataFrame, clicks: pl.DataFrame) -> pl.DataFrame:
    def first_filled(column: str) -> pl.Expr:
        return pl.col(column).filter(pl.col(column) != "").first().fill_null("").alias(column)

    whole = events.group_by("visit").agg(
        first_filled("shopper"),
        first_filled("session"),
        first=pl.col("time").min(),
        events=pl.len(),
        clicks=(pl.col("kind") == "click").sum(),
        purchases=(pl.col("kind") == "purchase").sum(),
    )
    asked = kept.filter(pl.col("query_id") != "").group_by("visit").agg(answers=pl.col("query_id").n_unique())
    spent = (pl.col("_next") - pl.col("time")).dt.total_milliseconds()
    dwell = pl.max_horizontal(spent, pl.lit(_SHORTEST_MS)).log()
    paced = (
        clicks.filter(pl.col("_next").is_not_null())
        .with_columns(_dwell=dwell)
        .group_by("visit")
        .agg(
            dwells=pl.len(),
            dwell_sum=pl.col("_dwell").sum(),
            dwell_ss=((pl.col("_dwell") - pl.col("_dwell").mean()) ** 2).sum(),
        )
    )
    joined = whole.join(asked, on="visit", how="left").join(paced, on="visit", how="left")
    return joined.with_columns(pl.col("answers", "dwells", "dwell_sum", "dwell_ss").fill_null(0))


def _shown(kept: pl.DataFrame, clicks: pl.DataFrame) -> pl.DataFrame:
    """A click counts for the answer that it was made on; browsed lists without an id are told apart by visit only."""
    keys = ["visit", "query_id", "product_id"]
    shown = kept.filter((pl.col("kind") == "impression") & (pl.col("position") >= 1))
    shown = shown.unique(keys, keep="first", maintain_order=True)
    chosen = clicks.select(keys).unique().with_columns(clicked=pl.lit(True))
    joined = shown.join(chosen, on=keys, how="left")
    answer = pl.struct("visit", "query_id").rank("dense").alias("answer")
    position = pl.min_horizontal("position", pl.lit(LAST_POSITION, pl.Int32)).alias("position")
    return joined.select("visit", "source", answer, "product_id", position, pl.col("clicked").fill_null(False))


def _steps(clicks: pl.DataFrame) -> pl.DataFrame:
    same = (pl.col("visit") == pl.col("visit").shift(1)) & (pl.col("query_id") == pl.col("query_id").shift(1))
    step = pl.col("position") - pl.col("position").shift(1)
    stepped = clicks.select("visit", "source", _same=same, _step=step).filter(pl.col("_same") & (pl.col("_step") != 0))
    return stepped.select("visit", "source", next=pl.col("_step") == 1)
