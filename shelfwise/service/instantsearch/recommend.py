"""Recommendations of the protocol: similar products, products bought together, trending products and facet values.

A score is 100 times the evidence: for related products, the cosine of the two products' vectors with co-views added;
for products bought together, the cosine over shoppers; for trending ones, a share of the highest popularity. With too
few shoppers, a message says what is recommended instead.
"""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
from msgspec import UNSET, UnsetType

from shelfwise.rerank.sessions.tables import DERIVED, open_derived
from shelfwise.retrieval.errors import QueryError, StoreMissingError, UnknownProductError
from shelfwise.retrieval.filters.ast import And, Filter, In, format_filter
from shelfwise.retrieval.records import Product, RelatedHit, RelationEvidence, RelationKind, SponsoredHit
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.retrieval.text.highlight import Matcher
from shelfwise.service.curation.relations import removed_from
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.related import GOES_WITH, RELATED_KINDS
from shelfwise.service.events.event_log import DERIVED_FOLDER
from shelfwise.service.events.hot_reload import ReloadedFile, follow_popularity
from shelfwise.service.instantsearch.filters import AttributeCatalog, FilterTranslator
from shelfwise.service.instantsearch.protocol_request import (
    Hooks,
    JsonObject,
    ProtocolSearch,
    count_ignored,
    integer,
    names,
    number,
    parse_search,
    text,
)
from shelfwise.service.instantsearch.response import (
    RecommendResult,
    Record,
    elapsed_ms,
    product_record,
    sponsored_mark,
    view_record,
)

MODELS = ("related-products", "looking-similar", "bought-together", "trending-items", "trending-facets")
_DEFAULT = 30
_MAX_HITS = 100
_CANDIDATES = 200
"""Number of popular or co-purchased products to which filters are applied."""
_MAX_CHARACTERS = 5_000
"""Maximum length of the ids in one filter."""


@dataclass(frozen=True, slots=True)
class _RecommendRequest:
    """The parameters of one request."""

    model: str
    product_id: str
    facet: str
    size: int
    threshold: float
    parameters: ProtocolSearch
    filters: Filter | None
    ignored: list[str] | UnsetType
    language: str = ""
    """Language of the page: the first of `queryLanguages`, for trending products."""


@dataclass(frozen=True, slots=True)
class _ScoredProducts:
    """Products with their scores, best first, and a message about them."""

    products: list[tuple[Product, float]]
    message: str = ""
    sponsored: tuple[SponsoredHit, ...] = ()


class Recommender:
    """Runs the recommendations of one request. Threads may share it."""

    def __init__(self, engine: SearchEngine, hooks: Hooks, statistics: PurchaseStatistics) -> None:
        self._engine = engine
        self._hooks = hooks
        self._statistics = statistics
        self._filters = FilterTranslator(AttributeCatalog(engine.visible(hooks.narrow("")).fields))
        self._matcher = Matcher(engine.snapshot.analyzer, "")

    def answer(self, payload: JsonObject) -> RecommendResult:
        """The result of one request; raises InputError for an invalid one."""
        started = time.perf_counter()
        request = self._parse(payload)
        sponsored: tuple[SponsoredHit, ...] = ()
        match request.model:
            case "trending-facets":
                hits, message = self._trending_values(request)
            case _:
                selection = self._products(request)
                hits = [
                    self._view(product, request) | {"_score": round(100 * min(max(0.0, score), 1.0), 2)}
                    for product, score in selection.products
                ]
                message = selection.message
                sponsored = selection.sponsored
        records = [hit for hit in hits if hit["_score"] >= request.threshold][: request.size]
        return RecommendResult(
            records,
            len(records),
            message=message or UNSET,
            sponsored=self._sponsored(sponsored, request) or UNSET,
            processing_time_ms=elapsed_ms(started),
            ignored_parameters=request.ignored,
        )

    def _sponsored(self, hits: Sequence[SponsoredHit], request: _RecommendRequest) -> list[Record]:
        """The records of sponsored hits, each with the id for charging a click on it."""
        query_ids = self._engine.campaigns.issue(uuid.uuid4().hex, hits)
        return [
            self._view(hit.product, request) | {"_sponsored": sponsored_mark(hit, query_id)}
            for hit, query_id in zip(hits, query_ids, strict=True)
        ]

    def _parse(self, payload: JsonObject) -> _RecommendRequest:
        model = text(payload, "model")
        if model not in MODELS:
            raise QueryError(f"model is {model[:40]!r}, it can be {', '.join(MODELS)}")
        facet = text(payload, "facetName")
        value = text(payload, "facetValue")
        more = {} if payload.get("queryParameters") is None else payload["queryParameters"]
        if not isinstance(more, dict):
            raise QueryError("queryParameters must be an object")
        parameters = parse_search({**more, **self._hooks.forced})
        language = ""
        if model == "trending-items":
            language = next(iter(names(more, "queryLanguages")), "")[:2]
            more = {name: value for name, value in more.items() if name != "queryLanguages"}
        trees = [self._filters.tree(parameters.refinements)]
        if model == "trending-items" and facet and value:
            trees.append(self._filters.equal(facet, value))
        return _RecommendRequest(
            model,
            text(payload, "objectID"),
            facet,
            integer(payload, "maxRecommendations", 0, 0, _MAX_HITS) or _DEFAULT,
            number(payload, "threshold", 0.0, 0.0, 100.0),
            parameters,
            _all(trees),
            count_ignored({**more, "fallbackParameters": payload.get("fallbackParameters") or None}),
            language,
        )

    def _products(self, request: _RecommendRequest) -> _ScoredProducts:
        if request.model == "trending-items":
            return self._trending(request, request.size)
        try:
            self._engine.product(request.product_id, filters=self._hooks.narrow(""))
        except UnknownProductError:
            return _ScoredProducts([], f"there is no product with the id {request.product_id!r}")
        if request.model == "looking-similar":
            return self._similar(request)
        if request.model == "related-products":
            return self._corrected(self._similar(request), request, RelationKind.SUBSTITUTE)
        together = self._statistics.bought_with(request.product_id, _CANDIDATES)
        pairs = self._filter_scored(together, request)
        if pairs:
            return self._corrected(_ScoredProducts(pairs), request, GOES_WITH)
        few = "too few shoppers bought it with other products"
        where = self._narrowed(request.filters)
        page = self._engine.relations.of(request.product_id, size=request.size, filters=where)
        if page.hits:
            message = f"{few}: these go with it by type or text"
            return _ScoredProducts([(hit.product, hit.score) for hit in page.hits], message)
        return replace(self._similar(request), message=f"{few}: these are similar products")

    def _corrected(self, selection: _ScoredProducts, request: _RecommendRequest, kind: str) -> _ScoredProducts:
        """The products, first those that the store manually relates to this one, without those that it unrelates."""
        name, kinds = request.product_id, RELATED_KINDS[kind]
        corrections = [each for each in self._engine.relations.of_product(name) if each.kind in kinds]
        if not corrections:
            return selection
        page = self._engine.relations.of(name, kind=kind, size=_MAX_HITS, filters=self._narrowed(request.filters))
        related = [(hit, hit.relation) for hit in page.hits if isinstance(hit, RelatedHit)]
        owner_hits = [hit for hit, relation in related if relation and relation.evidence is RelationEvidence.OWNER]
        left_out = removed_from(name, corrections) | {hit.product.id for hit in owner_hits}
        others = [each for each in selection.products if each[0].id not in left_out]
        return replace(selection, products=[*((hit.product, hit.score) for hit in owner_hits), *others])

    def _similar(self, request: _RecommendRequest) -> _ScoredProducts:
        # Visual similarity depends on the products alone, not on co-views: on their pictures, if they have some.
        by_coviews = request.model != "looking-similar"
        where = self._narrowed(request.filters)
        if not by_coviews and self._engine.snapshot.pictures is not None:
            page = self._engine.similar(request.product_id, size=request.size, filters=where, by="looks")
            if page.hits:
                return _ScoredProducts([(hit.product, hit.score) for hit in page.hits])
        wants = request.parameters.wants_query_id
        size = request.size + (len(self._engine.relations.of_product(request.product_id)) if by_coviews else 0)
        page = self._engine.similar(request.product_id, size=size, filters=where, coviews=by_coviews, sponsored=wants)
        return _ScoredProducts([(hit.product, hit.score) for hit in page.hits], sponsored=page.sponsored)

    def _trending(self, request: _RecommendRequest, size: int) -> _ScoredProducts:
        """Trending products, first those in the language of the page or without one."""
        if not request.language:
            return self._popular(request, size)
        selection = self._popular(request, _CANDIDATES)
        own = [each for each in selection.products if each[0].language in ("", request.language)]
        others = [each for each in selection.products if each[0].language not in ("", request.language)]
        return replace(selection, products=[*own, *others][:size])

    def _popular(self, request: _RecommendRequest, size: int) -> _ScoredProducts:
        popular = self._statistics.popularity()
        best = sorted(popular.items(), key=lambda each: (-each[1], each[0]))[:_CANDIDATES]
        pairs = self._filter_scored(dict(best), request)
        if pairs:
            return _ScoredProducts(pairs)
        page = self._engine.search("", size=size, filters=self._narrowed(request.filters))
        message = "there is no popularity data: these are the first products of the store"
        return _ScoredProducts([(hit.product, 0.0) for hit in page.hits], message)

    def _filter_scored(self, scores: Mapping[str, float], request: _RecommendRequest) -> list[tuple[Product, float]]:
        """The scored products that pass the filters and the store's rules, best first."""
        ids = tuple(_fitting_ids(scores, _MAX_CHARACTERS))
        if not ids:
            return []
        tree = _all([In("id", ids), request.filters])
        page = self._engine.search("", size=len(ids), filters=self._narrowed(tree))
        pairs = [(hit.product, scores[hit.product.id]) for hit in page.hits if hit.product.id in scores]
        return sorted(pairs, key=lambda each: -each[1])

    def _trending_values(self, request: _RecommendRequest) -> tuple[list[Record], str]:
        if not request.facet:
            raise QueryError("trending-facets needs a facetName, such as 'brand'")
        selection = self._trending(replace(request, size=_MAX_HITS), _MAX_HITS)
        worth: defaultdict[str, float] = defaultdict(float)
        for product, score in selection.products:
            for value in _values(product_record(self._hooks.show(product)), request.facet):
                worth[value] += score or 1.0
        highest = max(worth.values(), default=1.0)
        ranking = sorted(worth.items(), key=lambda each: (-each[1], each[0]))
        share = 0 if selection.message else 100
        return [
            {"facetName": request.facet, "facetValue": value, "_score": round(share * each / highest, 2)}
            for value, each in ranking
        ], selection.message

    def _view(self, product: Product, request: _RecommendRequest) -> Record:
        return view_record(product_record(self._hooks.show(product)), request.parameters.view, self._matcher)

    def _narrowed(self, tree: Filter | None) -> str:
        return self._hooks.narrow("" if tree is None else format_filter(tree))


def _all(trees: Iterable[Filter | None]) -> Filter | None:
    parts = [tree for tree in trees if tree is not None]
    return None if not parts else parts[0] if len(parts) == 1 else And(tuple(parts))


def _fitting_ids(ids: Iterable[str], room: int) -> Iterator[str]:
    """The first ids that fit into a filter."""
    for each in ids:
        room -= 2 * len(each) + 4
        if room < 0:
            return
        yield each


def _values(record: Record, name: str) -> Iterator[str]:
    """The texts of an attribute such as `brand` or `hierarchicalCategories.lvl0`."""
    value: object = record
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, str):
            yield each


_NO_NEIGHBOURS = pl.DataFrame(
    schema={"product_id": pl.String(), "neighbour_id": pl.String(), "similarity": pl.Float32()}
)


class PurchaseStatistics:
    """Popularity and co-purchases from the derived tables, reloaded when they change. Thread-safe."""

    def __init__(self, root: Path) -> None:
        folder = root / EVENTS_FOLDER / DERIVED_FOLDER
        self._popularity = follow_popularity(root)
        failure = "products bought together are not known"
        self._bought = ReloadedFile(folder / DERIVED, lambda _: _read_bought(folder), _NO_NEIGHBOURS, failure)

    @property
    def notices(self) -> tuple[str, ...]:
        """The reason why products bought together are not known; for popularity, the engine has a notice."""
        self._bought.reload_if_changed()
        return self._bought.notices

    def popularity(self) -> Mapping[str, float]:
        """Popularity of products, as a share of the highest."""
        return self._popularity.current().shares

    def bought_with(self, product_id: str, most: int) -> dict[str, float]:
        """Products that the same shoppers bought, with the cosine over shoppers, nearest first; none without tables."""
        neighbours = self._bought.current().filter(pl.col("product_id") == product_id).head(most)
        return dict(zip(neighbours["neighbour_id"].to_list(), neighbours["similarity"].to_list(), strict=True))


def _read_bought(folder: Path) -> pl.DataFrame:
    try:
        tables = open_derived(folder)
    except StoreMissingError:
        return _NO_NEIGHBOURS
    bought = tables.neighbours.filter(pl.col("kind") == "purchase").sort("product_id", "rank")
    return bought.select(_NO_NEIGHBOURS.columns)
