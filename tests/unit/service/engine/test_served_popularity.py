"""Popularity as the ranker reads it: made with the tables of events, taken up by engines, the same in training."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from rerank.ranker.features import FEATURES
from rerank.sessions.tables import open_derived
from retrieval.errors import StoreDamagedError, StoreError, StoreForeignError, StoreMissingError
from retrieval.records import Event, EventKind, Product
from retrieval.store.files import scratch_path
from retrieval.store.manifest import POPULARITY_FILE
from retrieval.store.versions import Store
from service.engine.engine import SearchEngine
from service.engine.hot_reload import follow_popularity
from service.events.event_log import EventLog
from service.events.signals import NO_POPULARITY, Popularity, read_popularity, write_popularity
from service.settings import RankerSettings, Settings
from service.training.derived_tables import DerivedTablesManager
from service.training.ranker_dataset import candidate_lists
from tests.unit.service.engine.demo_rankers import publish, spec_for, weighing

MADE = datetime(2026, 11, 20, 12, tzinfo=UTC)
PATIENT = Settings(ranker=RankerSettings(deadline=60))
QUERY = "steel pan"


@pytest.fixture
def root(demo_index: Path, tmp_path: Path) -> Path:
    """A copy of the demo index that a test may change."""
    return Path(shutil.copytree(demo_index, tmp_path / "index"))


@pytest.fixture
def live(root: Path, engine: SearchEngine) -> Iterator[SearchEngine]:
    """An engine whose ranker goes by popularity alone; it looks for what is new when it is told to."""
    publish(root, spec_for(engine.snapshot), weighing(popularity=1.0))
    with SearchEngine.open(root, settings=PATIENT) as opened:
        yield opened


def order(engine: SearchEngine) -> list[str]:
    engine.reload_if_changed()
    page = engine.search(QUERY, size=30)
    assert page.degraded == ()
    return [hit.product.id for hit in page.hits]


class TestFile:
    def test_it_says_each_score_as_a_share_of_the_highest(self, tmp_path: Path) -> None:
        write_popularity(tmp_path, {"a": 2.5, "无线/耳机": 10.0, "none": 0.0}, MADE)
        found = read_popularity(tmp_path)
        assert found == Popularity({"a": 0.25, "无线/耳机": 1.0})
        told = found.of(["无线/耳机", "b", "a", "none"])
        assert told.dtype == np.float32
        assert told.tolist() == [1, 0, 0.25, 0]

    def test_traffic_changes_no_share(self) -> None:
        scores = {"a": 2.5, "b": 10.0, "c": 0.01}
        doubled = {name: 2 * score for name, score in scores.items()}
        assert Popularity.of_scores(doubled) == Popularity.of_scores(scores)

    def test_none_and_an_empty_one_say_nothing(self, tmp_path: Path) -> None:
        assert read_popularity(tmp_path) is NO_POPULARITY
        write_popularity(tmp_path, {}, MADE)
        assert read_popularity(tmp_path) == NO_POPULARITY
        assert NO_POPULARITY.of(["a"]).tolist() == [0]

    @pytest.mark.parametrize(
        "damage",
        [
            lambda said: said[:-3],
            lambda said: said.replace(b"2.5", b"9.5"),
            lambda said: b"",
            lambda said: b"\xff\xfe",
            lambda said: b"[1, 2]",
            lambda said: said.replace(b'"scores":{', b'"scores":["a"],"x":{'),
        ],
        ids=["cut off", "changed", "empty", "no text", "no object", "no scores"],
    )
    def test_a_damaged_one_is_told(self, tmp_path: Path, damage: object) -> None:
        write_popularity(tmp_path, {"a": 2.5, "b": 10.0}, MADE)
        path = tmp_path / POPULARITY_FILE
        path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
        with pytest.raises(StoreDamagedError, match=r"popularity.json .*; shelfwise events refresh makes it anew"):
            read_popularity(tmp_path)

    def test_scores_that_cannot_be_are_damage(self, tmp_path: Path) -> None:
        write_popularity(tmp_path, {"a": -1.0}, MADE)
        with pytest.raises(StoreDamagedError, match="negative or not finite"):
            read_popularity(tmp_path)

    def test_one_of_a_newer_program_is_told_and_one_too_long_is_not_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / POPULARITY_FILE
        path.write_bytes(b'{"schema": 2, "what": "else"}')
        with pytest.raises(StoreForeignError, match="is in schema 2, this program reads 1"):
            read_popularity(tmp_path)
        monkeypatch.setattr("service.events.signals.MOST_POPULARITY_BYTES", 100)
        write_popularity(tmp_path, {f"product {number}": 1.0 for number in range(9)}, MADE)
        with pytest.raises(StoreDamagedError, match="more than 100 bytes"):
            read_popularity(tmp_path)

    def test_where_it_cannot_be_written_the_one_before_stays(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="cannot be written"):
            write_popularity(tmp_path / "nowhere", {"a": 1.0}, MADE)

    def test_it_is_read_again_when_it_was_replaced(self, tmp_path: Path) -> None:
        served = follow_popularity(tmp_path)
        served.reload_if_changed()
        assert served.value == NO_POPULARITY
        write_popularity(tmp_path, {"a": 1.0}, MADE)
        served.reload_if_changed()
        taken_up = served.value
        served.reload_if_changed()
        assert served.value is taken_up
        (tmp_path / POPULARITY_FILE).unlink()
        served.reload_if_changed()
        assert (served.value, served.notices) == (NO_POPULARITY, ())

    def test_nothing_of_it_takes_a_table_library(self) -> None:
        program = "import sys, service.engine.engine, service.engine.hot_reload; sys.exit('polars' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


class TestServing:
    def test_an_engine_takes_it_up_and_keeps_it_by_id(self, live: SearchEngine, root: Path) -> None:
        before = order(live)
        write_popularity(root, {before[7]: 9.0, before[3]: 2.0, "gone": 99.0}, MADE)
        assert order(live) == [before[7], before[3], *(each for each in before if each not in (before[7], before[3]))]
        assert live.notices == ()
        # A live change of its text leaves a product as popular as it was.
        product = live.product(before[7])
        live.upsert([dataclasses.replace(product, title=f"{product.title} steel pan")])
        assert order(live)[0] == before[7]

    def test_a_product_that_came_since_is_popular_as_soon_as_it_is_chosen(self, live: SearchEngine, root: Path) -> None:
        live.upsert([Product("pan-1", "steel pan of cast steel")])
        assert order(live)[0] != "pan-1"
        write_popularity(root, {"pan-1": 3.0}, MADE)
        assert order(live)[0] == "pan-1"

    def test_a_damaged_file_counts_for_nothing_and_is_told_until_it_is_whole(
        self, live: SearchEngine, root: Path
    ) -> None:
        before = order(live)
        write_popularity(root, {before[7]: 9.0}, MADE)
        assert order(live)[0] == before[7]
        whole = (root / POPULARITY_FILE).read_bytes()
        (root / POPULARITY_FILE).write_bytes(whole[:-2])
        assert order(live) == before
        (notice,) = live.notices
        assert notice.startswith("no product counts as popular:")
        write_popularity(root, {before[5]: 9.0}, MADE)
        assert order(live)[0] == before[5]
        assert live.notices == ()

    @pytest.mark.usefixtures("without_default")
    def test_where_no_ranker_serves_nobody_reads_it(self, root: Path) -> None:
        (root / POPULARITY_FILE).write_bytes(b"damaged")
        with SearchEngine.open(root, follow=False) as opened:
            assert opened.notices == ()

    def test_training_lists_hold_what_serving_reads(self, live: SearchEngine, root: Path) -> None:
        first, second = order(live)[:2]
        popularity = Popularity.of_scores({second: 5.0})
        column = FEATURES.index("popularity")
        lists = candidate_lists(live.snapshot, [QUERY], 0.0, depth=100, popularity=popularity)
        ids = [live.snapshot.products.id_of(row) for row in lists.rows.tolist()]
        told = dict(zip(ids, lists.features[:, column].tolist(), strict=True))
        assert (told[second], told[first]) == (1, 0)
        assert not candidate_lists(live.snapshot, [QUERY], 0.0).features[:, column].any()


class TestTables:
    def clicks(self, root: Path, chosen: list[str]) -> None:
        """Six shoppers who click the products, and one who clicks something else, too."""
        now = datetime.now(UTC) - timedelta(hours=3)
        with closing(EventLog.open(root, Settings())) as log:
            for number in range(6):
                for product in [*chosen, *(["rare"] if not number else [])]:
                    at = now + timedelta(minutes=number)
                    log.record([Event(EventKind.CLICK, product, time=at, shopper=f"u{number}")])

    def test_a_refresh_and_a_purge_write_what_the_table_says(self, root: Path, engine: SearchEngine) -> None:
        products = [engine.snapshot.products.id_of(row) for row in (4, 9)]
        self.clicks(root, products)
        with closing(EventLog.open(root, Settings())) as log:
            tables = DerivedTablesManager(root, log, Settings().events)
            tables.refresh()
            table = open_derived(tables.folder).popularity
            found = read_popularity(root)
            assert set(found.shares) == set(table["product_id"]) == set(products)
            log.store.forget([*log.intake.pseudonyms.all_pseudonyms("u0"), *log.intake.pseudonyms.all_pseudonyms("u1")])
            tables.purge()
            # Four shoppers are too few to be told of.
            assert read_popularity(root) == NO_POPULARITY

    def test_events_may_come_before_the_first_rebuild(self, tmp_path: Path) -> None:
        root = tmp_path / "new"
        self.clicks(root, ["d000003"])
        with closing(EventLog.open(root, Settings())) as log:
            DerivedTablesManager(root, log, Settings().events).refresh()
        assert set(read_popularity(root).shares) == {"d000003"}
        scratch_path(root / POPULARITY_FILE).write_bytes(b"left by a kill")
        with pytest.raises(StoreMissingError, match="holds events and no index yet"):
            Store(root).check_ours()
