"""The searches of one request: answered by threads side by side, what is the same of them once."""

from __future__ import annotations

import json
import math
import time
import uuid
from dataclasses import replace
from urllib.parse import urlencode

from msgspec import UNSET, structs

from retrieval.records import Page
from service.engine import SearchEngine
from service.experiments.serving import Asked
from service.highlighting.matching import Matcher
from service.instantsearch.answer import FacetResult, SearchResult
from service.instantsearch.attributes import Attributes
from service.instantsearch.body import Said, with_parameters
from service.instantsearch.facets import AskedFacets
from service.instantsearch.filters import Filters
from service.instantsearch.hooks import Hooks
from service.instantsearch.index_names import is_of_suggestions, sort_of
from service.instantsearch.pages import Pages, Wanted, window_of
from service.instantsearch.parameters import COUNTING, Parameters, parameters_of
from service.instantsearch.record import Record, record_of, retrieved
from service.instantsearch.shown import shown_record
from service.instantsearch.suggested import suggested_queries
from service.instantsearch.values import MOST_NAME, text, whole
from service.searching import DEEPEST, FACET_VALUES, MOST_FACET_VALUES

MOST_FACET_HITS = 100


class Batch:
    """Answers the searches of one request. Safe to share between threads."""

    def __init__(self, engine: SearchEngine, hooks: Hooks) -> None:
        self._engine = engine
        self._hooks = hooks
        self._attributes = Attributes(engine.snapshot.catalog)
        self._filters = Filters(self._attributes)
        self._pages = Pages(engine, hooks.answered)
        self._matchers: dict[str, Matcher] = {}

    def answer(self, said: Said) -> SearchResult | FacetResult:
        """One of them; raises InputError for what cannot be answered."""
        if text(said, "type", "default") == "facet":
            return self.facet_search(said, text(said, "facet"))
        return self.search(said, text(said, "indexName", most=MOST_NAME))

    def search(self, said: Said, index: str) -> SearchResult:
        """A page of records, with counts."""
        started = time.perf_counter()
        said = with_parameters(said)
        asked = parameters_of(said)
        if is_of_suggestions(index):
            hits = suggested_queries(self._hooks.suggest, asked)
            return _result(said, index, asked, Page((), len(hits), 1, len(hits)), hits, _NO_FACETS, started)
        facets = AskedFacets.of(asked.facets, asked.most_values, self._attributes)
        window = window_of(asked)
        wanted = Wanted(
            asked.query,
            self._narrowed(asked),
            sort_of(index, self._engine.snapshot.catalog),
            window.page,
            window.size,
            facets.fields,
            facets.values,
        )
        page, query_id = self._answered(wanted, asked)
        if window.skipped:
            # It begins where a page of so many hits would end.
            page = replace(page, hits=page.hits[window.skipped :], page=2, size=window.skipped)
        records = self._records(page, asked)
        if asked.tells_query_id and asked.is_recorded and asked.shopper and wanted.size:
            self._hooks.shown(query_id, asked.query, page, asked.shopper)
        result = _result(said, index, asked, page, records, facets, started)
        return structs.replace(result, query_id=query_id) if asked.tells_query_id else result

    def facet_search(self, said: Said, facet: str) -> FacetResult:
        """The values of a facet that have the words that were typed, counted over what a search finds."""
        started = time.perf_counter()
        said = with_parameters(said)
        typed, most = text(said, "facetQuery", most=MOST_NAME), whole(said, "maxFacetHits", 10, 1, MOST_FACET_HITS)
        asked = parameters_of(said)
        facets = AskedFacets.of((facet,), MOST_FACET_VALUES, self._attributes)
        wanted = Wanted(asked.query, self._narrowed(asked), facets=facets.fields, values=MOST_FACET_VALUES)
        found = facets.hits(self._pages.get(wanted).facets, typed, most, asked.shown.marks)
        return FacetResult(found, _since(started))

    def record(self, product_id: str, wanted: tuple[str, ...]) -> Record:
        """One record; raises UnknownProductError where there is none that whoever asks may see."""
        return retrieved(record_of(self._engine.product(product_id, filters=self._hooks.narrowed(""))), wanted)

    def _narrowed(self, asked: Parameters) -> str:
        return self._hooks.narrowed(self._filters.expression(asked.refinements))

    def _records(self, page: Page, asked: Parameters) -> list[Record]:
        query = page.suggestion if page.corrected else asked.query
        matcher = self._matchers.setdefault(query, Matcher(self._engine.snapshot.analyzer, query))
        return [shown_record(record_of(hit.product), asked.shown, matcher) for hit in page.hits]

    def _answered(self, wanted: Wanted, asked: Parameters) -> tuple[Page, str]:
        """The page, and a query id that says what it took part in."""
        tried = self._hooks.tried
        takes_part = asked.tells_query_id and asked.is_recorded and asked.shopper and asked.offset is None
        if tried is None or not takes_part or not wanted.size:
            return self._pages.get(wanted), uuid.uuid4().hex
        # More values of a facet than usual are counted apart.
        facets = wanted.facets if wanted.values <= FACET_VALUES else ()
        found = tried(
            Asked(
                wanted.query,
                size=wanted.size,
                page=wanted.page,
                filters=wanted.filters,
                facets=facets,
                sort=wanted.sort,
                shopper=asked.shopper,
            )
        )
        self._hooks.answered(found.page)
        if facets == wanted.facets:
            return found.page, found.query_id
        counted = self._pages.get(replace(wanted, page=1, size=0))
        return replace(found.page, facets=counted.facets), found.query_id


def _result(
    said: Said, index: str, asked: Parameters, page: Page, hits: list[Record], facets: AskedFacets, started: float
) -> SearchResult:
    counts = facets.counts(page.facets)
    return SearchResult(
        hits,
        page.total,
        asked.page if asked.offset is None else asked.offset // max(asked.size, 1),
        math.ceil(min(page.total, DEEPEST) / asked.size) if asked.size else 0,
        asked.size,
        asked.query,
        _echo(said),
        index,
        counts,
        facets.ranges(page.facets),
        _rendering(counts, page),
        _since(started),
        message=_message(page) or UNSET,
    )


def _rendering(counts: dict[str, dict[str, int]], page: Page) -> dict[str, object]:
    """Which facets are worth a widget, and where a rule leads to."""
    content: dict[str, object] = {"facetOrdering": {"facets": {"order": list(counts)}, "values": {}}}
    return content | ({"redirect": {"url": page.redirect}} if page.redirect else {})


def _message(page: Page) -> str:
    told = []
    if page.degraded:
        told.append(f"this was answered without {', '.join(page.degraded)}")
    if page.relaxed:
        told.append("nothing matches within the filters: these are the nearest that they let through")
    return "; ".join(told)


def _echo(said: Said) -> str:
    """The parameters that count as one URL-encoded text."""
    sent = {name: value for name, value in said.items() if name in COUNTING}
    return urlencode({name: value if isinstance(value, str) else json.dumps(value) for name, value in sent.items()})


def _since(started: float) -> int:
    return max(1, round((time.perf_counter() - started) * 1_000))


_NO_FACETS = AskedFacets({}, 1)
