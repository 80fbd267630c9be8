"""The near misses that an index finds of its products, and towers that learn from them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rerank.text_towers.dataset import JudgedQuery, Opinion, TowerDataset, TowerSources, build_dataset
from rerank.text_towers.negatives import NegativeOptions
from retrieval.records import Product
from service.engine.snapshot import Snapshot, serving_snapshot
from service.training.text_towers import TextTowersRequest, retrieve_products, train_text_towers
from tests.learning_stores import SETTINGS
from tests.progress import StoppedProgress
from tests.unit.rerank.text_towers.tiny_towers import (
    ASKED,
    CALLED,
    COLOURS,
    TRAINING,
    make_index,
    nothing_for,
    write_judgments,
)

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTHS = (2, 4, 8)
PRODUCTS = [
    Product(f"{called}-{colour}-{length}", f"{colour} {called} {length} ft", category=("All", called))
    for called in CALLED
    for colour in COLOURS
    for length in LENGTHS
]


def asked() -> list[JudgedQuery]:
    made = []
    for word, called in zip(ASKED, CALLED, strict=True):
        for colour in COLOURS:
            ids = {length: f"{called}-{colour}-{length}" for length in LENGTHS}
            made.append(JudgedQuery(f"{colour} {word}", {each: Opinion(1.0) for each in ids.values()}))
            made += [JudgedQuery(f"{colour} {word} {length} ft", {ids[length]: Opinion(1.0)}) for length in LENGTHS]
    return made


@pytest.fixture(scope="module")
def root(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_index(tmp_path_factory.mktemp("sizes"), cache, products=PRODUCTS).parent


def made_of(snapshot: Snapshot) -> TowerDataset:
    return build_dataset(TowerSources(asked()), snapshot.products.row_of)


def test_each_is_near_and_of_another_length_or_type(root: Path) -> None:
    phases = StoppedProgress(of="near misses")
    with serving_snapshot(root / "index") as snapshot:
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
    # Each product was looked for once, though it answers two queries.
    assert phases.totals[-1] == phases.done == len(positives) <= len(PRODUCTS)
    assert phases.told["near misses"] == (
        f"{len(positives)} of {len(positives)} positives have one of another size or type among the 30 nearest"
    )


def test_nothing_is_looked_for_where_none_are_drawn(root: Path) -> None:
    phases = StoppedProgress()
    with serving_snapshot(root / "index") as snapshot:
        found = retrieve_products(snapshot, made_of(snapshot), NegativeOptions(), phases)
    assert not found.near_misses
    assert list(phases.told) == ["retrieving"]


def test_towers_learn_from_them_and_say_so(root: Path, cache: Path, tmp_path: Path) -> None:
    index = Path(shutil.copytree(root / "index", tmp_path / "index"))
    write_judgments(tmp_path / "judgments.tsv", asked(), *nothing_for(PRODUCTS[0], asked()))
    options = replace(TRAINING, epochs=1, negatives=replace(TRAINING.negatives, near_misses=0.5))
    request = TextTowersRequest((tmp_path / "judgments.tsv",), encoder=str(root / "tiny"), cache=cache, options=options)
    phases = StoppedProgress()
    done = train_text_towers(index, SETTINGS, request, phases)
    assert done.spec.options["negatives"]["near_misses"] == 0.5
    assert "near misses" in phases.told
