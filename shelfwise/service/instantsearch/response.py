"""Responses of the protocol: records, highlights, facets and recommendations, with the protocol's JSON names."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, field

from shelfwise.retrieval.filters.ast import value_text
from shelfwise.retrieval.filters.schema import CATEGORY_SEPARATOR
from shelfwise.retrieval.records import AttributeValue, Facet, Product, SponsoredHit, Variant
from shelfwise.retrieval.text.highlight import MAX_WORDS, Marks, Match, Matcher, excerpt, marked
from shelfwise.service.engine.request import MAX_FACET_VALUES
from shelfwise.service.engine.spelling import TypedText
from shelfwise.service.http.schemas import SPONSORED_LABEL, select_fields
from shelfwise.service.instantsearch.filters import AttributeCatalog, ProtocolAttribute
from shelfwise.service.instantsearch.protocol_request import RecordView

_RECORD_SCHEMA: dict[str, Any] = {
    "required": ["objectID"],
    "properties": {
        **{name: {"type": "string"} for name in ("objectID", "name", "title", "url", "image")},
        **{name: {"type": "object"} for name in ("_highlightResult", "_snippetResult", "_rankingInfo")},
    },
}
Record = Annotated[dict[str, Any], Meta(title="Record", extra_json_schema=_RECORD_SCHEMA)]
"""A product as one JSON object, with its free attributes next to its fields."""
ADDRESSES = ("url", "link", "product_url", "product_link", "permalink")
_SAFE_BEGINNINGS = ("https://", "http://", "/")
_TAGS = "tags"
_NESTED = re.compile(r"[^\s.]+(?:\.[^\s.]+)+")
"""The name of an attribute inside an object, such as `size.width`."""
_RESERVED = frozenset({"objectID", "url", "image"})
"""Names that free attributes cannot have, since pages use them in links."""
Leaf = dict[str, Any]
"""The highlighted form of one text."""
_SNIPPET_WORDS = 10


def product_record(product: Product) -> Record:
    """The record of a product, without empty fields."""
    record: Record = {"objectID": product.id, "name": product.title, "title": product.title}
    record |= {name: value for name, value in _product_fields(product) if value not in (None, "", [], {})}
    fields = _RESERVED.union(record)
    for name, value in product.attributes.items():
        if name.partition(".")[0] not in fields and not name.startswith("_"):
            _set_nested(record, name, list(value) if isinstance(value, tuple) else value)
    tags = product.attributes.get(_TAGS)
    if isinstance(tags, str | tuple):
        record["_tags"] = [tags] if isinstance(tags, str) else list(tags)
    return record


def _set_nested(record: Record, name: str, value: object) -> None:
    """Sets `size.width` as an object within the record, as records are sent."""
    *path, last = name.split(".") if _NESTED.fullmatch(name) else [name]
    inner = record
    for each in path:
        inner = inner.setdefault(each, {})
        if not isinstance(inner, dict):  # `size` is an attribute as well
            inner, last = record, name
            break
    inner[last] = value


def sponsored_mark(hit: SponsoredHit, query_id: str) -> Record:
    """The mark in the record of a sponsored hit, without its price; its id is to be sent with a click on it."""
    own = {"label": SPONSORED_LABEL, "place": hit.place, "advertiser": hit.advertiser, "campaign": hit.campaign}
    return own | {"relevance": round(hit.relevance, 2), "queryID": query_id}


def select_attributes(record: Record, names: Sequence[str]) -> Record:
    """The wanted attributes ("*" for all, "-name" for all but one), and always the id."""
    exclusions = {name[1:] for name in names if name.startswith("-")}
    is_all = "*" in names or (bool(names) and all(name.startswith("-") for name in names))
    selection = record if is_all else select_fields(record, ("objectID", *names))
    return {name: value for name, value in selection.items() if name == "objectID" or name not in exclusions}


def _product_fields(product: Product) -> Iterator[tuple[str, object]]:
    yield "description", product.description
    yield "brand", product.brand
    yield "categories", list(product.category)
    path = product.category
    yield "hierarchicalCategories", {f"lvl{at}": CATEGORY_SEPARATOR.join(path[: at + 1]) for at in range(len(path))}
    yield "price", product.price
    yield "currency", product.currency
    yield "availability", product.availability.value if product.availability else ""
    yield "rating", product.rating
    yield "rating_count", product.rating_count
    yield "image", product.images[0] if product.images else ""
    yield "images", list(product.images)
    yield "url", _address(product.attributes)
    yield "identifiers", {kind: list(values) for kind, values in product.identifiers.items()}
    yield "created", _seconds(product.created)
    yield "updated", _seconds(product.updated)
    yield "expires", _seconds(product.expires)
    yield "language", product.language
    places = [{"lat": each.lat, "lng": each.lng} for each in product.places]
    yield "_geoloc", places[0] if len(places) == 1 else places
    yield "variants", [_variant(each) for each in product.variants]


def _address(attributes: Mapping[str, AttributeValue]) -> str:
    """The URL of the product's page from the feed, unless it could run as a script."""
    for name in ADDRESSES:
        value = attributes.get(name)
        if isinstance(value, str) and value.lower().startswith(_SAFE_BEGINNINGS):
            return value
    return ""


def _variant(variant: Variant) -> Record:
    fields: Record = {"objectID": variant.id, "options": dict(variant.options), "price": variant.price}
    fields |= {"availability": variant.availability, "image": variant.image}
    fields["identifiers"] = {kind: list(values) for kind, values in variant.identifiers.items()}
    return {name: value for name, value in fields.items() if name == "options" or value not in (None, "", {})}


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


class FacetRange(Struct, frozen=True):
    """The range of a numeric facet."""

    min: float
    max: float


class ProtocolResult(Struct, frozen=True, rename="camel", kw_only=True):
    """The common fields of results."""

    processing_time_ms: int = field(name="processingTimeMS")
    ignored_parameters: list[str] | UnsetType = UNSET
    """The parameters of the request that have no effect."""


class HitsResult(ProtocolResult, frozen=True, rename="camel"):
    """A page of records, or a part of all records."""

    hits: list[Record]
    nb_hits: int
    page: int
    nb_pages: int
    hits_per_page: int
    query: str
    params: str


class SearchResult(HitsResult, frozen=True, rename="camel"):
    """Result of one search."""

    index: str
    facets: Mapping[str, Mapping[str, int]]
    facets_stats: Mapping[str, FacetRange] = field(name="facets_stats")
    rendering_content: Mapping[str, Any]
    exhaustive_nb_hits: bool = True
    exhaustive_facets_count: bool = True
    query_id: str | UnsetType = field(default=UNSET, name="queryID")
    """Id to be sent with the events of these hits; only if requested."""
    message: str | UnsetType = UNSET
    """A note on failed stages, on a query that no product fits, or on its correction."""
    nearest: list[Record] | UnsetType = UNSET
    """The nearest other products that pass the filters, if there are no or few hits."""
    sponsored: list[Record] | UnsetType = UNSET
    """Sponsored hits, separate from the hits, if the store has them and the request has clickAnalytics; each record has
    `_sponsored`."""
    user_data: list[Mapping[str, Any]] | UnsetType = UNSET
    """The objects that merchandising rules add."""


class BrowseResult(HitsResult, frozen=True, rename="camel"):
    """A part of all records."""

    cursor: str | UnsetType = UNSET
    """Cursor for the next request; absent after the last record."""


class FacetHit(Struct, frozen=True):
    """A value of a facet that matches the typed words."""

    value: str
    highlighted: str
    count: int


class FacetResult(ProtocolResult, frozen=True, rename="camel"):
    """Result of a search among the values of a facet."""

    facet_hits: list[FacetHit]
    exhaustive_facets_count: bool = True


class RecommendResult(ProtocolResult, frozen=True, rename="camel"):
    """Recommendations of one model."""

    hits: list[dict[str, Any]]
    """Records, or values of a facet."""
    nb_hits: int
    exhaustive_nb_hits: bool = True
    message: str | UnsetType = UNSET
    """A note on what is recommended instead, for lack of data."""
    sponsored: list[Record] | UnsetType = UNSET
    """Sponsored hits shown with similar products, as in a search."""


class BatchResults(Struct, frozen=True):
    """Results of a batch, in the order of its requests."""

    results: Sequence[SearchResult | FacetResult | RecommendResult | Record | None]


class EventsAcknowledgement(Struct, frozen=True):
    """Confirms that events were stored."""

    status: int = 200
    message: str = "OK"


def highlight(record: Record, attributes: Sequence[str], matcher: Matcher, marks: Marks) -> Record:
    """`_highlightResult`: the wanted attributes, each text replaced by its leaf.

    Texts are not escaped: the libraries escape them, and then replace the client's tags with their elements.
    """
    is_all = "*" in attributes
    names = {name.partition(".")[0] for name in attributes}
    selection = {name: value for name, value in record.items() if is_all or name in names}
    return _leaves(selection, lambda text: _highlight(text, matcher, marks))


def snippets(record: Record, attributes: Sequence[str], matcher: Matcher, marks: Marks) -> Record:
    """`_snippetResult`: attributes such as `description:20`, each cut to that many words around the first match."""
    result: Record = {}
    for each in attributes:
        name, _, count = each.rpartition(":") if ":" in each else (each, "", "")
        words = min(int(count), MAX_WORDS) if count.isascii() and count.isdecimal() else _SNIPPET_WORDS
        names = record if name == "*" else (name.partition(".")[0],)
        selection = {name: record[name] for name in names if name in record}
        result |= _leaves(selection, partial(_snippet, words=words, matcher=matcher, marks=marks))
    return result


def _leaves(values: Mapping[str, object], leaf: Callable[[str], Leaf]) -> Record:
    leaves = {name: _of(value, leaf) for name, value in values.items() if name not in ("objectID", "_tags")}
    return {name: value for name, value in leaves.items() if value is not None}


def _of(value: object, leaf: Callable[[str], Leaf]) -> object:
    """The same structure with leaves for texts; None if it contains no text."""
    if isinstance(value, str):
        return leaf(value)
    if isinstance(value, list):
        return [content for each in value if (content := _of(each, leaf)) is not None] or None
    if isinstance(value, dict):
        content = {name: _of(each, leaf) for name, each in value.items()}
        return {name: each for name, each in content.items() if each is not None} or None
    return None


def _highlight(text: str, matcher: Matcher, marks: Marks) -> Leaf:
    matches = list(matcher.matches(text))
    leaf: Leaf = {"value": marked(text, ((each.start, each.end) for each in matches), marks)}
    leaf |= _level(matches, matcher)
    if matches:
        leaf["fullyHighlighted"] = sum(each.end - each.start for each in matches) == len(text.strip())
    return leaf


def _snippet(text: str, words: int, matcher: Matcher, marks: Marks) -> Leaf:
    matches = list(matcher.matches(text))
    start, end = excerpt(text, words, matches[0].start if matches else 0)
    within = [each for each in matches if each.start >= start and each.end <= end]
    value = marked(text, ((each.start, each.end) for each in within), marks, bounds=(start, end))
    return {"value": value, "matchLevel": _level(within, matcher)["matchLevel"]}


def _level(matches: Sequence[Match], matcher: Matcher) -> Leaf:
    words = frozenset[str]().union(*(each.words for each in matches))
    level = "none" if not words else "full" if len(words) == len(matcher.words) else "partial"
    return {"matchLevel": level, "matchedWords": [each for each in matcher.words if each in words]}


def view_record(record: Record, view: RecordView, matcher: Matcher) -> Record:
    """The requested attributes of a record, with highlights and snippets."""
    result = select_attributes(record, view.attributes)
    if view.highlighted:
        result["_highlightResult"] = highlight(record, view.highlighted, matcher, view.marks)
    if view.snippets:
        result["_snippetResult"] = snippets(record, view.snippets, matcher, view.marks)
    return result


@dataclass(frozen=True, slots=True)
class RequestedFacets:
    """The facets of one search, by the names in its request, without those that no product has."""

    attributes: Mapping[str, ProtocolAttribute]
    most: int
    """Maximum number of values of each."""

    @classmethod
    def of(cls, names: Sequence[str], most: int, attributes: AttributeCatalog) -> RequestedFacets:
        """The facets of `names` as sent; "*" stands for the facets that the catalog offers."""
        all_names = [*attributes.offered, *names] if "*" in names else names
        selection = {name: attribute for name in all_names if (attribute := attributes.find(name))}
        return cls(selection, most)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that the engine counts."""
        return tuple(sorted({each.info.name for each in self.attributes.values()}))

    @property
    def values(self) -> int:
        """Number of values to count of each field: more for a category level, as other levels may be more frequent."""
        by_level = any(each.level is not None for each in self.attributes.values())
        return MAX_FACET_VALUES if by_level else self.most

    def counts(self, facets: Mapping[str, Facet]) -> dict[str, dict[str, int]]:
        """The counts of each facet's values, most frequent first, without empty facets."""
        tables = {name: dict(islice(self._pairs(name, facets), self.most)) for name in self.attributes}
        return {name: counts for name, counts in tables.items() if counts}

    def ranges(self, facets: Mapping[str, Facet]) -> dict[str, FacetRange]:
        """The ranges of numeric facets."""
        by_name = {name: facets[each.info.name] for name, each in self.attributes.items() if each.info.name in facets}
        return {
            name: FacetRange(facet.minimum, facet.maximum)
            for name, facet in by_name.items()
            if facet.minimum is not None and facet.maximum is not None
        }

    def hits(self, facets: Mapping[str, Facet], typed: str, most: int, marks: Marks) -> list[FacetHit]:
        """The values of all facets that match the typed words, the last one as a prefix."""
        words = TypedText(typed)
        if words.is_too_long or (typed.strip() and not words.words):
            return []
        pairs = (pair for name in self.attributes for pair in self._pairs(name, facets))
        candidates = (_facet_hit(value, count, words, marks) for value, count in pairs)
        return list(islice((each for each in candidates if each), most))

    def _pairs(self, name: str, facets: Mapping[str, Facet]) -> Iterator[tuple[str, int]]:
        attribute = self.attributes[name]
        counts = facets[attribute.info.name].counts if attribute.info.name in facets else ()
        for each in counts:
            value = value_text(each.value)
            if attribute.has(value):
                yield value, each.count


def _facet_hit(value: str, count: int, typed: TypedText, marks: Marks) -> FacetHit | None:
    spans = typed.spans_in(value) if typed.words else ()
    if spans is None:
        return None
    return FacetHit(value, marked(value, spans, marks), count)


def elapsed_ms(started: float) -> int:
    """Milliseconds since a time of `time.perf_counter`, at least 1."""
    return max(1, round((time.perf_counter() - started) * 1_000))
