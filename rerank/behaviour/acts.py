"""Acts: what was done with products beyond showing them, and how often each product was shown; by day."""

from __future__ import annotations

import polars as pl

from rerank.behaviour.parts import WHO, Part

ACTS = ("click", "consultation", "cart", "purchase")
VIEWS = ("click", "consultation")


def counted(kind: str) -> pl.Expr:
    """How many events are of a kind (UInt32)."""
    return (pl.col("kind") == kind).sum().cast(pl.UInt32)


def _acts(events: pl.DataFrame) -> pl.DataFrame:
    acts = events.filter(pl.col("kind").is_in(ACTS))
    return acts.select(WHO, "shopper", "visit", "product_id", "kind", "time").sort(WHO, "time", "product_id", "kind")


def _product_counts(events: pl.DataFrame) -> pl.DataFrame:
    shown = events.filter(pl.col("product_id") != "")
    counts = shown.group_by("product_id").agg(
        impressions=counted("impression"),
        clicks=counted("click"),
        consultations=counted("consultation"),
        carts=counted("cart"),
        purchases=counted("purchase"),
    )
    return counts.sort("product_id")


ACT_PART = Part("acts", _acts)
"""who, shopper (empty where not known), visit (the day's number), product_id, kind, time: one row an act."""
COUNT_PART = Part("product_counts", _product_counts)
"""product_id, impressions, clicks, consultations, carts, purchases: one row a product."""
