"""Query memory and popularity of a served ranker: written with the derived tables, loaded by engines."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from shelfwise.rerank.ranker.features import FEATURES
from shelfwise.rerank.ranker.memory import MemoryRows, QueryMemory, product_hashes
from shelfwise.rerank.sessions.tables import open_derived
from shelfwise.retrieval.records import Event, EventKind, Product
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER, MEMORY_FILE, POPULARITY_FILE
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.events.event_log import DERIVED_FOLDER
from shelfwise.service.events.signals import NO_POPULARITY, read_memory, read_popularity, write_memory
from shelfwise.service.training.ranker_dataset import candidate_lists
from tests.unit.service.engine.demo_rankers import order, publish, spec_for, weighted_graph
from tests.unit.service.engine.demo_visits import MADE, refresh_tables

pytestmark = pytest.mark.usefixtures("untyped")

QUERY = "steel pan"


@pytest.fixture
def live(root: Path, engine: SearchEngine) -> Iterator[SearchEngine]:
    """An engine whose ranker uses only the query memory and the popularity."""
    weights = {"query_product": 1.0, "query_category": 0.5, "popularity": 1.0}
    publish(root, spec_for(engine.snapshot), weighted_graph(**weights))
    with SearchEngine.open(root) as opened:
        yield opened


def memory_of(
    engine: SearchEngine, chosen: Sequence[str], category: str = "", ids: Sequence[str] | None = None
) -> QueryMemory:
    """A memory of choices for the query, the first one most frequent, and its category; `ids` are the catalog's."""
    known = (
        [engine.snapshot.products.id_of(row) for row in range(len(engine.snapshot.products))] if ids is None else ids
    )
    kinds = [*["product"] * len(chosen), *(["category"] if category else [])]
    members = [*chosen, *([category] if category else [])]
    ratios = [np.linspace(9, 2, len(members))] * 5
    keyed = MemoryRows(["query"] * len(members), ["pan steel"] * len(members), kinds, members, ratios)
    return QueryMemory.of_rows(keyed, [*((name, "product", name) for name in known), ("pan-1", "category", category)])


def test_engine_loads_choices_for_the_query(live: SearchEngine, root: Path) -> None:
    before = order(live)
    write_memory(root, memory_of(live, [before[7], before[3], "gone"]), MADE)
    expected = [before[7], before[3], *(each for each in before if each not in (before[7], before[3]))]
    assert order(live) == expected
    assert order(live, "STEEL  pan") == expected
    assert order(live, "cast pan")[0] != before[7]
    assert live.notices == ()
    # A live change of a product's text keeps its clicks.
    product = live.product(before[7])
    live.upsert([dataclasses.replace(product, title=f"{product.title} steel pan")])
    assert order(live)[0] == before[7]


def test_new_product_has_the_query_memory_of_its_category(live: SearchEngine, root: Path) -> None:
    live.upsert([Product("pan-1", "steel pan of cast steel")])
    assert order(live)[0] != "pan-1"
    write_memory(root, memory_of(live, [], "Kitchen > Pans"), MADE)
    assert order(live)[0] == "pan-1"


def test_damaged_file_is_ignored_with_a_notice_until_repaired(live: SearchEngine, root: Path) -> None:
    before = order(live)
    write_memory(root, memory_of(live, [before[7]]), MADE)
    assert order(live)[0] == before[7]
    (root / MEMORY_FILE).write_bytes((root / MEMORY_FILE).read_bytes()[:-2])
    assert order(live) == before
    (notice,) = live.notices
    assert notice.startswith("the query memory is not used:")
    write_memory(root, memory_of(live, [before[5]]), MADE)
    assert order(live)[0] == before[5]
    assert live.notices == ()


def test_a_memory_of_other_ids_gives_a_notice(live: SearchEngine, root: Path) -> None:
    before = order(live)
    write_memory(root, memory_of(live, ["old-7"], ids=["old-7", "old-8"]), MADE)
    assert order(live) == before
    (notice,) = live.notices
    assert notice == "the query memory has 0% of the products; run shelfwise events refresh"


def test_training_lists_have_the_served_memory(live: SearchEngine) -> None:
    first, second = order(live)[:2]
    column = FEATURES.index("query_product")
    lists = candidate_lists(live.snapshot, [QUERY], 0.0, depth=100, memory=memory_of(live, [second]))
    ids = [live.snapshot.products.id_of(row) for row in lists.rows.tolist()]
    result = dict(zip(ids, lists.features[:, column].tolist(), strict=True))
    assert (result[second], result[first]) == (pytest.approx(np.log(9)), 0)
    assert not candidate_lists(live.snapshot, [QUERY], 0.0).features[:, column].any()


def searches(count: int, first: str, second: str) -> Iterator[Event]:
    """Events of shoppers who click the second of two hits."""
    for number in range(count):
        at = MADE - timedelta(hours=3, minutes=5 * number)
        query_id, shopper = f"q{number}", f"u{number}"
        yield Event(EventKind.QUERY, query_id=query_id, query=QUERY, results=2, shopper=shopper, time=at)
        for position, product in enumerate((first, second), 1):
            yield Event(EventKind.IMPRESSION, product, query_id, QUERY, position=position, shopper=shopper, time=at)
        clicked = at + timedelta(seconds=9 + number)
        yield Event(EventKind.CLICK, second, query_id, position=2, shopper=shopper, time=clicked)


def test_refresh_and_purge_write_the_tables_of_enough_shoppers(root: Path) -> None:
    refresh_tables(root, searches(6, "d000004", "d000009"))
    shown, chosen = read_memory(root).features("pan steel", product_hashes(["d000004", "d000009"]))
    assert shown[0] < 0 < chosen[0]
    table = open_derived(root / EVENTS_FOLDER / DERIVED_FOLDER).popularity
    assert read_popularity(root).shares.keys() == set(table["product_id"]) == {"d000009"}
    refresh_tables(root, erased=["u0", "u1"])
    assert len(read_memory(root)) == 0, "four shoppers are too few"
    assert read_popularity(root) == NO_POPULARITY


@pytest.mark.usefixtures("without_default")
def test_damaged_popularity_gives_a_notice_without_a_ranker_too(root: Path) -> None:
    (root / POPULARITY_FILE).write_bytes(b"damaged")
    with SearchEngine.open(root, follow=False) as opened:
        (notice,) = opened.notices
        assert notice.startswith("product popularity is not used:")


def test_an_engine_loads_no_table_library_and_no_solver() -> None:
    program = "import sys, shelfwise.service.engine.engine; sys.exit(bool({'polars', 'scipy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
