"""Text towers of an index: queries made from the catalog, near misses, and reformulated queries."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.rerank.ranker.spec import ERASURES
from shelfwise.rerank.text_towers.dataset import (
    LEAST_GAIN,
    JudgedQuery,
    Opinion,
    TowerDataset,
    TowerSources,
    build_dataset,
    from_labels,
    from_reformulations,
    is_validation_query,
)
from shelfwise.rerank.text_towers.negatives import NegativeOptions
from shelfwise.retrieval.encoders.registry import open_encoder
from shelfwise.retrieval.errors import EncoderUnavailableError, SettingError
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.service.engine.snapshot import Snapshot, serving_snapshot
from shelfwise.service.training.text_towers import (
    TextTowersRequest,
    build_tower_dataset,
    catalog_queries,
    retrieve_products,
    train_text_towers,
)
from shelfwise.service.training.text_towers_promotion import judging, without_judges
from shelfwise.service.training.training_session import fresh_tables
from tests.catalogs import write_feed
from tests.learning_stores import SETTINGS, record_visits
from tests.progress import StoppedProgress
from tests.unit.rerank.text_towers.tiny_towers import (
    COLOURS,
    PRODUCT_WORDS,
    PRODUCTS,
    QUERY_WORDS,
    TRAINING,
    every_query,
    irrelevant_lines,
    judged,
    make_encoder,
    make_index,
    write_judgments,
)

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTHS = (2, 4, 8)
SIZED = [
    Product(f"{called}-{colour}-{length}", f"{colour} {called} {length} ft", category=("All", called))
    for called in PRODUCT_WORDS
    for colour in COLOURS
    for length in LENGTHS
]


def asked() -> list[JudgedQuery]:
    made = []
    for word, called in zip(QUERY_WORDS, PRODUCT_WORDS, strict=True):
        for colour in COLOURS:
            ids = {length: f"{called}-{colour}-{length}" for length in LENGTHS}
            made.append(JudgedQuery(f"{colour} {word}", {each: Opinion(1.0) for each in ids.values()}))
            made += [JudgedQuery(f"{colour} {word} {length} ft", {ids[length]: Opinion(1.0)}) for length in LENGTHS]
    return made


@pytest.fixture(scope="module")
def sizes(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_index(tmp_path_factory.mktemp("sizes"), cache, products=SIZED).parent


def made_of(snapshot: Snapshot) -> TowerDataset:
    return build_dataset(TowerSources(asked()), snapshot.products.row_of)


def test_near_misses_differ_in_length_or_type(sizes: Path) -> None:
    phases = StoppedProgress(of="near misses")
    with serving_snapshot(sizes / "index") as snapshot:
        made = made_of(snapshot)
        found = retrieve_products(snapshot, made, NegativeOptions(near_misses=0.5), phases)
        positives = {int(row) for row in made.rows[made.training_pairs]}
        assert found.near_misses.keys() == positives
        for row, others in found.near_misses.items():
            one, near = snapshot.products[row], snapshot.vectors.search(snapshot.vectors.vector(row), 31).rows.tolist()
            expected = [
                other
                for other in near
                if (each := snapshot.products[other]).category != one.category or each.title[-4:] != one.title[-4:]
            ]
            assert others.tolist() == expected
            assert 0 < len(expected) < 31
    # Each product is searched once, although it answers two queries.
    assert phases.totals[-1] == phases.done == len(positives) <= len(SIZED)
    assert phases.summary_of["near misses"] == (
        f"{len(positives)} of {len(positives)} positives have one of another size or type among the 30 nearest"
    )


def test_near_misses_are_trained_on_and_reported(sizes: Path, cache: Path, tmp_path: Path) -> None:
    index = Path(shutil.copytree(sizes / "index", tmp_path / "index"))
    write_judgments(tmp_path / "judgments.tsv", asked(), *irrelevant_lines(SIZED[0], asked()))
    options = replace(TRAINING, epochs=1, negatives=replace(TRAINING.negatives, near_misses=0.5))
    request = TextTowersRequest(
        (tmp_path / "judgments.tsv",), encoder=str(sizes / "tiny"), cache=cache, options=options
    )
    phases = StoppedProgress()
    done = train_text_towers(index, SETTINGS, request, phases)
    assert done.spec.options["negatives"]["near_misses"] == 0.5
    assert "near misses" in phases.summary_of


COUNT = 300


@pytest.fixture(scope="module")
def snapshot(demo_index: Path) -> Iterator[Snapshot]:
    with serving_snapshot(demo_index) as opened:
        yield opened


@pytest.fixture(scope="module")
def made(snapshot: Snapshot) -> list[JudgedQuery]:
    return catalog_queries(snapshot, COUNT, 3, NullProgress())


def test_synthetic_query_has_its_source_product(made: list[JudgedQuery]) -> None:
    assert len(made) == len({each.query for each in made}) == COUNT
    for each in made:
        assert [opinion for opinion in each.opinions.values() if opinion.weight > 0] == [Opinion(1.0)]


def test_better_matching_product_is_no_negative(snapshot: Snapshot, made: list[JudgedQuery]) -> None:
    several = [each for each in made if len(each.opinions) > 1]
    assert several
    for each in several:
        (right,) = (product for product, opinion in each.opinions.items() if opinion.weight > 0)
        found = snapshot.keyword.search(snapshot.analyzer.groups(each.query), 300).rows.tolist()
        ids = [snapshot.products.id_of(row) for row in found]
        before = ids[: ids.index(right)] if right in ids else ids
        others = {product: opinion for product, opinion in each.opinions.items() if product != right}
        assert others == dict.fromkeys(before, Opinion(LEAST_GAIN, 0.0))


ABANDONED = 24
"""Number of queries that six shoppers tried in vain; five of these shoppers then tried another one."""


def misspelled(query: str) -> str:
    return f"{query}x"


def queries_without_clicks() -> list[str]:
    return [each.query for each in every_query()][:: len(every_query()) // ABANDONED][:ABANDONED]


@pytest.fixture(scope="module")
def store(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_index(tmp_path_factory.mktemp("given-up"), cache)
    right = {each.query: next(iter(each.opinions)) for each in every_query()}
    visits = [[query] for query in right] * 2
    for query in queries_without_clicks():
        visits += [[misspelled(query), query]] * 5 + [[misspelled(query)]]
    record_visits(root, visits, right, [each.id for each in PRODUCTS])
    return root


@pytest.fixture
def root(store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store, tmp_path / "index"))


@pytest.fixture(scope="module")
def sources(store: Path) -> TowerSources:
    with fresh_tables(store, SETTINGS, NullProgress()) as tables:
        derived = tables.derived
        return TowerSources(
            from_labels(derived.labels), paraphrases=from_reformulations(derived.reformulations, derived.queries)
        )


def test_paraphrases_of_test_queries_are_not_trained_on(sources: TowerSources, store: Path) -> None:
    left = without_judges(sources, judging(sources.training))
    assert left.paraphrases is not None
    judges = {each.query for each in judging(every_query())}
    watched = StoppedProgress()
    with fresh_tables(store, SETTINGS, NullProgress()) as tables:
        made = build_tower_dataset(tables.snapshot, left, 0, watched)
    train = [
        each.query
        for each in left.paraphrases
        if each.to_query not in judges
        and not any(is_validation_query(text, left.share) for text in (each.query, each.to_query))
    ]
    assert 0 < len(train) < len(left.paraphrases) < ABANDONED
    assert {*made.queries} - {each.query for each in every_query()} == {*train}
    assert made.paraphrases == len(train)
    assert (
        f"; {made.paraphrases} queries are trained on the results of the queries that replaced them; "
        in watched.summary_of["dataset"]
    )


def test_paraphrases_are_trained_on_and_counted(root: Path, cache: Path, sources: TowerSources) -> None:
    request, watched = TextTowersRequest(cache=cache, options=TRAINING, paraphrases=True), StoppedProgress()
    done = train_text_towers(root, SETTINGS, request, watched)
    count = done.spec.trained_on["paraphrases"]
    assert ABANDONED / 2 < count <= ABANDONED
    assert f"; {count} queries are trained" in watched.summary_of["dataset"]
    clicked = len(sources.training)
    assert done.spec.trained_on["training queries"] + done.spec.trained_on["validation queries"] == clicked + count


def test_encoder_that_learned_from_an_erased_shopper_is_not_trained_further(
    root: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / EVENTS_FOLDER / "erasures.json").write_text("2")
    request = TextTowersRequest(cache=cache, options=TRAINING)
    first = train_text_towers(root, SETTINGS, request, NullProgress())
    assert (first.spec.base, first.spec.trained_on[ERASURES]) == ("tiny", 2)
    feed = write_feed(tmp_path / "feed.jsonl", PRODUCTS)
    rebuild(root, RebuildOptions((str(feed),), cache, encoder=str(first.folder), runtime="onnx-fp32"))
    (root / EVENTS_FOLDER / "erasures.json").write_text("4")
    with pytest.raises(EncoderUnavailableError, match="data of a shopper who has been erased, and tiny,"):
        train_text_towers(root, SETTINGS, request, NullProgress())
    make_encoder(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    second = train_text_towers(root, SETTINGS, request, NullProgress())
    assert (second.spec.base, second.spec.trained_on[ERASURES]) == ("tiny", 4)


@pytest.mark.parametrize(
    ("request_of", "option"),
    [
        (TextTowersRequest((Path("judgments.tsv"),), paraphrases=True), "--judgments"),
        (TextTowersRequest(catalog=100, paraphrases=True), "--from-catalog"),
        (TextTowersRequest((Path("judgments.tsv"),), catalog=100, paraphrases=True, publish=True), "--from-catalog"),
    ],
)
def test_paraphrases_without_clicks_are_refused(store: Path, request_of: TextTowersRequest, option: str) -> None:
    with pytest.raises(SettingError, match=rf"--paraphrases: .* uses only {option}; leave out one of the two"):
        train_text_towers(store, SETTINGS, request_of, NullProgress())


def test_a_static_encoder_is_trained_from_the_table_that_serves(cache: Path, tmp_path: Path) -> None:
    make_index(tmp_path, cache, encoder="static:{}", runtime="torch")
    write_judgments(tmp_path / "judgments.tsv", judged())
    request = TextTowersRequest([tmp_path / "judgments.tsv"], cache=cache, options=replace(TRAINING, learning_rate=0.0))
    done = train_text_towers(tmp_path / "index", SETTINGS, request, NullProgress())
    assert done.spec.options["learning_rate"] == 2e-3
    assert done.spec.curve[-1].validation > done.spec.curve[0].validation
    assert open_encoder(str(done.folder), "auto", cache).identity.startswith("towers-0001-static-int8")
    faulty = replace(request, options=replace(TRAINING, fgm=0.1))
    with pytest.raises(SettingError, match="a table has none: leave it out"):
        train_text_towers(tmp_path / "index", SETTINGS, faulty, NullProgress())
