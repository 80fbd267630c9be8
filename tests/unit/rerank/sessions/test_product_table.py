"""The catalog as cleaning and the derived tables need it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from rerank.sessions.product_tables import product_table
from retrieval.errors import StoreMissingError
from retrieval.records import Product
from retrieval.store.versions import Store
from tests.versions import publish_products


def test_it_has_the_products_of_the_version_that_serves(tmp_path: Path) -> None:
    created = datetime(2025, 3, 4, 5, 6, tzinfo=UTC)
    publish_products(tmp_path, [Product("z", "old")])
    publish_products(tmp_path, [Product("a", "saw", category=("Tools", "Saws"), created=created), Product("b", "nail")])
    assert product_table(Store(tmp_path)).rows() == [("a", "Tools > Saws", created), ("b", "", None)]


def test_nothing_published_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreMissingError):
        product_table(Store(tmp_path))
