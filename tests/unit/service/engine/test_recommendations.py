"""Similar products and recommendations."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from shelfwise.rerank.sessions.tables import open_derived
from shelfwise.rerank.user_tower.histories import Histories
from shelfwise.rerank.user_tower.tower import OnnxEncoder, UserTower
from shelfwise.retrieval.errors import ModelError, QueryError, UnknownProductError
from shelfwise.retrieval.records import (
    Event,
    EventKind,
    PastAct,
    Product,
    Relation,
    RelationEvidence,
    RelationKind,
    StageScore,
)
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.service.curation.relations import RelationCorrection
from shelfwise.service.curation.rules import Hide, Rule
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.recommendations import TOWER, _known
from shelfwise.service.engine.related import RELATED_KINDS, WEIGHT, ProductList, similar_products
from shelfwise.service.engine.snapshot import Snapshot
from shelfwise.service.events.event_log import DERIVED_FOLDER
from shelfwise.service.events.signals import Relations, read_relations, type_node, write_popularity, write_relations
from shelfwise.service.settings import RecommendSettings, Settings
from tests.catalogs import ids
from tests.unit.service.cli import commands
from tests.unit.service.engine.demo_towers import publish, trained
from tests.unit.service.engine.demo_visits import MADE, refresh_tables

ROW = 7
BOUGHT = Relation(RelationKind.COMPLEMENT, RelationEvidence.SHOPPERS, 0.5, 12)
INSTEAD = Relation(RelationKind.SUBSTITUTE, RelationEvidence.SHOPPERS, 0.25, 9)
FITS = Relation(RelationKind.FITS, RelationEvidence.ATTRIBUTES, 1.0)


def coviews_of(product: str, **strengths: float) -> Relations:
    return Relations.of_pairs((product, other, strength, None) for other, strength in strengths.items())


def write_pairs(live: SearchEngine, root: Path, *pairs: tuple[str, str, Relation]) -> None:
    write_relations(root, Relations.of_pairs((one, other, each.strength, each) for one, other, each in pairs), MADE)
    live.reload_if_changed()


class TestRelated:
    """Products that go with a product, or are chosen instead of it."""

    def test_each_kind_has_its_products(self, live: SearchEngine, root: Path, product: str, texts: list[str]) -> None:
        with_it, instead, toner = texts[300], texts[100], texts[200]
        write_pairs(live, root, (with_it, product, BOUGHT), (product, instead, INSTEAD), (toner, product, FITS))
        page = live.relations.of(product)
        assert ids(page) == [toner, with_it]
        assert [getattr(hit, "relation", None) for hit in page.hits] == [replace(FITS, reverse=True), BOUGHT]
        assert [hit.score for hit in page.hits] == [1.0, 0.5]
        by_kind = {kind: ids(live.relations.of(product, kind=kind)) for kind in RELATED_KINDS}
        assert (by_kind["substitute"], by_kind["fits"], by_kind["complement"]) == ([instead], [toner], [with_it])
        assert by_kind["part_of"] == by_kind["accessory"] == []
        assert ids(live.relations.of(instead, kind="substitute")) == []
        assert ids(live.relations.of(product, size=1)) == [toner]

    def test_filters_rules_and_live_changes_apply(
        self, live: SearchEngine, root: Path, product: str, texts: list[str]
    ) -> None:
        cheap = ids(live.similar(product, size=599, filters="price < 60"))
        dear = [name for name in texts[200:] if name not in cheap][:2]
        pairs = [(product, name, replace(BOUGHT, strength=share)) for name, share in zip(dear, (0.9, 0.8), strict=True)]
        write_pairs(
            live, root, *pairs, (product, cheap[-1], BOUGHT), (product, "gone", BOUGHT), (product, product, FITS)
        )
        assert ids(live.relations.of(product)) == [*dear, cheap[-1]]
        assert ids(live.relations.of(product, filters="price < 60")) == [cheap[-1]]
        live.rules.put([Rule("hide", (Hide((dear[0],)),))])
        page = live.relations.of(product)
        assert (ids(page), page.rules) == ([dear[1], cheap[-1]], ("hide",))
        assert ids(live.relations.of(product, rules=False)) == [*dear, cheap[-1]]
        live.delete([dear[1]])
        assert ids(live.relations.of(product)) == [cheap[-1]]

    def test_related_types_fill_the_page(self, live: SearchEngine, root: Path, product: str, texts: list[str]) -> None:
        snapshot = live.snapshot
        own = snapshot.types.name_of(ROW)
        other, rows = next(
            (name, rows)
            for name in (snapshot.types.name_of(snapshot.products.row_of(each) or 0) for each in texts[::-1])
            if name and name != own and len(rows := snapshot.types.members_of(name)) > 1
        )
        types = Relation(RelationKind.COMPLEMENT, RelationEvidence.TYPES, 0.25, 20)
        pairs = [(type_node(own), type_node(other), 0.25, types), (product, texts[100], 0.5, BOUGHT)]
        write_relations(root, Relations.of_pairs(pairs), MADE)
        live.reload_if_changed()
        page = live.relations.of(product)
        members = [snapshot.products.id_of(row) for row in rows.tolist()]
        assert ids(page)[0] == texts[100]
        assert ids(page)[1] == next(name for name in texts if name in members)
        assert {*ids(page)[1:]} <= {*members}
        assert {getattr(hit, "relation", None) for hit in page.hits[1:]} == {types}
        assert ids(live.relations.of(product, kind="fits")) == []

    def test_parts_of_another_brand_or_voltage_do_not_go_with_a_product(self, live: SearchEngine, root: Path) -> None:
        def tool(name: str, title: str, brand: str, volts: float = 0.0) -> Product:
            attributes = {"voltage_v": volts} if volts else {}
            return Product(name, title, brand=brand, category=("Tools",), attributes=attributes)

        battery = "Cordless Drill Battery"
        parts = tool("own", battery, "Kes", 20), tool("brand", battery, "Tor", 20), tool("volts", battery, "Kes", 12)
        live.upsert([tool("drill", "Cordless Drill", "Kes", 20), *parts, tool("bit", "Drill Bit Set", "Tor")])
        write_pairs(live, root, *(("drill", name, BOUGHT) for name in ("brand", "volts", "own", "bit")))
        assert {*ids(live.relations.of("drill"))} & {"own", "bit", "brand", "volts"} == {"own", "bit"}

    def test_similar_products_leave_out_removed_substitutes(self, live: SearchEngine, product: str) -> None:
        first, second, *_ = ids(live.similar(product, size=4))
        correction = RelationCorrection(RelationKind.SUBSTITUTE, product, first, removed=True)
        live.relations.put([correction, RelationCorrection(RelationKind.FITS, product, second, removed=True)])
        found = ids(live.similar(product, size=4))
        assert (found[0], len(found)) == (second, 4)
        assert first not in found
        assert product in ids(live.similar(first, size=4)), "a substitute has a direction"
        assert ids(live.similar(product, size=4, coviews=False))[0] == first, "by texts alone nothing is corrected"
        live.relations.delete([correction.id])
        assert ids(live.similar(product, size=4))[0] == first

    def test_a_refresh_brings_no_removed_relation_back(
        self, live: SearchEngine, root: Path, product: str, texts: list[str]
    ) -> None:
        found, added = texts[300], texts[200]
        live.relations.put([RelationCorrection(RelationKind.COMPLEMENT, found, product, removed=True)])
        live.relations.put([RelationCorrection(RelationKind.FITS, added, product)])
        write_pairs(live, root, (product, found, BOUGHT))
        assert ids(live.relations.of(product)) == [added]
        assert ids(live.relations.of(found)) == []
        with pytest.raises(UnknownProductError, match="nosuch"):
            live.relations.put([RelationCorrection(RelationKind.FITS, "nosuch", product)])

    def test_invalid_arguments_are_named(self, live: SearchEngine, product: str) -> None:
        with pytest.raises(QueryError, match="kind is 'beside', it can be goes_with, complement, substitute"):
            live.relations.of(product, kind="beside")
        with pytest.raises(UnknownProductError):
            live.relations.of("nosuch")
        with pytest.raises(QueryError, match="product_id is int"):
            live.relations.of(7)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def snapshot(engine: SearchEngine) -> Snapshot:
    return engine.snapshot


@pytest.fixture(scope="module")
def product(snapshot: Snapshot) -> str:
    return snapshot.products.id_of(ROW)


@pytest.fixture(scope="module")
def texts(snapshot: Snapshot, product: str) -> list[str]:
    """All other products, nearest by text first."""
    return ids(similar_products(product, ProductList(snapshot, 599)))


class TestFusion:
    def test_score_is_cosine_plus_weighted_coview_deviations(
        self, snapshot: Snapshot, product: str, texts: list[str]
    ) -> None:
        coviews = coviews_of(product, **{texts[300]: 0.5, texts[2]: 0.25, "gone": 0.5, product: 0.9})
        plain = {hit.product.id: hit.score for hit in similar_products(product, ProductList(snapshot, 599)).hits}
        nearest = snapshot.vectors.vector(snapshot.products.row_of(texts[0]) or 0)
        assert plain[texts[0]] == pytest.approx(float(snapshot.vectors.vector(ROW) @ nearest), abs=1e-6)
        page = similar_products(product, ProductList(snapshot, 599), coviews)
        deviation = snapshot.manifest.background.deviation
        expected = plain | {
            texts[300]: plain[texts[300]] + WEIGHT * 0.5 * deviation,
            texts[2]: plain[texts[2]] + WEIGHT * 0.25 * deviation,
        }
        assert {hit.product.id: hit.score for hit in page.hits} == pytest.approx(expected, rel=1e-6)
        rows = {name: snapshot.products.row_of(name) or 0 for name in expected}
        own = snapshot.products[ROW].language
        foreign = {name for name, row in rows.items() if snapshot.products[row].language != own}
        assert ids(page) == sorted(expected, key=lambda name: (name in foreign, -expected[name], rows[name]))

    def test_hits_have_their_score_components(self, snapshot: Snapshot, product: str, texts: list[str]) -> None:
        coviews = coviews_of(product, **{texts[300]: 1.0, texts[0]: 0.25})
        first, second, third = similar_products(product, ProductList(snapshot, 3), coviews).hits
        assert [each.product.id for each in (first, second, third)] == [texts[300], texts[0], texts[1]]
        assert first.stages["dense"].rank is None
        assert first.stages["coviews"] == StageScore(1, 1.0)
        assert second.stages["dense"].rank == 1
        assert second.stages["coviews"] == StageScore(2, 0.25)
        assert third.stages == {"dense": StageScore(2, third.score)}

    def test_coviews_are_filtered_without_a_cluster(self, snapshot: Snapshot, product: str, texts: list[str]) -> None:
        coviews = coviews_of(product, **dict.fromkeys(texts[300:310], 0.9))
        whole = similar_products(product, ProductList(snapshot, 20, "price < 60"), coviews)
        lost = ProductList(snapshot.without_cluster, 20, "price < 60", ("bm25",))
        page = similar_products(product, lost, coviews)
        assert ids(page) == ids(whole)
        assert 0 < sum("coviews" in hit.stages for hit in page.hits) < 10
        assert page.degraded == ("bm25",)


class TestServing:
    def test_coviews_can_be_left_out(self, live: SearchEngine, root: Path, product: str, texts: list[str]) -> None:
        write_relations(root, coviews_of(product, **{texts[300]: 0.9}), MADE)
        live.reload_if_changed()
        assert ids(live.similar(product, size=3)) == [texts[300], *texts[:2]]
        assert ids(live.similar(product, size=3, coviews=False)) == texts[:3]
        assert ids(live.similar(texts[300], size=30, coviews=False)) == ids(live.similar(texts[300], size=30))
        assert live.notices == ()
        live.rules.put([Rule("hide", (Hide((texts[300],)),))])
        assert ids(live.similar(product, size=3)) == texts[:3]
        with pytest.raises(QueryError, match="coviews is str, it must be bool"):
            live.similar(product, coviews="no")  # type: ignore[arg-type]

    def test_coviews_of_the_tables_change_the_order(
        self, live: SearchEngine, root: Path, product: str, texts: list[str]
    ) -> None:
        chosen, begin = texts[30], MADE - timedelta(hours=3)
        clicks = []
        for name, seconds, shoppers in ((product, 0, 12), (chosen, 20, 12), (texts[1], 40, 4)):
            for number in range(shoppers):
                time = begin + timedelta(minutes=number, seconds=seconds)
                clicks.append(Event(EventKind.CLICK, name, time=time, shopper=f"u{number}"))
        refresh_tables(root, clicks)
        live.reload_if_changed()
        page = live.similar(product, size=20)
        assert ids(page) == [chosen, *texts[:19]], "too few looked at the other one"
        neighbours = open_derived(root / EVENTS_FOLDER / DERIVED_FOLDER).neighbours
        (strength,) = neighbours.filter(product_id=product)["similarity"]
        assert strength == pytest.approx(12 / (12 + 10), rel=1e-4)
        (cosine,) = (hit.score for hit in live.similar(product, size=31, coviews=False).hits[30:])
        deviation = live.snapshot.manifest.background.deviation
        assert page.hits[0].score == pytest.approx(cosine + WEIGHT * strength * deviation, rel=1e-5)
        refresh_tables(root, erased=[f"u{number}" for number in range(8)])
        assert read_relations(root).of(product) == []
        live.reload_if_changed()
        assert ids(live.similar(product, size=20)) == texts[:20]


pytestmark = pytest.mark.usefixtures("one_thread")
NOW = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def tower(demo_index: Path) -> UserTower:
    with SearchEngine.open(demo_index, follow=False) as opened:
        return trained(opened.snapshot)


@pytest.fixture(scope="module")
def published(demo_index: Path, tower: UserTower, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo index whose tower serves, read-only."""
    root = Path(shutil.copytree(demo_index, tmp_path_factory.mktemp("towers") / "index"))
    with SearchEngine.open(root, follow=False) as opened:
        publish(root, opened.snapshot, tower)
    return root


@pytest.fixture
def root(published: Path, tmp_path: Path) -> Path:
    """A copy of `published` that a test may change."""
    return Path(shutil.copytree(published, tmp_path / "index"))


def acts_on(engine: SearchEngine, *rows: int) -> list[PastAct]:
    return [
        PastAct(engine.snapshot.products.id_of(row), at=NOW + timedelta(hours=hour)) for hour, row in enumerate(rows)
    ]


def shown(engine: SearchEngine, acts: list[PastAct], **options: object) -> list[int]:
    page = engine.recommend(acts, **options)  # type: ignore[arg-type]
    rows = [engine.snapshot.products.row_of(hit.product.id) for hit in page.hits]
    return [row for row in rows if row is not None]


def test_places_by_text_are_those_of_the_arrays_with_a_filter_too(
    root: Path, tower: UserTower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shelfwise.service.engine.recommendations._MIN_PROPOSED", 5_000)
    mixing = UserTower(tower.encode, tower.catalog, replace(tower.learned, prior=2.0))
    with SearchEngine.open(root, follow=False) as engine:
        publish(root, engine.snapshot, mixing)
    with SearchEngine.open(root, follow=False) as engine:
        rows, acts = [3, 40, 17], acts_on(engine, 3, 40, 17)
        history = Histories.of([rows], [[1] * 3], [[act.at.timestamp() for act in acts if act.at]])
        scores, alone = (each.scores(history, np.array([time.time()]))[0] for each in (mixing, tower))
        scores[rows] = alone[rows] = -np.inf
        best = np.argsort(-scores, kind="stable")
        assert best[:10].tolist() != np.argsort(-alone, kind="stable")[:10].tolist()
        assert shown(engine, acts, size=10) == best[:10].tolist()
        of_brand = [row for row in best.tolist() if engine.snapshot.products[row].brand == "Kessholt"]
        assert shown(engine, acts, size=5, filters='brand = "Kessholt"') == of_brand[:5]
        assert shown(engine, acts, filters="price < 0.01") == []


@pytest.mark.parametrize("rows", [[3, 40, 17], [*range(20, 95), 3, 40, 17]])
def test_tower_scores_equal_its_arrays(live: SearchEngine, tower: UserTower, rows: list[int]) -> None:
    assert live.recommender.user_tower == "tower-0001"
    acts = acts_on(live, *rows)
    times = [act.at.timestamp() for act in acts if act.at]
    kinds = [[1] * len(rows)]
    scores = tower.scores(Histories.of([rows], kinds, [times]), np.array([time.time()]))[0]
    scores[rows] = -np.inf
    assert shown(live, acts, size=10) == np.argsort(-scores, kind="stable")[:10].tolist()
    best = live.recommend(acts, size=1).hits[0]
    assert best.score == pytest.approx(float(scores.max()), abs=1e-3)


def test_recommendations_respect_filters_and_rules(live: SearchEngine) -> None:
    acts = acts_on(live, 3, 10)
    first = live.recommend(acts, size=20).hits
    brand = first[5].product.brand
    hits = live.recommend(acts, size=20, filters=f'brand = "{brand}"').hits
    assert {hit.product.brand for hit in hits} == {brand}
    live.rules.put([Rule("no", (Hide((first[0].product.id,)),))])
    assert first[0].product.id not in {hit.product.id for hit in live.recommend(acts, size=20).hits}


def test_selective_filter_finds_its_products(
    live: SearchEngine, tower: UserTower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shelfwise.service.engine.recommendations._MIN_PROPOSED", 3)
    products, acts = live.snapshot.products, acts_on(live, 3, 10)
    moments = [act.at.timestamp() for act in acts if act.at]
    scores = tower.scores(Histories.of([[3, 10]], [[1, 1]], [moments]), np.array([time.time()]))[0]
    scores[[3, 10]] = -np.inf
    brands = np.array([products[row].brand for row in range(len(products))])
    best = [np.flatnonzero(brands == brand)[scores[brands == brand].argmax()] for brand in np.unique(brands)]
    learned = [row for row in best if row in tower.learned.rows]
    assert len(learned) >= 3
    for row in learned:
        assert shown(live, acts, size=1, filters=f'brand = "{brands[row]}"') == [row]


def test_seen_products_are_hidden_unless_shown(live: SearchEngine, root: Path) -> None:
    acts = acts_on(live, 3, 10)
    assert not {3, 10} & {*shown(live, acts, size=100)}
    assert {3, 10} & {*shown(live, acts, size=100, include_seen=True)}
    settings = Settings(recommend=RecommendSettings(seen="show"))
    with SearchEngine.open(root, settings=settings, follow=False) as showing:
        assert shown(showing, acts, size=100) == shown(live, acts, size=100, include_seen=True)
        assert shown(showing, acts, size=100, include_seen=False) == shown(live, acts, size=100)
    with pytest.raises(QueryError, match="include_seen is str"):
        live.recommend(acts, include_seen="yes")  # type: ignore[arg-type]


def test_popular_products_exclude_seen_ones(live: SearchEngine) -> None:
    products = live.snapshot.products
    brands = [products[row].brand for row in range(len(products))]
    brand = min(set(brands), key=brands.count)
    rows = [row for row, each in enumerate(brands) if each == brand]
    asked = {"size": 10, "filters": f'brand = "{brand}"'}
    assert shown(live, acts_on(live, *rows), **asked) == []
    assert {*shown(live, acts_on(live, *rows), include_seen=True, **asked)} == {*rows}
    unseen = shown(live, acts_on(live, *rows[1:]), **asked)
    assert unseen == rows[:1]


def test_products_in_another_language_only_fill_the_page(live: SearchEngine) -> None:
    languages = [live.snapshot.products[row].language for row in range(len(live.snapshot.products))]
    english, chinese = ([row for row, each in enumerate(languages) if each == code][:5] for code in ("en", "zh"))
    mixed = acts_on(live, *english, *chinese)
    for history, language in ((mixed, "en"), (mixed, "zh"), (acts_on(live, *chinese), "")):
        assert {languages[row] for row in shown(live, history, size=30, language=language)} == {language or "zh"}
    pair = ", ".join(live.snapshot.products.id_of(row) for row in (english[0], chinese[0]))
    assert shown(live, [], language="zh", filters=f"id IN ({pair})") == [chinese[0], english[0]]
    assert shown(live, mixed, size=20, language="de") == shown(live, mixed, size=20), "the store has none"
    for invalid in ("EN", "english", 'e"', "中文"):
        with pytest.raises(QueryError, match="it must be an ISO 639-1 code"):
            live.recommend(language=invalid)


def test_acts_on_a_product_after_half_an_hour_count_again(live: SearchEngine) -> None:
    product = live.snapshot.products.id_of(3)

    def rows(*minutes: int) -> int:
        acts = [PastAct(product, at=NOW + timedelta(minutes=minute)) for minute in minutes]
        return len(_known(live.snapshot, acts, (NOW + timedelta(hours=9)).timestamp())[0])

    assert (rows(0, 29, 58), rows(0, 31), rows(0, 10, 60)) == (1, 2, 2)


def test_new_live_product_is_recommended(live: SearchEngine) -> None:
    live.upsert([replace(live.snapshot.products[3], id="new")])
    assert "new" in ids(live.recommend(acts_on(live, 3), size=50))


def test_popular_products_are_scanned_until_enough_match(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfwise.service.engine.recommendations._BLOCK", 2)
    with SearchEngine.open(root, follow=False) as engine:
        products = engine.snapshot.products
        write_popularity(root, {products.id_of(row): 100.0 - row for row in range(40)}, NOW)
        last = products[39].brand
        fits = [row for row in range(40) if products[row].brand == last]
        assert shown(engine, [], size=len(fits), filters=f'brand = "{last}"') == fits


def test_unknown_products_are_answered_by_popularity(root: Path) -> None:
    with SearchEngine.open(root, follow=False) as engine:
        ids = [engine.snapshot.products.id_of(row) for row in (50, 9, 30)]
        browsed = engine.search("", size=5).hits
        unknown = [PastAct("nosuch")]
        assert engine.recommend(unknown, size=5).hits == engine.recommend(size=5).hits == browsed
        write_popularity(root, {ids[0]: 3.0, ids[1]: 2.0, ids[2]: 1.0, "gone": 9.0}, NOW)
        for history in (unknown, []):
            assert [hit.product.id for hit in engine.recommend(history, size=3).hits] == ids
        first = engine.snapshot.products[50]
        hits = engine.recommend(size=3, filters=f'brand != "{first.brand}"').hits
        assert hits
        assert first.id not in {hit.product.id for hit in hits}


def test_most_chosen_products_are_first_if_training_chose_popularity(
    demo_index: Path, tower: UserTower, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(demo_index, tmp_path / "store"))
    with SearchEngine.open(root, follow=False) as engine:
        products = engine.snapshot.products
        by_category: dict[tuple[str, ...], list[str]] = {}
        for row in range(len(products)):
            by_category.setdefault(products[row].category, []).append(products[row].id)
        seen, *others = next(ids for ids in by_category.values() if len(ids) > 4)
        write_popularity(root, {others[2]: 3.0, others[0]: 1.0}, NOW)
        near = ids(engine.recommend([PastAct(seen)], size=2))
        publish(root, engine.snapshot, tower, reasons=("not better",), fallback="in-categories")
        engine.reload_if_changed()
        assert ids(engine.recommend([PastAct(seen)], size=2)) == [others[2], others[0]]
        write_popularity(root, {}, NOW)
        assert ids(engine.recommend([PastAct(seen)], size=2)) == near
        publish(root, engine.snapshot, tower, reasons=("not better",))
        engine.reload_if_changed()
        assert ids(engine.recommend([PastAct(seen)], size=2)) == near


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", ("tower-0002 cannot serve: it was trained on the encoder another",)),
        ("whatever sells", ("recommendations are the nearest products", "tower.json")),
    ],
)
def test_other_encoder_and_damaged_spec_are_reported(
    live: SearchEngine, root: Path, tower: UserTower, spec: str, message: tuple[str, ...]
) -> None:
    folder = publish(root, live.snapshot, tower, encoder="another").folder
    if spec:
        (folder / "tower.json").write_text(spec)
    live.reload_if_changed()
    assert live.recommender.user_tower == ""
    assert any(all(each in notice for each in message) for notice in live.notices)
    acts = acts_on(live, 3)
    assert ids(live.recommend(acts, size=5)) == ids(live.similar(acts[0].product_id, size=5))


def test_failing_tower_is_reported_as_degraded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_arrays: object) -> None:
        raise ModelError("it failed")

    monkeypatch.setattr(OnnxEncoder, "__call__", fails)
    with SearchEngine.open(root, follow=False) as engine:
        page = engine.recommend(acts_on(engine, 3))
        assert page.hits
        assert page.degraded == (TOWER,)


def test_towers_are_listed_with_the_rankers(live: SearchEngine, root: Path, tower: UserTower) -> None:
    publish(root, live.snapshot, tower, reasons=("not surely better: nDCG@10 +0.0010",))
    listed = commands.document("models", "list", root)["user_towers"]
    assert (listed["serving"], [each["serves"] for each in listed["towers"]]) == ("tower-0001", [True, False])
    assert "tower-0002 was rejected: not surely better" in " ".join(commands.shown("models", "list", root).split())
