"""Equal results of both backends: hits, orders, scores, totals, facets; with filters, rules and synonyms."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shelfwise.retrieval.judgments import read_judgments
from shelfwise.service.curation.rules import Boost, Bury, Hide, Match, Pin, Restrict, Rule, When
from shelfwise.service.curation.synonyms import Synonym, SynonymKind
from shelfwise.service.demo import DemoFiles
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.request import SearchOptions, SearchRequest
from shelfwise.service.settings import Settings
from tests.clusters import ids, moved, settings_for
from tests.servers.server import Server

pytestmark = pytest.mark.elasticsearch


FACETS = ("brand", "availability")
PLAIN: SearchOptions = {"stage": "merged", "size": 100, "rules": False}
VARIED: tuple[SearchOptions, ...] = (
    {"facets": ("brand", "category", "price")},
    {"stage": "bm25", "size": 300},
    {"filters": "price < 40 OR NOT price EXISTS", "facets": ("brand", "category", "price")},
    {"filters": "NOT (availability = in_stock AND price >= 40)", "sort": "-price"},
)
SYNONYMS = (
    Synonym("zorb", SynonymKind.ONE_WAY, ("zorb",), ("drill", "garden hose")),
    Synonym("pan", SynonymKind.TWO_WAY, ("pan lid", "lampshade", "小锅盖")),
    Synonym("mug", SynonymKind.TWO_WAY, ("mug", "kettle")),
)


@contextlib.contextmanager
def opened_in_both(index: Path, folder: Path, settings: Settings) -> Iterator[tuple[SearchEngine, SearchEngine]]:
    """An index on this machine, and a copy of it with its words in a cluster."""
    here = Path(shutil.copytree(index, folder / "here"))
    with (
        moved(index, folder / "moved", settings) as there,
        SearchEngine.open(here) as embedded,
        SearchEngine.open(there, settings=settings) as clustered,
    ):
        yield embedded, clustered


@pytest.fixture(scope="module")
def engines(
    demo_index: Path, elasticsearch: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[SearchEngine, SearchEngine]]:
    with opened_in_both(demo_index, tmp_path_factory.mktemp("both"), settings_for(elasticsearch)) as both:
        for each in both:
            each.synonyms.put(SYNONYMS)
        yield both


@pytest.mark.parametrize(
    ("server", "shards"), [("elasticsearch", 3), pytest.param("elasticsearch_9", 1, marks=pytest.mark.slow)]
)
def test_demo_store_results_are_equal(
    engine: SearchEngine,
    demo: DemoFiles,
    demo_index: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    server: str,
    shards: int,
) -> None:
    settings = settings_for(request.getfixturevalue(server), shards=shards)
    queries = list(read_judgments(demo.judgments).grades)[::20]
    varied: list[SearchOptions] = [{**PLAIN, **each} for each in VARIED]
    requests = [SearchRequest(text, **each) for text in queries for each in varied]
    with opened_in_both(demo_index, tmp_path, settings) as (_, other):
        pages = [(engine.search(each), other.search(each)) for each in requests]
    hits = [pair for here, there in pages for pair in zip(here.hits, there.hits, strict=True)]
    for here, there in pages:
        assert (there.total, there.facets, there.degraded) == (here.total, here.facets, ())
    assert max(abs(here.score - there.score) for here, there in hits) <= 1e-4
    # Equal scores tie, except a few whose last digits are rounded differently.
    assert sum(here.product.id != there.product.id for here, there in hits) <= 0.002 * len(hits)
    assert len(pages) > 25
    assert len(hits) > 500


@pytest.mark.parametrize("query", ["drill", "backpack", "耳机", ""])
@pytest.mark.parametrize("group", ["variants", "brand"])
@pytest.mark.parametrize("sort", ["", "-price"])
def test_groups_are_equal(engines: tuple[SearchEngine, SearchEngine], query: str, group: str, sort: str) -> None:
    first = SearchRequest(
        query,
        size=7,
        sort=sort,
        group=group,
        per_group=2,
        stage="merged",
        facets=FACETS,
        facet_values=5,
        ranges=("price", "price:0,20,100"),
    )
    for page in (1, 3):
        here, there = (each.search(replace(first, page=page)) for each in engines)
        assert [(hit.product.id, hit.group_rank, hit.group_size, hit.siblings) for hit in there.hits] == [
            (hit.product.id, hit.group_rank, hit.group_size, hit.siblings) for hit in here.hits
        ]
        assert (there.total, there.facets, there.ranges) == (here.total, here.facets, here.ranges)
        assert not there.degraded


def rules_for(engine: SearchEngine) -> list[Rule]:
    drills, mugs = (ids(engine.search(text, size=40, rules=False)) for text in ("drill", "mug"))
    return [
        Rule("pins", (Pin((mugs[0], drills[-1], "nowhere"), 2), Hide((drills[0],))), When("drill", Match.CONTAINS)),
        Rule("lifts", (Boost("price < 40", 1.5), Bury("availability = out_of_stock", 0.5))),
        Rule("within", (Restrict("rating > 2"),), When(filters="language = en")),
    ]


@pytest.mark.parametrize("query", ["drill", "cordless drills", "耳机", ""])
@pytest.mark.parametrize("filters", ["", "price < 100", "language = en"])
def test_pages_with_rules_are_equal(engines: tuple[SearchEngine, SearchEngine], query: str, filters: str) -> None:
    rules = rules_for(engines[0])
    for page in (1, 3):
        here, there = (
            each.search(query, size=15, page=page, filters=filters, facets=FACETS, stage="merged", rules=rules)
            for each in engines
        )
        assert ids(there) == ids(here)
        assert [hit.rule for hit in there.hits] == [hit.rule for hit in here.hits]
        assert (there.total, there.facets, there.rules) == (here.total, here.facets, here.rules)
        assert not there.degraded


def test_boosts_cost_one_more_cluster_request(engines: tuple[SearchEngine, SearchEngine]) -> None:
    engine, clustered = engines
    asked = []
    for rules in ([], rules_for(engine)[:1], rules_for(engine)):
        before = clustered.round_trips
        clustered.search("drill", stage="merged", facets=FACETS, rules=rules)
        asked.append(clustered.round_trips - before)
    # One for each boost or burial.
    assert asked == [2, 2, 4]


@pytest.mark.parametrize("query", ["zorb", "red zorb 20m", "pan lid", "小锅盖", "kettle", "red 20m pan lid"])
@pytest.mark.parametrize("stage", ["bm25", "merged"])
def test_pages_with_synonyms_are_equal(engines: tuple[SearchEngine, SearchEngine], query: str, stage: str) -> None:
    here, there = (each.search(query, size=30, stage=stage, correct=False) for each in engines)
    assert ids(there) == ids(here)
    assert (there.total, there.degraded) == (here.total, ())
    assert here.total > 0


@pytest.mark.parametrize("visible", ["", "price < 40", "price < 0"])
def test_corrections_completions_and_suggestions_are_the_same(
    engines: tuple[SearchEngine, SearchEngine], visible: str
) -> None:
    for query in ("cordles drill", "stel pan", "drill cordles zorbed", "headfones"):
        pages = [each.search(query, size=5, stage="merged", visible=visible) for each in engines]
        assert len({(page.suggestion, page.corrected, page.degraded) for page in pages}) == 1, query
    begun = [each.search("cordl", prefix=True, stage="merged", visible=visible).completion for each in engines]
    suggested = [each.suggest("dri", filters=visible) for each in engines]
    assert begun[0] == begun[1]
    assert suggested[0] == suggested[1]
    assert bool(suggested[0]) == (visible != "price < 0")
