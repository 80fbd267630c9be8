"""The exposure report of a small log, against values calculated by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from shelfwise.retrieval.errors import UnknownFieldError
from shelfwise.retrieval.records import Product
from shelfwise.service.reports.exposure_report import OTHERS, ExposureReport, groups_of, measure_exposure, with_targets

NOW = datetime(2026, 11, 30, tzinfo=UTC)
PRODUCTS = [
    Product("a", "drill", brand="Bosch", price=10.0, category=("Tools", "Drills")),
    Product("b", "drill", brand="Makita", price=20.0, category=("Tools",), attributes={"seller": "Nord"}),
    Product("c", "drill", brand="Rare", price=30.0, category=("Tools",)),
]


def report(shoppers: int = 40, rare: int = 2) -> ExposureReport:
    """Lists of a before b; every second shopper clicks a, every fourth buys it, and the first `rare` are shown c."""
    rows = []
    for shopper in range(shoppers):
        query_id, time = f"q{shopper}", NOW - timedelta(hours=shopper)
        products = ["a", "b", *(["c"] if shopper < rare else [])]
        acts = [("impression", name, position) for position, name in enumerate(products, 1)]
        acts += [("click", "a", 1)] * (shopper % 2) + [("purchase", "a", 1)] * (shopper % 4 == 1)
        rows += [(kind, query_id, "drill", name, position, time, f"s{shopper}") for kind, name, position in acts]
    texts = pl.Schema(dict.fromkeys(("kind", "query_id", "query", "product_id"), pl.String))
    schema = pl.Schema(
        [*texts.items(), ("position", pl.Int64()), ("time", pl.Datetime("ms", "UTC")), ("who", pl.String())]
    )
    return measure_exposure(
        pl.DataFrame(rows, schema, orient="row"), PRODUCTS, (NOW - timedelta(days=3), NOW), 5, "brand"
    )


def test_groups_have_their_counts_and_the_rare_are_pooled() -> None:
    found = report()
    assert [row.group for row in found.groups] == ["Bosch", "Makita", OTHERS]
    bosch, makita, others = found.groups
    assert (bosch.impressions, bosch.clicks, bosch.purchases, bosch.revenue) == (40, 20, 10, 100.0)
    assert (bosch.products, others.impressions) == (1, 2)
    assert sum(row.exposure for row in found.groups) == pytest.approx(1)
    assert sum(row.target for row in found.groups) == pytest.approx(1)
    assert bosch.ratio == pytest.approx(bosch.exposure / bosch.target)
    assert found.distance == pytest.approx(sum(abs(row.exposure - row.target) for row in (bosch, makita, others)) / 2)
    assert found.lists == 40
    assert found.examination[0] == pytest.approx(1)


def test_target_shares_each_query_by_its_rates() -> None:
    """100 examined impressions of each product: 20 and 10 clicks, shrunk by five at the mean rate of 15%."""
    merit = np.array([20 + 5 * 0.15, 10 + 5 * 0.15]) / 105
    pairs = pl.DataFrame({"query": ["q", "q"], "exposure": [100.0, 100.0], "clicks": [20.0, 10.0]})
    assert with_targets(pairs)["target"].to_list() == pytest.approx(200 * merit / merit.sum())
    apart = pl.DataFrame({"query": ["q", "r"], "exposure": [30.0, 70.0], "clicks": [30.0, 0.0]})
    assert with_targets(apart)["target"].to_list() == pytest.approx([30, 70])


def test_groupings_of_products() -> None:
    assert groups_of(PRODUCTS, "seller") == {"b": "Nord"}
    assert set(groups_of(PRODUCTS, "category").values()) == {"Tools"}
    with pytest.raises(UnknownFieldError, match="by is 'brnd', which no product has; did you mean brand"):
        groups_of(PRODUCTS, "brnd")


def test_an_empty_log_has_no_groups() -> None:
    found = report(0)
    assert (found.groups, found.lists, found.distance) == ((), 0, 0.0)
