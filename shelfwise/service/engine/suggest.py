"""Suggestions, corrections and related searches, by the words of the serving version and by popular queries."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from itertools import chain, islice
from pathlib import Path

import numpy as np

from shelfwise.retrieval.errors import ClusterError, QueryError, StoreDamagedError
from shelfwise.retrieval.filters.conditions import AllOf, Condition, fields_of, matches
from shelfwise.retrieval.filters.schema import CATEGORY_SEPARATOR, product_columns
from shelfwise.retrieval.index.keyword import NO_ROWS
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.single_flight import SingleFlight
from shelfwise.retrieval.store.manifest import WORDS_FOLDER
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.text.vocabulary import CatalogWords, Offsets, VocabularyEntries
from shelfwise.service.answers.questions import is_question
from shelfwise.service.curation.relevance import DEFAULT_RELEVANCE, Relevance, TypoTolerance
from shelfwise.service.curation.rule_matching import CompiledRules
from shelfwise.service.engine.snapshot import Snapshot, id_at
from shelfwise.service.engine.spelling import Completion, Correction, Corrector, Spans, TypedText, VisibleCatalog
from shelfwise.service.events.hot_reload import ReloadedFile, follow_popular_queries
from shelfwise.service.events.popular_queries import PopularQueries, PopularQuery, query_key
from shelfwise.service.events.signals import Popularity

MAX_SUGGESTIONS = 50


class QuerySource(StrEnum):
    """The source of a suggested query."""

    POPULAR = "popular"
    """Enough shoppers typed it and chose something."""
    CATALOG = "catalog"
    """Titles of several products have it."""


@dataclass(frozen=True, slots=True)
class SuggestedQuery:
    """A query that completes the typed text."""

    text: str
    source: QuerySource
    spans: Spans


@dataclass(frozen=True, slots=True)
class SuggestedCategory:
    """A category; the spans refer to `text`, its path for display."""

    path: tuple[str, ...]
    count: int
    """Number of products in it or below, at build time; with a filter, of those that pass it now."""
    text: str
    spans: Spans


@dataclass(frozen=True, slots=True)
class SuggestedBrand:
    """A brand."""

    name: str
    count: int
    """Number of its products, at build time; with a filter, of those that pass it now."""
    spans: Spans


@dataclass(frozen=True, slots=True)
class SuggestedProduct:
    """A product in its current state; the spans refer to its title."""

    product: Product
    spans: Spans


@dataclass(frozen=True, slots=True)
class Suggestions:
    """Suggestions for a typed text."""

    queries: tuple[SuggestedQuery, ...] = ()
    categories: tuple[SuggestedCategory, ...] = ()
    brands: tuple[SuggestedBrand, ...] = ()
    products: tuple[SuggestedProduct, ...] = ()
    corrected: str = ""
    """The corrected text that they complete, if no suggestion begins with the typed text."""
    degraded: tuple[str, ...] = ()
    """"words" in a version of an older program. If the cluster does not respond: "corrections", or "filters" with a
    filter, and then there are no suggestions."""

    def __bool__(self) -> bool:
        return bool(self.queries or self.categories or self.brands or self.products)


class Suggester:
    """Suggests for one index directory. Threads may share it."""

    def __init__(self, root: Path, popularity: ReloadedFile[Popularity]) -> None:
        self._store = Store(root)
        self._popular_queries = follow_popular_queries(root)
        self._popularity = popularity
        self._opened: SingleFlight[str, CatalogWords | None] = SingleFlight(1)
        """The words of the last version; None if it has none."""
        self._problem: tuple[str, ...] = ()

    @property
    def notices(self) -> tuple[str, ...]:
        """Reasons why suggestions are incomplete."""
        return (*self._problem, *self._popular_queries.notices)

    def reload_if_changed(self, snapshot: Snapshot) -> None:
        """Loads another version's words, and tables that changed since the last check."""
        self._words(snapshot)
        self._popular_queries.reload_if_changed()

    def suggest(
        self,
        snapshot: Snapshot,
        text: str,
        size: int,
        rules: CompiledRules | None = None,
        relevance: Relevance = DEFAULT_RELEVANCE,
        where: Condition | None = None,
    ) -> Suggestions:
        """Suggestions for the text typed so far, from products that pass `where` and that no rule excludes, corrected
        as the settings allow; raises QueryError for an invalid text or size."""
        _check(size)
        words, popular = self._words(snapshot), self._popular_queries.value
        visible = VisibleCatalog(snapshot, where)
        corrector = self._corrector(visible, snapshot, relevance.protected_words)
        completer = Completer(snapshot, visible, popular, self._popularity.value, words, corrector, rules)
        missing = () if words else ("words",)
        try:
            found = completer.complete(TypedText(text), size, text)
        except (ClusterError, StoreDamagedError):
            return Suggestions(degraded=("filters",))
        if found or corrector is None or relevance.typo_tolerance is TypoTolerance.OFF:
            return dataclasses.replace(found, degraded=missing)
        try:
            for corrected in corrector.correct_prefix(text):
                if instead := completer.complete(TypedText(corrected), size, text):
                    return dataclasses.replace(instead, corrected=corrected)
        except (ClusterError, StoreDamagedError):
            return dataclasses.replace(found, degraded=("corrections",))
        return found

    def did_you_mean(
        self, snapshot: Snapshot, text: str, relevance: Relevance, where: Condition | None
    ) -> Correction | None:
        """The correction of a whole query by words of products that pass `where`, certain only if it finds better
        products. None if the query may be right or settings turn corrections off. Raises like the keyword index."""
        if relevance.typo_tolerance is TypoTolerance.OFF:
            return None
        corrector = self._corrector(VisibleCatalog(snapshot, where), snapshot, relevance.protected_words)
        correction = corrector.correct_query(text) if corrector else None
        if corrector and correction and correction.is_sure and not corrector.finds_better(correction.text, text):
            correction = Correction(correction.text, is_sure=False)
        if correction and not correction.is_sure and is_question(text):
            return None  # a question's words are not corrected: "do you sell" is not "do you self"
        return correction

    def completions(self, snapshot: Snapshot, text: str, where: Condition | None) -> tuple[Completion, ...]:
        """See `Corrector.completions`; only words of products that pass `where` complete the text."""
        corrector = self._corrector(VisibleCatalog(snapshot, where), snapshot)
        return corrector.completions(text) if corrector else ()

    def chosen_category(self, text: str) -> str:
        """The category that shoppers choose from after a query; empty if too few have."""
        return self._popular_queries.value.category_of(text)

    def related(self, snapshot: Snapshot, text: str, size: int) -> tuple[str, ...]:
        """The queries related to a query, nearest first: as shoppers moved between them; else those that contain it."""
        _check(size)
        popular = self._popular_queries.value
        place = popular.places.get(query_key(text))
        found = _saying_more(popular, text) if place is None else popular.queries[place].related
        corrector = self._corrector(VisibleCatalog(snapshot), snapshot)
        texts = (popular.queries[at].text for at in found if popular.queries[at].is_suggested)
        return tuple(islice((text for text in texts if not (corrector and corrector.is_misspelled(text))), size))

    def _corrector(
        self, visible: VisibleCatalog, snapshot: Snapshot, protected: Collection[str] = ()
    ) -> Corrector | None:
        words, sold = self._words(snapshot), self._popular_queries.value.purchase_words
        return Corrector(visible, snapshot, words, sold, protected) if words else None

    def _words(self, snapshot: Snapshot) -> CatalogWords | None:
        version = snapshot.manifest.version
        return self._opened.get(version, partial(self._open, version))

    def _open(self, version: str) -> CatalogWords | None:
        self._problem = ()
        try:
            return CatalogWords.open(self._store.version_folder(version) / WORDS_FOLDER)
        except StoreDamagedError as error:
            self._problem = (f"suggestions and corrections do not use the catalog: {error}",)
            return None


def _saying_more(popular: PopularQueries, text: str) -> list[int]:
    """The queries that have all words of a text, most frequent first."""
    typed = TypedText(f"{text} ")
    lookups = list(typed.lookups)
    if not lookups or typed.is_too_long:
        return []
    return [int(at) for at in popular.postings.matching(lookups)]


def _check(size: int) -> None:
    if type(size) is not int:
        raise QueryError(f"size is {type(size).__name__}, it must be int")
    if not 0 <= size <= MAX_SUGGESTIONS:
        raise QueryError(f"size is {size}, it can be 0 to {MAX_SUGGESTIONS}")


_MAX_EXAMINED = 200
"""Number of the best known matches of each kind that are examined one by one."""
_NO_ENTRIES = VocabularyEntries((), (), (), 0)


@dataclass(frozen=True, slots=True)
class Completer:
    """Completes texts by the queries, categories, brands and products that have all of their words."""

    snapshot: Snapshot
    visible: VisibleCatalog
    popular: PopularQueries
    popularity: Popularity
    words: CatalogWords | None
    """Words of the version; None if it has none, so that only popular queries are suggested."""
    corrector: Corrector | None
    rules: CompiledRules | None = None

    @property
    def entries(self) -> VocabularyEntries:
        return self.words.entries if self.words else _NO_ENTRIES

    def complete(self, typed: TypedText, size: int, known: str) -> Suggestions:
        """At most `size` queries, without the `known` one, and half as many of each other kind."""
        if not known.strip() and size:
            return Suggestions(tuple(islice(_distinct("", self._popular_queries(typed)), size)))
        if not typed.words or typed.is_too_long or size < 1:
            return Suggestions()
        half = (size + 1) // 2
        phrases, brands, categories, products = self._matching(typed)
        return Suggestions(
            tuple(islice(_distinct(known, chain(self._popular_queries(typed), self._phrases(typed, phrases))), size)),
            tuple(islice(self._categories(typed, categories), half)),
            tuple(islice(self._brands(typed, brands), half)),
            tuple(islice(self._products(typed, products, known), half)),
        )

    def _matching(self, typed: TypedText) -> tuple[Offsets, Offsets, Offsets, Offsets]:
        """The matches of each kind by number, from 0, best known first."""
        if self.words is None:
            return NO_ROWS, NO_ROWS, NO_ROWS, NO_ROWS
        found = self.words.postings.matching(typed.lookups)
        bounds = self.words.entries.bounds
        phrases, brands, categories, products, _ = np.split(found, np.searchsorted(found, bounds))
        return phrases, brands - bounds[0], categories - bounds[1], products - bounds[2]

    def _popular_queries(self, typed: TypedText) -> Iterator[SuggestedQuery]:
        places = self.popular.postings.matching(typed.lookups) if typed.words else range(len(self.popular.queries))
        for at in places[:_MAX_EXAMINED]:
            query = self.popular.queries[at]
            spans = typed.spans_in(query.text) if query.is_suggested and typed.words else ()
            if not query.is_suggested or (typed.words and not spans):
                continue
            if not self._is_misspelling(query) and self.visible.has_words(query.text):
                yield SuggestedQuery(query.text, QuerySource.POPULAR, spans or ())

    def _is_misspelling(self, query: PopularQuery) -> bool:
        """Whether a query is a frequent misspelling, which is not suggested to others: it looks misspelled and has no
        purchases, or its correction is a popular query itself ("claw hammor")."""
        if self.corrector is None:
            return False
        if not query.has_purchases and self.corrector.is_misspelled(query.text):
            return True
        corrected = self.corrector.correct_unknown(query.text)
        return corrected != query.text and query_key(corrected) in self.popular.places

    def _phrases(self, typed: TypedText, found: Offsets) -> Iterator[SuggestedQuery]:
        for at in found[:_MAX_EXAMINED]:
            text, _ = self.entries.phrases[at]
            if (spans := typed.spans_in(text)) and self.visible.has_words(text):
                yield SuggestedQuery(text, QuerySource.CATALOG, spans)

    def _brands(self, typed: TypedText, found: Offsets) -> Iterator[SuggestedBrand]:
        for at in found[:_MAX_EXAMINED]:
            name, count = self.entries.brands[at]
            if (spans := typed.spans_in(name)) and (visible := self.visible.count_value("brand", name, count)):
                yield SuggestedBrand(name, visible, spans)

    def _categories(self, typed: TypedText, found: Offsets) -> Iterator[SuggestedCategory]:
        """The categories whose own name has a word; otherwise "Tools" would match everything below it."""
        for at in found[:_MAX_EXAMINED]:
            path, count = self.entries.categories[at]
            text = CATEGORY_SEPARATOR.join(path)
            spans = typed.spans_in(text)
            is_named = spans and spans[-1][1] > len(text) - len(path[-1])
            if spans and is_named and (visible := self.visible.count_value("category", text, count)):
                yield SuggestedCategory(path, visible, text, spans)

    def _products(self, typed: TypedText, found: Offsets, known: str) -> Iterator[SuggestedProduct]:
        """The matches that still exist under this title, and that no rule excludes."""
        is_excluded = self._rule_filter(typed, known)
        ordered = self._popular_first(found)
        inside = self.visible.visible_rows(np.array(ordered, np.int64))
        for row in (row for row in ordered if row in inside):
            try:
                product = self.snapshot.products[row]
            except IndexError:
                # Deleted by a live change.
                continue
            if typed.spans_in(f"{product.title} {product.brand}") is not None and not is_excluded(product):
                yield SuggestedProduct(product, typed.spans_in(product.title, partly=True) or ())

    def _rule_filter(self, typed: TypedText, known: str) -> Callable[[Product], bool]:
        """Decides whether rules exclude a suggested product. Rules count that hide or filter products for the `known`
        text in the search box, for its correction in `typed`, and for each query that it becomes by a product's own
        words: for "cordless dri", the rules of "cordless drill" apply already."""
        rules, now = self.rules, time.time()
        if rules is None:
            return lambda _: False

        @cache  # many products complete a text in the same way
        def condition_on(completed: tuple[str, ...]) -> tuple[AllOf, frozenset[str]]:
            """The condition that a product must pass, with its fields."""
            texts = map(self.snapshot.analyzer.analyze, (known, typed.text, *completed))
            condition = AllOf(rules.effect(list(texts), None, now).where)
            return condition, fields_of(condition)

        def is_excluded(product: Product) -> bool:
            condition, fields = condition_on(typed.completed_by(f"{product.title} {product.brand}"))
            # Few fields are needed, and a product may have many.
            roots = self.snapshot.catalog.category_roots
            return bool(fields) and not matches(condition, product_columns(product, roots, fields))

        return is_excluded

    def _popular_first(self, found: Offsets) -> list[int]:
        rows: list[int] = [] if self.words is None else self.words.rows[found[:_MAX_EXAMINED]].tolist()
        if not self.popularity.shares:
            return rows
        shares = self.popularity.of(id_at(self.snapshot, row) for row in rows)
        return [rows[at] for at in np.argsort(-shares, kind="stable").tolist()]


def _distinct(known: str, queries: Iterable[SuggestedQuery]) -> Iterator[SuggestedQuery]:
    """Suggestions without known ones and without repetitions of the same words."""
    seen = {query_key(known)}
    for query in queries:
        if (key := query_key(query.text)) not in seen:
            seen.add(key)
            yield query
