"""Popularity of a served ranker: written with the derived tables, loaded by engines, the same in training."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from shelfwise.rerank.sessions.tables import open_derived
from shelfwise.retrieval.records import Event, EventKind
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER, POPULARITY_FILE
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.events.event_log import DERIVED_FOLDER
from shelfwise.service.events.signals import NO_POPULARITY, read_popularity, write_popularity
from tests.unit.service.engine.demo_rankers import publish, spec_for, weighted_graph
from tests.unit.service.engine.demo_visits import MADE, refresh_tables

pytestmark = pytest.mark.usefixtures("untyped")

QUERY = "steel pan"


@pytest.fixture
def live(root: Path, engine: SearchEngine) -> Iterator[SearchEngine]:
    """An engine whose ranker uses only popularity, and which reloads only on request."""
    publish(root, spec_for(engine.snapshot), weighted_graph(popularity=1.0))
    with SearchEngine.open(root) as opened:
        yield opened


def order(engine: SearchEngine) -> list[str]:
    engine.reload_if_changed()
    page = engine.search(QUERY, size=30)
    assert page.degraded == ()
    return [hit.product.id for hit in page.hits]


def test_an_engine_loads_no_table_library_and_no_solver() -> None:
    program = "import sys, shelfwise.service.engine.engine; sys.exit(bool({'polars', 'scipy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


class TestServing:
    def test_engine_loads_popularity_and_maps_it_by_id(self, live: SearchEngine, root: Path) -> None:
        before = order(live)
        write_popularity(root, {before[7]: 9.0, before[3]: 2.0, "gone": 99.0}, MADE)
        assert order(live) == [before[7], before[3], *(each for each in before if each not in (before[7], before[3]))]
        assert live.notices == ()
        # A live change of a product's text keeps its popularity.
        product = live.product(before[7])
        live.upsert([dataclasses.replace(product, title=f"{product.title} steel pan")])
        assert order(live)[0] == before[7]

    @pytest.mark.usefixtures("without_default")
    def test_damaged_popularity_gives_a_notice_without_a_ranker_too(self, root: Path) -> None:
        (root / POPULARITY_FILE).write_bytes(b"damaged")
        with SearchEngine.open(root, follow=False) as opened:
            (notice,) = opened.notices
            assert notice.startswith("product popularity is not used:")


class TestTables:
    def clicks(self, *chosen: str) -> Iterator[Event]:
        """Events of six shoppers who click the products, one of whom also clicks another one."""
        for number in range(6):
            for product in [*chosen, *(["rare"] if not number else [])]:
                at = MADE - timedelta(hours=3, minutes=number)
                yield Event(EventKind.CLICK, product, time=at, shopper=f"u{number}")

    def test_refresh_and_purge_write_the_popularity_of_the_table(self, root: Path) -> None:
        refresh_tables(root, self.clicks("d000004", "d000009"))
        table = open_derived(root / EVENTS_FOLDER / DERIVED_FOLDER).popularity
        assert read_popularity(root).shares.keys() == set(table["product_id"]) == {"d000004", "d000009"}
        refresh_tables(root, erased=["u0", "u1"])
        assert read_popularity(root) == NO_POPULARITY, "four shoppers are too few"
