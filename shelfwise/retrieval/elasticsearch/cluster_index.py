"""The keyword index in Elasticsearch, with the terms, scores, filters and facets of the local one.

A product is the document of its row. Terms are already analysed, so the text field is split only at blanks. Filters and
facets are three flattened fields whose keys are the slots of a catalog's fields (`t7` for texts, `n7` for numbers), so
a catalog of thousands of attributes needs no mapping for each. Numbers become sixteen digits with the same sort order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.elasticsearch.client import Cluster, Document
from shelfwise.retrieval.filters.ast import PLACES
from shelfwise.retrieval.filters.conditions import (
    AllOf,
    AnyOf,
    AtLeast,
    Condition,
    HasNumber,
    HasPhrase,
    HasPlace,
    HasTerm,
    HasText,
    InArea,
    NotThat,
    NumberWithin,
    TextIn,
)
from shelfwise.retrieval.filters.places import Area, Box, Circle, Polygon
from shelfwise.retrieval.filters.schema import FieldCatalog, FieldInfo
from shelfwise.retrieval.index.keyword import (
    LOOK_AHEAD,
    MAX_SHARING,
    NO_MATCHES,
    NO_ROWS,
    CandidateDetails,
    DetailsRequest,
    DocumentChange,
    Matches,
    Retrieval,
    Rows,
    Scores,
    Selection,
    Sort,
    SortedRows,
    SortKey,
    expansion_scores,
    make_facet,
    minimum_matches,
    rank_matches,
    round_scores,
    split_optional,
    synonym_boosts,
)
from shelfwise.retrieval.index.keyword_documents import KeywordLine, keyword_line
from shelfwise.retrieval.records import Facet, Place
from shelfwise.retrieval.text.analysis import Phrase, TermGroup

MAX_ROWS = 200_000
"""The most rows of one response (index.max_result_window)."""
_PAGE_ROWS = 50_000
_MAX_BUCKETS = 65_000
"""The most buckets of one response; facets share them."""
_NO_LIMIT = 1 << 30

Query = dict[str, Any]
Search = dict[str, Any]

SETTINGS: Mapping[str, Any] = {
    "max_result_window": MAX_ROWS,
    "max_terms_count": 1_000_000,
    # How long a removed document is remembered, so that a slow process cannot bring it back.
    "gc_deletes": "1d",
}

_EXACT = {"type": "keyword", "ignore_above": 1_000}
MAPPINGS: Mapping[str, Any] = {
    "dynamic": "strict",
    "properties": {
        "row": {"type": "long"},
        "text": {"type": "text", "analyzer": "whitespace", "index_options": "positions"},
        "tagged": {"type": "text", "analyzer": "whitespace", "index_options": "docs", "norms": False},
        "identifiers": {"type": "keyword", "doc_values": False},
        "filter": {"type": "flattened", "doc_values": False},
        "facet": {"type": "flattened", "index": False},
        "numbers": {"type": "flattened"},
        "places": {"type": "geo_point"},
        # For people who use Kibana: the product as in the feed. Searches do not use it.
        "product": {
            "type": "object",
            "dynamic": False,
            "properties": {
                "id": _EXACT,
                "title": _EXACT,
                "brand": _EXACT,
                "category": _EXACT,
                "price": {"type": "double"},
                "availability": _EXACT,
                "language": _EXACT,
                "rating": {"type": "double"},
                "updated": {"type": "date", "ignore_malformed": True},
                "attributes": {"type": "object", "enabled": False},
                "identifiers": {"type": "object", "enabled": False},
                "variants": {"type": "object", "enabled": False},
            },
        },
    },
}


def sortable(number: float) -> str:
    """Sixteen hexadecimal digits with the same sort order as the numbers."""
    bits: int = struct.unpack(">Q", struct.pack(">d", number + 0.0))[0]  # + 0.0 turns -0.0 into 0.0
    return f"{bits ^ 0xFFFF_FFFF_FFFF_FFFF if bits >> 63 else bits | 1 << 63:016x}"


def number_of(digits: str) -> float:
    """The number of digits made by `sortable`."""
    bits = int(digits, 16)
    number: float = struct.unpack(">d", struct.pack(">Q", bits ^ (1 << 63) if bits >> 63 else bits ^ (1 << 64) - 1))[0]
    return number


def document_of(row: int, line: KeywordLine, product: bytes) -> bytes:
    """The document of one row as JSON."""
    numbers: dict[str, list[str]] = {}
    for place, number in line.numbers:
        numbers.setdefault(f"n{place}", []).append(sortable(number))
    made: dict[str, object] = {
        "row": row,
        "text": line.repeated,
        "tagged": line.tagged,
        "identifiers": line.identifiers,
    }
    if line.texts:
        made["filter"] = msgspec.Raw(line.texts.encode())
    if line.shown:
        made["facet"] = msgspec.Raw(line.shown.encode())
    if numbers:
        made["numbers"] = numbers
    if line.places:
        made["places"] = [_longitude_first(Place(*each)) for each in line.places]
    if product:
        made["product"] = msgspec.Raw(product)
    return msgspec.json.encode(made)


class ElasticsearchIndex:
    """An opened keyword index. Thread-safe.

    It has `size` products in the rows from 0 on. If the metadata of the index is not `made_of`, the first request
    raises StoreDamagedError.
    """

    def __init__(
        self, cluster: Cluster, name: str, catalog: FieldCatalog, size: int, made_of: Mapping[str, object]
    ) -> None:
        self.name = name
        self._cluster = cluster
        self._catalog = catalog
        self.size = size
        self.field_capacity = _NO_LIMIT
        self._rows = size
        """Rows from here on belong to later changes."""
        self._gone: Rows = NO_ROWS
        """Rows without a product in this index; the cluster may be ahead or behind."""
        self._frequencies: dict[str, int] = {}
        """The numbers of products of terms that have, or are, synonyms or expansions, as far as they were requested."""
        self._made_of = made_of
        self._is_checked = False

    def check(self) -> None:
        self._cluster.check_index(self.name, self._made_of)
        self._is_checked = True

    def apply_changes(self, changes: Sequence[DocumentChange], catalog: FieldCatalog) -> ElasticsearchIndex:
        """This index with changed rows, for all processes that have it open.

        A row keeps a later change that another process wrote.
        """
        if not self._is_checked:
            self.check()  # otherwise the cluster would create a missing index with a guessed mapping
        self._cluster.write(self.name, [_document(each, catalog) for each in changes])
        newer = copy(self)
        newer._catalog = catalog
        present = [each.row for each in changes if each.document is not None]
        gone = [each.row for each in changes if each.document is None]
        newer._gone = np.union1d(np.setdiff1d(self._gone, present), np.array(gone, dtype=np.int64))
        newer._rows = max(self._rows, *(each.row + 1 for each in changes))
        return newer

    def check_changeable(self) -> None:
        self.check()
        self._cluster.check_writable(self.name, "0")

    def retrieve(
        self, groups: tuple[TermGroup, ...], identifier: str, limit: int, where: Condition | None = None
    ) -> Retrieval:
        searches = [self._best(groups, limit, None), _identified(identifier)]
        if where is not None:
            searches.append(self._best(groups, limit, where))
        answers = self._ask(searches)
        best = self._matches(answers[0], limit)
        matches = best if where is None else self._matches(answers[2], limit)
        return Retrieval(matches, best, self._sharing(answers[1]))

    def fetch_details(self, wanted: DetailsRequest) -> CandidateDetails:
        selected = self._selected(Selection(wanted.groups, wanted.rows, wanted.where))
        searches: list[Search] = []
        is_scored = wanted.is_scored and len(wanted.rows) > 0
        if is_scored:
            searches.append(self._scored(wanted.rows, wanted.groups, wanted.where))
        if wanted.facets:
            searches.append(self._counted(selected, wanted.facets))
        if wanted.sort:
            searches.append(self._sorted(selected, wanted.sort))
        answers = iter(self._ask(searches))
        return CandidateDetails(
            self._scores(next(answers)) if is_scored else NO_MATCHES,
            self._facets(next(answers), wanted.facets, wanted.facet_size) if wanted.facets else {},
            self._ordered(next(answers)) if wanted.sort else None,
        )

    def search(self, groups: tuple[TermGroup, ...], limit: int, where: Condition | None = None) -> Matches:
        (answer,) = self._ask([self._best(groups, limit, where)])
        return self._matches(answer, limit)

    def score(self, rows: Rows, groups: tuple[TermGroup, ...], where: Condition | None = None) -> Matches:
        return self.fetch_details(DetailsRequest(rows, groups, where)).candidates

    def find_identifier(self, key: str) -> Rows:
        return self._sharing(*self._ask([_identified(key)]))

    def select(self, selection: Selection) -> Rows:
        search: Search = {**_rows_only(self._selected(selection), _PAGE_ROWS), "sort": [{"row": "asc"}]}
        pages: list[Rows] = []
        while not pages or len(pages[-1]) == _PAGE_ROWS:
            after = {"search_after": [int(pages[-1][-1])]} if pages else {}
            (answer,) = self._ask([{**search, **after}])
            pages.append(_rows(answer, 0))
        return self._known(np.concatenate(pages))

    def count(self, selections: Sequence[Selection]) -> list[int]:
        return list(map(_total, self._ask([_rows_only(self._selected(each), 0) for each in selections])))

    def facets(self, selection: Selection, fields: Sequence[str], size: int) -> dict[str, Facet]:
        (answer,) = self._ask([self._counted(self._selected(selection), fields)])
        return self._facets(answer, fields, size)

    def sort(self, selection: Selection, by: Sort) -> SortedRows:
        return self._ordered(*self._ask([self._sorted(self._selected(selection), by)]))

    def _ask(self, searches: Sequence[Search]) -> list[dict[str, Any]]:
        if not self._is_checked:
            self.check()
        return self._cluster.search(self.name, searches) if searches else []

    def _best(self, groups: tuple[TermGroup, ...], limit: int, where: Condition | None) -> Search:
        match = self._match(groups)
        query = self._filtered(match, where) if match and limit > 0 else {"match_none": {}}
        size = max(0, min(limit + LOOK_AHEAD, MAX_ROWS)) if match else 0
        return {**_rows_only(query, size), "sort": ["_score", {"row": "asc"}]}

    def _match(self, groups: tuple[TermGroup, ...]) -> Query | None:
        self._count(term for group in groups for term in group.weighed_terms)
        needed, optional = split_optional(groups)
        if not needed:
            return None
        parts, scored = list(map(self._group, needed)), list(map(self._scored_group, optional))
        match = parts[0]
        if len(parts) > 1:
            match = {"bool": {"should": parts, "minimum_should_match": minimum_matches(groups)}}
        if any(each.expansions for each in needed):
            return {"bool": {"filter": [match], "should": [*map(self._scored_group, needed), *scored]}}
        return {"bool": {"must": [match], "should": scored}} if scored else match

    def _scored_group(self, group: TermGroup) -> Query:
        return self._group(group, is_scored=True)

    def _group(self, group: TermGroup, *, is_scored: bool = False) -> Query:
        """The query for a group's matches, or for its score: expansions only score, unless no product has the word."""
        typed, *others = map(_conjunction, group.alternatives)
        if group.synonyms:
            boosts = synonym_boosts(group, self._frequencies, self.size)
            queries = (typed, *map(_phrase, group.synonyms))
            boosted = zip(queries, boosts, strict=True)
            typed, *synonyms = ({"bool": {"must": [query], "boost": boost}} for query, boost in boosted)
            others += synonyms
        frequencies = {term: self._frequencies[term] for term in group.weighed_terms}
        scores = expansion_scores(group, frequencies, self.size, is_scored=is_scored)
        others += (
            {"constant_score": {"filter": _conjunction((term,)), "boost": score}} for term, score in scores.items()
        )
        return {"dis_max": {"queries": [typed, *others]}} if others else typed

    def _count(self, terms: Iterable[str]) -> None:
        """Requests the frequencies of terms, once: live changes hardly alter them."""
        unknown = sorted({*terms} - self._frequencies.keys())
        answers = self._ask([_rows_only({"term": {"text": term}}, 0) for term in unknown])
        self._frequencies |= zip(unknown, map(_total, answers), strict=True)

    def _matches(self, answer: Mapping[str, Any], limit: int) -> Matches:
        rows, scores = _rows(answer, 1), _scores(answer, 0)
        known = self._are_known(rows)
        return Matches(*rank_matches(rows[known], scores[known], max(0, limit)), _total(answer))

    def _scored(self, rows: Rows, groups: tuple[TermGroup, ...], where: Condition | None) -> Search:
        wanted: list[Query] = [_these(rows)]
        if where is not None:
            wanted.append(self._where(where))
        match = self._match(groups)
        query = {"bool": {"filter": wanted, "should": [match] if match else []}}
        return {**_rows_only(query, len(rows)), "sort": [{"row": "asc"}, "_score"]}

    def _scores(self, answer: Mapping[str, Any]) -> Matches:
        rows, scores = _rows(answer, 0), round_scores(_scores(answer, 1))
        return Matches(rows, scores, len(rows))

    def _sharing(self, answer: Mapping[str, Any]) -> Rows:
        rows = self._known(_rows(answer, 0))
        return rows if len(rows) <= MAX_SHARING else NO_ROWS

    def _sorted(self, selected: Query, by: Sort) -> Search:
        wanted = [self._key(key) for key in by.keys]
        return {**_rows_only(selected, min(by.limit, MAX_ROWS)), "sort": [*wanted, {"row": "asc"}]}

    def _key(self, key: SortKey) -> dict[str, Any]:
        if key.place:
            # A product without a place counts as infinitely far away.
            return {"_geo_distance": {PLACES: _longitude_first(key.place), "unit": "m", "mode": "min"}}
        order = {"order": "desc" if key.descending else "asc", "mode": "min", "missing": "_last"}
        return {f"numbers.n{self._catalog.fields[key.field].slot}": order}

    def _ordered(self, answer: Mapping[str, Any]) -> SortedRows:
        return SortedRows(self._known(_rows(answer, -1)), _total(answer))

    def _known(self, rows: Rows) -> Rows:
        return rows[self._are_known(rows)]

    def _are_known(self, rows: Rows) -> NDArray[np.bool_]:
        known = rows < self._rows
        return known & ~np.isin(rows, self._gone) if len(self._gone) else known

    def _counted(self, selected: Query, fields: Sequence[str]) -> Search:
        infos = [self._catalog.fields[name] for name in fields]
        columns = sum(info.is_textual + info.is_numeric for info in infos)
        wanted: dict[str, Any] = {}
        for at, info in enumerate(infos):
            wanted |= _buckets(at, info, _MAX_BUCKETS // max(1, columns) - 2)
        return {**_rows_only(selected, 0), "aggs": wanted}

    def _facets(self, answer: Mapping[str, Any], fields: Sequence[str], size: int) -> dict[str, Facet]:
        counted = answer.get("aggregations", {})
        infos = (self._catalog.fields[name] for name in fields)
        return {info.name: _facet(info, counted, at, size) for at, info in enumerate(infos)}

    def _selected(self, selection: Selection) -> Query:
        parts = [] if (match := self._match(selection.groups)) is None else [match]
        if len(selection.rows):
            parts.append(_these(selection.rows))
        if selection.everything:
            parts = [{"match_all": {}}]
        either: Query = _any_of(parts) if parts else {"match_none": {}}
        unscored = {"bool": {"filter": [either]}}
        return unscored if selection.where is None else self._filtered(unscored, selection.where)

    def _filtered(self, match: Query, where: Condition | None) -> Query:
        if where is None:
            return match
        return {"bool": {"must": [match], "filter": [self._where(where)]}}

    def _where(self, condition: Condition) -> Query:
        match condition:
            case AllOf(operands):
                return {"bool": {"filter": [self._where(each) for each in operands]}} if operands else {"match_all": {}}
            case AnyOf(operands):
                return _any_of([self._where(each) for each in operands]) if operands else {"match_none": {}}
            case AtLeast(count, operands):
                return {"bool": {"should": list(map(self._where, operands)), "minimum_should_match": count}}
            case NotThat(operand):
                return {"bool": {"must_not": [self._where(operand)]}}
            case TextIn(field, values):
                return {"terms": {f"filter.t{self._catalog.fields[field].slot}": list(values)}}
            case HasTerm(fields, term):
                return {"terms": {"tagged": self._catalog.tagged_terms(fields, term)}}
            case HasPhrase(terms):
                return _phrase(terms)
            case HasText(field):
                return {"exists": {"field": f"filter.t{self._catalog.fields[field].slot}"}}
            case HasNumber(field):
                return {"exists": {"field": f"numbers.n{self._catalog.fields[field].slot}"}}
            case NumberWithin():
                return self._within(condition)
            case InArea(area):
                return _in_area(area)
            case HasPlace():
                return {"exists": {"field": PLACES}}

    def _within(self, wanted: NumberWithin) -> Query:
        low, high = ("gte" if wanted.include_low else "gt"), ("lte" if wanted.include_high else "lt")
        bounds = {low: sortable(wanted.low), high: sortable(wanted.high)}
        return {"range": {f"numbers.n{self._catalog.fields[wanted.field].slot}": bounds}}


def _longitude_first(place: Place) -> list[float]:
    """A place as in GeoJSON."""
    return [place.lng, place.lat]


def _in_area(area: Area) -> Query:
    match area:
        case Circle(center, metres):
            # A radius may not be 0.
            return {"geo_distance": {"distance": f"{max(metres, 0.01)}m", PLACES: _longitude_first(center)}}
        case Box(south, west, north, east):
            corners = {"top_left": [west, north], "bottom_right": [east, south]}
            return {"geo_bounding_box": {PLACES: corners}}
        case Polygon(corners):
            # A corner may not repeat the previous one, as in the last corner of a polygon that is closed already.
            kept = [one for one, other in pairwise((*corners, corners[0])) if one != other]
            ring = list(map(_longitude_first, (*kept, kept[0])))
            return {"geo_shape": {PLACES: {"shape": {"type": "Polygon", "coordinates": [ring]}}}}


def _document(change: DocumentChange, catalog: FieldCatalog) -> Document:
    if change.document is None:
        return str(change.row), change.sequence, None
    content = document_of(change.row, keyword_line(change.document, catalog), change.product)
    return str(change.row), change.sequence, content


def _rows_only(query: Query, size: int) -> Search:
    """A search that returns only sort values, without reading documents."""
    return {"query": query, "size": size, "track_total_hits": True, "_source": False, "stored_fields": "_none_"}


def _identified(key: str) -> Search:
    query = {"term": {"identifiers": key}} if key else {"match_none": {}}
    return {**_rows_only(query, MAX_SHARING + 1), "sort": [{"row": "asc"}]}


def _phrase(terms: Phrase) -> Query:
    return _conjunction(terms) if len(terms) < 2 else {"match_phrase": {"text": " ".join(terms)}}


def _conjunction(terms: tuple[str, ...]) -> Query:
    wanted: list[Query] = [{"term": {"text": term}} for term in terms]
    return wanted[0] if len(wanted) == 1 else {"bool": {"must": wanted}}


def _these(rows: Rows) -> Query:
    return {"terms": {"row": rows.tolist()}}


def _any_of(queries: list[Query]) -> Query:
    return {"bool": {"should": queries, "minimum_should_match": 1}}


def _rows(answer: Mapping[str, Any], place: int) -> Rows:
    """The rows of all hits, from their sort values."""
    return np.array([hit["sort"][place] for hit in _hits(answer)], dtype=np.int64)


def _scores(answer: Mapping[str, Any], place: int) -> Scores:
    return np.array([hit["sort"][place] for hit in _hits(answer)], dtype=np.float32)


def _hits(answer: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = answer.get("hits", {}).get("hits", ())
    return found


def _total(answer: Mapping[str, Any]) -> int:
    return int(answer.get("hits", {}).get("total", {}).get("value", 0))


def _buckets(at: int, info: FieldInfo, size: int) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    if info.is_textual:
        wanted[f"text{at}"] = {"terms": {"field": f"facet.t{info.slot}", "size": size, "shard_size": size}}
    if info.is_numeric:
        column = f"numbers.n{info.slot}"
        wanted[f"number{at}"] = {"terms": {"field": column, "size": size, "shard_size": size}}
        for end in ("asc", "desc"):
            wanted[f"{end}{at}"] = {"terms": {"field": column, "size": 1, "order": {"_key": end}}}
    return wanted


def _facet(info: FieldInfo, counted: Mapping[str, Any], at: int, size: int) -> Facet:
    texts = ((str(key), count) for key, count in _counts(counted, f"text{at}"))
    numbers = ((number_of(key), count) for key, count in _counts(counted, f"number{at}"))
    ends = [next((number_of(key) for key, _ in _counts(counted, f"{end}{at}")), None) for end in ("asc", "desc")]
    return make_facet(info, texts, numbers, size, (ends[0], ends[1]))


def _counts(counted: Mapping[str, Any], name: str) -> Iterator[tuple[str, int]]:
    for bucket in counted.get(name, {}).get("buckets", ()):
        yield bucket["key"], bucket["doc_count"]
