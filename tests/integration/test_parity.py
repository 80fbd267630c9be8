"""Equal results of both backends: hits, orders, scores, totals, facets; with filters, rules and synonyms."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shelfwise.retrieval.judgments import read_judgments
from shelfwise.retrieval.records import Page
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


def varied(*texts: str, **values: Iterable[Any]) -> list[SearchRequest]:
    """Requests with every combination of the values."""
    combinations = itertools.product(texts, *values.values())
    return [SearchRequest(text, **dict(zip(values, each, strict=True))) for text, *each in combinations]


PAGES = {"page": (1, 3), "stage": ("merged",), "facets": (FACETS,)}
GROUPS = {"group": ("variants", "brand"), "per_group": (2,), "size": (7,), "sort": ("", "-price"), **PAGES}
REQUESTS = {
    "groups": varied("drill", "backpack", "耳机", "", **GROUPS, ranges=[("price", "price:0,20,100")]),
    "rules": varied(
        "drill", "cordless drills", "耳机", "", filters=("", "price < 100", "language = en"), size=(15,), **PAGES
    ),
    "synonyms": varied(
        "zorb", "red zorb 20m", "pan lid", "小锅盖", "kettle", "red 20m pan lid",
        stage=("bm25", "merged"), size=(30,), correct=(False,),
    ),
    "spelling": varied(
        "cordles drill", "stel pan", "drill cordles zorbed", "headfones", "cordl",
        visible=("", "price < 40", "price < 0"), prefix=(False, True), size=(5,), stage=("merged",),
    ),
}  # fmt: skip


def rules_for(engine: SearchEngine) -> list[Rule]:
    drills, mugs = (ids(engine.search(text, size=40, rules=False)) for text in ("drill", "mug"))
    return [
        Rule("pins", (Pin((mugs[0], drills[-1], "nowhere"), 2), Hide((drills[0],))), When("drill", Match.CONTAINS)),
        Rule("lifts", (Boost("price < 40", 1.5), Bury("availability = out_of_stock", 0.5))),
        Rule("within", (Restrict("rating > 2"),), When(filters="language = en")),
    ]


def answer(page: Page) -> tuple[object, ...]:
    hits = [(hit.product.id, hit.rule, hit.group_rank, hit.group_size, hit.siblings) for hit in page.hits]
    texts = (page.suggestion, page.corrected, page.completion)
    return (*texts, hits, page.total, page.facets, page.ranges, page.rules, page.degraded)


@pytest.mark.parametrize("kind", REQUESTS)
def test_pages_are_equal(engines: tuple[SearchEngine, SearchEngine], kind: str) -> None:
    rules = tuple(rules_for(engines[0])) if kind == "rules" else True
    for request in REQUESTS[kind]:
        here, there = (each.search(replace(request, rules=rules)) for each in engines)
        assert answer(there) == answer(here), request
        assert not there.degraded
        assert here.total or kind != "synonyms"


def test_boosts_cost_one_more_cluster_request(engines: tuple[SearchEngine, SearchEngine]) -> None:
    engine, clustered = engines
    asked = []
    for rules in ([], rules_for(engine)[:1], rules_for(engine)):
        before = clustered.connection.round_trips
        clustered.search("drill", stage="merged", facets=FACETS, rules=rules)
        asked.append(clustered.connection.round_trips - before)
    # One for each boost or burial.
    assert asked == [2, 2, 4]


@pytest.mark.parametrize("visible", ["", "price < 40", "price < 0"])
def test_suggestions_are_equal(engines: tuple[SearchEngine, SearchEngine], visible: str) -> None:
    here, there = (each.suggest("dri", filters=visible) for each in engines)
    assert here == there
    assert bool(here) == (visible != "price < 0")
