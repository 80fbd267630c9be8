"""Towers trained on clicks, with queries that shoppers gave up for others: what is learned by them, and what judges."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rerank.text_towers.dataset import Paraphrase, TowerSources, from_labels, from_reformulations, is_validation_query
from retrieval.errors import SettingError
from retrieval.progress import NullProgress
from service.training.text_towers import TextTowersRequest, build_tower_dataset, train_text_towers
from service.training.text_towers_promotion import judging, without_judges
from service.training.training_session import fresh_tables
from tests.learning_stores import SETTINGS, record_visits
from tests.progress import StoppedProgress
from tests.unit.rerank.text_towers.tiny_towers import PRODUCTS, TRAINING, every_query, make_index

pytestmark = pytest.mark.usefixtures("one_thread")

GIVEN_UP = 24
"""Queries that six shoppers asked in vain; five of these asked another one then."""


def misspelled(query: str) -> str:
    return f"{query}x"


def _given_up() -> list[str]:
    return [each.query for each in every_query()][:: len(every_query()) // GIVEN_UP][:GIVEN_UP]


@pytest.fixture(scope="module")
def store(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_index(tmp_path_factory.mktemp("given-up"), cache)
    right = {each.query: next(iter(each.opinions)) for each in every_query()}
    visits = [[query] for query in right] * 2
    for query in _given_up():
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


def test_five_of_six_shoppers_went_on_to_the_other_query(sources: TowerSources) -> None:
    assert sources.paraphrases == [Paraphrase(misspelled(query), query, 5 / 6) for query in sorted(_given_up())]


def test_what_judges_is_not_trained_on_in_other_words(sources: TowerSources, store: Path) -> None:
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
    assert 0 < len(train) < len(left.paraphrases) < GIVEN_UP
    assert {*made.queries} - {each.query for each in every_query()} == {*train}
    assert made.paraphrases == len(train)
    assert (
        f"; {made.paraphrases} queries learn what answers the ones that shoppers replaced them by; "
        in watched.told["material"]
    )


def test_towers_learn_by_them_and_say_how_many(root: Path, cache: Path, sources: TowerSources) -> None:
    request, watched = TextTowersRequest(cache=cache, options=TRAINING, paraphrases=True), StoppedProgress()
    done = train_text_towers(root, SETTINGS, request, watched)
    count = done.spec.trained_on["paraphrases"]
    assert GIVEN_UP / 2 < count <= GIVEN_UP
    assert f"; {count} queries learn" in watched.told["material"]
    clicked = len(sources.training)
    assert done.spec.trained_on["training queries"] + done.spec.trained_on["validation queries"] == clicked + count


def test_without_them_nobody_speaks_of_them(sources: TowerSources, store: Path) -> None:
    watched = StoppedProgress()
    with fresh_tables(store, SETTINGS, NullProgress()) as tables:
        made = build_tower_dataset(tables.snapshot, TowerSources(sources.training), 0, watched)
    assert made.paraphrases == 0
    assert "replaced" not in watched.told["material"]


@pytest.mark.parametrize(
    ("request_of", "option"),
    [
        (TextTowersRequest((Path("judgments.tsv"),), paraphrases=True), "--judgments"),
        (TextTowersRequest(catalog=100, paraphrases=True), "--from-catalog"),
        (TextTowersRequest((Path("judgments.tsv"),), catalog=100, paraphrases=True, publish=True), "--from-catalog"),
    ],
)
def test_where_no_clicks_train_they_are_refused(store: Path, request_of: TextTowersRequest, option: str) -> None:
    with pytest.raises(SettingError, match=rf"--paraphrases: .* uses only {option}; leave out one of the two"):
        train_text_towers(store, SETTINGS, request_of, NullProgress())
