"""The words of answers: of whichever event says them, the earliest first."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from rerank.click_models.click_log import query_texts

START = datetime(2025, 3, 1)
Row = tuple[str, str, int]


def words(*rows: Row) -> list[tuple[str, str]]:
    """Of rows of query_id, query, second."""
    table = pl.DataFrame(rows, schema={"query_id": pl.String, "query": pl.String, "at": pl.Int64}, orient="row")
    times = pl.Series("time", [START + timedelta(seconds=second) for second in table["at"]], pl.Datetime)
    return query_texts(table.with_columns(times)).rows()


def test_the_earliest_words_hold() -> None:
    assert words(("a", "saw", 2), ("a", "drill", 1), ("a", "", 0)) == [("a", "drill")]


def test_no_answer_and_no_words_have_no_row() -> None:
    assert words(("", "saw", 0), ("a", "", 0)) == []


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.sampled_from(["", "x", "y"]), st.integers(0, 3))))
def test_agrees_with_reading_event_by_event_in_any_order(rows: list[Row]) -> None:
    first: dict[str, str] = {}
    for query_id, query, _ in sorted(rows, key=lambda row: (row[2], row[1])):
        if query_id and query:
            first.setdefault(query_id, query)
    assert words(*rows) == words(*reversed(rows)) == sorted(first.items())
