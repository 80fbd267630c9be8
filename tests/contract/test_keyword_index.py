"""The contract of every keyword index and its reloaded copy. `BACKENDS` lists the indexes."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shelfwise.retrieval.elasticsearch.cluster_index
import shelfwise.retrieval.index.tantivy
from shelfwise.retrieval.elasticsearch.client import Cluster
from shelfwise.retrieval.elasticsearch.cluster_index import ElasticsearchIndex
from shelfwise.retrieval.elasticsearch.cluster_versions import WHOLE, load_keyword
from shelfwise.retrieval.errors import ClusterUnavailableError, FilterError, UnknownFieldError
from shelfwise.retrieval.filters.ast import Filter, In, value_text
from shelfwise.retrieval.filters.conditions import Condition
from shelfwise.retrieval.filters.parser import parse_filter
from shelfwise.retrieval.filters.schema import SEARCHED_CORE, FieldCatalog, FieldCounter, extend_catalog, fold_value
from shelfwise.retrieval.index.keyword import (
    EXPANSION_WEIGHT,
    DetailsRequest,
    DocumentChange,
    KeywordDocument,
    KeywordIndex,
    Rows,
    Selection,
    Sort,
    SortKey,
    has_phrase,
    words_within,
)
from shelfwise.retrieval.index.keyword_documents import KeywordBuilder
from shelfwise.retrieval.index.tantivy import TantivyBuilder, TantivyIndex
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.products import ProductStore, keyword_document, product_to_json, searched_fields
from shelfwise.retrieval.text.analysis import Analyzer, Expansion, Synonyms, identifier_key
from shelfwise.service.engine.snapshot import NullKeywordIndex
from tests import catalogs, oracle
from tests.versions import write_products

ANALYZER = Analyzer()
Opened = tuple[KeywordIndex, FieldCatalog]
Backend = Callable[[Sequence[Product]], AbstractContextManager[Opened]]


def documents(products: Sequence[Product], catalog: FieldCatalog) -> Iterator[KeywordDocument]:
    return (keyword_document(row, product, ANALYZER, catalog) for row, product in enumerate(products))


def counted(products: Sequence[Product]) -> FieldCatalog:
    counter = FieldCounter()
    # Counted but not indexed, so that filters by colour always have their field.
    any_colour = [Product("", "", attributes={"colour": value}) for value in ("red", 12.0, True)]
    for product in (*products, *any_colour):
        counter.add(product)
    return counter.catalog()


@contextmanager
def tantivy(products: Sequence[Product]) -> Iterator[Opened]:
    """An index that was moved after its creation."""
    catalog = counted(products)
    with TemporaryDirectory() as folder:
        builder = TantivyBuilder(Path(folder, "made"), catalog)
        builder.add(documents(products, catalog))
        shutil.move(builder.finish(), Path(folder, "moved"))
        yield TantivyIndex(Path(folder, "moved"), catalog), catalog


def earlier_products(products: Sequence[Product]) -> list[Product]:
    """The products before a change of every second one, and before one was deleted."""
    other = Product("", "saw of another make", brand="Bosch", price=9.99, attributes={"colour": "red"})
    were = [dataclasses.replace(other, id=each.id) if row % 2 else each for row, each in enumerate(products)]
    return [*were, dataclasses.replace(other, id="zz")]


def changed_in_steps(index: KeywordIndex, catalog: FieldCatalog, products: Sequence[Product]) -> Opened:
    """The index of the products of `earlier_products`, updated to `products` by two live changes."""
    rows = {product.id: row for row, product in enumerate(products)}
    steps: tuple[tuple[Sequence[Product], list[int]], ...] = ((products[1::4], []), (products[3::4], [len(products)]))
    for sequence, (changed, gone) in enumerate(steps, 1):
        catalog = extend_catalog(catalog, changed)
        made = [keyword_document(rows[each.id], each, ANALYZER, catalog) for each in changed]
        changes = [DocumentChange(document.row, sequence, document) for document in made]
        changes += [DocumentChange(row, sequence, None) for row in gone]
        index = index.apply_changes(changes, catalog) if changes else index
    # Only a new version counts a catalog again; until then it keeps the fields of removed products.
    return index, FieldCatalog({**counted(products).fields, **catalog.fields}, catalog.category_roots)


@contextmanager
def tantivy_continued(products: Sequence[Product]) -> Iterator[Opened]:
    """An index that reuses the previous version's lines of unchanged products."""
    were = earlier_products(products)
    roots = frozenset(fold_value(each.category[0]) for each in (*were, *products) if each.category)
    before = FieldCatalog(counted(were).fields, roots)
    with TemporaryDirectory() as folder:
        builder = TantivyBuilder(Path(folder, "before"), before)
        builder.add(documents(were, before))
        builder.finish()
        catalog = FieldCatalog(extend_catalog(before, products).fields, roots)
        builder = TantivyBuilder(Path(folder, "after"), catalog, Path(folder, "before"))
        for row, product in enumerate(products):
            if product == were[row]:
                builder.add_as_before(row, row)
            else:
                builder.add([keyword_document(row, product, ANALYZER, catalog)])
        yield TantivyIndex(builder.finish(), catalog), catalog


@contextmanager
def tantivy_extended(products: Sequence[Product]) -> Iterator[Opened]:
    """An index that extends the previous version's, with other rows, and with live changes."""
    were = earlier_products(products)
    first = [were[-1], *earlier_products(were)]
    before = FieldCatalog(extend_catalog(counted(first), were).fields, counted([*first, *were]).category_roots)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(shelfwise.retrieval.index.tantivy, "FEWEST_EXTENDED", 0)
        patch.setattr(shelfwise.retrieval.index.tantivy, "MAX_REPLACED", 10)
        builder = TantivyBuilder(Path(folder, "before"), before)
        builder.add(documents(first, before))
        builder = TantivyBuilder(Path(folder, "after"), before, builder.finish())
        for row, product in enumerate(were):
            if product == first[row + 1]:
                builder.add_as_before(row, row + 1)
            else:
                builder.add([keyword_document(row, product, ANALYZER, before)])
        yield changed_in_steps(TantivyIndex(builder.finish(), before), before, products)


@contextmanager
def loaded(cluster: Cluster, products: Sequence[Product], catalog: FieldCatalog) -> Iterator[ElasticsearchIndex]:
    name, made_of = f"{cluster.settings.alias}-{uuid4().hex}", {"products": len(products)}
    with TemporaryDirectory() as folder:
        builder = KeywordBuilder(Path(folder), catalog)
        builder.add(documents(products, catalog))
        load_keyword(
            cluster, name, builder.finish(), lambda: ((b"", product_to_json(each)) for each in products), made_of
        )
    try:
        yield ElasticsearchIndex(cluster, name, catalog, len(products), {**made_of, WHOLE: True})
    finally:
        cluster.delete([name])


@contextmanager
def elasticsearch(cluster: Cluster, products: Sequence[Product]) -> Iterator[Opened]:
    """An index opened by another client than the one that filled it."""
    catalog = counted(products)
    with loaded(cluster, products, catalog) as index, closing(Cluster(cluster.settings)) as other:
        yield ElasticsearchIndex(other, index.name, catalog, index.size, {"products": len(products)}), catalog


@contextmanager
def elasticsearch_changed(cluster: Cluster, products: Sequence[Product]) -> Iterator[Opened]:
    """An index of three shards with live changes, each made twice, as by two processes of which one is late."""
    before = counted(earlier_products(products))
    sharded = Cluster(dataclasses.replace(cluster.settings, shards=3))
    with closing(sharded), loaded(sharded, earlier_products(products), before) as opened:
        index, catalog = changed_in_steps(opened, before, products)
        changed_in_steps(opened, before, products)
        yield index, catalog


class EveryRow(NullKeywordIndex):
    """A null index for which everything is all rows."""

    def select(self, selection: Selection) -> Rows:
        rows = np.arange(self.size) if selection.everything else selection.rows
        return super().select(dataclasses.replace(selection, rows=rows))


@contextmanager
def null(products: Sequence[Product]) -> Iterator[Opened]:
    """An index whose cluster does not respond: it finds no words."""
    catalog = counted(products)
    with TemporaryDirectory() as folder:
        write_products(products, Path(folder))
        yield EveryRow(ProductStore(Path(folder)), catalog, lambda each: searched_fields(each, ANALYZER)), catalog


BACKENDS = (tantivy, tantivy_continued, tantivy_extended)
CLUSTERED = (elasticsearch, elasticsearch_changed)
ALL = (*BACKENDS, *(pytest.param(each, marks=pytest.mark.elasticsearch) for each in CLUSTERED))
with_null = pytest.mark.parametrize("backend", (*ALL, null), indirect=True, ids=lambda backend: backend.__name__)
FRESH = (tantivy, pytest.param(elasticsearch, marks=pytest.mark.elasticsearch))  # a new index of each kind


@pytest.fixture(params=ALL, ids=lambda backend: backend.__name__)
def backend(request: pytest.FixtureRequest) -> Backend:
    chosen = request.param
    if chosen in CLUSTERED:
        return partial(chosen, request.getfixturevalue("cluster"))
    made: Backend = chosen
    return made


def given_few(**strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Like hypothesis' `given`, with fewer examples for a cluster: each of them creates an index there."""

    def decorated(test: Callable[..., None]) -> Callable[..., None]:
        # Not wrapped, so that pytest does not look for fixtures of hypothesis' arguments.
        def run(self: object, backend: Backend) -> None:
            most = settings().max_examples // (10 if isinstance(backend, partial) else 1 if backend is tantivy else 2)

            @settings(max_examples=most)
            @given(**strategies)
            def check(**values: object) -> None:
                test(self, backend, **values)

            check()

        run.__name__, run.__qualname__ = test.__name__, test.__qualname__
        return run

    return decorated


def condition(catalog: FieldCatalog, text: str) -> Condition:
    tree = parse_filter(text)
    assert tree is not None
    return catalog.compile(tree)


def rows_where(index: KeywordIndex, catalog: FieldCatalog, text: str) -> list[int]:
    rows: list[int] = index.select(Selection(where=condition(catalog, text), everything=True)).tolist()
    return rows


class TestKeywordIndex:
    @with_null
    @given_few(products=catalogs.products(), tree=catalogs.filters())
    def test_filter_matches_the_oracle(self, backend: Backend, products: list[Product], tree: Filter) -> None:
        with backend(products) as (index, catalog):
            found = index.select(Selection(where=catalog.compile(tree), everything=True)).tolist()
        expected = [row for row, product in enumerate(products) if oracle.matches(tree, oracle.product_values(product))]
        assert found == expected

    @given_few(products=catalogs.products(), query=st.lists(st.sampled_from(catalogs.WORDS), min_size=1, max_size=4))
    def test_matches_are_ordered_and_counted_with_and_without_filter(
        self, backend: Backend, products: list[Product], query: list[str]
    ) -> None:
        groups = ANALYZER.groups(" ".join(query))
        with backend(products) as (index, catalog):
            matches = index.search(groups, 100)
            few = index.search(groups, 2)
            priced = condition(catalog, "price EXISTS")
            filtered = index.search(groups, 100, priced)
            chosen = index.select(Selection(groups))
        assert matches.total == len(matches.rows) == len(set(matches.rows.tolist()))
        assert few.total == matches.total and few.rows.tolist() == matches.rows[:2].tolist()
        pairs = list(zip(-matches.scores, matches.rows, strict=True))
        assert pairs == sorted(pairs)
        kept = [row for row in matches.rows.tolist() if products[row].price is not None]
        assert filtered.rows.tolist() == kept and filtered.total == len(kept)
        assert chosen.tolist() == sorted(matches.rows.tolist())

    @with_null
    @given_few(
        products=catalogs.products(),
        query=st.lists(st.sampled_from((*catalogs.WORDS, *catalogs.COLOURS)), min_size=1, max_size=4),
        fields=st.sets(st.sampled_from(("title", "brand", "category", "description", "attributes.a.b")), min_size=1),
    )
    def test_words_within_fields_match_the_oracle(
        self, backend: Backend, products: list[Product], query: list[str], fields: set[str]
    ) -> None:
        text = " ".join(query)
        groups = ANALYZER.groups(text)
        with backend(products) as (index, catalog):
            named = tuple(name for name in fields if name in SEARCHED_CORE or name in catalog.fields)
            where = words_within(groups, named)
            found = index.select(Selection(where=where, everything=True)).tolist()
            matches = index.search(groups, 100, where)
        expected = [row for row, each in enumerate(products) if oracle.has_words(text, each, fields, ANALYZER)]
        assert found == expected
        assert isinstance(index, EveryRow) or sorted(matches.rows.tolist()) == found

    @given_few(products=catalogs.products(), query=st.lists(st.sampled_from(catalogs.WORDS), min_size=1, max_size=7))
    def test_score_of_rows_equals_score_of_search_and_the_sum_of_the_words(
        self, backend: Backend, products: list[Product], query: list[str]
    ) -> None:
        groups = ANALYZER.groups(" ".join(query))
        every = np.arange(len(products))
        with backend(products) as (index, catalog):
            matches = index.search(groups, 100)
            scored = index.score(every, groups)
            of_words = sum(
                index.score(every, (dataclasses.replace(group, is_optional=False),)).scores for group in groups
            )
            some = index.score(every[::2], groups, condition(catalog, "NOT brand = bosch"))
        given_scores = dict(zip(matches.rows.tolist(), matches.scores.tolist(), strict=True))
        assert scored.rows.tolist() == every.tolist()
        # The words of a text may be summed in another order, in float32.
        expected = pytest.approx([given_scores.get(row, 0.0) for row in every.tolist()], rel=1e-5)
        assert scored.scores.tolist() == expected
        assert matches.scores.tolist() == pytest.approx(np.asarray(of_words)[matches.rows].tolist(), rel=1e-3)
        assert some.rows.tolist() == [row for row in every[::2].tolist() if fold_value(products[row].brand) != "bosch"]

    @given_few(products=catalogs.products(), data=st.data())
    def test_facet_count_equals_hits_filtered_by_value(
        self, backend: Backend, products: list[Product], data: st.DataObject
    ) -> None:
        field = data.draw(st.sampled_from(("brand", "category", "price", "availability", "created", "id")))
        groups = ANALYZER.groups("drill")
        with backend(products) as (index, catalog):
            facet = index.facets(Selection(groups), [field], 100)[field]
            chosen = [Selection(groups, where=catalog.compile(In(field, (each.value,)))) for each in facet.counts]
            counts = index.count(chosen)
            assert counts == [len(index.select(each)) for each in chosen] == [each.count for each in facet.counts]
            assert all(counts)
        order = [(-each.count, each.value) for each in facet.counts]
        assert order == sorted(order)

    @with_null
    @given_few(products=catalogs.products())
    def test_facets_of_attributes_with_any_name_and_mixed_types(
        self, backend: Backend, products: list[Product]
    ) -> None:
        everything = Selection(everything=True)
        with backend(products) as (index, catalog):
            names = [name for name in catalog.fields if name.startswith("attributes.")]
            for name, facet in index.facets(everything, names, 100).items():
                assert len({fold_value(value_text(each.value)) for each in facet.counts}) == len(facet.counts)
                for each in facet.counts:
                    where = catalog.compile(In(name, (each.value,)))
                    assert len(index.select(Selection(where=where, everything=True))) == each.count

    @with_null
    @given_few(products=catalogs.products(), descending=st.booleans())
    def test_sort_puts_missing_values_last_and_ties_by_row(
        self, backend: Backend, products: list[Product], descending: bool
    ) -> None:
        everything = Selection(everything=True)
        with backend(products) as (index, _):
            rows = index.sort(everything, Sort((SortKey("price", descending),), 100)).rows.tolist()
            by_distance = Sort((SortKey("places", place=catalogs.MUNICH), SortKey("price")), 100)
            near = index.sort(everything, by_distance).rows.tolist()
        sign = -1 if descending else 1

        def key(row: int) -> tuple[bool, float, int]:
            price = products[row].price
            return price is None, sign * (price or 0.0), row

        def far(row: int) -> tuple[float, bool, float, int]:
            metres = (oracle.metres_between(catalogs.MUNICH, each) for each in products[row].places)
            price = products[row].price
            return round(min(metres, default=math.inf), 1), price is None, price or 0.0, row

        assert rows == sorted(range(len(products)), key=key)
        assert near == sorted(range(len(products)), key=far)

    def test_equal_scores_keep_their_order_across_pages_and_segments(
        self, backend: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shelfwise.retrieval.index.tantivy, "_HEAP_BYTES", 15_000_000)
        # More than a page of a cluster, or three segments of tantivy with this small heap; the other indexes have
        # several segments with any number.
        products = 12_000 if isinstance(backend, partial) else 20_000 if backend is tantivy else 4_000
        with backend(catalogs.numbered(products)) as (index, _):
            matches, more = (index.search(ANALYZER.groups("drill"), limit) for limit in (1_000, 3_000))
        assert more.rows[:1_000].tolist() == matches.rows.tolist()
        assert (len(set(more.rows.tolist())), matches.total) == (3_000, products)

    @pytest.mark.parametrize("backend", FRESH, indirect=True, ids=lambda backend: backend.__name__)
    def test_field_with_more_values_than_a_backend_counts(self, backend: Backend) -> None:
        """70,000 values in few products, since products take longer than values."""
        base = Product("", "Lamp")
        products = [
            dataclasses.replace(base, id=f"p{row:03d}", attributes={"code": tuple(f"c{row}x{n}" for n in range(700))})
            for row in range(100)
        ]
        with backend(products) as (index, _):
            facets = index.facets(Selection(everything=True), ["attributes.code", "id"], 5)
        assert [len(facets[name].counts) for name in ("attributes.code", "id")] == [5, 5]

    @pytest.mark.parametrize("backend", FRESH, indirect=True, ids=lambda backend: backend.__name__)
    def test_range_of_a_field_with_more_values_than_the_facet_limit(
        self, backend: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in (shelfwise.retrieval.index.tantivy, shelfwise.retrieval.elasticsearch.cluster_index):
            monkeypatch.setattr(module, "_MAX_BUCKETS", 500)
        products = [dataclasses.replace(each, price=float(row)) for row, each in enumerate(catalogs.numbered(600))]
        with backend(products) as (index, _):
            facets = index.facets(Selection(everything=True), ["price", "id"], 5)
        assert (facets["price"].minimum, facets["price"].maximum) == (0.0, 599.0)
        assert len(facets["id"].counts) == 5

    def test_published_folder_is_opened_read_only(self, tmp_path: Path) -> None:
        products = catalogs.numbered(3)
        catalog = counted(products)
        builder = TantivyBuilder(tmp_path, catalog)
        builder.add(documents(products, catalog))
        before = sorted(path.name for path in builder.finish().iterdir())
        index = TantivyIndex(tmp_path, catalog)
        assert index.search(ANALYZER.groups("drill"), 10).total == 3
        assert sorted(path.name for path in tmp_path.iterdir()) == before

    @with_null
    def test_facet_value_filters_a_category_that_contains_the_separator(self, backend: Backend) -> None:
        with backend([Product("a", "x", category=("X", "A>B"))]) as (index, catalog):
            for each in index.facets(Selection(everything=True), ["category"], 10)["category"].counts:
                where = catalog.compile(In("category", (each.value,)))
                assert len(index.select(Selection(where=where, everything=True))) == each.count

    @with_null
    def test_a_text_that_looks_like_a_time_is_a_text(self, backend: Backend) -> None:
        """Regression: tantivy stored the time, which no filter found, and panicked on times out of its range."""
        texts = ("2020-01-01T00:00:00+02:00", "9999-12-31T23:59:59-23:59", '["2020-01-01T00:00:00Z", "x"]')
        products = [Product(f"p{row}", "Lamp", attributes={"made": text}) for row, text in enumerate(texts)]
        with backend(products) as (index, catalog):
            for row, text in enumerate(texts):
                where = catalog.compile(In("attributes.made", (text,)))
                assert index.select(Selection(where=where, everything=True)).tolist() == [row]
            (facet,) = index.facets(Selection(everything=True), ["attributes.made"], 10).values()
        assert {str(each.value) for each in facet.counts} == set(texts)

    def test_additional_rows_are_selected_once(self, backend: Backend) -> None:
        products = [Product("a", "drill", price=1.0), Product("b", "saw", price=2.0), Product("c", "saw", price=9.0)]
        groups = ANALYZER.groups("drill")
        with backend(products) as (index, catalog):
            cheap = condition(catalog, "price < 5")
            selection = Selection(groups, np.array([0, 1, 2]), cheap)
            assert index.select(selection).tolist() == [0, 1]
            assert index.facets(selection, ["price"], 10)["price"].maximum == 2.0

    @with_null
    def test_phrase_is_met_within_one_field_in_order(self, backend: Backend) -> None:
        products = [
            Product("a", "cordless drill"),
            Product("b", "drill cordless"),
            Product("c", "saw", description="a cordless drill of 18 volt"),
            Product("d", "cordless", brand="Drill"),
        ]
        with backend(products) as (index, _):

            def rows(text: str) -> list[int]:
                where = has_phrase(ANALYZER.phrases(text))
                found: list[int] = index.select(Selection(where=where, everything=True)).tolist()
                return found

            assert rows("Cordless drills") == [0, 2]
            assert rows("drill") == [0, 1, 2, 3]
            assert rows("18v") == [2]
            assert rows("!") == []

    def test_identifier_matches_in_any_spelling(self, backend: Backend) -> None:
        products = [Product("a", "drill", identifiers={"sku": ("DCD-771 C2",)}), Product("b", "drill")]
        with backend(products) as (index, _):
            assert index.find_identifier(identifier_key("dcd771c2")).tolist() == [0]
            assert index.find_identifier(identifier_key("dcd771")).tolist() == []
            assert index.find_identifier("").tolist() == []

    @given_few(products=catalogs.products(), query=st.lists(st.sampled_from(catalogs.WORDS), min_size=1, max_size=3))
    def test_batched_queries_equal_single_queries(
        self, backend: Backend, products: list[Product], query: list[str]
    ) -> None:
        groups, every = ANALYZER.groups(" ".join(query)), np.arange(len(products))
        by = Sort((SortKey("price", descending=True),), limit=5)
        with backend(products) as (index, catalog):
            where = condition(catalog, "price EXISTS")
            retrieved = index.retrieve(groups, identifier_key("ab12"), 3, where)
            completed = index.fetch_details(DetailsRequest(every[::2], groups, where, ("brand", "price"), 10, by))
            selection = Selection(groups, every[::2], where)
            best, matches = index.search(groups, 3), index.search(groups, 3, where)
            scored, identified = index.score(every[::2], groups, where), index.find_identifier(identifier_key("ab12"))
            assert completed.facets == index.facets(selection, ["brand", "price"], 10)
            ordered = index.sort(selection, by)
        assert completed.ordered is not None
        assert completed.ordered.rows.tolist() == ordered.rows.tolist()
        assert completed.ordered.total == ordered.total
        assert retrieved.identifier_rows.tolist() == identified.tolist()
        pairs = ((retrieved.best, best), (retrieved.matches, matches), (completed.candidates, scored))
        for together, alone in pairs:
            assert together.rows.tolist() == alone.rows.tolist()
            assert together.scores.tolist() == alone.scores.tolist()
            assert together.total == alone.total

    @pytest.mark.parametrize("backend", FRESH, indirect=True, ids=lambda backend: backend.__name__)
    def test_synonyms_count_as_one_term(self, backend: Backend) -> None:
        """A rarer synonym scores no more than the typed word, and both together no more than one."""
        titles = ("laptop red", "notebook red", "laptop notebook", *(["notebook blue"] * 6), *(["red saw"] * 4))
        analyzer = Analyzer(Synonyms.parse(["laptop, notebook"]))
        with backend([Product(f"p{at:02}", title) for at, title in enumerate(titles)]) as (index, _):
            for query in ("laptop", "notebook"):
                found = index.score(np.arange(3), analyzer.groups(query))
                assert found.scores.tolist() == pytest.approx([found.scores[0]] * 3, abs=1e-4)
            typed = index.score(np.arange(3), ANALYZER.groups("notebook")).scores
        # The scores are those of the more frequent word.
        assert found.scores[1] == pytest.approx(typed[1], abs=1e-4) and typed[0] == 0

    def test_a_synonym_of_several_words_is_a_phrase(self, backend: Backend) -> None:
        titles = (
            "big hard drive",
            "drive hard big",
            "big drive new hard",
            "hdd new one",
            "new hard drive",
            "drive",
            "saw",
        )
        analyzer = Analyzer(Synonyms.parse(["hdd, big hard drive"]))
        with backend([Product(f"p{at:02}", title) for at, title in enumerate(titles)]) as (index, _):
            assert index.search(analyzer.groups("hdd"), 9).rows.tolist() == [0, 3]
            found = index.search(analyzer.groups("big hard drive"), 9)
        scores = dict(zip(found.rows.tolist(), found.scores.tolist(), strict=True))
        # In another order the words of the phrase count as without synonyms; two of the three words count less.
        assert sorted(scores) == [0, 1, 2, 3, 4]
        assert scores[0] == scores[1] and scores[4] == min(scores.values()) < scores[2]

    @pytest.mark.parametrize("backend", FRESH, indirect=True, ids=lambda backend: backend.__name__)
    def test_an_expansion_counts_only_in_the_score(self, backend: Backend) -> None:
        """An expansion's score is a part of the word's weight; of a word and its expansions the best counts."""
        analyzer = Analyzer(expansions={"sofa": (Expansion("couch", 0.25), Expansion("divan", 0.1))})
        titles = ("red sofa", "red couch", "red divan", "red blue", "blue", "couch")
        with backend([Product(f"p{at}", title) for at, title in enumerate(titles)]) as (index, _):
            assert index.search(analyzer.groups("sofa"), 9).rows.tolist() == [0]
            assert index.count([Selection(analyzer.groups("sofa"))]) == [1]
            plain = index.search(ANALYZER.groups("red blue sofa"), 9)
            found = index.search(analyzer.groups("red blue sofa"), 9)
            assert found.total == plain.total == 2
            three = (*ANALYZER.groups("red"), *analyzer.groups("sofa"))
            optional = tuple(dataclasses.replace(group, is_optional=group.expansions != ()) for group in three)
            scores, bare = (index.score(np.arange(6), groups).scores for groups in (optional, three[:1]))
        weight = EXPANSION_WEIGHT * math.log1p((6 - 1 + 0.5) / (1 + 0.5))
        assert scores[1] - bare[1] == pytest.approx(weight * 0.25, abs=1e-3)
        assert scores[2] - bare[2] == pytest.approx(weight * 0.1, abs=1e-3)
        assert scores[3] == bare[3] and scores[0] > bare[0]

    @pytest.mark.parametrize("backend", FRESH, indirect=True, ids=lambda backend: backend.__name__)
    def test_a_word_that_no_product_has_is_met_by_its_strongest_expansions(self, backend: Backend) -> None:
        others = ("couch", "divan", "futon", "loveseat", "recliner", "ottoman")
        expansions = [Expansion(other, 0.5 - at / 20) for at, other in enumerate(others)]
        analyzer = Analyzer(expansions={"davenport": expansions})
        titles = ("red sofa", "red couch", "divan", "ottoman", "red ottoman couch")
        with backend([Product(f"p{at}", title) for at, title in enumerate(titles)]) as (index, _):
            assert index.search(analyzer.groups("davenport"), 9).rows.tolist() == [1, 4, 2]
            assert sorted(index.search(analyzer.groups("red davenport"), 9).rows.tolist()) == [1, 4]

    @pytest.mark.parametrize("backend", FRESH, indirect=True, ids=lambda backend: backend.__name__)
    def test_an_optional_word_counts_only_in_the_score(self, backend: Backend) -> None:
        red, backpack = (
            dataclasses.replace(group, is_optional=word == "red")
            for word in ("red", "backpack")
            for group in ANALYZER.groups(word)
        )
        titles = ("backpack", "red backpack", "red saw", "saw")
        with backend([Product(f"p{at}", title) for at, title in enumerate(titles)]) as (index, _):
            assert index.search((red, backpack), 9).rows.tolist() == [1, 0]
            both = index.search(ANALYZER.groups("red backpack"), 9)
            assert index.score(both.rows, (red, backpack)).scores.tolist() == both.scores.tolist()
            assert index.search((red,), 9).rows.tolist() == [1, 2], "alone it has to match"

    def test_empty_query_has_no_matches(self, backend: Backend) -> None:
        with backend(catalogs.numbered(3)) as (index, _):
            assert index.search((), 10).total == 0
            assert index.search(ANALYZER.groups("drill"), 0).rows.tolist() == []
            assert index.select(Selection()).tolist() == []
            assert index.score(np.empty(0, dtype=np.int64), ()).rows.tolist() == []

    @with_null
    def test_category_level_that_is_also_a_root_matches_the_root(self, backend: Backend) -> None:
        products = [Product("a", "x", category=("Tools",)), Product("b", "x", category=("Garden", "Tools"))]
        with backend(products) as (index, catalog):
            assert rows_where(index, catalog, "category = Tools") == [0]
            assert rows_where(index, catalog, 'category = "garden > tools"') == [1]

    def test_filter_of_wrong_type_reports_its_column(self, backend: Backend) -> None:
        with backend([Product("a", "x", brand="Bosch", price=1.0)]) as (_, catalog):
            with pytest.raises(FilterError, match="column 1: brand has text") as raised:
                condition(catalog, "brand < 3")
            assert raised.value.column == 1
            with pytest.raises(FilterError, match="price is compared with a number, not with 'cheap'"):
                condition(catalog, "brand = x AND price < cheap")
            with pytest.raises(UnknownFieldError, match="price"):
                condition(catalog, "prise < 3")
            with pytest.raises(UnknownFieldError, match="sort by a number"):
                catalog.resolve_sortable("brand")


@given(products=catalogs.products(), descending=st.booleans())
def test_null_index_has_the_facets_and_orders_of_a_real_one(products: list[Product], descending: bool) -> None:
    selection = Selection(rows=np.arange(0, len(products), 2))
    names = ["brand", "category", "price", "created", "attributes.colour"]
    by = Sort((SortKey("rating_count"), SortKey("price", descending)), 5)
    with null(products) as (keyword, _), tantivy(products) as (whole, _):
        assert keyword.facets(selection, names, 10) == whole.facets(selection, names, 10)
        assert keyword.count([selection]) == whole.count([selection])
        ours, theirs = keyword.sort(selection, by), whole.sort(selection, by)
    assert (ours.rows.tolist(), ours.total) == (theirs.rows.tolist(), theirs.total)


def test_null_index_matches_no_words_and_refuses_changes() -> None:
    with null(catalogs.numbered(3)) as (keyword, _):
        assert keyword.retrieve(ANALYZER.groups("drill"), "p0001", 10).best.total == 0
        assert keyword.score(np.arange(3), ANALYZER.groups("drill")).scores.tolist() == [0, 0, 0]
        with pytest.raises(ClusterUnavailableError, match="changes are not possible"):
            keyword.check_changeable()
