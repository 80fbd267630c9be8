"""The local keyword index and its lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from shelfwise.retrieval.errors import StoreDamagedError, StoreError
from shelfwise.retrieval.filters.schema import FieldCounter
from shelfwise.retrieval.index.keyword import DocumentChange
from shelfwise.retrieval.index.keyword_documents import LINES_FILE, LineWriter, read_lines
from shelfwise.retrieval.index.tantivy import TantivyBuilder, TantivyIndex
from shelfwise.retrieval.store.products import keyword_document
from shelfwise.retrieval.text.analysis import Analyzer
from tests.catalogs import numbered
from tests.machine import full_disk


def test_full_disk_raises_a_store_error(tmp_path: Path) -> None:
    """Regression: the ValueError of tantivy was not converted, and commands showed it as a programming error."""
    counter = FieldCounter()
    with full_disk(), pytest.raises(StoreError, match=r"keyword cannot be written to .*check the disk"):
        TantivyBuilder(tmp_path / "keyword", counter.catalog())


def test_changes_apply_after_a_full_disk(tmp_path: Path) -> None:
    """Regression: the files of a failed writer had names that the next one needed, so no change was found any more."""
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


LINES = [bytes([65 + place % 26]) * (1 + 977 * place % 5_000) for place in range(400)]


def written(folder: Path, lines: list[bytes]) -> Path:
    with LineWriter(folder) as writer:
        for line in lines:
            writer.write(line)
    return folder


@pytest.mark.parametrize("lines", [LINES, [], [bytes(range(256)) * 4_000, b"x"]], ids=["many", "none", "a long one"])
def test_keyword_documents_round_trip_in_order(tmp_path: Path, lines: list[bytes]) -> None:
    assert list(read_lines(written(tmp_path, lines))) == lines


def test_truncated_file_is_damaged(tmp_path: Path) -> None:
    """Regression: a frame without its end was read as complete if it was cut between two lines."""
    path = written(tmp_path, LINES) / LINES_FILE
    whole = path.read_bytes()
    for content in (*(whole[:length] for length in range(len(whole))), whole + b"more"):
        path.write_bytes(content)
        with pytest.raises(StoreDamagedError, match=r"lines\.zst cannot be read .*rebuild the index"):
            list(read_lines(tmp_path))
