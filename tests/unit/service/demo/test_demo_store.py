"""The demo store's files and its simulated events."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import astuple, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from shelfwise.retrieval.records import EventKind, Product
from shelfwise.service.demo import DemoFiles, write_demo_store
from shelfwise.service.demo.catalog import Catalog, make_catalog
from shelfwise.service.demo.queries import make_queries
from shelfwise.service.demo.shoppers import (
    DemoEvent,
    Fraud,
    Shelf,
    Traffic,
    Truth,
    collect_truth,
    plant_fraud,
    simulate,
    stock_shelf,
    to_events,
)

SESSIONS = 3000


@dataclass(frozen=True, slots=True)
class DemoRun:
    catalog: Catalog
    shelf: Shelf
    traffic: Traffic
    fraud: tuple[Fraud, ...]
    events: tuple[DemoEvent, ...]
    truth: Truth

    @property
    def honest(self) -> list[DemoEvent]:
        planted = {session for plot in self.fraud for session in plot.sessions}
        return [event for event in self.events if event.session not in planted]


@pytest.fixture(scope="module")
def played() -> DemoRun:
    catalog = make_catalog(7, 1000)
    shelf = stock_shelf(catalog, make_queries(catalog, 7), 7)
    traffic = simulate(catalog, shelf, 7, SESSIONS)
    fraud = plant_fraud(catalog, shelf, 7, SESSIONS)
    actions = traffic.actions + [action for plot in fraud for action in plot.actions]
    truth = collect_truth(7, fraud)
    return DemoRun(catalog, shelf, traffic, fraud, tuple(to_events(actions, catalog)), truth)


def test_events_are_ordered_by_time_with_unique_ids(played: DemoRun) -> None:
    times = [event.time for event in played.events]
    assert times == sorted(times)
    assert "2025-01-06" <= times[0] < times[-1] < "2025-02-17"
    assert all(len(time) == len("2025-01-06T00:00:00.000Z") and time.endswith("Z") for time in times)
    assert len({event.event_id for event in played.events}) == len(played.events)
    assert len({event.session for event in played.honest}) == SESSIONS


def test_better_grades_are_clicked_more(played: DemoRun) -> None:
    numbers = {entry.query.text: number for number, entry in enumerate(played.shelf.queries)}
    places = {item.product.id: at for at, item in enumerate(played.catalog.products)}
    shown: Counter[int] = Counter()
    clicked: Counter[int] = Counter()
    for event in played.honest:
        if event.query and event.kind in {EventKind.IMPRESSION, EventKind.CLICK}:
            grade = played.shelf.grades[numbers[event.query]][places[event.product_id]]
            (clicked if event.kind is EventKind.CLICK else shown)[grade] += 1
    rates = [clicked[grade] / shown[grade] for grade in range(4)]
    assert rates == sorted(rates)


def test_planted_sessions_are_in_log_and_truth_without_purchases(played: DemoRun) -> None:
    logged = {event.session for event in played.events}
    bought = {event.session for event in played.events if event.kind is EventKind.PURCHASE}
    assert played.truth.fraud.keys() == {"click_farm", "crawler", "burying"}
    for plot in played.truth.fraud.values():
        assert set(plot.sessions) <= logged - bought
        assert not set(plot.shoppers) & {each.id for each in played.traffic.shoppers}, "no honest shoppers"
        assert plot.clicks > 0


def of_scheme(played: DemoRun, scheme: str) -> tuple[str, list[DemoEvent]]:
    """The subject of a planted fraud scheme, and its events."""
    plot = played.truth.fraud[scheme]
    return plot.subject, [event for event in played.events if event.session in plot.sessions]


def test_click_farm_promotes_its_seller(played: DemoRun) -> None:
    seller, events = of_scheme(played, "click_farm")
    brands = {item.product.id: item.product.brand for item in played.catalog.products}
    clicked = Counter(brands[event.product_id] for event in events if event.kind is EventKind.CLICK)
    assert clicked[seller] > 0.6 * clicked.total()


def test_the_buried_line_is_shown_but_never_clicked_by_its_competitor(played: DemoRun) -> None:
    victim, events = of_scheme(played, "burying")
    models = {item.product.id: item.line.model for item in played.catalog.products}
    kinds = Counter(event.kind for event in events if models[event.product_id] == victim)
    assert kinds[EventKind.IMPRESSION] > 0
    assert kinds[EventKind.CLICK] == 0


_MAKE = (
    "import sys; from shelfwise.service.demo import write_demo_store as w; "
    "w(sys.argv[1], seed=5, products=400, sessions=200)"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    return write_demo_store(tmp_path_factory.mktemp("demo"), seed=5, products=400, sessions=200)


def _judgments(path: Path) -> list[tuple[str, str, str]]:
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    assert header == "query\tproduct_id\tgrade"
    return [(query, product, grade) for query, product, grade in (row.split("\t") for row in rows)]


def _products(files: DemoFiles) -> list[Product]:
    with gzip.open(files.products) as lines:
        return [msgspec.json.decode(line, type=Product) for line in lines]


def test_folder_has_only_the_expected_files_and_readable_truth(files: DemoFiles) -> None:
    assert {path.name for path in files.readme.parent.iterdir()} == {path.name for path in astuple(files)}
    truth = msgspec.json.decode(files.truth.read_bytes(), type=Truth)
    assert truth.seed == 5
    assert truth.fraud["click_farm"].sessions


def test_generation_is_deterministic_across_processes(files: DemoFiles, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", _MAKE, str(tmp_path)], check=True, env=environment)
    for path in astuple(files):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_splits_are_disjoint_complete_and_listed(files: DemoFiles) -> None:
    parts = [_judgments(path) for path in (files.judgments_train, files.judgments_dev, files.judgments_test)]
    assert sorted(row for part in parts for row in part) == sorted(_judgments(files.judgments))
    texts = [{query for query, _, _ in part} for part in parts]
    assert sum(map(len, texts)) == len(set.union(*texts))
    header, *rows = files.queries.read_text(encoding="utf-8").splitlines()
    assert header == "query\tclass\tlanguage\tsplit"
    assert [row.split("\t")[0] for row in rows] == list(dict.fromkeys(q for q, _, _ in _judgments(files.judgments)))


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
