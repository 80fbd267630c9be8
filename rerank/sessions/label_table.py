"""Derived tables of training labels and of the weights of clicks, carts and purchases in them."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from rerank.click_models.click_log import query_texts
from rerank.click_models.labels import SIGNALS, ClickLabels, click_labels
from rerank.sessions.partitions import Context, DailyPartial, PartialReader, TableMaker
from rerank.sessions.query_tables import attribute_to_answers, normalise_queries

_KINDS = ("impression", "click", "cart", "purchase")
_ORDER = ("time", "query_id", "position", "product_id", "kind")
_COLUMNS = (*_ORDER, "query", "shopper")


def _lists(events: pl.DataFrame) -> pl.DataFrame:
    """Impressions and acts of each search; pages that were browsed have no query, and are left out."""
    answered = attribute_to_answers(events).filter(pl.col("query_id") != "")
    words = query_texts(answered)
    words = words.with_columns(query=pl.Series(normalise_queries(words["query"].to_list()), dtype=pl.String))
    done = answered.filter(pl.col("kind").is_in(_KINDS)).drop("query").join(words, on="query_id", how="left")
    # Acts on an answer of the day before have no query text on their own day.
    done = done.filter((pl.col("kind") != "impression") | pl.col("query").is_not_null())
    return done.with_columns(pl.col("query").fill_null("")).select(_COLUMNS).sort(_ORDER)


def labels(read: PartialReader, _: Context) -> Mapping[str, pl.DataFrame]:
    """The tables `labels` and `label_weights`; see `rerank.click_models.labels.ClickLabels` for the columns of the
    first.

    Rows of few shoppers are not left out, as labels only train.
    """
    made = click_labels(add_own_ids(read(LIST_PARTIAL)))
    return {"labels": made.table.sort("query", "product_id"), "label_weights": _weights(made)}


def add_own_ids(lists: pl.DataFrame) -> pl.DataFrame:
    """The rows of `LIST_PARTIAL` with ids that no other day has, in the order of time: some stores number their answers
    from 1 each day. An act belongs to the last answer of its id that was shown up to its day.
    """
    shown = lists.filter(pl.col("kind") == "impression").select("query_id", "day", _of="day").unique().sort("day")
    found = lists.sort("day").join_asof(shown, on="day", by="query_id", check_sortedness=False)
    own = pl.format("{}/{}", pl.coalesce("_of", "day"), "query_id")
    return found.with_columns(query_id=own).select(_COLUMNS).sort(_ORDER)


def _weights(made: ClickLabels) -> pl.DataFrame:
    weights, quality = made.weights, made.prediction
    columns = {
        "signal": pl.Series(SIGNALS, dtype=pl.String),
        "weight": pl.Series(weights.values, dtype=pl.Float64),
        "error": pl.Series(weights.errors, dtype=pl.Float64),
    }
    return pl.DataFrame(columns).with_columns(
        pl.col("error").fill_nan(None),
        fitted=pl.lit(weights.fitted),
        purchases=pl.lit(weights.purchases, pl.UInt32),
        unattributed=pl.lit(made.unattributed, pl.UInt32),
        log_likelihood=pl.lit(quality.log_likelihood if quality else None, pl.Float64),
        clicks_log_likelihood=pl.lit(quality.clicks_log_likelihood if quality else None, pl.Float64),
        rank_correlation=pl.lit(quality.rank_correlation if quality else None, pl.Float64),
        clicks_rank_correlation=pl.lit(quality.clicks_rank_correlation if quality else None, pl.Float64),
    )


LIST_PARTIAL = DailyPartial("lists", _lists, version=3)
"""time, query_id, position, product_id, kind, query (normalised; empty for acts of whose answer the day says none),
shopper (empty where not known)."""
LABELS = TableMaker("labels", (LIST_PARTIAL,), labels)
