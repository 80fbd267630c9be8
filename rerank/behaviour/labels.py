"""Labels for training from clicks, carts and purchases, and what each of these is worth: two tables of one fit."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from rerank.behaviour.answers import normalised, with_answer
from rerank.behaviour.parts import Context, Part, PartReader, TableMaker
from rerank.clicks.label_weights import SIGNALS
from rerank.clicks.labels import ClickLabels, click_labels

_KINDS = ("impression", "click", "cart", "purchase")
_COLUMNS = ("time", "query_id", "position", "product_id", "kind", "query")


def _lists(events: pl.DataFrame) -> pl.DataFrame:
    """What was shown for each search and done on it. Browsed pages are left out: they have no query to learn of."""
    answered = with_answer(events).filter(pl.col("query_id") != "")
    # Often only the search itself says what was searched.
    queries = answered.filter(pl.col("query") != "").group_by("query_id").agg(_spelling=pl.col("query").min())
    spelled = queries["_spelling"].to_list()
    queries = queries.select("query_id", query=pl.Series(normalised(spelled), dtype=pl.String))
    joined = answered.filter(pl.col("kind").is_in(_KINDS)).drop("query").join(queries, on="query_id")
    return joined.select(_COLUMNS).sort(_COLUMNS[:-1])


def labels(read: PartReader, _: Context) -> Mapping[str, pl.DataFrame]:
    """The tables `labels` and `label_weights`; see `rerank.clicks.labels.ClickLabels` for the columns of the first.

    Rare behaviour is among them, since they are to learn from and are shown to nobody.
    """
    made = click_labels(read(LIST_PART))
    return {"labels": made.table.sort("query", "product_id"), "label_weights": _weights(made)}


def _weights(made: ClickLabels) -> pl.DataFrame:
    weights, seen = made.weights, made.foresight
    told = {
        "signal": pl.Series(SIGNALS, dtype=pl.String),
        "weight": pl.Series(weights.values, dtype=pl.Float64),
        "error": pl.Series(weights.errors, dtype=pl.Float64),
    }
    return pl.DataFrame(told).with_columns(
        fitted=pl.lit(weights.fitted),
        purchases=pl.lit(weights.purchases, pl.UInt32),
        log_likelihood=pl.lit(seen.log_likelihood if seen else None, pl.Float64),
        clicks_log_likelihood=pl.lit(seen.clicks_log_likelihood if seen else None, pl.Float64),
        rank_correlation=pl.lit(seen.rank_correlation if seen else None, pl.Float64),
        clicks_rank_correlation=pl.lit(seen.clicks_rank_correlation if seen else None, pl.Float64),
    )


LIST_PART = Part("lists", _lists)
"""time, query_id, position, product_id, kind, query (normalised)."""
LABELS = TableMaker("labels", (LIST_PART,), labels)
