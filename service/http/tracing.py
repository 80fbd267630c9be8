"""The trace of the request that is being answered, where traces are made: `service.http.otlp` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Protocol

from starlette.types import Scope


class RequestTrace(Protocol):
    """One request's span."""

    def add_stages(self, timings: Mapping[str, float]) -> None:
        """What the stages of a search took that ends now, in milliseconds."""
        ...

    def end(self, route: str, status: int, request_id: str) -> None:
        """It was answered."""
        ...


class Tracing(Protocol):
    """Makes them."""

    def begin(self, scope: Scope) -> RequestTrace | None:
        """The span of a request that begins now; None for one that has none."""
        ...

    def close(self) -> None:
        """Sends what is left."""
        ...


CURRENT: ContextVar[RequestTrace | None] = ContextVar("shelfwise_trace", default=None)
"""Of the request that a task, or a thread, works for."""
