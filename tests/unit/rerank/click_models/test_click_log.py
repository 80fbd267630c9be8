"""Click logs, the texts of their queries, and their outcomes."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.rerank.click_models.click_log import NOTHING, ClickLog, click_log, query_texts
from shelfwise.retrieval.errors import InputError

START = datetime(2025, 3, 1)
Row = tuple[str, str, str, str, int | None, int]


def events(*rows: Row) -> pl.DataFrame:
    """A table of rows of kind, query_id, query, product_id, position, second."""
    texts = dict.fromkeys(("kind", "query_id", "query", "product_id"), pl.String)
    table = pl.DataFrame(rows, schema={**texts, "position": pl.Int32, "second": pl.Int64}, orient="row")
    times = [START + timedelta(seconds=second) for second in table["second"]]
    return table.drop("second").with_columns(pl.Series("time", times, pl.Datetime))


def shown(log: ClickLog, pairs: pl.DataFrame) -> list[list[str]]:
    names = [*pairs["product_id"], ""]
    return [[names[number] for number in row] for row in log.pairs]


class TestClickLog:
    def test_lists_are_ordered_by_time_and_pairs_by_query_and_product(self) -> None:
        log, pairs = click_log(
            events(
                ("impression", "b", "saw", "p1", 1, 5),
                ("impression", "a", "drill", "p1", 1, 9),
                ("impression", "a", "drill", "p2", 2, 9),
                ("click", "a", "drill", "p2", 2, 11),
                ("cart", "a", "drill", "p1", 1, 12),
            ),
            depth=2,
        )
        assert pairs.rows() == [(0, "drill", "p1"), (1, "drill", "p2"), (2, "saw", "p1")]
        assert log.pairs.tolist() == [[2, NOTHING], [0, 1]]
        assert log.clicks.tolist() == [[False, False], [False, True]]
        assert log.count == 3

    def test_browsed_pages_are_not_lists(self) -> None:
        browsed = [("impression", "", "", f"p{number}", 1, number) for number in range(2)]
        log, pairs = click_log(events(*browsed, ("impression", "a", "saw", "p9", 1, 5)), depth=2)
        assert shown(log, pairs) == [["p9", ""]]

    def test_list_takes_its_query_from_the_search_event(self) -> None:
        lists = (("a", "drill", 0), ("b", "saw", 3))
        asked: list[Row] = [("query", name, query, "", None, second) for name, query, second in lists]
        result: list[Row] = [("impression", name, "", "p1", 1, second) for name, _, second in lists]
        log, pairs = click_log(events(*asked, *result), depth=1)
        assert pairs.select("query", "product_id").rows() == [("drill", "p1"), ("saw", "p1")]
        assert log.pairs.tolist() == [[0], [1]]

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(("impression", "click")),
                st.sampled_from("ab"),
                st.sampled_from(("p1", "p2", "p3")),
                st.integers(1, 5),
                st.integers(0, 3),
            ),
            max_size=25,
        )
    )
    def test_vectorised_log_equals_event_loop(self, drawn: list[tuple[str, str, str, int, int]]) -> None:
        rows = [(kind, answer, "q", product, place, second) for kind, answer, product, place, second in drawn]
        table = events(*rows).with_columns(pl.col("kind").cast(pl.Enum(["impression", "click"])))
        log, pairs = click_log(table, depth=4)
        assert log.depth == 4
        lists: dict[str, dict[int, str]] = {}
        for kind, answer, _, product, place, _ in sorted(rows, key=lambda row: row[5]):
            if kind == "impression" and place <= 4:
                lists.setdefault(answer, {}).setdefault(place, product)
        clicked = set()
        for kind, answer, _, product, place, _ in rows:
            places = [each for each, name in lists.get(answer, {}).items() if name == product]
            if kind == "click" and places:
                clicked.add((answer, place if place in places else min(places)))
        expected = sorted(
            ([places.get(each, "") for each in range(1, 5)], [(answer, each) in clicked for each in range(1, 5)])
            for answer, places in lists.items()
        )
        assert sorted(zip(shown(log, pairs), log.clicks.tolist(), strict=True)) == expected


class TestRefusals:
    @pytest.mark.parametrize(
        ("pairs", "clicks", "count", "message"),
        [
            ([[0, 1]], [[False]], 2, "both"),
            ([[0, 2]], [[False, False]], 2, "has number 2"),
            ([[0, -1]], [[False, True]], 2, "where nothing was shown"),
        ],
    )
    def test_mismatched_matrices_are_refused(
        self, pairs: list[list[int]], clicks: list[list[bool]], count: int, message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            ClickLog(np.array(pairs, np.int32), np.array(clicks), count)
        with pytest.raises(InputError, match="one a row"):
            ClickLog(np.zeros((2, 1), np.int32), np.zeros((2, 1), np.bool_), 1, np.ones(3, np.float32))


RowOfAnswerWords = tuple[str, str, int]


def words(*rows: RowOfAnswerWords) -> list[tuple[str, str]]:
    table = pl.DataFrame(rows, schema={"query_id": pl.String, "query": pl.String, "at": pl.Int64}, orient="row")
    times = pl.Series("time", [START + timedelta(seconds=second) for second in table["at"]], pl.Datetime)
    return query_texts(table.with_columns(times)).rows()


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.sampled_from(["", "x", "y"]), st.integers(0, 3))))
def test_vectorised_log_equals_event_loop_in_any_order(rows: list[RowOfAnswerWords]) -> None:
    first: dict[str, str] = {}
    for query_id, query, _ in sorted(rows, key=lambda row: (row[2], row[1])):
        if query_id and query:
            first.setdefault(query_id, query)
    assert words(*rows) == words(*reversed(rows)) == sorted(first.items())
