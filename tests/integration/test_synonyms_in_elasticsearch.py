"""Kept synonyms where a cluster searches the words: the same pages as on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.curation.synonyms import Synonym, SynonymKind
from service.engine.engine import SearchEngine
from tests.clusters import moved, settings_for
from tests.servers.server import Server

pytestmark = pytest.mark.elasticsearch

SYNONYMS = (
    Synonym("zorb", SynonymKind.ONE_WAY, ("zorb",), ("drill", "garden hose")),
    Synonym("pan", SynonymKind.TWO_WAY, ("pan lid", "lampshade", "小锅盖")),
    Synonym("mug", SynonymKind.TWO_WAY, ("mug", "kettle")),
)


@pytest.fixture(scope="module")
def engines(
    demo_index: Path, elasticsearch: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[SearchEngine, SearchEngine]]:
    """The demo store here, and with its words in a cluster; both with those synonyms."""
    settings = settings_for(elasticsearch)
    here = Path(shutil.copytree(demo_index, tmp_path_factory.mktemp("here") / "index"))
    with (
        moved(demo_index, tmp_path_factory.mktemp("clustered") / "index", settings) as index,
        SearchEngine.open(here) as embedded,
        SearchEngine.open(index, settings=settings) as clustered,
    ):
        for each in (embedded, clustered):
            each.synonyms.put(SYNONYMS)
        yield embedded, clustered


@pytest.mark.parametrize("query", ["zorb", "red zorb 20m", "pan lid", "小锅盖", "kettle", "red 20m pan lid"])
@pytest.mark.parametrize("stage", ["bm25", "merged"])
def test_the_same_pages_from_both_backends(engines: tuple[SearchEngine, SearchEngine], query: str, stage: str) -> None:
    here, there = (each.search(query, size=30, stage=stage, correct=False) for each in engines)
    assert [hit.product.id for hit in there.hits] == [hit.product.id for hit in here.hits]
    assert (there.total, there.degraded) == (here.total, ())
    assert here.total > 0
