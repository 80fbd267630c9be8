"""What shoppers asked: made of the derived tables, read by engines, and who it tells of nobody."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from retrieval.errors import StoreDamagedError, StoreForeignError
from retrieval.records import Event, EventKind
from retrieval.store.manifest import POPULAR_QUERIES_FILE
from retrieval.store.versions import Store
from service.engine.engine import SearchEngine
from service.engine.hot_reload import follow_popular_queries
from service.engine.spelling import QuerySource
from service.events.event_log import EventLog
from service.events.popular_queries import (
    NO_QUERIES,
    PopularQueries,
    PopularQuery,
    read_popular_queries,
    write_popular_queries,
)
from service.settings import Settings
from service.training.derived_tables import DerivedTablesManager

MADE = datetime(2026, 11, 20, 12, tzinfo=UTC)
QUERIES = (
    PopularQuery("Cordless Drill", 90, has_purchases=True, is_suggested=True, related=(1,)),
    PopularQuery("drill bits", 40, is_suggested=True),
    PopularQuery("drill cordless", 3, is_suggested=True),
)


class TestFile:
    def test_it_is_read_as_it_was_written(self, tmp_path: Path) -> None:
        write_popular_queries(tmp_path, QUERIES, MADE)
        found = read_popular_queries(tmp_path)
        assert found == PopularQueries(QUERIES)
        assert found.places == {("cordless", "drill"): 0, ("bits", "drill"): 1}
        assert found.purchase_words == {"cordless", "drill"}

    def test_without_one_nothing_was_asked(self, tmp_path: Path) -> None:
        assert read_popular_queries(tmp_path) is NO_QUERIES

    @pytest.mark.parametrize(
        "damage",
        [
            lambda said: said[:-3],
            lambda said: said.replace(b"bits", b"bots"),
            lambda said: b"",
            lambda said: b"\xff\xfe",
            lambda said: b"[1, 2]",
        ],
        ids=["cut off", "changed", "empty", "no text", "no object"],
    )
    def test_a_damaged_one_is_told(self, tmp_path: Path, damage: object) -> None:
        write_popular_queries(tmp_path, QUERIES, MADE)
        path = tmp_path / POPULAR_QUERIES_FILE
        path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
        with pytest.raises(StoreDamagedError, match=r"popular_queries.json .*; shelfwise events refresh makes it anew"):
            read_popular_queries(tmp_path)

    def test_related_queries_that_are_not_there_are_damage(self, tmp_path: Path) -> None:
        write_popular_queries(tmp_path, [PopularQuery("drill", 9, related=(1,))], MADE)
        with pytest.raises(StoreDamagedError, match="names related queries that it does not hold"):
            read_popular_queries(tmp_path)

    def test_one_of_a_newer_program_is_told(self, tmp_path: Path) -> None:
        (tmp_path / POPULAR_QUERIES_FILE).write_bytes(b'{"schema": 2, "what": "else"}')
        with pytest.raises(StoreForeignError, match="is in schema 2, this program reads 1"):
            read_popular_queries(tmp_path)

    def test_it_is_taken_up_when_it_was_replaced_and_a_notice_tells_of_damage(self, tmp_path: Path) -> None:
        served = follow_popular_queries(tmp_path)
        served.reload_if_changed()
        assert (served.value, served.notices) == (NO_QUERIES, ())
        write_popular_queries(tmp_path, QUERIES, MADE)
        served.reload_if_changed()
        assert served.value == PopularQueries(QUERIES)
        (tmp_path / POPULAR_QUERIES_FILE).write_bytes(b"")
        served.reload_if_changed()
        assert served.value == NO_QUERIES
        assert served.notices[0].startswith("no popular query is suggested: ")

    def test_a_directory_with_nothing_else_is_one_of_events(self, tmp_path: Path) -> None:
        write_popular_queries(tmp_path, QUERIES, MADE)
        assert "holds events and no index yet" in str(Store(tmp_path)._unmarked())


@pytest.fixture
def root(demo_index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_index, tmp_path / "index"))


def visits(products: Sequence[str]) -> Iterator[Event]:
    """Seven shoppers ask "steel pan", choose two products, go on with "frying pan" and buy one of them; "skillet" is
    asked by seven who choose the same; a name is searched for by two."""
    for number in range(7):
        at = MADE - timedelta(days=1, hours=number)
        chains = [("steel pan", products[:2], 0), ("frying pan", products[1:3], 120), ("skillet", products[1:3], 7_200)]
        if number < 2:
            chains.append(("anna svensson", products[:1], 20_000))
        for query, chosen, after in chains:
            yield from visit(number, query, chosen, at + timedelta(seconds=after))


def visit(number: int, query: str, chosen: Sequence[str], begin: datetime) -> Iterator[Event]:
    plain = Event(EventKind.QUERY, query_id=f"{query}-{number}", shopper=f"shopper-{number}", session=f"s{number}")
    yield replace(plain, query=query, time=begin, results=3)
    for place, product in enumerate(chosen, 1):
        shown = replace(plain, product_id=product, position=place)
        yield replace(shown, kind=EventKind.IMPRESSION, time=begin + timedelta(seconds=1))
        yield replace(shown, kind=EventKind.CLICK, time=begin + timedelta(seconds=9 * place))
    if query == "frying pan":
        yield replace(plain, kind=EventKind.PURCHASE, product_id=chosen[0], time=begin + timedelta(seconds=60))


@pytest.fixture
def told(root: Path) -> Path:
    """The index, with tables made of those visits."""
    with SearchEngine.open(root, follow=False) as engine:
        products = [engine.snapshot.products[row].id for row in range(4)]
    settings = Settings()
    with closing(EventLog.open(root, settings)) as log:
        log.record(list(visits(products)))
        DerivedTablesManager(root, log, settings.events, clock=lambda: MADE).refresh()
    return root


class TestMaking:
    def test_only_what_enough_shoppers_asked_is_told(self, told: Path) -> None:
        asked = read_popular_queries(told)
        assert {query.text for query in asked.queries} == {"steel pan", "frying pan", "skillet"}
        assert "svensson" not in (told / POPULAR_QUERIES_FILE).read_text("utf-8")

    def test_what_sells_and_what_goes_together(self, told: Path) -> None:
        asked = read_popular_queries(told)
        by_text = {query.text: query for query in asked.queries}
        assert {text for text, query in by_text.items() if query.has_purchases} == {"frying pan"}
        assert all(query.is_suggested for query in asked.queries)
        related = [asked.queries[at].text for at in by_text["steel pan"].related]
        assert related[0] == "frying pan", "shoppers went on with it"
        assert "frying pan" in [asked.queries[at].text for at in by_text["skillet"].related], "the same was chosen"

    def test_an_engine_suggests_and_relates_them(self, told: Path) -> None:
        with SearchEngine.open(told) as engine:
            suggested = {query.text: query.source for query in engine.suggest("pan st").queries}
            assert suggested["steel pan"] is QuerySource.POPULAR
            assert engine.related("Steel  PAN")[0] == "frying pan"
            assert engine.related("pan steel", size=1) == ("frying pan",)
            assert set(engine.related("pan")) == {"steel pan", "frying pan"}, "nobody asked it: what says more"
            assert engine.related("anna svensson") == ()
            assert engine.related("") == ()

    def test_a_word_that_sells_is_not_corrected(self, told: Path) -> None:
        write_popular_queries(told, [PopularQuery("wireles speeker", 9, has_purchases=True, is_suggested=True)], MADE)
        with SearchEngine.open(told) as engine:
            page = engine.search("wireles speeker", size=1)
            assert (page.suggestion, page.corrected) == ("", False)
            write_popular_queries(told, [PopularQuery("wireles speeker", 9, is_suggested=True)], MADE)
            engine.reload_if_changed()
            page = engine.search("wireles speeker", size=1)
            assert (page.suggestion, page.corrected) == ("wireless speaker", True)
            suggested = engine.suggest("wireles e")
            assert suggested
            assert all(query.source is QuerySource.CATALOG for query in suggested.queries), (
                "a misspelling is not taught"
            )


def test_without_events_nothing_is_related(engine: SearchEngine) -> None:
    assert engine.related("drill") == ()
