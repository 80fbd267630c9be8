"""Searches of one request of the protocol, in parallel threads that share equal pages."""

from __future__ import annotations

import base64
import json
import math
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Unpack
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET, Struct, structs

from shelfwise.retrieval.errors import QueryError, UnknownFieldError, UnknownProductError
from shelfwise.retrieval.index.grouping import VARIANTS
from shelfwise.retrieval.records import Hit, Page
from shelfwise.retrieval.single_flight import SingleFlight
from shelfwise.retrieval.text.highlight import Matcher, marked
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.request import (
    FACET_VALUES,
    MAX_DEPTH,
    MAX_FACET_VALUES,
    MAX_SIZE,
    MAX_SORT_KEYS,
    SearchOptions,
    SearchRequest,
)
from shelfwise.service.engine.suggest import MAX_SUGGESTIONS, Suggestions
from shelfwise.service.experiments.assignment import ShopperSearch
from shelfwise.service.instantsearch.filters import AttributeCatalog, FilterTranslator
from shelfwise.service.instantsearch.protocol_request import (
    COUNTING,
    MAX_NAME,
    Hooks,
    JsonObject,
    ProtocolSearch,
    count_ignored,
    integer,
    is_suggestions_index,
    merge_params,
    names,
    parse_search,
    parse_sort,
    text,
)
from shelfwise.service.instantsearch.response import (
    BrowseResult,
    FacetResult,
    Record,
    RequestedFacets,
    SearchResult,
    elapsed_ms,
    product_record,
    select_attributes,
    sponsored_mark,
    view_record,
)

MAX_FACET_HITS = 100
_MAX_CURSOR = 100_000
_BROWSED = 1_000
"""Default number of records of a browse request."""
_WHOLE_RECORDS: JsonObject = {
    "attributesToHighlight": [],
    "attributesToSnippet": [],
    "distinct": False,
    "enableRules": False,
    "getRankingInfo": False,
    "optionalFilters": [],
}
"""Parameters of each browse request."""
_CHOICES = 3
"""Number of facets that are moved to the front of their order."""
_NO_FACETS = RequestedFacets({}, 1)


@dataclass(frozen=True, slots=True)
class HitWindow:
    """A range of hits as a page of the engine."""

    page: int
    size: int
    skipped: int = 0
    """Number of hits of that page before the first wanted one."""


class BrowseCursor(Struct, frozen=True):
    """The position at which a browse request continues. Clients receive it as text and could change it, so it cannot
    reveal more than the client's key may see."""

    parameters: JsonObject
    after: str = ""
    """Id of the last record that was sent."""
    page: int = 0

    @property
    def text(self) -> str:
        """The cursor in the form that clients receive."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode()


def parse_cursor(payload: JsonObject) -> BrowseCursor:
    """The position of a browse request, the beginning if it has no cursor; raises QueryError."""
    payload = merge_params(payload)
    cursor = text(payload, "cursor", most=_MAX_CURSOR)
    if not cursor:
        return BrowseCursor({name: value for name, value in payload.items() if name != "cursor"})
    try:
        return msgspec.json.decode(base64.b64decode(cursor, altchars=b"-_", validate=True), type=BrowseCursor)
    except (ValueError, msgspec.MsgspecError):
        raise QueryError("cursor was not issued by this service; start without one") from None


class SearchBatch:
    """Runs the searches of one request; equal ones run once. Threads may share it."""

    def __init__(self, engine: SearchEngine, hooks: Hooks) -> None:
        self._engine = engine
        self._hooks = hooks
        self._fields = engine.visible(hooks.narrow("")).fields
        self._settings = hooks.settings
        self._attributes = AttributeCatalog(self._fields, self._settings.facets, hooks.hidden)
        self._filters = FilterTranslator(self._attributes)
        self._pages: SingleFlight[SearchRequest, Page] = SingleFlight()
        self._matchers: dict[str, Matcher] = {}

    def answer(self, payload: JsonObject) -> SearchResult | FacetResult:
        """The result of one request; raises InputError for an invalid one."""
        if text(payload, "type", "default") == "facet":
            return self.facet_search(payload, text(payload, "facet"))
        return self.search(payload, text(payload, "indexName", most=MAX_NAME))

    def search(self, payload: JsonObject, index: str) -> SearchResult:
        """A page of records, with facet counts."""
        started = time.perf_counter()
        payload = {**merge_params(payload), **self._hooks.forced}
        search = parse_search({**self._settings.defaults, **payload})
        if is_suggestions_index(index):
            hits = suggestion_records(self._hooks.suggest, search)
            return _result(payload, index, search, Page((), len(hits), 1, len(hits)), hits, _NO_FACETS, started)
        facets = RequestedFacets.of(search.facets, search.most_values, self._attributes)
        window = hit_window(search)
        sort, ties = self._orders(index, search)
        request = self._request(
            search,
            facets,
            size=window.size,
            page=window.page,
            sort=sort,
            tie_break=ties,
            optional_filters=self._filters.optional(search.optional),
        )
        page, query_id = self._find_page(request, search)
        if window.skipped:
            # The window begins where a page with as many hits would end.
            starts = [at for at, hit in enumerate(page.hits) if hit.group_rank == 1][window.skipped :]
            window_hits = page.hits[starts[0] :] if starts else ()
            page = replace(page, hits=window_hits, page=2, size=window.skipped)
        records = self._records(page.hits, page, search)
        if search.wants_query_id and search.is_recorded and search.shopper and request.size:
            self._hooks.record_impressions(query_id, search.query, page, search.shopper)
        return structs.replace(
            _result(payload, index, search, page, records, facets, started),
            nearest=self._records(page.nearest, page, search) or UNSET,
            sponsored=self._sponsored(page, query_id, search) or UNSET,
            query_id=query_id if search.wants_query_id else UNSET,
        )

    def facet_search(self, payload: JsonObject, facet: str) -> FacetResult:
        """The values of a facet that match the typed words, counted over the hits of a search."""
        started = time.perf_counter()
        payload = {**merge_params(payload), **self._hooks.forced}
        typed = text(payload, "facetQuery", most=MAX_NAME)
        most = integer(payload, "maxFacetHits", 10, 1, MAX_FACET_HITS)
        search = parse_search({**self._settings.defaults, **payload})
        facets = RequestedFacets.of((facet,), MAX_FACET_VALUES, self._attributes)
        request = self._request(search, facets, size=0)
        hits = facets.hits(self._page(request).facets, typed, most, search.view.marks)
        return FacetResult(hits, processing_time_ms=elapsed_ms(started), ignored_parameters=count_ignored(payload))

    def record(self, product_id: str, attributes: tuple[str, ...]) -> Record:
        """One record; raises UnknownProductError if it does not exist or is not visible to the key."""
        product = self._engine.product(product_id, filters=self._hooks.narrow(""))
        attributes = names(self._hooks.forced, "attributesToRetrieve", attributes)
        return select_attributes(product_record(self._hooks.show(product)), attributes)

    def browse(self, payload: JsonObject) -> BrowseResult:
        """A part of all records that pass the filters, ordered by id, and a cursor for the next ones; with a query, its
        hits by pages."""
        started = time.perf_counter()
        cursor = parse_cursor(payload)
        parameters = {**cursor.parameters, **_WHOLE_RECORDS}
        search = parse_search({"hitsPerPage": _BROWSED, **parameters})
        if not search.size:
            raise QueryError(f"hitsPerPage is 0, it can be 1 to {MAX_SIZE}")
        if search.query:
            result = self.search({**parameters, "hitsPerPage": search.size, "page": cursor.page}, "")
            hits = result.hits
            total = result.nb_hits
            last = ""
            has_more = cursor.page + 1 < result.nb_pages
        else:
            matching = self._engine.ids(filters=self._filter_expression(search), after=cursor.after)
            ids = list(islice(matching.rest, search.size))
            hits = [record for each in ids if (record := self._browsed_record(each, search.view.attributes))]
            total = matching.total
            last = ids[-1] if ids else ""
            has_more = next(matching.rest, None) is not None
        rest = BrowseCursor(cursor.parameters, last, cursor.page + 1)
        return BrowseResult(
            hits,
            total,
            cursor.page,
            math.ceil(total / search.size),
            search.size,
            search.query,
            _encode_parameters(cursor.parameters),
            rest.text if has_more else UNSET,
            processing_time_ms=elapsed_ms(started),
            ignored_parameters=count_ignored(cursor.parameters),
        )

    def _browsed_record(self, product_id: str, attributes: tuple[str, ...]) -> Record | None:
        """A record; None if it was deleted meanwhile."""
        try:
            product = self._engine.product(product_id)
        except UnknownProductError:
            return None
        return select_attributes(product_record(self._hooks.show(product)), attributes)

    def _request(
        self, search: ProtocolSearch, counts: RequestedFacets, **options: Unpack[SearchOptions]
    ) -> SearchRequest:
        """A request in the merged order, if only counts are wanted or the order names a field."""
        is_ranked = options.get("size") and not options.get("sort")
        values: SearchOptions = {
            "filters": self._filter_expression(search),
            "visible": self._hooks.narrow(""),
            "facets": counts.fields,
            "facet_values": counts.values,
            "search_fields": tuple(dict.fromkeys(map(self._attributes.searched, search.searched))),
            "group": (group := self._group(search)),
            "per_group": search.per_group if group else 1,
            "prefix": search.is_prefix,
            "advanced_syntax": search.has_operators,
            "correct": search.may_correct,
            "rules": search.has_rules,
            "contexts": search.contexts,
            "choices": _CHOICES if is_ranked and len(counts.attributes) > 1 else 0,
            "stage": "ranked" if is_ranked else "merged",
            "reasons": "auto" if search.has_ranking else "",
            "sponsored": bool(is_ranked and search.wants_query_id and search.offset is None),
        }
        values.update(options)
        return SearchRequest(search.query, **values)

    def _orders(self, index: str, search: ProtocolSearch) -> tuple[str, str]:
        """The sort order of a search, and the order of equally relevant hits."""
        before, ties = map(self._sort_keys, self._settings.orders)
        try:
            by_name = parse_sort(index, self._fields)
        except UnknownFieldError:
            if not self._settings.primary:
                raise
            by_name = ""
        by_place = search.around.sort if search.around else ""
        sort = before or [each for each in (by_name or by_place,) if each]
        if by_place and not (before or by_name or ties):
            ties = ["-rating_count"]  # at one place, the best known first
        keys = ",".join([*sort, *ties][:MAX_SORT_KEYS])
        return (keys, "") if sort else ("", keys)

    def _sort_keys(self, entries: Iterable[str]) -> list[str]:
        """The sort keys of entries such as `asc(price)`, without those of attributes that no product has as numbers."""
        pairs = (each.removesuffix(")").split("(", 1) for each in entries)
        keys = ((order, self._attributes.find(name)) for order, name in pairs if "," not in name)
        signs = {"asc": "", "desc": "-"}
        return [signs[order] + each.info.name for order, each in keys if each and each.info.is_numeric]

    def _group(self, search: ProtocolSearch) -> str:
        """The grouping of a request; none by an attribute that no product has."""
        if not search.distinct:
            return "" if search.distinct is None else VARIANTS
        attribute = self._attributes.find(search.distinct)
        return attribute.info.name if attribute else ""

    def _filter_expression(self, search: ProtocolSearch) -> str:
        return self._hooks.narrow(self._filters.expression(search.refinements))

    def _records(self, hits: Iterable[Hit], page: Page, search: ProtocolSearch) -> list[Record]:
        query = page.suggestion if page.corrected else page.completion or search.query
        matcher = self._matchers.setdefault(query, Matcher(self._engine.snapshot.analyzer, query))
        records = []
        for hit in hits:
            record = view_record(product_record(self._hooks.show(hit.product)), search.view, matcher)
            groups = {
                "_distinctSeqID": hit.group_rank - 1,
                "_groupSize": hit.group_size,
                "_siblings": list(hit.siblings),
            }
            if search.has_ranking:
                stages = {name: {"rank": each.rank, "score": each.score} for name, each in hit.stages.items()}
                places = search.around.ranking_info(self._hooks.show(hit.product).places) if search.around else {}
                record["_rankingInfo"] = {"score": hit.score, "stages": stages, "rule": hit.rule, **places}
                record["_rankingInfo"] |= {"explored": True, "propensity": hit.propensity} if hit.explored else {}
                reasons = [{"kind": each.kind, "values": each.values, "ranks": each.ranks} for each in hit.reasons]
                record["_rankingInfo"] |= {"reasons": reasons, "reasonLine": hit.reason_line}
            records.append(record if search.distinct is None else {**record, **groups})
        return records

    def _sponsored(self, page: Page, query_id: str, search: ProtocolSearch) -> list[Record]:
        """The records of the sponsored hits, each with the id for charging a click on it."""
        records = self._records([Hit(each.product, 0.0, {}) for each in page.sponsored], page, search)
        query_ids = self._engine.campaigns.issue(query_id, page.sponsored)
        marks = map(sponsored_mark, page.sponsored, query_ids)
        return [record | {"_sponsored": mark} for record, mark in zip(records, marks, strict=True)]

    def _find_page(self, request: SearchRequest, search: ProtocolSearch) -> tuple[Page, str]:
        """The page, and a query id that encodes the experiments in which it took part."""
        run_experiments = self._hooks.run_experiments
        takes_part = search.wants_query_id and search.is_recorded and search.shopper and search.offset is None
        if run_experiments is None or not takes_part or not request.size:
            return self._page(request), uuid.uuid4().hex
        # More values of a facet than usual are counted by a separate search.
        facets = request.facets if request.facet_values <= FACET_VALUES else ()
        ranking_request = replace(request, stage="ranked", facets=facets, facet_values=FACET_VALUES)
        result = run_experiments(ShopperSearch(ranking_request, search.shopper))
        self._hooks.on_page(result.page)
        if facets == request.facets:
            return result.page, result.query_id
        counts = self._page(replace(request, page=1, size=0, stage="merged"))
        return replace(result.page, facets=counts.facets), result.query_id

    def _page(self, request: SearchRequest) -> Page:
        """The page of the engine, searched by the first thread that wants it; raises like the engine."""
        return self._pages.get(request, lambda: self._search_now(request))

    def _search_now(self, request: SearchRequest) -> Page:
        page = self._engine.search(request)
        self._hooks.on_page(page)
        return page


def _result(
    payload: JsonObject,
    index: str,
    search: ProtocolSearch,
    page: Page,
    hits: list[Record],
    facets: RequestedFacets,
    started: float,
) -> SearchResult:
    counts = facets.counts(page.facets)
    # The facets that deserve a widget, those that narrow the query best first, and the page to which a rule redirects.
    best = {choice.field: rank for rank, choice in enumerate(page.choices)}
    order = sorted(counts, key=lambda name: best.get(facets.attributes[name].info.name, len(best)))
    rendering: dict[str, object] = {"facetOrdering": {"facets": {"order": order}, "values": {}}}
    if page.redirect:
        rendering["redirect"] = {"url": page.redirect}
    return SearchResult(
        hits,
        page.total,
        search.page if search.offset is None else search.offset // max(search.size, 1),
        math.ceil(min(page.total, MAX_DEPTH) / search.size) if search.size else 0,
        search.size,
        search.query,
        _encode_parameters(payload),
        index,
        counts,
        facets.ranges(page.facets),
        rendering,
        message=_message(page) or UNSET,
        user_data=list(page.data) or UNSET,
        processing_time_ms=elapsed_ms(started),
        ignored_parameters=count_ignored(payload),
    )


def _message(page: Page) -> str:
    parts = []
    if page.degraded:
        parts.append(f"stages failed: {', '.join(page.degraded)}")
    if page.nothing_fits:
        parts.append("no product fits the query")
    if page.doubtful:
        parts.append("no record has all words of the query; the hits are the nearest in meaning")
    if page.preferred:
        parts.append(f"ranked first: {' AND '.join(each.filter for each in page.preferred)}")
    if page.product_type:
        parts.append(f"only products of the type {page.product_type}")
    if page.suggestion:
        parts.append(f"{'searched for' if page.corrected else 'did you mean'} {page.suggestion}")
    return "; ".join(parts)


def _encode_parameters(payload: JsonObject) -> str:
    """The parameters with an effect, as URL-encoded text."""
    parameters = {name: value for name, value in payload.items() if name in COUNTING}
    return urlencode(
        {name: value if isinstance(value, str) else json.dumps(value) for name, value in parameters.items()}
    )


def hit_window(search: ProtocolSearch) -> HitWindow:
    """The engine's page for a search, empty beyond the deepest hit; raises QueryError for an offset inside a page."""
    if search.offset is None:
        is_too_deep = (search.page + 1) * search.size > MAX_DEPTH
        return HitWindow(1, 0) if is_too_deep else HitWindow(search.page + 1, search.size)
    offset, length = search.offset, search.size
    if offset % length == 0:
        return HitWindow(offset // length + 1, length)
    if offset + length > MAX_SIZE:
        raise QueryError(f"offset {offset} is not a multiple of length {length}, so both may reach to {MAX_SIZE}")
    return HitWindow(1, offset + length, offset)


def suggestion_records(suggest: Callable[[str, int], Suggestions], search: ProtocolSearch) -> list[Record]:
    """Suggested queries as records of a separate index, with the typed text marked."""
    suggestions = suggest(search.query, min(search.size, MAX_SUGGESTIONS))
    return [
        {
            "objectID": each.text,
            "query": each.text,
            "_highlightResult": {
                "query": {
                    "value": marked(each.text, each.spans, search.view.marks),
                    "matchLevel": "full",
                    "matchedWords": [each.text[start:end] for start, end in each.spans],
                }
            },
        }
        for each in suggestions.queries
    ]
