"""The demo store's files and its simulated events."""

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
from shelfwise.service.demo.catalog import make_catalog
from shelfwise.service.demo.queries import make_queries
from shelfwise.service.demo.shoppers import collect_truth, plant_fraud, simulate, stock_shelf, to_events


def test_planted_sessions_are_in_log_and_truth_without_purchases() -> None:
    catalog = make_catalog(7, 1000)
    shelf = stock_shelf(catalog, make_queries(catalog, 7), 7)
    traffic, fraud = simulate(catalog, shelf, 7, sessions=3000), plant_fraud(catalog, shelf, 7, sessions=3000)
    events = to_events(traffic.actions + [action for plot in fraud for action in plot.actions], catalog)
    logged = {event.session for event in events}
    bought = {event.session for event in events if event.kind is EventKind.PURCHASE}
    truth = collect_truth(7, fraud).fraud
    assert truth.keys() == {"click_farm", "crawler", "burying"}
    for plot in truth.values():
        assert set(plot.sessions) <= logged - bought
        assert not set(plot.shoppers) & {each.id for each in traffic.shoppers}, "no honest shoppers"
        assert plot.clicks > 0


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
