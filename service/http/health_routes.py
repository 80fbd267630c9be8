"""Whether a service answers, and what it counts."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.experiments.rankers import notices
from service.http.answers import RESPONSES, Health, json_response
from service.http.context import Contextual, MayWatch
from service.http.measured import exposition
from service.http.readiness import why_not_ready

router = APIRouter(tags=["health"])


@router.get("/health/live", response_model=Health, summary="Is the process alive?")
async def live() -> Response:
    """Always, while it can answer at all."""
    return json_response(Health("live"))


@router.get("/health/ready", response_model=Health, summary="May requests be sent here?", responses=RESPONSES)
async def ready(context: Contextual, request: Request) -> Response:
    """503, with the reason, while the server drains or has more requests waiting than it can answer soon."""
    refusal = why_not_ready(request.app)
    if refusal is not None:
        raise refusal
    engine = context.engine
    manifest, ranker = engine.manifest, engine.ranker
    # A thread of its own: it may have a ranker to open, and is answered while those that search are busy.
    told = (*engine.notices, *await asyncio.to_thread(notices, engine, context.experiments))
    return json_response(Health("ready", manifest.version, manifest.products, ranker, told))


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request, _permit: MayWatch) -> Response:
    """For a key with the scope metrics."""
    told = await asyncio.to_thread(exposition, request.app)
    return Response(told, 200, {"Content-Type": CONTENT_TYPE_LATEST})
