"""The keyword index protocol: BM25 over analysed terms, filters, facets, sort and exact identifiers.

Rows number a version's products from 0, ordered by id, so breaking a tie by row breaks it by product id.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.filters.ast import value_text
from shelfwise.retrieval.filters.conditions import AllOf, AnyOf, AtLeast, Condition, HasPhrase, HasTerm, ProductColumns
from shelfwise.retrieval.filters.schema import FieldCatalog, FieldInfo, FieldKind, fold_value
from shelfwise.retrieval.records import Facet, FacetCount, Place
from shelfwise.retrieval.text.analysis import Phrase, TermGroup

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]
_ALL_OF = 2
"""The largest number of query words of which a match must have all."""
MAX_SHARING = 50
"""An identifier of more products than this (such as "does not apply") identifies none of them."""


class SearchedField(NamedTuple):
    """A field of a product that BM25 counts; identifiers have an empty name."""

    name: str
    weight: int
    terms: Sequence[str]


@dataclass(frozen=True, slots=True)
class KeywordDocument:
    """A product as input of a keyword index, already analysed, folded and typed."""

    row: int
    fields: Sequence[SearchedField]
    identifiers: Sequence[str]
    """Folded by `shelfwise.retrieval.text.analysis.identifier_key`."""
    columns: ProductColumns


@dataclass(frozen=True, slots=True)
class DocumentChange:
    """The effect of a live change on one row."""

    row: int
    sequence: int
    """The change's number in the journal: of two changes of a row, the higher number wins."""
    document: KeywordDocument | None
    """The new document; None if the product was deleted."""
    product: bytes = b""
    """The product as encoded by `shelfwise.retrieval.store.products`."""


@dataclass(frozen=True, slots=True)
class Matches:
    """The best matches of a query, best first, and the total number of matching products.

    Ties are ordered by row; in a local index that was changed or extended, or has several segments, by document.
    """

    rows: Rows
    scores: Scores
    total: int


@dataclass(frozen=True, slots=True)
class Selection:
    """A set of products: those that match `groups`, and `rows`; `where` filters both.

    Without groups it is `rows` only, or, if `everything` is set, all products.
    """

    groups: tuple[TermGroup, ...] = ()
    rows: Rows = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    where: Condition | None = None
    everything: bool = False


@dataclass(frozen=True, slots=True)
class SortedRows:
    """The first products of a selection in an order other than by score, and the total number in the selection."""

    rows: Rows
    total: int


@dataclass(frozen=True, slots=True)
class SortKey:
    """A numeric field to sort by, or the distance from a place; products without a value come last."""

    field: str
    descending: bool = False
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Sort:
    """An order by numeric fields and distances, by the first key first, ties by row; limited to `limit` products."""

    keys: tuple[SortKey, ...]
    limit: int


def sort_rows(rows: Rows, by: Sort, values: Callable[[SortKey], NDArray[np.float64]]) -> SortedRows:
    """Sorts some rows (n,); `values` returns the values of a key (n,), NaN if missing."""
    columns: list[NDArray[np.generic]] = [rows]
    for key in reversed(by.keys):
        # NaN sorts last in both directions.
        found = values(key)
        columns.append(-found if key.descending else found)
    return SortedRows(rows[np.lexsort(columns)[: by.limit]], len(rows))


@dataclass(frozen=True, slots=True)
class Retrieval:
    """The matches of a query's words."""

    matches: Matches
    """The matches that pass the filter."""
    best: Matches
    """The matches without the filter."""
    identifier_rows: Rows
    """The rows that have the whole query as an identifier."""


@dataclass(frozen=True, slots=True)
class DetailsRequest:
    """A request for details of known candidates; `rows` are the candidates that the words alone did not find.

    Facets and order cover everything that matches `groups`, and `rows`; `where` filters both.
    """

    rows: Rows
    groups: tuple[TermGroup, ...]
    where: Condition | None = None
    facets: tuple[str, ...] = ()
    facet_size: int = 100
    sort: Sort | None = None
    is_scored: bool = True
    """Whether the scores of `rows` are needed. Without a filter, a row that is not among all matches has none."""


@dataclass(frozen=True, slots=True)
class CandidateDetails:
    """The response to a `DetailsRequest`."""

    candidates: Matches
    """The rows that pass the filter, with their BM25."""
    facets: dict[str, Facet]
    ordered: SortedRows | None = None


class KeywordIndex(Protocol):
    """An opened keyword index: read-only and thread-safe. Composed queries are executed part by part by default."""

    def apply_changes(self, changes: Sequence[DocumentChange], catalog: FieldCatalog) -> KeywordIndex:
        """This index with some rows replaced, added or removed.

        A local index is copied and stays as it is; one in a cluster is shared, so every process sees the change.
        `catalog` is the index's own, or an extension of it up to `field_capacity` fields. Only the newest index may be
        changed, by one thread at a time.
        """

    def check_changeable(self) -> None:
        """Raises ClusterError if the index cannot be changed now."""

    @property
    def field_capacity(self) -> int:
        """The number of fields that the index can have."""

    @property
    def size(self) -> int:
        """The number of products."""

    def retrieve(
        self, groups: tuple[TermGroup, ...], identifier: str, limit: int, where: Condition | None = None
    ) -> Retrieval:
        """`search` with the filter and without it, and `find_identifier`, in a cluster in one round trip."""
        best = self.search(groups, limit)
        matches = best if where is None else self.search(groups, limit, where)
        return Retrieval(matches, best, self.find_identifier(identifier))

    def fetch_details(self, wanted: DetailsRequest) -> CandidateDetails:
        """`score`, `facets` and `sort` for known candidates, in a cluster in one round trip."""
        selection = Selection(wanted.groups, np.sort(wanted.rows), wanted.where)
        candidates = self.score(wanted.rows, wanted.groups, wanted.where) if wanted.is_scored else NO_MATCHES
        facets = self.facets(selection, wanted.facets, wanted.facet_size) if wanted.facets else {}
        return CandidateDetails(candidates, facets, self.sort(selection, wanted.sort) if wanted.sort else None)

    def search(self, groups: tuple[TermGroup, ...], limit: int, where: Condition | None = None) -> Matches:
        """The `limit` best matches by BM25 (Robertson & Zaragoza 2009, section 3.2; k1 = 1.2, b = 0.75)."""

    def score(self, rows: Rows, groups: tuple[TermGroup, ...], where: Condition | None = None) -> Matches:
        """The `rows` that pass `where`, by row, with their BM25; 0 for a row that does not match."""

    def find_identifier(self, key: str) -> Rows:
        """The rows with this folded identifier, ascending; empty if more than `MAX_SHARING` have it."""

    def select(self, selection: Selection) -> Rows:
        """Every row of the selection, ascending."""

    def count(self, selections: Sequence[Selection]) -> list[int]:
        """The number of products of each selection."""
        return [len(self.select(each)) for each in selections]

    def facets(self, selection: Selection, fields: Sequence[str], size: int) -> dict[str, Facet]:
        """The `size` most frequent values of each field in the selection; for a numeric field also its range."""

    def sort(self, selection: Selection, by: Sort) -> SortedRows:
        """The first products of a selection in an order by sortable fields."""


NO_ROWS: Rows = np.empty(0, dtype=np.int64)
NO_MATCHES = Matches(NO_ROWS, np.empty(0, dtype=np.float32), 0)


_STEPS = np.float32(1 << 14)
LOOK_AHEAD = 16
"""The number of additional matches that are ranked after the last one needed, since they may tie with it."""


def round_scores(scores: Scores) -> Scores:
    """BM25 rounded to steps of 2^-14, about 0.00006.

    The last digits of a float32 sum depend on the order of its terms, which differs between backends and, in tantivy,
    between products. Without rounding, products with equal words would not tie, and not be ordered by id.
    """
    return np.asarray(np.round(scores * _STEPS) / _STEPS, dtype=np.float32)


def rank_matches(rows: Rows, scores: Scores, limit: int) -> tuple[Rows, Scores]:
    """The `limit` best matches by rounded score, ties by row."""
    scores = round_scores(scores)
    order = np.lexsort((rows, -scores))[:limit]
    return rows[order], scores[order]


def minimum_matches(groups: Sequence[TermGroup]) -> int:
    """The number of a query's words that a matching product must have: both of two (unless a group is enough by
    itself), and half of more, rounded up. Optional words do not count.

    Fewer make totals and facet counts meaningless; more lose recall that the vectors do not recover
    (docs/decisions/0019-candidate-margin.md).
    """
    groups, _ = split_optional(groups)
    needs_all = len(groups) <= _ALL_OF and not any(group.is_enough for group in groups)
    return len(groups) if needs_all else (len(groups) + 1) // 2


def words_within(groups: Sequence[TermGroup], fields: tuple[str, ...]) -> Condition:
    """The condition that these fields contain as many of a query's words as a match needs, each word in any field. The
    words of a multi-word synonym may be in any order, since fields are indexed without positions."""
    needed, _ = split_optional(groups)
    met = (
        AnyOf(
            tuple(
                AllOf(tuple(HasTerm(fields, term) for term in terms)) for terms in (*each.alternatives, *each.synonyms)
            )
        )
        for each in needed
    )
    return AtLeast(minimum_matches(groups), tuple(met))


def has_phrase(phrases: Sequence[Phrase]) -> Condition:
    """The condition that a product contains one of these forms of a phrase, as returned by `Analyzer.phrases`."""
    return AnyOf(tuple(HasPhrase(terms) for terms in phrases))


def split_optional(groups: Sequence[TermGroup]) -> tuple[Sequence[TermGroup], Sequence[TermGroup]]:
    """The groups of a query that count for matching, and those that count only for the score."""
    needed = [group for group in groups if not group.is_optional]
    return (needed, [group for group in groups if group.is_optional]) if needed else (groups, ())


EXPANSION_WEIGHT = 2.0
"""The weight of a learned term of strength 1, as a multiple of the inverse document frequency of the word that it
replaces (docs/decisions/0028-query-expansion.md)."""
MAX_MATCHING = 5
"""The most learned terms that can match in place of a word that no product has."""


def expansion_scores(
    group: TermGroup, frequencies: Mapping[str, int], products: int, *, is_scored: bool
) -> dict[str, float]:
    """Scores that a typed word's expansions give to a product with the term, whatever its frequency. In matching (not
    `is_scored`), only the strongest expansions count, and only for a word that no product has. `frequencies` are
    numbers of products by term."""
    others = group.expansions
    if not is_scored:
        others = () if any(frequencies.values()) else others[:MAX_MATCHING]
    if not others:
        return {}
    weight = EXPANSION_WEIGHT * sum(_inverse_frequency(frequencies[term], products) for term in group.alternatives[0])
    return {each.term: weight * each.strength for each in others}


def synonym_boosts(group: TermGroup, frequencies: Mapping[str, int], products: int) -> list[float]:
    """Factors for the BM25 of a typed word and of its synonyms, in this order, by which they count as one term.

    All get the weight of the most frequent one, as in Lucene's SynonymQuery; otherwise the rarest would decide the
    order. A phrase is as frequent as its rarest term. `frequencies` are numbers of products by term.
    """

    def weigh(terms: Phrase) -> list[float]:
        return [_inverse_frequency(frequencies[term], products) for term in terms]

    weights = [weigh(terms) for terms in (group.alternatives[0], *group.synonyms)]
    shared = min(map(max, weights))
    return [shared / sum(each) for each in weights]


def _inverse_frequency(count: int, products: int) -> float:
    """The inverse document frequency of BM25; live changes may raise the count above the number of products."""
    return math.log1p((max(products, count) - count + 0.5) / (count + 0.5))


def make_facet(
    info: FieldInfo,
    texts: Iterable[tuple[str, int]],
    numbers: Iterable[tuple[float, int]],
    size: int,
    span: tuple[float | None, float | None] = (None, None),
) -> Facet:
    """A facet from the values that a backend counted: most frequent first, ties by value, at most `size`.

    "BOSCH" and "Bosch" are one value, shown in the spelling that more products have.

    `span` is the lowest and the highest number, None if there is none; times are not included.

    In a field with texts and numbers, the number 12 and the text "12" are one value, as in filters.
    """
    counts: dict[str, FacetCount] = {}
    is_boolean, is_time = info.kinds == {FieldKind.BOOLEAN}, FieldKind.TIME in info.kinds
    shown: list[tuple[str | float | bool, int]] = [
        (text == "true" if is_boolean else text, count) for text, count in texts
    ]
    shown.sort(key=lambda each: (-each[1], str(each[0])))
    shown += [(datetime.fromtimestamp(each, UTC).isoformat() if is_time else each, count) for each, count in numbers]
    for value, count in shown:
        key = fold_value(value_text(value))
        before = counts.get(key)
        counts[key] = FacetCount(before.value if before else value, count + (before.count if before else 0))
    ordered = sorted(counts.values(), key=lambda each: (-each.count, isinstance(each.value, str), each.value))
    lowest, highest = (None, None) if is_time else span
    return Facet(info.name, tuple(ordered[:size]), lowest, highest)
