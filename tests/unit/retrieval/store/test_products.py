"""Stored products and their signals."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.errors import StoreDamagedError, StoreError, StoreLockedError
from shelfwise.retrieval.records import Availability, Product, Variant
from shelfwise.retrieval.store import lock
from shelfwise.retrieval.store.lock import HOLDER, LOCK, LockHolder, hold_lock, lock_holder
from shelfwise.retrieval.store.products import (
    IDS_FILE,
    OFFSETS_FILE,
    PRODUCTS_FILE,
    ProductStore,
    product_from_json,
    product_to_json,
)
from shelfwise.retrieval.store.signals import SIGNALS_FILE, SignalsWriter, StoredSignals
from tests.catalogs import numbered, products
from tests.versions import write_products

TIMES = st.datetimes(timezones=st.one_of(st.none(), st.just(UTC)))
TEXTS = st.lists(st.text(), max_size=3).map(tuple)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
VARIANTS = st.builds(
    Variant,
    id=st.text(min_size=1),
    options=st.dictionaries(st.text(), st.text(), max_size=2),
    price=st.none() | NUMBERS,
    availability=st.none() | st.sampled_from(Availability),
    identifiers=st.dictionaries(st.text(), TEXTS, max_size=2),
    image=st.text(),
)
PRODUCTS = st.builds(
    Product,
    id=st.text(min_size=1),
    title=st.text(min_size=1),
    description=st.text(),
    brand=st.text(),
    category=TEXTS,
    price=st.none() | NUMBERS,
    currency=st.sampled_from(["", "EUR"]),
    availability=st.none() | st.sampled_from(Availability),
    rating=st.none() | NUMBERS,
    rating_count=st.none() | st.integers(0, 2**63),
    images=TEXTS,
    identifiers=st.dictionaries(st.text(), TEXTS, max_size=3),
    attributes=st.dictionaries(st.text(), st.text() | NUMBERS | st.booleans() | TEXTS, max_size=4),
    created=st.none() | TIMES,
    updated=st.none() | TIMES,
    expires=st.none() | TIMES,
    language=st.sampled_from(["", "en", "zh"]),
    variants=st.lists(VARIANTS, max_size=2).map(tuple),
)


@given(PRODUCTS)
def test_product_round_trips(product: Product) -> None:
    read = product_from_json(product_to_json(product))
    assert read == product
    assert {name: type(value) for name, value in read.attributes.items()} == {
        name: type(value) for name, value in product.attributes.items()
    }


def test_defaults_are_omitted_and_read_only_mappings_are_stored() -> None:
    assert product_to_json(Product("a1", "Drill")) == b'{"id":"a1","title":"Drill"}'
    product = Product("a", "b", attributes=MappingProxyType({"colour": "red"}))
    assert product_from_json(product_to_json(product)) == Product("a", "b", attributes={"colour": "red"})


@given(st.binary() | st.sampled_from([b"{}", b'{"id":1,"title":"a"}', b'{"id":"\xff","title":"a"}', b"[" * 100_000]))
def test_invalid_record_is_a_damaged_store(line: bytes) -> None:
    with pytest.raises(StoreDamagedError, match="rebuild the index"):
        product_from_json(line)


FILES = (PRODUCTS_FILE, IDS_FILE, OFFSETS_FILE)


@given(made=products())
def test_products_are_read_by_row_and_by_id(tmp_path_factory: pytest.TempPathFactory, made: list[Product]) -> None:
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
def test_id_is_found_if_and_only_if_present(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], asked: str
) -> None:
    folder = tmp_path_factory.mktemp("ids")
    ordered = sorted(ids, key=str.encode)
    write_products((Product(id=each, title="a") for each in ordered), folder)
    store = ProductStore(folder)
    assert [store.row_of(each) for each in ordered] == list(range(len(ordered)))
    assert store.row_of(asked) == (ordered.index(asked) if asked in ordered else None)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [None, 0, 1, -1])
def test_missing_or_truncated_file_is_damage(tmp_path: Path, name: str, kept: int | None) -> None:
    write_products(numbered(3), tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    if kept is not None:
        (tmp_path / name).write_bytes(whole[:kept])
    with pytest.raises(StoreDamagedError, match=rf"({name} cannot be read|does not match) .*; rebuild the index"):
        ProductStore(tmp_path)


@pytest.mark.parametrize(
    "offsets",
    [
        np.zeros((2, 4), dtype=np.int32),
        np.zeros(4, dtype=np.int64),
        np.zeros((3, 4), dtype=np.int64),
        np.zeros((2, 0), dtype=np.int64),
        np.zeros((2, 4), dtype=np.int64),
        np.array([[{}], [{}]], dtype=object),
    ],
    ids=["int32", "flat", "three rows", "empty", "zeros", "objects, which are never unpickled"],
)
def test_a_table_of_another_shape_or_kind_is_damage(tmp_path: Path, offsets: np.ndarray[tuple[int, ...]]) -> None:
    write_products(numbered(3), tmp_path)
    np.save(tmp_path / OFFSETS_FILE, offsets, allow_pickle=True)
    with pytest.raises(StoreDamagedError, match=f"{OFFSETS_FILE} (has .*, not int64|does not match|cannot be read)"):
        ProductStore(tmp_path)


def test_invalid_record_is_damage_and_others_are_read(tmp_path: Path) -> None:
    made = [dataclasses.replace(product, title=f"number {product.id}") for product in numbered(3)]
    write_products(made, tmp_path)
    path = tmp_path / PRODUCTS_FILE
    path.write_bytes(path.read_bytes().replace(b'"number p0001"', b'["umber p0001"'))
    store = ProductStore(tmp_path)
    with pytest.raises(StoreDamagedError, match="a stored product cannot be read"):
        store[1]
    assert [store[0], store[2]] == [made[0], made[2]]


SIGNALLED = (
    Product("a", "drill", price=99.5, currency="EUR", rating=4.5, rating_count=12, availability=Availability.IN_STOCK),
    Product("b", "hose"),
    Product("c", "lamp", created=datetime(1970, 1, 3, 12, tzinfo=UTC), availability=Availability.OUT_OF_STOCK),
    Product("d", "pan", price=1e300, created=datetime(1970, 1, 2)),
    Product("e", "tent", created=datetime(1970, 1, 2, 1, tzinfo=timezone(timedelta(hours=1)))),
    Product("f", "sofa", availability=Availability.PREORDER, rating=0.0, rating_count=0, price=0.0),
)


def stored(folder: Path) -> StoredSignals:
    writer = SignalsWriter(folder)
    for part in (SIGNALLED[:2], SIGNALLED[2:]):
        writer.add(map(product_to_json, part))
    writer.finish()
    return StoredSignals(folder, len(SIGNALLED))


def test_signals_are_read_by_row_with_nan_for_unknown(tmp_path: Path) -> None:
    nan = float("nan")
    result = stored(tmp_path).at(np.array([5, 0, 1, 2, 3, 4]))
    expected = {
        "price": [0, 99.5, nan, nan, nan, nan],
        "rating": [0, 4.5, nan, nan, nan, nan],
        "rating_count": [0, 12, nan, nan, nan, nan],
        "created": [nan, nan, nan, 2.5, 1, 1],
        "availability": [-1, 1, nan, -1, nan, nan],
    }
    for name, values in expected.items():
        assert np.array_equal(getattr(result, name), np.array(values, np.float32), equal_nan=True), name


@pytest.mark.parametrize("damage", ["short", "other columns", "other rows"])
def test_damaged_signals_error_names_the_file(tmp_path: Path, damage: str) -> None:
    stored(tmp_path)
    path = tmp_path / SIGNALS_FILE
    if damage == "short":
        path.write_bytes(path.read_bytes()[:-4])
    else:
        np.save(path, np.zeros((6, 4) if damage == "other columns" else (7, 5), np.float32))
    with pytest.raises(StoreDamagedError, match=rf"{SIGNALS_FILE}.*rebuild the index"):
        StoredSignals(tmp_path, len(SIGNALLED))


PROGRAM = (
    "import sys, pathlib; from shelfwise.retrieval.store.lock import hold_lock\n"
    "with hold_lock(pathlib.Path(sys.argv[1]), 'prune'): print('held', flush=True); sys.stdin.read()"
)


def note(folder: Path, *, pid: int, host: str = "") -> LockHolder:
    holder = LockHolder("rebuild", pid, host or socket.gethostname(), "mia", "shelfwise", "2025-01-01T00:00:00+00:00")
    (folder / HOLDER).write_bytes(msgspec.json.encode(holder))
    return holder


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid


@contextmanager
def rival(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def assert_refused(folder: Path, words: str) -> None:
    with pytest.raises(StoreLockedError, match=words):
        hold_lock(folder, "rebuild").__enter__()


def test_lock_error_names_purpose_process_user_host_and_time(tmp_path: Path) -> None:
    with rival(tmp_path) as process:
        holder = lock_holder(tmp_path)
        assert holder is not None
        assert (holder.purpose, holder.pid, holder.host) == ("prune", process.pid, socket.gethostname())
        words = rf"a prune is running in .*: -c, process {process.pid} of \S+ on {holder.host}, since \d{{4}}-\S+; wait"
        assert_refused(tmp_path, words)


def test_note_of_a_killed_holder_does_not_block(tmp_path: Path) -> None:
    with rival(tmp_path) as process:
        pass
    assert (tmp_path / HOLDER).exists()
    assert process.returncode < 0
    assert lock_holder(tmp_path) is None
    with hold_lock(tmp_path, "rebuild"):
        holder = lock_holder(tmp_path)
        assert holder is not None
        assert holder.pid == os.getpid()
    assert not (tmp_path / HOLDER).exists()


def test_lock_error_does_not_name_an_ended_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_NOTE_SECONDS", 0.01)
    with hold_lock(tmp_path, "rebuild"):
        note(tmp_path, pid=dead_process())
        assert_refused(tmp_path, "another program is using .*; wait for it to end")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"pid": 1}', b'{"purpose": "x", "pid": "1"}'])
def test_unreadable_note_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(lock, "_NOTE_SECONDS", 0.01)
    with hold_lock(tmp_path, "rebuild"):
        (tmp_path / HOLDER).write_bytes(content)
        assert_refused(tmp_path, "another program is using")


def test_process_of_another_user_or_host_may_be_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    assert lock_holder(tmp_path) is None
    assert note(tmp_path, pid=dead_process(), host="another-machine") == lock_holder(tmp_path)
    monkeypatch.setattr(os, "kill", refuse)
    assert note(tmp_path, pid=1) == lock_holder(tmp_path)


def test_lock_is_available_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lock, "write_durably", full)
    monkeypatch.setattr(lock, "_NOTE_SECONDS", 0.01)
    with hold_lock(tmp_path, "prune"):
        assert_refused(tmp_path, "another program is using")


def test_error_names_lock_that_cannot_be_acquired(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with pytest.raises(StoreError, match=r"lock cannot be locked .*check the disk"), hold_lock(tmp_path, "rebuild"):
        pass
