"""What comes before and after a search: suggestions while one types, related searches, what to show next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Response

from retrieval.records import Hit
from service.http.access.narrowing import all_of
from service.http.answers import RESPONSES, json_response
from service.http.bodies import RecommendBody
from service.http.context import Contextual, MaySearch
from service.http.narrowed_suggestions import within
from service.http.search_routes import PrivacyHeader
from service.searching import MOST_TEXT
from service.suggesting.suggestions import Suggestions

router = APIRouter(prefix="/v1", tags=["suggestions"], responses=RESPONSES)

Typed = Annotated[str, Query(max_length=MOST_TEXT, description="What has been typed so far.")]
Size = Annotated[int, Query(ge=1, le=50)]


@dataclass(frozen=True, slots=True)
class RelatedAnswer:
    """Queries that go with one, nearest first."""

    queries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecommendAnswer:
    """Products to show next."""

    hits: tuple[Hit, ...]
    degraded: tuple[str, ...]
    version: str


@router.get("/suggest", response_model=Suggestions, summary="Suggestions while one types")
async def suggest(context: Contextual, permit: MaySearch, q: Typed = "", size: Size = 8) -> Response:
    """Queries, categories, brands and products that what was typed may become; `spans` are what to show bold."""
    filters = all_of(permit.filters)

    def found() -> Suggestions:
        made = context.engine.suggest(q, size=size)
        return within(context.engine, made, filters) if filters else made

    return json_response(await context.workers.run(found))


@router.get("/related", response_model=RelatedAnswer, summary="Related searches")
async def related(context: Contextual, permit: MaySearch, q: Typed = "", size: Size = 8) -> Response:
    """What shoppers searched for before or after, or to choose the same; a key with a filter is told none."""
    queries = () if permit.filters else await context.workers.run(lambda: context.engine.related(q, size=size))
    return json_response(RelatedAnswer(queries))


@router.post("/recommend", response_model=RecommendAnswer, summary="What to show next")
async def recommend(
    context: Contextual, permit: MaySearch, body: RecommendBody, privacy: PrivacyHeader = ""
) -> Response:
    """What the shopper tower foretells, where one serves; else products near to those that a shopper did something with
    last; without a history, what most choose."""
    acts = [] if privacy == "1" else [each.act() for each in body.history]

    def found() -> RecommendAnswer:
        page = context.engine.recommend(
            acts,
            size=body.size,
            filters=all_of((*permit.filters, body.filters)),
            include_seen=body.include_seen,
        )
        return RecommendAnswer(page.hits, page.degraded, page.version)

    return json_response(await context.workers.run(found))
