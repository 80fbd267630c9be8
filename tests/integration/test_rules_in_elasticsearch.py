"""Rules where a cluster searches the words: the same pages as on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval.records import Page
from service.curation.rules import Boost, Bury, Hide, Match, Pin, Restrict, Rule, When
from service.engine.engine import SearchEngine
from tests.clusters import moved, settings_for
from tests.servers.server import Server

pytestmark = pytest.mark.elasticsearch

FACETS = ("brand", "availability")


@pytest.fixture(scope="module")
def clustered(
    demo_index: Path, elasticsearch: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SearchEngine]:
    """The demo store with its words in a cluster."""
    settings = settings_for(elasticsearch)
    with (
        moved(demo_index, tmp_path_factory.mktemp("clustered") / "index", settings) as index,
        SearchEngine.open(index, settings=settings) as opened,
    ):
        yield opened


def ids(page: Page) -> list[str]:
    return [hit.product.id for hit in page.hits]


def rules_for(engine: SearchEngine) -> list[Rule]:
    drills, mugs = (ids(engine.search(text, size=40, rules=False)) for text in ("drill", "mug"))
    return [
        Rule("pins", (Pin((mugs[0], drills[30], "nowhere"), 2), Hide((drills[0],))), When("drill", Match.CONTAINS)),
        Rule("lifts", (Boost("price < 40", 1.5), Bury("availability = out_of_stock", 0.5))),
        Rule("within", (Restrict("rating > 2"),), When(filters="language = en")),
    ]


@pytest.mark.parametrize("query", ["drill", "cordless drills", "耳机", ""])
@pytest.mark.parametrize("filters", ["", "price < 100", "language = en"])
def test_the_same_pages_from_both_backends(
    engine: SearchEngine, clustered: SearchEngine, query: str, filters: str
) -> None:
    rules = rules_for(engine)
    for page in (1, 3):
        here, there = (
            each.search(query, size=15, page=page, filters=filters, facets=FACETS, stage="merged", rules=rules)
            for each in (engine, clustered)
        )
        assert ids(there) == ids(here)
        assert [hit.rule for hit in there.hits] == [hit.rule for hit in here.hits]
        assert (there.total, there.facets, there.rules) == (here.total, here.facets, here.rules)
        assert not there.degraded


def test_a_search_with_boosts_asks_the_cluster_once_more(clustered: SearchEngine, engine: SearchEngine) -> None:
    asked = []
    for rules in ([], rules_for(engine)[:1], rules_for(engine)):
        before = clustered.round_trips
        clustered.search("drill", stage="merged", facets=FACETS, rules=rules)
        asked.append(clustered.round_trips - before)
    # One for each boost or burial.
    assert asked == [2, 2, 4]
