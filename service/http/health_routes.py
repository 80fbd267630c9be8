"""Whether a service answers, and what it counts."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service.http.answers import RESPONSES, Health, json_response
from service.http.context import Contextual, MayAdminister
from service.http.errors import Refused
from service.http.measured import refresh_gauges

router = APIRouter(tags=["health"])


@router.get("/health/live", response_model=Health, summary="Is the process alive?")
async def live() -> Response:
    """Always, while it can answer at all."""
    return json_response(Health("live"))


@router.get("/health/ready", response_model=Health, summary="May requests be sent here?", responses=RESPONSES)
async def ready(context: Contextual, request: Request) -> Response:
    """503, with the reason, while the server drains or has more requests waiting than it can answer soon."""
    if request.app.state.draining.is_set():
        raise Refused(503, "the server is about to end; send requests to another one", code="draining", retry_after=5)
    if context.workers.is_pressed:
        raise Refused(503, "requests wait here; send new ones to another server", code="busy", retry_after=1)
    engine = context.engine
    manifest, notices = engine.manifest, engine.notices
    return json_response(Health("ready", manifest.version, manifest.products, engine.ranker, notices))


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(context: Contextual, _permit: MayAdminister) -> Response:
    """For a key with the scope admin."""
    refresh_gauges(context)
    return Response(generate_latest(), 200, {"Content-Type": CONTENT_TYPE_LATEST})
