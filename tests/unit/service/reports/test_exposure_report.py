"""The exposure report of a small log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from shelfwise.retrieval.errors import UnknownFieldError
from shelfwise.retrieval.records import Product
from shelfwise.service.reports.exposure import OTHERS, UNKNOWN, ExposureLog, groups_of, measure_exposure, price_bands

NOW = datetime(2026, 11, 30, tzinfo=UTC)
PRODUCTS = [
    Product("a", "drill", brand="Bosch", price=10.0, category=("Tools",), created=NOW - timedelta(days=3)),
    Product("b", "drill", brand="Makita", price=20.0, category=("Tools",), attributes={"seller": "Nord"}),
    Product("c", "drill", brand="Rare", price=30.0, category=("Tools",), created=NOW - timedelta(days=900)),
]


def log(shoppers: int = 40, rare: int = 2) -> ExposureLog:
    """Lists of a before b; every second shopper clicks a, every fourth buys it, and the first `rare` are shown c."""
    rows = []
    for shopper in range(shoppers):
        query_id, time = f"q{shopper}", NOW - timedelta(hours=shopper)
        shown = ["a", "b", *(["c"] if shopper < rare else [])]
        acts = [("impression", name, place) for place, name in enumerate(shown, 1)]
        acts += [("click", "a", 1)] * (shopper % 2) + [("purchase", "a", 1)] * (shopper % 4 == 1)
        rows += [(kind, query_id, "drill", name, place, time, f"s{shopper}") for kind, name, place in acts]
    texts = pl.Schema(dict.fromkeys(("kind", "query_id", "query", "product_id"), pl.String))
    schema = pl.Schema(
        [*texts.items(), ("position", pl.Int64()), ("time", pl.Datetime("ms", "UTC")), ("who", pl.String())]
    )
    events = pl.DataFrame(rows, schema, orient="row")
    return ExposureLog.of(events, PRODUCTS, (NOW - timedelta(days=3), NOW), 5)


def test_groups_have_their_counts_and_the_rare_are_pooled() -> None:
    report = measure_exposure(log(), "brand")
    found = {row.group: row for row in report.groups}
    assert [row.group for row in report.groups] == ["Bosch", "Makita", OTHERS]
    bosch = found["Bosch"]
    assert (bosch.impressions, bosch.clicks, bosch.purchases, bosch.revenue) == (40, 20, 10, 100.0)
    assert found[OTHERS].impressions == 2
    assert sum(row.exposure for row in report.groups) == pytest.approx(1)
    assert bosch.ratio.value == pytest.approx(bosch.exposure / bosch.target)
    assert report.lists == 40
    assert report.examination[0] == pytest.approx(1)


def test_groupings_of_products() -> None:
    assert groups_of(PRODUCTS, "age", NOW) == {"a": "new (90 days)", "b": UNKNOWN, "c": "older"}
    assert groups_of(PRODUCTS, "seller", NOW)["b"] == "Nord"
    assert set(groups_of(PRODUCTS, "category", NOW).values()) == {"Tools"}
    assert price_bands([Product(str(at), "x", price=float(at)) for at in range(4)]) == {
        "0": "cheapest quarter",
        "1": "second quarter",
        "2": "third quarter",
        "3": "dearest quarter",
    }
    with pytest.raises(UnknownFieldError, match="by is 'brnd', which no product has; did you mean brand"):
        groups_of(PRODUCTS, "brnd", NOW)


def test_an_empty_log_has_no_groups() -> None:
    report = measure_exposure(log(0), "price")
    assert (report.groups, report.lists, report.distance, report.gini_products) == ((), 0, 0.0, 0.0)
