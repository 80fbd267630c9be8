"""The demo store: catalog, pictures and files."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from dataclasses import astuple
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from shelfwise.retrieval.records import EventKind
from shelfwise.service.demo import DemoFiles, write_demo_store
from shelfwise.service.demo.catalog import Catalog, make_catalog
from shelfwise.service.demo.looks import look_of, make_look_queries
from shelfwise.service.demo.queries import JudgedQuery, QueryClass, Requirement, make_queries
from shelfwise.service.demo.shoppers import plant_fraud, simulate, stock_shelf, to_events


def test_planted_sessions_are_in_log_and_truth_without_purchases() -> None:
    catalog = make_catalog(7, 1000)
    shelf = stock_shelf(catalog, make_queries(catalog, 7), 7)
    honest, fraud = simulate(catalog, shelf, 7, sessions=3000), plant_fraud(catalog, shelf, 7, sessions=3000)
    events = list(to_events(honest + [action for plot in fraud for action in plot.actions], catalog))
    logged = {event.session for event in events}
    bought = {event.session for event in events if event.kind is EventKind.PURCHASE}
    assert {plot.scheme for plot in fraud} == {"click_farm", "crawler", "burying"}
    for plot in fraud:
        assert set(plot.sessions) <= logged - bought
        assert not set(plot.shoppers) & {each.results.shopper for each in honest}, "no honest shoppers"
        assert any(action.kind is EventKind.CLICK for action in plot.actions)


_MAKE = (
    "import sys; from shelfwise.service.demo import write_demo_store as w; "
    "w(sys.argv[1], seed=5, products=400, sessions=200)"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    return write_demo_store(tmp_path_factory.mktemp("demo"), seed=5, products=400, sessions=200)


def test_generation_is_deterministic_across_processes(files: DemoFiles, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", _MAKE, str(tmp_path)], check=True, env=environment)
    for path in astuple(files):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_store_without_sessions_has_an_empty_log_and_an_existing_store_is_replaced(tmp_path: Path) -> None:
    with gzip.open(write_demo_store(tmp_path, seed=1, products=400, sessions=0).events) as lines:
        assert lines.read() == b""
    again = write_demo_store(tmp_path, seed=5, products=400, sessions=200)
    assert "Seed 5," in again.readme.read_text(encoding="utf-8")


def test_a_negative_number_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sessions is -1"):
        write_demo_store(tmp_path / "store", sessions=-1)
    assert not (tmp_path / "store").exists()


def test_store_of_another_day_is_shifted_in_time(files: DemoFiles, tmp_path: Path) -> None:
    moved = write_demo_store(tmp_path, seed=5, products=400, sessions=200, day=date(2026, 1, 6))
    for one, other, names in (
        (files.products, moved.products, ("created", "updated")),
        (files.events, moved.events, ("time",)),
    ):
        with gzip.open(one) as lines, gzip.open(other) as later:
            for line, late in zip(lines, later, strict=True):
                before, after = json.loads(line), json.loads(late)
                for name in names:
                    gap = datetime.fromisoformat(after.pop(name)) - datetime.fromisoformat(before.pop(name))
                    assert gap == timedelta(days=365)
                assert before == after


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return make_catalog(7, 2000)


def test_too_few_products_are_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"products is 50, but the demo store has \d+ types"):
        make_catalog(7, 50)


@pytest.fixture(scope="module")
def queries(catalog: Catalog) -> tuple[JudgedQuery, ...]:
    return make_queries(catalog, 7)


def test_split_depends_on_the_text_only() -> None:
    small, large = make_catalog(7, 400), make_catalog(8, 800)
    one = {entry.query.text: entry.query.split for entry in make_queries(small, 7)}
    other = {entry.query.text: entry.query.split for entry in make_queries(large, 8)}
    shared = one.keys() & other.keys()
    assert len(shared) > 300
    assert all(one[text] == other[text] for text in shared)


def test_constraints_determine_the_grade(catalog: Catalog, queries: tuple[JudgedQuery, ...]) -> None:
    for entry in (each for each in queries if each.query.label is QueryClass.ATTRIBUTE):
        intent = entry.query.intent
        for at, grade in zip(entry.judged.positions.tolist(), entry.judged.grades.tolist(), strict=True):
            item = catalog.products[at]
            if item.line.kind.key in intent.targets:
                missed = sum(not requirement.is_met(item) for requirement in intent.requirements)
                assert grade == max(1, 3 - missed)
            else:
                assert grade == (item.line.kind.key in intent.near)
    # A price is a ceiling.
    price = int(catalog.products[0].product.price or 0)
    assert [Requirement("price", most).is_met(catalog.products[0]) for most in (price - 1, price + 1)] == [False, True]


CATALOG = make_catalog(7, 400)
LOOKS = {item.product.id: look_of(item, 7) for item in CATALOG.products}


def test_queries_match_pictures() -> None:
    queries = make_look_queries(CATALOG, LOOKS, 7)
    assert {each.query.split for each in queries} == {"train", "dev", "test"}
    for each in queries:
        best = [
            CATALOG.products[at]
            for at, grade in zip(each.judged.positions, each.judged.grades, strict=True)
            if grade == 3
        ]
        assert best, each.query.text
        for requirement in each.query.intent.requirements:
            assert all(requirement.is_met(item) for item in best)
