"""Similar products by texts and co-views: how both are mixed, what may be shown, and how events change an order."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from rerank.sessions.tables import open_derived
from retrieval.errors import QueryError
from retrieval.records import Event, EventKind, Page, StageScore
from retrieval.store.manifest import COVIEWS_FILE
from service.curation.rules import Hide, Rule
from service.engine.engine import SearchEngine
from service.engine.recommend import WEIGHT, Mixture, similar_products
from service.engine.snapshot import Snapshot
from service.events.event_log import EventLog
from service.events.signals import NO_COVIEWS, CoViews, read_coviews, write_coviews
from service.settings import Settings
from service.training.derived_tables import DerivedTablesManager

MADE = datetime(2026, 11, 20, 12, tzinfo=UTC)
ROW = 7


def ids(page: Page) -> list[str]:
    return [hit.product.id for hit in page.hits]


def beside(product: str, **strengths: float) -> CoViews:
    return CoViews.of_pairs([product] * len(strengths), list(strengths), np.array(list(strengths.values())))


@pytest.fixture(scope="module")
def snapshot(engine: SearchEngine) -> Snapshot:
    return engine.snapshot


@pytest.fixture(scope="module")
def product(snapshot: Snapshot) -> str:
    return snapshot.products.id_of(ROW)


@pytest.fixture(scope="module")
def texts(snapshot: Snapshot, product: str) -> list[str]:
    """All other products, the nearest by text first."""
    return ids(similar_products(snapshot, product, 599, ""))


class TestMixing:
    def test_a_score_is_the_cosine_and_the_weighted_strength_in_deviations(
        self, snapshot: Snapshot, product: str, texts: list[str]
    ) -> None:
        mixture = Mixture(beside(product, **{texts[300]: 0.5, texts[2]: 0.25}), 8.0)
        plain = {hit.product.id: hit.score for hit in similar_products(snapshot, product, 599, "").hits}
        page = similar_products(snapshot, product, 599, "", mixture=mixture)
        deviation = snapshot.manifest.background.deviation
        expected = plain | {
            texts[300]: plain[texts[300]] + 8 * 0.5 * deviation,
            texts[2]: plain[texts[2]] + 8 * 0.25 * deviation,
        }
        assert {hit.product.id: hit.score for hit in page.hits} == pytest.approx(expected, rel=1e-6)
        rows = {name: snapshot.products.row_of(name) for name in expected}
        assert ids(page) == sorted(expected, key=lambda name: (-expected[name], rows[name]))

    def test_what_is_mixed_is_said_of_each_hit(self, snapshot: Snapshot, product: str, texts: list[str]) -> None:
        mixture = Mixture(beside(product, **{texts[300]: 0.5, texts[0]: 0.25}), 100.0)
        first, second, third = similar_products(snapshot, product, 3, "", mixture=mixture).hits
        assert [each.product.id for each in (first, second, third)] == [texts[300], texts[0], texts[1]]
        assert first.stages["dense"].rank is None
        assert first.stages["coviews"] == StageScore(1, 0.5)
        assert second.stages["dense"].rank == 1
        assert second.stages["coviews"] == StageScore(2, 0.25)
        assert third.stages == {"dense": StageScore(2, third.score)}

    @pytest.mark.parametrize("size", [0, 1, 5, 20])
    def test_a_page_is_the_beginning_of_a_longer_one(
        self, snapshot: Snapshot, product: str, texts: list[str], size: int
    ) -> None:
        mixture = Mixture(beside(product, **{texts[300]: 0.2, texts[40]: 0.3, texts[3]: 0.1}))
        whole = similar_products(snapshot, product, 599, "", mixture=mixture)
        assert ids(similar_products(snapshot, product, size, "", mixture=mixture)) == ids(whole)[:size]

    @pytest.mark.parametrize("filters", ["", "price < 60"])
    def test_without_co_views_it_is_as_before_to_the_last_digit(
        self, snapshot: Snapshot, product: str, filters: str
    ) -> None:
        plain = similar_products(snapshot, product, 20, filters)
        vectors = snapshot.vectors
        nearest = vectors.search(vectors.vector(ROW), len(snapshot.products))
        shown = [hit.product.id for hit in plain.hits]
        for coviews in (NO_COVIEWS, beside("else", other=0.5), beside(product, gone=0.5, **{product: 0.9})):
            page = similar_products(snapshot, product, 20, filters, mixture=Mixture(coviews))
            assert [(hit.product.id, hit.score, hit.stages) for hit in page.hits] == [
                (hit.product.id, hit.score, hit.stages) for hit in plain.hits
            ]
        scores = dict(zip(map(snapshot.products.id_of, nearest.rows.tolist()), nearest.scores.tolist(), strict=True))
        assert [hit.score for hit in plain.hits] == [scores[name] for name in shown]
        assert [hit.stages["dense"].rank for hit in plain.hits] == list(range(1, 21))

    def test_while_the_cluster_is_lost_filters_hold_for_co_views(
        self, snapshot: Snapshot, product: str, texts: list[str]
    ) -> None:
        mixture = Mixture(beside(product, **dict.fromkeys(texts[300:310], 0.9)))
        whole = similar_products(snapshot, product, 20, "price < 60", mixture=mixture)
        page = similar_products(snapshot.without_cluster, product, 20, "price < 60", ("bm25",), mixture=mixture)
        assert ids(page) == ids(whole)
        assert 0 < sum("coviews" in hit.stages for hit in page.hits) < 10
        assert page.degraded == ("bm25",)


class TestServing:
    @pytest.fixture
    def root(self, demo_index: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(demo_index, tmp_path / "index"))

    @pytest.fixture
    def live(self, root: Path) -> Iterator[SearchEngine]:
        with SearchEngine.open(root, settings=Settings(backend="embedded")) as opened:
            yield opened

    def test_an_engine_takes_the_file_up_and_can_leave_it_out(
        self, live: SearchEngine, root: Path, product: str, texts: list[str]
    ) -> None:
        write_coviews(root, beside(product, **{texts[300]: 0.9}), MADE)
        live.reload_if_changed()
        assert ids(live.similar(product, size=3)) == [texts[300], *texts[:2]]
        assert ids(live.similar(product, size=3, coviews=False)) == texts[:3]
        assert ids(live.similar(texts[300], size=30, coviews=False)) == ids(live.similar(texts[300], size=30))
        assert live.notices == ()
        with pytest.raises(QueryError, match="coviews is str, it must be bool"):
            live.similar(product, coviews="no")  # type: ignore[arg-type]

    def test_filters_and_rules_hold_for_co_views(
        self, live: SearchEngine, root: Path, product: str, texts: list[str]
    ) -> None:
        cheap = ids(live.similar(product, size=599, filters="price < 60"))
        dear = next(name for name in texts[200:] if name not in cheap)
        write_coviews(root, beside(product, **{dear: 0.9, cheap[-1]: 0.8}), MADE)
        live.reload_if_changed()
        assert ids(live.similar(product, size=2)) == [dear, cheap[-1]]
        assert ids(live.similar(product, size=2, filters="price < 60")) == [cheap[-1], cheap[0]]
        live.rules.put([Rule("hide", (Hide((dear,)),))])
        page = live.similar(product, size=2)
        assert ids(page) == [cheap[-1], texts[0]]
        assert page.rules == ("hide",)

    def test_live_changes_hold_for_co_views(
        self, live: SearchEngine, root: Path, product: str, texts: list[str]
    ) -> None:
        write_coviews(root, beside(product, **{texts[300]: 0.9, texts[200]: 0.8, "new": 0.7}), MADE)
        live.reload_if_changed()
        live.delete([texts[300]])
        # A co-view stays what it is where a product's text changes; one that comes anew has it, too.
        old = live.product(texts[200])
        live.upsert([dataclasses.replace(old, title="enamel kettle"), dataclasses.replace(old, id="new")])
        assert ids(live.similar(product, size=3)) == [texts[200], "new", texts[0]]

    def test_a_damaged_file_leaves_texts_alone_and_is_told_until_it_is_whole(
        self, live: SearchEngine, root: Path, product: str, texts: list[str]
    ) -> None:
        write_coviews(root, beside(product, **{texts[300]: 0.9}), MADE)
        whole = (root / COVIEWS_FILE).read_bytes()
        (root / COVIEWS_FILE).write_bytes(whole[:-2])
        live.reload_if_changed()
        assert ids(live.similar(product, size=3)) == texts[:3]
        (notice,) = live.notices
        assert notice.startswith("similar products are found by their texts alone:")
        assert "coviews.bin" in notice
        (root / COVIEWS_FILE).write_bytes(whole)
        live.reload_if_changed()
        assert ids(live.similar(product, size=1)) == [texts[300]]
        assert live.notices == ()

    def test_what_shoppers_look_at_changes_the_order_once_it_is_in_the_tables(
        self, live: SearchEngine, root: Path, product: str, texts: list[str]
    ) -> None:
        chosen = texts[30]
        begin = datetime.now(UTC) - timedelta(hours=3)
        with closing(EventLog.open(root, Settings())) as log:
            for number in range(12):
                for at, name in enumerate([product, chosen, *([texts[1]] if number < 4 else [])]):
                    time = begin + timedelta(minutes=number, seconds=20 * at)
                    log.record([Event(EventKind.CLICK, name, time=time, shopper=f"u{number}")])
            tables = DerivedTablesManager(root, log, Settings().events)
            tables.refresh()
            live.reload_if_changed()
            page = live.similar(product, size=20)
            assert ids(page) == [chosen, *texts[:19]], "too few looked at the other one"
            (strength,) = open_derived(tables.folder).neighbours.filter(product_id=product)["similarity"]
            assert strength == pytest.approx(12 / (12 + 10), rel=1e-4)
            (cosine,) = (hit.score for hit in live.similar(product, size=31, coviews=False).hits[30:])
            deviation = live.snapshot.manifest.background.deviation
            assert page.hits[0].score == pytest.approx(cosine + WEIGHT * strength * deviation, rel=1e-5)
            forgotten = [each for number in range(8) for each in log.intake.pseudonyms.all_pseudonyms(f"u{number}")]
            log.store.forget(forgotten)
            tables.purge()
            assert len(read_coviews(root)) == 0
            live.reload_if_changed()
            assert ids(live.similar(product, size=20)) == texts[:20]
