"""What shoppers did: taken durably, and forgotten when one of them asks for it."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Response

from service.http.answers import RESPONSES, RecordedAnswer, json_response
from service.http.bodies import EventsBody
from service.http.context import Contextual, MayRecord
from service.http.search_routes import PrivacyHeader

router = APIRouter(prefix="/v1", tags=["events"], responses=RESPONSES)


@router.post("/events", response_model=RecordedAnswer, summary="Record what shoppers did")
async def record(context: Contextual, _permit: MayRecord, body: EventsBody, privacy: PrivacyHeader = "") -> Response:
    """Takes all events or none. One that is sent again, with the same event_id, is counted once. Of a browser that asks
    for privacy (Sec-GPC: 1) it is kept what happened, not who did it."""
    events = [replace(each, shopper="", session="") for each in body.events] if privacy == "1" else body.events
    taken = await context.workers.run(lambda: context.engine.record(*events))
    return json_response(RecordedAnswer(taken.taken, taken.repeated))
