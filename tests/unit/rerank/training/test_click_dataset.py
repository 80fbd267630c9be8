"""Lists of clicks, and periods of a log."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from shelfwise.rerank.sessions.partitions import WHO
from shelfwise.rerank.training.click_dataset import (
    MIN_SHOWN,
    click_lists,
    fit_evidence,
    fold_by_shopper,
    other_folds,
    split_by_time,
)
from shelfwise.rerank.training.datasets import query_of_fold
from shelfwise.retrieval.errors import TrainingError
from tests.unit.rerank.training.clicked_shop import Shop, learned_lists, row_of, shop

KINDS = pl.col("kind")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return shop(tmp_path_factory.mktemp("shop"), queries=30)


@pytest.fixture(scope="module")
def events(made: Shop) -> pl.DataFrame:
    return made.events(1_500, strength=1.0)


def test_gains_and_displays_are_aligned_with_candidates(made: Shop, events: pl.DataFrame) -> None:
    clicks, evidence = learned_lists(made, events), fit_evidence(events)
    result = {
        (query, product): gain
        for query, product, gain in zip(
            evidence.pairs["query"], evidence.pairs["product_id"], evidence.gains[:, 0], strict=True
        )
    }
    for at, (number, row) in enumerate(zip(clicks.lists.query_of.tolist(), clicks.lists.rows.tolist(), strict=True)):
        gain = result.get((clicks.lists.queries[number], f"p{row}"))
        assert clicks.is_shown[at] == (gain is not None)
        assert clicks.gains[at, 0] == pytest.approx(gain or 0.0)
    counted = events.filter(KINDS == "click").group_by("query", "product_id").len().rows()
    by_place: dict[tuple[str, str], float] = {}
    for number, places, acts in zip(
        clicks.displays.list_of, clicks.displays.places, clicks.displays.acts[..., 0], strict=True
    ):
        rows = clicks.lists.rows[clicks.lists.place(number)]
        for place, count in zip(places, acts, strict=True):
            key = clicks.lists.queries[number], f"p{rows[place]}"
            by_place[key] = by_place.get(key, 0.0) + float(count)
    assert {key: count for key, count in by_place.items() if count} == {
        (one, two): count for one, two, count in counted
    }


def test_lists_are_filled_with_unseen_candidates(made: Shop, events: pl.DataFrame) -> None:
    full, bare = learned_lists(made, events, most=16), learned_lists(made, events, most=1)
    assert full.lists.lengths.tolist() == [16] * 30
    assert bare.is_shown.all()
    assert np.array_equal(full.gains[full.is_shown], bare.gains)
    assert not full.gains[~full.is_shown].any()


def test_removed_products_and_unclicked_queries_are_counted(made: Shop, events: pl.DataFrame) -> None:
    first, second = made.data.lists.queries[:2]
    never = events.filter((pl.col("query") != first) | (KINDS == "impression"))
    evidence = fit_evidence(never)
    assert first not in evidence.frequent_queries(100, acted=True)
    lost = made.data.lists.place(1).start
    kept = np.delete(np.arange(len(made.data.lists.rows)), lost)
    gone = int(made.data.lists.rows[made.data.lists.place(2).start])
    clicks = click_lists(
        evidence, made.data.lists.select(kept), lambda name: None if row_of(name) == gone else row_of(name)
    )
    asked = evidence.pairs.filter(pl.col("product_id") == f"p{gone}").height
    was_shown = evidence.pairs.filter(
        (pl.col("query") == second) & (pl.col("product_id") == f"p{made.data.lists.rows[lost]}")
    ).height
    assert [*clicks.excluded.values()] == [1, asked, was_shown, 1]
    assert 0 not in clicks.usable


def test_folds_of_a_query_are_counted_once(made: Shop, events: pl.DataFrame) -> None:
    """Counts are right even if the clicks of one fold alone are too few."""
    first, second = made.data.lists.queries[:2]
    folded = fold_by_shopper(events.with_columns(pl.col("query_id").alias(WHO)))
    clicked = pl.col("query").is_in([f"{first}\n0", f"{first}\n1", f"{second}\n0"])
    evidence = fit_evidence(folded.filter(~clicked | (KINDS == "impression")))
    names = folded["query"].unique().sort().to_list()
    lists = made.data.lists
    found = lists.repeat([lists.queries.index(query_of_fold(name)) for name in names], names)
    clicks = click_lists(evidence, found, lambda name: None if name == "p0" else row_of(name))
    shown = events.filter((pl.col("product_id") == "p0") & (KINDS == "impression"))["query"].n_unique()
    assert [*clicks.excluded.values()] == [1, shown, 0, 1]
    assert clicks.query_count == len(lists) - 1
    for number, part in enumerate(other_folds(folded)):
        expected = folded.filter(pl.col("query").str.ends_with(f"\n{1 - number}"))
        assert part.equals(expected.with_columns(pl.col("query").str.head(-2)))
    assert all(part.is_empty() for part in other_folds(folded.clear()))


def test_too_few_carts_and_purchases_use_clicks(made: Shop, events: pl.DataFrame) -> None:
    none = fit_evidence(events.filter(KINDS.is_in(("impression", "click"))))
    assert np.array_equal(none.gains[:, 0], none.gains[:, 2])
    assert np.array_equal(none.acts[..., 0], none.acts[..., 1])
    full = fit_evidence(events)
    assert full.acts[..., 1].sum() > full.acts[..., 2].sum() > 0


def test_a_log_without_a_click_is_refused(made: Shop, events: pl.DataFrame) -> None:
    with pytest.raises(TrainingError, match="none of 1,500 lists was clicked"):
        learned_lists(made, events.filter(KINDS == "impression"))
    with pytest.raises(TrainingError, match="none of 0 lists was clicked"):
        learned_lists(made, events.clear())


def test_queries_are_ordered_by_traffic(events: pl.DataFrame) -> None:
    more = pl.concat([events, events.filter(pl.col("query") == "query 7").with_columns(pl.col("query_id") + "again")])
    frequent = fit_evidence(more).frequent_queries(5, acted=True)
    assert frequent[0] == "query 7"
    assert len(frequent) == 5


START = datetime(2026, 5, 1)


def log(lists: int) -> pl.DataFrame:
    rows = []
    for number in range(lists):
        shown = START + timedelta(minutes=number)
        for kind, time in (("impression", shown), ("purchase", shown + timedelta(days=1))):
            rows.append((kind, f"q{number:04}", "kettle", f"p{number}", 1, time))
    schema = ("kind", "query_id", "query", "product_id", "position", "time")
    return pl.DataFrame(rows, schema=schema, orient="row").sample(fraction=1.0, shuffle=True, seed=1)


def test_split_by_time_puts_test_lists_last() -> None:
    periods = split_by_time(log(200), validation=0.1, held_out=0.2)
    names = [set(part["query_id"]) for part in (periods.training, periods.validation, periods.held_out)]
    assert [len(each) for each in names] == [140, 20, 40]
    assert max(names[0]) < min(names[1]) <= max(names[1]) < min(names[2])


def test_acts_belong_to_the_period_of_their_list() -> None:
    periods = split_by_time(log(200))
    for part in (periods.training, periods.validation, periods.held_out):
        kinds = part.group_by("query_id").len()["len"]
        assert kinds.to_list() == [2] * len(kinds)


@pytest.mark.parametrize("lists", [0, MIN_SHOWN - 1])
def test_a_log_of_too_few_lists_is_refused_with_their_number(lists: int) -> None:
    with pytest.raises(TrainingError, match=f"the log has {lists} shown lists.*at least {MIN_SHOWN}"):
        split_by_time(log(max(lists, 1)).filter(pl.lit(lists > 0)))
