"""The searches of one request: answered by threads side by side, what is the same of them once."""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from msgspec import UNSET, structs

from retrieval.errors import QueryError
from retrieval.records import Page
from service.engine.candidates import Encodings, SingleFlight
from service.engine.engine import SearchEngine
from service.engine.highlight import Matcher, marked
from service.engine.search import DEEPEST, FACET_VALUES, MOST_FACET_VALUES, MOST_SIZE
from service.engine.spelling import Suggestions
from service.engine.suggest import MOST_SUGGESTIONS
from service.experiments.assignment import Asked
from service.instantsearch.filters import Attributes, Filters
from service.instantsearch.request import (
    COUNTING,
    MOST_NAME,
    Hooks,
    Parameters,
    Said,
    is_of_suggestions,
    parameters_of,
    sort_of,
    text,
    whole,
    with_parameters,
)
from service.instantsearch.response import (
    AskedFacets,
    FacetResult,
    Record,
    SearchResult,
    record_of,
    retrieved,
    shown_record,
)

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


# Pages of the engine for the searches of one request: which hits of a ranking they want; equal pages made once.


@dataclass(frozen=True, slots=True)
class Wanted:
    """All that an engine's answer depends on."""

    query: str
    filters: str
    sort: str = ""
    page: int = 1
    size: int = 0
    facets: tuple[str, ...] = ()
    values: int = 100


@dataclass(frozen=True, slots=True)
class Window:
    """Which hits of a ranking are wanted, as the engine counts them."""

    page: int
    size: int
    skipped: int = 0
    """Of the hits of that page, those before the first wanted."""


class Pages:
    """The engine's answers, equal ones made once."""

    def __init__(self, engine: SearchEngine, answered: Callable[[Page], None]) -> None:
        self._engine = engine
        self._answered = answered
        self._made: SingleFlight[Wanted, Page] = SingleFlight()
        self._encodings: Encodings = SingleFlight()

    def get(self, wanted: Wanted) -> Page:
        """The page, made by whichever thread asks first; raises as the engine does."""
        return self._made.get(wanted, lambda: self._search(wanted))

    def _search(self, wanted: Wanted) -> Page:
        page = self._engine.search(
            wanted.query,
            size=wanted.size,
            page=wanted.page,
            filters=wanted.filters,
            facets=wanted.facets,
            sort=wanted.sort,
            # Who only counts needs no order, and who names one no ranker.
            stage="ranked" if wanted.size and not wanted.sort else "merged",
            facet_values=wanted.values,
            encodings=self._encodings,
        )
        self._answered(page)
        return page


def window_of(asked: Parameters) -> Window:
    """Where they are; nowhere past the deepest place. Raises QueryError for an offset that no page begins at."""
    if asked.offset is not None:
        return _from(asked.offset, asked.size)
    is_too_deep = (asked.page + 1) * asked.size > DEEPEST
    return Window(1, 0) if is_too_deep else Window(asked.page + 1, asked.size)


def _from(offset: int, length: int) -> Window:
    if offset % length == 0:
        return Window(offset // length + 1, length)
    if offset + length > MOST_SIZE:
        raise QueryError(f"offset {offset} is no multiple of length {length}, so both may reach to {MOST_SIZE}")
    return Window(1, offset + length, offset)


# Suggested queries as the records of an index of their own, which is how the libraries take them.


def suggested_queries(suggest: Callable[[str, int], Suggestions], asked: Parameters) -> list[Record]:
    """The queries that go on from what was typed, what was typed of each marked."""
    found = suggest(asked.query, min(asked.size, MOST_SUGGESTIONS))
    return [
        {
            "objectID": each.text,
            "query": each.text,
            "_highlightResult": {
                "query": {
                    "value": marked(each.text, each.spans, asked.shown.marks),
                    "matchLevel": "full",
                    "matchedWords": [each.text[start:end] for start, end in each.spans],
                }
            },
        }
        for each in found.queries
    ]
