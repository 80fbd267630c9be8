"""The demo store's files: reproducible to the byte, whole, and in the shapes that the engine reads."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

import msgspec
import pytest

from retrieval.records import Product
from service.demo import DemoFiles, write_demo_store
from service.demo.shoppers import DemoEvent, Truth

_MAKE = "import sys; from service.demo import write_demo_store as w; w(sys.argv[1], seed=5, products=400, sessions=200)"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    return write_demo_store(tmp_path_factory.mktemp("demo"), seed=5, products=400, sessions=200)


def _contents(files: DemoFiles) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in astuple(files)}


def _judgments(path: Path) -> list[tuple[str, str, str]]:
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    assert header == "query\tproduct_id\tgrade"
    return [(query, product, grade) for query, product, grade in (row.split("\t") for row in rows)]


def _products(files: DemoFiles) -> list[Product]:
    with gzip.open(files.products) as lines:
        return [msgspec.json.decode(line, type=Product) for line in lines]


def test_the_folder_holds_the_files_and_nothing_else(files: DemoFiles) -> None:
    assert {path.name for path in files.readme.parent.iterdir()} == {path.name for path in astuple(files)}


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_another_process_writes_the_same_bytes(files: DemoFiles, tmp_path: Path, hash_seed: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", _MAKE, str(tmp_path)], check=True, env=environment)
    for name, content in _contents(files).items():
        assert (tmp_path / name).read_bytes() == content, name


def test_another_seed_writes_another_store(files: DemoFiles, tmp_path: Path) -> None:
    other = write_demo_store(tmp_path, seed=6, products=400, sessions=200)
    assert other.products.read_bytes() != files.products.read_bytes()
    assert other.events.read_bytes() != files.events.read_bytes()


def test_products_are_in_the_shape_that_the_engine_reads(files: DemoFiles) -> None:
    products = _products(files)
    assert len(products) == 400
    with gzip.open(files.products) as lines:
        row = msgspec.json.decode(lines.readline())
    assert {"id", "title", "description", "brand", "category", "price", "currency", "availability"} <= row.keys()
    assert isinstance(row["category"], list)
    assert row["created"].endswith("Z")


def test_judgments_name_products_that_exist(files: DemoFiles) -> None:
    ids = {product.id for product in _products(files)}
    rows = _judgments(files.judgments)
    assert {product for _, product, _ in rows} <= ids
    assert {grade for _, _, grade in rows} == {"0", "1", "2", "3"}


def test_the_splits_are_the_whole_and_share_no_query(files: DemoFiles) -> None:
    parts = [_judgments(path) for path in (files.judgments_train, files.judgments_dev, files.judgments_test)]
    assert sorted(row for part in parts for row in part) == sorted(_judgments(files.judgments))
    texts = [{query for query, _, _ in part} for part in parts]
    assert sum(map(len, texts)) == len(set.union(*texts))


def test_the_queries_table_lists_what_is_judged(files: DemoFiles) -> None:
    header, *rows = files.queries.read_text(encoding="utf-8").splitlines()
    assert header == "query\tclass\tlanguage\tsplit"
    assert [row.split("\t")[0] for row in rows] == list(dict.fromkeys(q for q, _, _ in _judgments(files.judgments)))


def test_events_are_about_products_and_queries_of_the_store(files: DemoFiles) -> None:
    with gzip.open(files.events) as lines:
        events = [msgspec.json.decode(line, type=DemoEvent) for line in lines]
    ids = {product.id for product in _products(files)}
    texts = {query for query, _, _ in _judgments(files.judgments)}
    assert {event.product_id for event in events} <= ids
    assert {event.query for event in events} <= texts | {""}


def test_the_truth_file_can_be_read_back(files: DemoFiles) -> None:
    truth = msgspec.json.decode(files.truth.read_bytes(), type=Truth)
    assert truth.seed == 5
    assert len(truth.products) == 400
    assert truth.fraud["click_farm"].sessions


def test_the_readme_names_every_file_and_the_seed(files: DemoFiles) -> None:
    text = files.readme.read_text(encoding="utf-8")
    assert "Seed 5," in text
    assert all(path.name in text for path in astuple(files) if path != files.readme)


def test_synonym_lines_are_solr_lines(files: DemoFiles) -> None:
    lines = files.synonyms.read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert len(rules) >= 10
    assert all("," in rule or "=>" in rule for rule in rules)


def test_an_existing_store_is_replaced(tmp_path: Path) -> None:
    write_demo_store(tmp_path, seed=1, products=400, sessions=0)
    again = write_demo_store(tmp_path, seed=5, products=400, sessions=200)
    assert "Seed 5," in again.readme.read_text(encoding="utf-8")


def test_a_store_without_sessions_has_an_empty_log(tmp_path: Path) -> None:
    files = write_demo_store(tmp_path, seed=1, products=400, sessions=0)
    with gzip.open(files.events) as lines:
        assert lines.read() == b""


def test_a_negative_number_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sessions is -1"):
        write_demo_store(tmp_path / "store", sessions=-1)
    assert not (tmp_path / "store").exists()
