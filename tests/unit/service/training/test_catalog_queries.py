"""Queries made from a catalog, with what is known of each product for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rerank.text_towers.dataset import LEAST_GAIN, JudgedQuery, Opinion
from retrieval.progress import NullProgress
from service.engine.snapshot import Snapshot, serving_snapshot
from service.training.text_towers import catalog_queries

COUNT = 300


@pytest.fixture(scope="module")
def snapshot(demo_index: Path) -> Iterator[Snapshot]:
    with serving_snapshot(demo_index) as opened:
        yield opened


@pytest.fixture(scope="module")
def made(snapshot: Snapshot) -> list[JudgedQuery]:
    return catalog_queries(snapshot, COUNT, 3, NullProgress())


def test_each_query_is_answered_by_the_product_that_it_was_made_from(made: list[JudgedQuery]) -> None:
    assert len(made) == len({each.query for each in made}) == COUNT
    for each in made:
        assert [opinion for opinion in each.opinions.values() if opinion.weight > 0] == [Opinion(1.0)]


def test_what_fits_the_words_better_is_no_negative(snapshot: Snapshot, made: list[JudgedQuery]) -> None:
    several = [each for each in made if len(each.opinions) > 1]
    assert several
    for each in several:
        (right,) = (product for product, opinion in each.opinions.items() if opinion.weight > 0)
        found = snapshot.keyword.search(snapshot.analyzer.groups(each.query), 300).rows.tolist()
        ids = [snapshot.products.id_of(row) for row in found]
        before = ids[: ids.index(right)] if right in ids else ids
        others = {product: opinion for product, opinion in each.opinions.items() if product != right}
        assert others == dict.fromkeys(before, Opinion(LEAST_GAIN, 0.0))


def test_the_same_seed_makes_the_same_again(snapshot: Snapshot, made: list[JudgedQuery]) -> None:
    assert catalog_queries(snapshot, COUNT, 3, NullProgress()) == made
    assert catalog_queries(snapshot, COUNT, 4, NullProgress()) != made
