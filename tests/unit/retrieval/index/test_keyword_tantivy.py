"""What only tantivy's index can do wrong: its errors become ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval.errors import StoreError
from retrieval.filters.schema import FieldCounter
from retrieval.index.keyword import DocumentChange
from retrieval.index.tantivy import TantivyBuilder, TantivyIndex
from retrieval.store.products import keyword_document
from retrieval.text.analysis import Analyzer
from tests.catalogs import numbered
from tests.machine import full_disk


def test_a_full_disk_is_told_as_an_error_of_the_store(tmp_path: Path) -> None:
    """tantivy raises ValueError, which the commands took for a fault of the program."""
    counter = FieldCounter()
    with full_disk(), pytest.raises(StoreError, match=r"keyword cannot be written to .*see to the disk"):
        TantivyBuilder(tmp_path / "keyword", counter.catalog())


def test_after_a_full_disk_changes_are_laid_over_an_index_as_if_nothing_had_been(tmp_path: Path) -> None:
    """A writer that failed left files behind under names that the next one wanted: no change was ever found again."""
    products = numbered(20)
    counter = FieldCounter()
    for product in products:
        counter.add(product)
    catalog, analyzer = counter.catalog(), Analyzer()
    documents = [keyword_document(row, product, analyzer, catalog) for row, product in enumerate(products)]
    builder = TantivyBuilder(tmp_path / "keyword", catalog)
    builder.add(documents)

    def changes(replaced: slice, gone: int) -> list[DocumentChange]:
        laid = [DocumentChange(document.row, 1, document) for document in documents[replaced]]
        return [*laid, DocumentChange(gone, 1, None)]

    index = TantivyIndex(builder.finish(), catalog).apply_changes(changes(slice(1), 1), catalog)
    for room in (0, 100, 200, 300, 400, 600, 1_000, 2_000):
        with full_disk(room), pytest.raises(StoreError):
            index.apply_changes(changes(slice(2, 4), 5), catalog)
    assert index.size == 19
    assert index.apply_changes(changes(slice(2, 4), 5), catalog).size == 18
