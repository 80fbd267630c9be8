"""Text towers of an index: forgotten shoppers, and static encoders."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.rerank.ranker.spec import ERASURES
from shelfwise.retrieval.encoders.registry import open_encoder
from shelfwise.retrieval.errors import EncoderUnavailableError, SettingError
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.service.training.text_towers import TextTowersRequest, train_text_towers
from tests.catalogs import write_feed
from tests.learning_stores import SETTINGS, record_visits
from tests.unit.rerank.text_towers.tiny_towers import (
    PRODUCTS,
    TRAINING,
    every_query,
    judged,
    make_encoder,
    make_index,
    write_judgments,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def store(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_index(tmp_path_factory.mktemp("given-up"), cache)
    right = {each.query: next(iter(each.opinions)) for each in every_query()}
    visits = [[query] for query in right] * 2
    record_visits(root, visits, right, [each.id for each in PRODUCTS])
    return root


@pytest.fixture
def root(store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store, tmp_path / "index"))


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
