"""Whether requests may be sent here: what `/health/ready` answers, and the metric of the same."""

from __future__ import annotations

from fastapi import FastAPI

from service.http.context import Context
from service.http.errors import Refused


def why_not_ready(app: FastAPI) -> Refused | None:
    """The refusal, while the server drains or has more requests waiting than it can answer soon."""
    context: Context = app.state.context
    if app.state.draining.is_set():
        return Refused(503, "the server is about to end; send requests to another one", code="draining", retry_after=5)
    if context.workers.is_pressed:
        return Refused(503, "requests wait here; send new ones to another server", code="busy", retry_after=1)
    return None
