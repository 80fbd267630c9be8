"""The spool: products in any order go in, the same products in the order of their ids come out."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.spool import Spool
from retrieval.product_json import product_to_json
from retrieval.records import Product
from tests.catalogs import numbered, products


def spooled(folder: Path, made: list[Product]) -> Spool:
    spool = Spool(folder / "spool.jsonl")
    spool.write(made)
    return spool


@given(made=products(), random=st.randoms(use_true_random=False))
def test_any_order_comes_back_in_the_order_of_ids(
    tmp_path_factory: pytest.TempPathFactory, made: list[Product], random: Random
) -> None:
    shuffled = list(made)
    random.shuffle(shuffled)
    spool = spooled(tmp_path_factory.mktemp("spool"), shuffled)
    assert len(spool) == len(made)
    assert list(spool.products()) == made
    assert list(spool.lines()) == [product_to_json(product) for product in made]


def test_ids_are_ordered_by_their_bytes(tmp_path: Path) -> None:
    ids = ["é", "a", "Z", "a10", "a9", "中", "\U0001f600", "￿", "-"]
    spool = spooled(tmp_path, [Product(id=each, title="a") for each in ids])
    assert [product.id for product in spool.products()] == sorted(ids, key=str.encode)


def test_it_can_be_read_again_and_again(tmp_path: Path) -> None:
    spool = spooled(tmp_path, numbered(5))
    assert list(spool.products()) == list(spool.products()) == numbered(5)


def test_the_fingerprint_does_not_depend_on_the_order(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    made = numbered(9)
    assert spooled(tmp_path, made).fingerprint() == spooled(tmp_path / "other", made[::-1]).fingerprint()


@pytest.mark.parametrize(
    "changed",
    [
        Product("p9999", "cordless drill"),
        Product("p0002", "saw"),
        Product("p0002", "cordless drill", price=1.0),
        Product("p0002", "cordless drill", attributes={"a": "b"}),
        Product("p0002", "cordless drill", language="en"),
    ],
)
def test_the_fingerprint_changes_with_any_field_of_any_product(tmp_path: Path, changed: Product) -> None:
    (tmp_path / "other").mkdir()
    made = numbered(3)
    assert spooled(tmp_path, made).fingerprint() != spooled(tmp_path / "other", [*made[:2], changed]).fingerprint()


def test_the_fingerprint_changes_when_a_product_goes(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert spooled(tmp_path, numbered(3)).fingerprint() != spooled(tmp_path / "other", numbered(2)).fingerprint()


def test_products_with_chinese_titles_are_counted(tmp_path: Path) -> None:
    titles = ["无线电钻", "Bosch 电钻", "drill", "ドリル"]
    made = [Product(id=str(place), title=title, description="中文") for place, title in enumerate(titles)]
    assert spooled(tmp_path, made).chinese == 2


def test_the_fields_are_those_of_the_products(tmp_path: Path) -> None:
    made = [
        Product(id="1", title="a", attributes={"colour": "red"}),
        Product(id="2", title="b", attributes={"voltage": 12.0}),
    ]
    fields = spooled(tmp_path, made).fields
    assert not fields.known("colour", "count").is_numeric
    assert fields.sortable("voltage").is_numeric


def test_an_empty_spool_is_empty(tmp_path: Path) -> None:
    spool = spooled(tmp_path, [])
    assert len(spool) == 0
    assert list(spool.lines()) == []
