"""Routes of the InstantSearch protocol: batches of searches, facet values, records, recommendations and events, which
are translated to those of the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import repeat
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Request, Response
from msgspec import Meta

from shelfwise.retrieval.errors import EventError, QueryError, UnknownProductError
from shelfwise.retrieval.records import Event, EventKind, Page
from shelfwise.retrieval.updates.validation import MAX_ID_BYTES
from shelfwise.service.engine.request import MAX_SIZE
from shelfwise.service.experiments.assignment import MarkedPage, ShopperSearch, answer_search
from shelfwise.service.http.auth import Permit, combine_filters
from shelfwise.service.http.context import Indexes, RequestIndexes, ServiceContext, SharedParts, counted_address
from shelfwise.service.http.limits import check_batch_hits, search_cost
from shelfwise.service.http.schemas import json_response, struct_response
from shelfwise.service.http.telemetry import record_search
from shelfwise.service.instantsearch.access import (
    BODY,
    Contextual,
    Index,
    MayBrowse,
    MayRecordAny,
    MaySearch,
    MaySearchAny,
    ObjectId,
    Payload,
    ProtocolRouter,
    indexes_by_name,
    narrowed,
)
from shelfwise.service.instantsearch.protocol_request import (
    MAX_NAME,
    Hooks,
    JsonObject,
    merge_params,
    names,
    objects,
    parse_search,
    text,
)
from shelfwise.service.instantsearch.protocol_settings import ProtocolStore
from shelfwise.service.instantsearch.recommend import PurchaseStatistics, Recommender
from shelfwise.service.instantsearch.response import (
    BatchResults,
    BrowseResult,
    EventsAcknowledgement,
    FacetResult,
    RecommendResult,
    Record,
    SearchResult,
)
from shelfwise.service.instantsearch.search_batch import SearchBatch, hit_window, parse_cursor

_MAX_SEARCHES = 50
_MAX_OBJECTS = 1_000
_MAX_EVENTS = 1_000
_WIDGETS_VIEW = "Hits Viewed"
"""Name of the views that the libraries send automatically; the search already recorded their impressions."""
_TELEMETRY = "instantsearch"
_EVENT_TYPES = ("click", "view", "conversion")
T = TypeVar("T", SearchResult | FacetResult, RecommendResult)
A = TypeVar("A")

router = ProtocolRouter()


def _is_private(request: Request) -> bool:
    return request.headers.get("sec-gpc") == "1"


def _hooks(context: ServiceContext, request: Request, permit: Permit, index: str = "") -> Hooks:
    """The hooks of a request with this permit, on the index or a replica of it."""
    is_private = _is_private(request)
    permit = narrowed(context, permit)
    running = context.engine.experiments.running()
    explores = context.engine.settings.ranker.exploration > 0

    def record_impressions(query_id: str, text: str, page: Page, shopper: str) -> None:
        if not is_private:
            context.impressions.record_page(query_id, text, page, shopper=shopper, address=counted_address(permit))

    def run_experiments(search: ShopperSearch) -> MarkedPage:
        return answer_search(context.engine, running, search)

    return Hooks(
        narrow=lambda filters: combine_filters((*permit.filters, filters)),
        suggest=lambda typed, size: context.suggest(permit, typed, size),
        on_page=record_search,
        run_experiments=run_experiments if (running.documents or explores) and not is_private else None,
        record_impressions=record_impressions,
        show=partial(context.shown, permit),
        settings=context.companion(ProtocolStore).settings.of(index),
        hidden=context.hidden_from(permit),
        forced=permit.parameters or {},
    )


def _batch_of(request: Request, permit: Permit, context: ServiceContext, index: str) -> SearchBatch:
    return SearchBatch(context.engine, _hooks(context, request, permit, index))


def _of_indexes(
    indexes: RequestIndexes, permit: Permit, requests: Sequence[JsonObject], make: Callable[[ServiceContext, str], A]
) -> Sequence[tuple[A, JsonObject]]:
    """Each request of a batch with a value created for its index or replica, once for each."""
    names_sent = (text(each, "indexName", most=MAX_NAME) for each in requests)
    contexts = indexes_by_name(indexes, permit, names_sent)
    views = {
        name: (context.name, context.companion(ProtocolStore).settings.view(name)) for name, context in contexts.items()
    }
    values = {view: make(contexts[name], view[1]) for name, view in views.items()}
    return [(values[views[text(each, "indexName")]], each) for each in requests]


@router.post(
    "/indexes/*/queries",
    summary="Several searches",
    responses={200: struct_response(SearchResult, FacetResult, is_batch=True)},
    openapi_extra=BODY,
)
async def queries(indexes: Indexes, permit: MaySearchAny, request: Request, payload: Payload) -> Response:
    """Results of searches, each on its `indexName`, and of searches among facet values, in order; at most 5,000 hits
    together."""
    requests = objects(payload, "requests", _MAX_SEARCHES)
    _charge(indexes.shared, permit, *requests)
    pairs = _of_indexes(indexes, permit, requests, partial(_batch_of, request, permit))
    return await _run_all(indexes.shared, (partial(batch.answer, each) for batch, each in pairs))


@router.post(
    "/indexes/*/recommendations",
    summary="Several recommendations",
    responses={200: struct_response(RecommendResult, is_batch=True)},
    openapi_extra=BODY,
)
async def recommendations(indexes: Indexes, permit: MaySearchAny, request: Request, payload: Payload) -> Response:
    """Products similar to a product, bought with it, or recently popular; popular values of a facet."""

    def recommender(context: ServiceContext, _index: str) -> Recommender:
        hooks = _hooks(context, request, permit)
        return Recommender(context.engine, hooks, context.companion(PurchaseStatistics))

    requests = objects(payload, "requests", _MAX_SEARCHES)
    indexes.shared.charge(permit, sum(map(_recommendation_cost, requests)))
    pairs = _of_indexes(indexes, permit, requests, recommender)
    return await _run_all(indexes.shared, (partial(each.answer, one) for each, one in pairs))


@router.post(
    "/indexes/*/objects",
    summary="Several records",
    responses={200: struct_response(Record | None, is_batch=True)},
    openapi_extra=BODY,
)
def records(indexes: Indexes, permit: MaySearchAny, request: Request, payload: Payload) -> BatchResults:
    """Records by their ids, each from its `indexName`; null for an unknown id."""
    requests = objects(payload, "requests", _MAX_OBJECTS)
    indexes.shared.charge(permit, search_cost(hits=len(requests)))
    pairs = _of_indexes(indexes, permit, requests, partial(_batch_of, request, permit))
    return BatchResults([_record_or_none(batch, each) for batch, each in pairs])


@router.post("/indexes/{index}/query", summary="One search", openapi_extra=BODY)
def query(context: Contextual, permit: MaySearch, request: Request, payload: Payload, index: Index) -> SearchResult:
    """A page of records, with facet counts."""
    _charge(context.shared, permit, payload)
    return _batch_of(request, permit, context, index).search(payload, index)


@router.post("/indexes/{index}/browse", summary="All records", openapi_extra=BODY)
def browse(context: Contextual, permit: MayBrowse, request: Request, payload: Payload, index: Index) -> BrowseResult:
    """Up to 1,000 of the records that pass the filters, and a cursor for the next ones."""
    search = parse_search({"hitsPerPage": MAX_SIZE, **parse_cursor(payload).parameters})
    context.shared.charge(permit, search_cost(hits=search.size, characters=search.characters))
    return _batch_of(request, permit, context, index).browse(payload)


@router.post("/indexes/{index}/facets/{facet}/query", summary="Values of a facet", openapi_extra=BODY)
def facet_query(
    context: Contextual, permit: MaySearch, request: Request, payload: Payload, index: Index, facet: str
) -> FacetResult:
    """The values of a facet that match the typed words."""
    _charge(context.shared, permit, payload)
    return _batch_of(request, permit, context, index).facet_search(payload, facet)


@router.get("/indexes/{index}/{object_id:path}", summary="One record")
def record(context: Contextual, permit: MaySearch, request: Request, index: Index, object_id: ObjectId) -> Record:
    """The attributes of a product, or those that `attributesToRetrieve` names."""
    batch = _batch_of(request, permit, context, index)
    return batch.record(object_id, names(dict(request.query_params), "attributesToRetrieve", ("*",)))


@router.post(
    "/events",
    summary="Record events of shoppers",
    responses={200: struct_response(EventsAcknowledgement)},
    openapi_extra=BODY,
)
async def events(indexes: Indexes, permit: MayRecordAny, request: Request, payload: Payload) -> Response:
    """Stores all events of an index or none; they are durable when the response is sent."""
    groups: dict[str, list[JsonObject]] = {}
    token = (permit.parameters or {}).get("userToken")
    tokens = {"userToken": token, "authenticatedUserToken": None} if token else {}
    for each in objects(payload, "events", _MAX_EVENTS):
        groups.setdefault(text(each, "index", most=MAX_NAME), []).append({**each, **tokens})
    contexts = indexes_by_name(indexes, permit, groups)
    batches = [
        (contexts[name], parse_events(group, is_private=_is_private(request), is_public=permit.is_public))
        for name, group in groups.items()
    ]
    for context, batch in batches:
        if batch:
            await indexes.shared.threads.run(partial(context.record, narrowed(context, permit), batch))
    return json_response(EventsAcknowledgement())


Token = Annotated[str, Meta(max_length=MAX_ID_BYTES)] | int
"""An id of a query or a shopper, which may be a customer number."""


class ObjectData(msgspec.Struct, frozen=True):
    """The part of an event about one of its products."""

    query_id: Token | None = msgspec.field(name="queryID", default=None)
    quantity: Any = None
    """Counts if it is a whole number."""


class ProtocolEvent(msgspec.Struct, frozen=True, rename="camel"):
    """An event as the libraries send it. Of `positions` and `object_data`, each has one entry for each product."""

    event_type: str
    event_subtype: str | None = None
    event_name: Any = None
    object_ids: Annotated[tuple[str, ...], Meta(max_length=100)] | None = msgspec.field(name="objectIDs", default=None)
    object_data: tuple[ObjectData, ...] | None = None
    positions: tuple[int, ...] | None = None
    query_id: Token | None = msgspec.field(name="queryID", default=None)
    user_token: Token | None = None
    authenticated_user_token: Token | None = None
    timestamp: float | None = None
    """Milliseconds since 1970."""

    @property
    def is_viewed_list(self) -> bool:
        """Whether it is the view of a list whose impressions the search has recorded."""
        is_list = len(self.object_ids or ()) != 1 or self.event_name == _WIDGETS_VIEW
        return self.event_type == "view" and not self.query_id and is_list

    @property
    def time(self) -> datetime | None:
        """The time of `timestamp`; raises EventError."""
        if self.timestamp is None:
            return None
        try:
            return datetime.fromtimestamp(self.timestamp / 1_000, UTC)
        except (OverflowError, OSError, ValueError):
            message = f"{self.timestamp:g} is not a time in milliseconds since 1970"
            raise EventError("bad timestamp", message) from None

    def kind(self, query_id: str) -> EventKind:
        """The kind of the event in the store; a conversion without a subtype is a cart."""
        if self.event_type == "conversion":
            return EventKind.PURCHASE if self.event_subtype == "purchase" else EventKind.CART
        if self.event_type == "click":
            return EventKind.CLICK
        return EventKind.IMPRESSION if query_id else EventKind.CONSULTATION


def parse_events(payloads: Iterable[JsonObject], *, is_private: bool, is_public: bool) -> list[Event]:
    """The store's events of those of a request; raises EventError for an invalid one.

    Events of filters, of lists that were only viewed, and of the libraries themselves are ignored; of a public sender
    also impressions, since the search has recorded them. Private events are stored without shopper and session.
    """
    events = [event for each in payloads if each.get("eventType") != _TELEMETRY for event in _parse_event(each)]
    if is_public:
        events = [each for each in events if each.kind is not EventKind.IMPRESSION]
    if not is_private:
        return events
    return [replace(event, shopper="", session="") for event in events if event.query_id]


def _parse_event(payload: JsonObject) -> Iterator[Event]:
    """One event for each product."""
    try:
        event = msgspec.convert(payload, ProtocolEvent)
    except msgspec.ValidationError as error:
        raise EventError("invalid event", str(error)) from None
    if event.event_type not in _EVENT_TYPES:
        message = f"eventType is {event.event_type[:40]!r}, it can be {', '.join(_EVENT_TYPES)}"
        raise EventError("unknown event type", message)
    products = event.object_ids or ()
    if event.is_viewed_list:
        return
    for name, values in (("positions", event.positions), ("objectData", event.object_data)):
        if products and values is not None and len(values) != len(products):
            raise EventError(f"bad {name}", f"{name} must have one entry for each of objectIDs")
    parts = zip(products, event.positions or repeat(None), event.object_data or repeat(ObjectData()), strict=False)
    for product_id, position, data in parts:
        query_id = _first_id(data.query_id, event.query_id)
        yield Event(
            event.kind(query_id),
            product_id,
            query_id=query_id,
            shopper=_first_id(event.authenticated_user_token, event.user_token),
            position=position,
            time=event.time,
            quantity=data.quantity if event.event_type == "conversion" and type(data.quantity) is int else None,
        )


def _first_id(*tokens: Token | None) -> str:
    """The first id that is given, as a text; else an empty one."""
    return next((str(each) for each in tokens if each not in (None, "")), "")


def _charge(shared: SharedParts, permit: Permit, *payloads: JsonObject) -> None:
    """Charges the cost of searches; raises RequestError above a limit, and QueryError for an invalid search."""
    searches = [parse_search(merge_params(each)) for each in payloads]
    check_batch_hits(sum(each.size for each in searches), "hitsPerPage")
    windows = ((each, hit_window(each)) for each in searches)
    costs = (
        search_cost(hits=window.size, page=window.page, facets=len(each.facets), characters=each.characters)
        for each, window in windows
    )
    shared.charge(permit, sum(costs))


def _recommendation_cost(payload: JsonObject) -> int:
    more = payload.get("queryParameters")
    return search_cost(hits=0, characters=parse_search(more).characters if isinstance(more, dict) else 0)


async def _run_all(shared: SharedParts, works: Iterable[Callable[[], T]]) -> Response:
    """The results of all requests of a batch, in order."""
    results = await shared.threads.run_all(works)
    return await shared.threads.run(lambda: json_response(BatchResults(results)))


def _record_or_none(batch: SearchBatch, payload: JsonObject) -> Record | None:
    product_id = text(payload, "objectID")
    if not product_id:
        raise QueryError("each entry of requests needs an objectID")
    try:
        return batch.record(product_id, names(payload, "attributesToRetrieve", ("*",)))
    except UnknownProductError:
        return None
