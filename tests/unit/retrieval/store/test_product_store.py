"""Products on disk: what is written is read back by row and by id, and damage is called damage."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import StoreDamagedError
from retrieval.records import Product
from retrieval.store.products import IDS_FILE, OFFSETS_FILE, PRODUCTS_FILE, ProductStore, write_products
from tests.catalogs import numbered, products

FILES = (PRODUCTS_FILE, IDS_FILE, OFFSETS_FILE)


@given(made=products())
def test_products_come_back_as_they_were_by_row_and_by_id(
    tmp_path_factory: pytest.TempPathFactory, made: list[Product]
) -> None:
    folder = tmp_path_factory.mktemp("products")
    assert write_products(iter(made), folder) == len(made)
    store = ProductStore(folder)
    assert len(store) == len(made)
    assert [store[row] for row in range(len(made))] == made
    assert [store.id_of(row) for row in range(len(made))] == [product.id for product in made]
    assert [store.row_of(product.id) for product in made] == list(range(len(made)))


@given(
    ids=st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), min_size=1, unique=True),
    asked=st.text(st.characters(exclude_categories=[])),
)
def test_an_id_is_found_exactly_when_it_is_there(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], asked: str
) -> None:
    folder = tmp_path_factory.mktemp("ids")
    ordered = sorted(ids, key=str.encode)
    write_products((Product(id=each, title="a") for each in ordered), folder)
    store = ProductStore(folder)
    assert [store.row_of(each) for each in ordered] == list(range(len(ordered)))
    assert store.row_of(asked) == (ordered.index(asked) if asked in ordered else None)


@pytest.mark.parametrize("asked", ["", "p", "p000", "p00000", "P0000", " p0000", "p0000 ", "p0000\n", "p9", "\0", "é"])
def test_what_is_near_to_an_id_is_not_that_id(tmp_path: Path, asked: str) -> None:
    write_products(numbered(7), tmp_path)
    assert ProductStore(tmp_path).row_of(asked) is None


def test_a_lone_surrogate_is_not_taken_for_a_question_mark(tmp_path: Path) -> None:
    write_products([Product(id="?", title="a")], tmp_path)
    assert ProductStore(tmp_path).row_of("\ud800") is None


def test_a_row_past_the_last_is_an_index_error(tmp_path: Path) -> None:
    write_products(numbered(3), tmp_path)
    with pytest.raises(IndexError):
        ProductStore(tmp_path)[3]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_damage(tmp_path: Path, name: str) -> None:
    write_products(numbered(3), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(StoreDamagedError, match=rf"{name} cannot be read .*; rebuild the index"):
        ProductStore(tmp_path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0, 1, -1])
def test_a_shortened_file_is_damage(tmp_path: Path, name: str, kept: int) -> None:
    write_products(numbered(3), tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:kept])
    with pytest.raises(StoreDamagedError, match="rebuild the index"):
        ProductStore(tmp_path)


@pytest.mark.parametrize(
    "offsets",
    [
        np.zeros((2, 4), dtype=np.int32),
        np.zeros((2, 4), dtype=np.float64),
        np.zeros(4, dtype=np.int64),
        np.zeros((3, 4), dtype=np.int64),
        np.zeros((2, 0), dtype=np.int64),
        np.zeros((2, 4), dtype=np.int64),
    ],
    ids=["int32", "float", "flat", "three rows", "empty", "zeros"],
)
def test_a_table_of_another_shape_or_kind_is_damage(tmp_path: Path, offsets: np.ndarray[tuple[int, ...]]) -> None:
    write_products(numbered(3), tmp_path)
    np.save(tmp_path / OFFSETS_FILE, offsets)
    with pytest.raises(StoreDamagedError, match=f"{OFFSETS_FILE} (is no table of offsets|does not fit)"):
        ProductStore(tmp_path)


def test_a_table_that_is_an_object_is_damage_and_is_never_unpickled(tmp_path: Path) -> None:
    write_products(numbered(3), tmp_path)
    np.save(tmp_path / OFFSETS_FILE, np.array([[{}], [{}]], dtype=object), allow_pickle=True)
    with pytest.raises(StoreDamagedError, match=f"{OFFSETS_FILE} cannot be read"):
        ProductStore(tmp_path)


@pytest.mark.parametrize("bit", [0x01, 0x10, 0x80])
def test_a_flipped_bit_in_the_offsets_is_damage_or_does_no_more_than_miss(tmp_path: Path, bit: int) -> None:
    """The checksums of a version find every flip; this is about the reader's own behaviour behind them."""
    made = numbered(3)
    write_products(made, tmp_path)
    whole = (tmp_path / OFFSETS_FILE).read_bytes()
    refused = 0
    for place in range(len(whole)):
        (tmp_path / OFFSETS_FILE).write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        try:
            store = ProductStore(tmp_path)
            assert all(product in made for product in (store[row] for row in range(len(store))))
        except StoreDamagedError:
            refused += 1
    assert refused > len(whole) // 2


def test_a_record_that_is_not_a_product_is_damage_and_the_others_are_read(tmp_path: Path) -> None:
    made = [dataclasses.replace(product, title=f"number {product.id}") for product in numbered(3)]
    write_products(made, tmp_path)
    path = tmp_path / PRODUCTS_FILE
    path.write_bytes(path.read_bytes().replace(b'"number p0001"', b'["umber p0001"'))
    store = ProductStore(tmp_path)
    with pytest.raises(StoreDamagedError, match="a stored product cannot be read"):
        store[1]
    assert [store[0], store[2]] == [made[0], made[2]]
