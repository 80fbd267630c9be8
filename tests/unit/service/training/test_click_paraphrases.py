"""Towers trained on clicks, with queries that shoppers gave up for others: what is learned by them, and what judges."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from indexer.build import RebuildOptions, rebuild
from indexer.events.importer import import_events
from rerank.text_towers.dataset import Paraphrase, TowerSources, from_labels, from_reformulations, is_validation_query
from retrieval.errors import SettingError
from retrieval.events.privacy import utc_now
from retrieval.progress import NullProgress
from service.events.event_log import EventLog, rejects_path
from service.training.text_towers import TextTowersRequest, build_tower_dataset, train_text_towers
from service.training.text_towers_promotion import judging, without_judges
from service.training.training_session import fresh_tables
from tests.catalogs import write_feed
from tests.learning_stores import SETTINGS
from tests.unit.rerank.text_towers.tiny_towers import PRODUCTS, TRAINING, every_query, make_encoder

pytestmark = pytest.mark.usefixtures("one_thread")

GIVEN_UP = 24
"""Queries that six shoppers asked in vain; five of these asked another one then."""


class _Told(NullProgress):
    def __init__(self) -> None:
        self.material = ""
        self._phase = ""

    def begin(self, phase: str, total: int | None, unit: str) -> None:
        self._phase = phase

    def end(self, summary: str) -> None:
        if self._phase == "material":
            self.material = summary


def misspelled(query: str) -> str:
    return f"{query}x"


def _given_up() -> list[str]:
    return [each.query for each in every_query()][:: len(every_query()) // GIVEN_UP][:GIVEN_UP]


def _events() -> Iterator[dict[str, object]]:
    began, right = datetime(2026, 1, 1, tzinfo=UTC), {each.query: next(iter(each.opinions)) for each in every_query()}
    visits = [[query] for query in right] * 2
    for query in _given_up():
        visits += [[misspelled(query), query]] * 5 + [[misspelled(query)]]
    for visit, asked in enumerate(visits):
        for number, query in enumerate(asked):
            time = began + timedelta(hours=visit, minutes=number)
            said = {"query_id": f"q{visit}-{number}", "query": query, "session": f"s{visit}"}
            page = [PRODUCTS[(visit * 7 + step * 11) % len(PRODUCTS)].id for step in range(4)]
            page = [each for each in page if each != right.get(query)]
            if query in right:
                page.insert(visit % 4, right[query])
            for position, product in enumerate(page, 1):
                shown = {"kind": "impression", "product_id": product, "position": position, "time": time.isoformat()}
                yield {"event_id": f"i{visit}-{number}-{position}", **said, **shown}
            if query in right:
                at = {"position": page.index(right[query]) + 1, "time": (time + timedelta(seconds=9)).isoformat()}
                yield {"event_id": f"c{visit}-{number}", "kind": "click", "product_id": right[query], **said, **at}


@pytest.fixture(scope="module")
def store(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given-up")
    root = folder / "index"
    options = RebuildOptions(
        (str(write_feed(folder / "feed.jsonl", PRODUCTS)),),
        cache,
        encoder=str(make_encoder(folder / "tiny")),
        runtime="onnx-fp32",
    )
    rebuild(root, options)
    log = folder / "events.jsonl"
    log.write_text("\n".join(json.dumps(event) for event in _events()))
    with EventLog.open(root, SETTINGS) as events:
        import_events([str(log)], events.store, events.intake, rejected=rejects_path(events.folder, utc_now()))
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
    told = _Told()
    with fresh_tables(store, SETTINGS, NullProgress()) as tables:
        made = build_tower_dataset(tables.snapshot, left, 0, told)
    train = [
        each.query
        for each in left.paraphrases
        if each.to_query not in judges
        and not any(is_validation_query(text, left.share) for text in (each.query, each.to_query))
    ]
    assert 0 < len(train) < len(left.paraphrases) < GIVEN_UP
    assert {*made.queries} - {each.query for each in every_query()} == {*train}
    assert made.paraphrases == len(train)
    assert f"; {made.paraphrases} queries learn what answers the ones that shoppers replaced them by; " in told.material


def test_towers_learn_by_them_and_say_how_many(root: Path, cache: Path, sources: TowerSources) -> None:
    told = _Told()
    done = train_text_towers(root, SETTINGS, TextTowersRequest(cache=cache, options=TRAINING, paraphrases=True), told)
    count = done.spec.trained_on["paraphrases"]
    assert GIVEN_UP / 2 < count <= GIVEN_UP
    assert f"; {count} queries learn" in told.material
    clicked = len(sources.training)
    assert done.spec.trained_on["training queries"] + done.spec.trained_on["validation queries"] == clicked + count


def test_without_them_nobody_speaks_of_them(sources: TowerSources, store: Path) -> None:
    told = _Told()
    with fresh_tables(store, SETTINGS, NullProgress()) as tables:
        made = build_tower_dataset(tables.snapshot, TowerSources(sources.training), 0, told)
    assert made.paraphrases == 0
    assert "replaced" not in told.material


@pytest.mark.parametrize(
    ("request_of", "option"),
    [
        (TextTowersRequest((Path("judgments.tsv"),), paraphrases=True), "--judgments"),
        (TextTowersRequest(catalog=100, paraphrases=True), "--from-catalog"),
        (TextTowersRequest((Path("judgments.tsv"),), catalog=100, paraphrases=True, publish=True), "--from-catalog"),
    ],
)
def test_where_no_clicks_train_they_are_refused(store: Path, request_of: TextTowersRequest, option: str) -> None:
    with pytest.raises(SettingError, match=rf"--paraphrases: .* learns from {option} alone; leave out one of the two"):
        train_text_towers(store, SETTINGS, request_of, NullProgress())
