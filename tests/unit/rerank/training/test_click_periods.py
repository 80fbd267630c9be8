"""A log is divided by time, and a list stays whole with all that was done on it."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest

from rerank.training.click_dataset import LEAST_SHOWN, split_by_time
from retrieval.errors import TrainingError

START = datetime(2026, 5, 1)


def log(lists: int) -> pl.DataFrame:
    """Lists of one product, a minute apart, each bought a day later."""
    rows = []
    for number in range(lists):
        shown = START + timedelta(minutes=number)
        for kind, time in (("impression", shown), ("purchase", shown + timedelta(days=1))):
            rows.append((kind, f"q{number:04}", "kettle", f"p{number}", 1, time))
    schema = ("kind", "query_id", "query", "product_id", "position", "time")
    return pl.DataFrame(rows, schema=schema, orient="row").sample(fraction=1.0, shuffle=True, seed=1)


def test_the_last_lists_judge_those_before_them_choose_and_the_rest_trains() -> None:
    periods = split_by_time(log(200), validation=0.1, held_out=0.2)
    names = [set(part["query_id"]) for part in (periods.training, periods.validation, periods.held_out)]
    assert [len(each) for each in names] == [140, 20, 40]
    assert max(names[0]) < min(names[1]) <= max(names[1]) < min(names[2])


def test_what_came_of_a_list_is_of_its_period_however_late_it_was() -> None:
    periods = split_by_time(log(200))
    for part in (periods.training, periods.validation, periods.held_out):
        kinds = part.group_by("query_id").len()["len"]
        assert kinds.to_list() == [2] * len(kinds)


def test_acts_on_answers_that_were_not_shown_are_in_no_period() -> None:
    stray = log(1).filter(pl.col("kind") == "purchase").with_columns(query_id=pl.lit("unknown"))
    periods = split_by_time(pl.concat([log(200), stray]))
    assert "unknown" not in set(pl.concat([periods.training, periods.validation, periods.held_out])["query_id"])


@pytest.mark.parametrize("lists", [0, LEAST_SHOWN - 1])
def test_a_log_of_too_few_lists_is_refused_with_their_number(lists: int) -> None:
    with pytest.raises(TrainingError, match=f"the log has {lists} shown lists.*{LEAST_SHOWN} at least"):
        split_by_time(log(max(lists, 1)).filter(pl.lit(lists > 0)))
