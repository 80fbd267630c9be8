"""A keyword index without its cluster: the same filters, facets and orders of products."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.errors import ClusterUnavailableError
from shelfwise.retrieval.filters.ast import Filter
from shelfwise.retrieval.filters.schema import FieldCatalog, FieldCounter
from shelfwise.retrieval.index.keyword import Selection, Sort, SortKey, has_phrase, words_within
from shelfwise.retrieval.index.tantivy import TantivyBuilder, TantivyIndex
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.products import ProductStore, keyword_document, searched_fields
from shelfwise.retrieval.text.analysis import Analyzer
from shelfwise.service.engine.snapshot import NullKeywordIndex
from tests import catalogs, oracle
from tests.versions import write_products


def counted(products: list[Product]) -> FieldCatalog:
    counter = FieldCounter()
    any_colour = [Product("", "", attributes={"colour": value}) for value in ("red", 12.0, True)]
    for product in (*products, *any_colour):
        counter.add(product)
    return counter.catalog()


def lost(folder: Path, products: list[Product]) -> NullKeywordIndex:
    write_products(products, folder)
    return NullKeywordIndex(
        ProductStore(folder), counted(products), lambda product: searched_fields(product, Analyzer())
    )


@given(products=catalogs.products(), tree=catalogs.filters())
def test_filter_matches_the_oracle(products: list[Product], tree: Filter) -> None:
    with TemporaryDirectory() as folder:
        keyword, every = lost(Path(folder), products), np.arange(len(products))
        found = keyword.score(every, (), counted(products).compile(tree))
    expected = [row for row, product in enumerate(products) if oracle.matches(tree, oracle.product_values(product))]
    assert found.rows.tolist() == expected
    assert not found.scores.any()


@given(products=catalogs.products(), query=st.sampled_from(("cordless drill", "red case saw", "电钻")))
def test_words_within_fields_match_the_oracle(products: list[Product], query: str) -> None:
    fields = ("title", "attributes.colour")
    with TemporaryDirectory() as folder:
        where = words_within(Analyzer().groups(query), fields)
        found = lost(Path(folder), products).select(Selection(rows=np.arange(len(products)), where=where))
    expected = [row for row, each in enumerate(products) if oracle.has_words(query, each, fields, Analyzer())]
    assert found.tolist() == expected


def test_phrase_is_met_within_one_field_in_order(tmp_path: Path) -> None:
    products = [Product("a", "cordless drill"), Product("b", "drill cordless"), Product("c", "cordless", brand="Drill")]
    keyword, phrases = lost(tmp_path, products), Analyzer().phrases("cordless drill")
    assert keyword.select(Selection(rows=np.arange(3), where=has_phrase(phrases))).tolist() == [0]


@given(products=catalogs.products(), descending=st.booleans())
def test_facets_and_orders_equal_a_real_index(products: list[Product], descending: bool) -> None:
    catalog, analyzer = counted(products), Analyzer()
    selection = Selection(rows=np.arange(0, len(products), 2))
    names = ["brand", "category", "price", "created", "attributes.colour"]
    by = Sort((SortKey("rating_count"), SortKey("price", descending)), 5)
    with TemporaryDirectory() as folder:
        keyword = lost(Path(folder), products)
        builder = TantivyBuilder(Path(folder, "keyword"), catalog)
        builder.add(keyword_document(row, product, analyzer, catalog) for row, product in enumerate(products))
        whole = TantivyIndex(builder.finish(), catalog)
        assert keyword.facets(selection, names, 10) == whole.facets(selection, names, 10)
        assert keyword.count([selection]) == whole.count([selection])
        ours, theirs = keyword.sort(selection, by), whole.sort(selection, by)
    assert ours.rows.tolist() == theirs.rows.tolist()
    assert ours.total == theirs.total


def test_null_index_matches_no_words_and_refuses_changes(tmp_path: Path) -> None:
    keyword = lost(tmp_path, catalogs.numbered(3))
    assert keyword.retrieve(Analyzer().groups("drill"), "p0001", 10).best.total == 0
    with pytest.raises(ClusterUnavailableError, match="changes are not possible"):
        keyword.check_changeable()
