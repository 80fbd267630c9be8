"""The words that each answer was searched with, whichever of its events say them: often the search alone does."""

from __future__ import annotations

import polars as pl


def words_of_answers(events: pl.DataFrame) -> pl.DataFrame:
    """One row for each `query_id` of which an event says the words: query_id, query; ordered by query_id.

    `events` has the columns query_id (empty: no answer), query (empty: not said) and time. Where an answer's events say
    different words, those of the earliest hold, of equally early ones the first in alphabetical order.
    """
    said = events.filter((pl.col("query_id") != "") & (pl.col("query") != ""))
    earliest = pl.col("query").sort_by("time", "query").first()
    return said.group_by("query_id").agg(earliest).sort("query_id")
