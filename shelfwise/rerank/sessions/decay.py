"""Acts on products by day, exponential decay and trends."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from shelfwise.rerank.sessions.options import Window
from shelfwise.rerank.sessions.partitions import WHO, DailyPartial
from shelfwise.retrieval.events.stored import DAY_MS, milliseconds

ACTS = ("click", "consultation", "cart", "purchase")
VIEWS = ("click", "consultation")


def counted(kind: str) -> pl.Expr:
    """The number of events of one kind (UInt32)."""
    return (pl.col("kind") == kind).sum().cast(pl.UInt32)


ACT_COUNTS = {
    "clicks": counted("click"),
    "consultations": counted("consultation"),
    "carts": counted("cart"),
    "purchases": counted("purchase"),
}


def _acts(events: pl.DataFrame) -> pl.DataFrame:
    acts = events.filter(pl.col("kind").is_in(ACTS))
    return acts.select(WHO, "shopper", "session_number", "product_id", "kind", "time").sort(
        WHO, "time", "product_id", "kind"
    )


def _product_counts(events: pl.DataFrame) -> pl.DataFrame:
    # A question asked on a product's page is not an act on the product.
    shown = events.filter((pl.col("product_id") != "") & (pl.col("kind") != "query"))
    counts = shown.group_by("product_id").agg(impressions=counted("impression"), **ACT_COUNTS)
    return counts.sort("product_id")


ACT_PARTIAL = DailyPartial("acts", _acts)
"""One row an act: who, shopper (empty if not known), session (the day's number), product_id, kind, time."""
COUNT_PARTIAL = DailyPartial("product_counts", _product_counts)
"""One row a product: product_id, impressions, clicks, consultations, carts, purchases."""


HALF_LIFE = 14.0
"""The age in days at which an act counts half for popularity and neighbours."""
TREND_HALF_LIFE = 3.5
"""The half-life of the recent rate, which a trend compares with the rate under `HALF_LIFE`."""
TREND_PRIOR = 5.0
"""The weight of a trend's prior, in acts."""
_SCALE = 2**20


def decay_at(age: pl.Expr, half_life: float) -> pl.Expr:
    """The decay at an age: 1 at age 0, halved after each half-life (in the unit of the age)."""
    return (age * (-math.log(2) / half_life)).exp()


def day_decay(window: Window, half_life: float) -> pl.Expr:
    """The decay of a row by its `day`; events of the window's last day count in full."""
    return decay_at(window.last_day - pl.col("day"), half_life)


def exact_sum(amount: pl.Expr) -> pl.Expr:
    """The sum of amounts, each rounded to about a millionth, so that it does not depend on their order."""
    return (amount * _SCALE).round().cast(pl.Int64).sum() / _SCALE


def add_trend(daily: pl.DataFrame, key: str, amount: pl.Expr, window: Window) -> pl.DataFrame:
    """The `score` and `trend` (Float64) of each key, from rows of key, `day` and amounts.

    The score is the sum of amounts decayed with `HALF_LIFE`. The trend is log2((o + p) / (e + p)): o is the sum decayed
    with `TREND_HALF_LIFE`, e the same sum at the constant rate of the score, p is `TREND_PRIOR`. 0 is no trend,
    1 is twice the usual rate. This is the shrinkage observed-to-expected ratio of Norén, Hopstadius & Bate 2013
    (Shrinkage Observed-to-Expected Ratios for Robust and Transparent Large-Scale Pattern Discovery) over two
    exponentially weighted averages (Roberts 1959). Only the elapsed part of the window's last day counts.
    """
    # The log may begin within the window.
    first: Any = daily["day"].min()
    days = window.last_day - (window.first_day if first is None else first) + 1
    over = (milliseconds(window.last) % DAY_MS + 1) / DAY_MS
    overall, recent = (
        over + sum(0.5 ** (age / life) for age in range(1, days)) for life in (HALF_LIFE, TREND_HALF_LIFE)
    )
    sums = daily.group_by(key).agg(
        score=exact_sum(amount * day_decay(window, HALF_LIFE)),
        _observed=exact_sum(amount * day_decay(window, TREND_HALF_LIFE)),
    )
    expected = pl.col("score") * (recent / overall)
    trend = ((pl.col("_observed") + TREND_PRIOR) / (expected + TREND_PRIOR)).log(2.0)
    return sums.select(key, "score", trend=trend)
