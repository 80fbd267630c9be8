"""What the routes work with, and who asks: put together once, when the application is made."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from service.engine.engine import SearchEngine
from service.experiments.store import ServedExperiments
from service.http.auth import KeyFile, Permit, Scope
from service.http.errors import RequestError
from service.http.impressions import ImpressionRecorder
from service.http.limits import AnswerThreads, RateLimiter
from service.http.request import is_protocol_path
from service.http.tasks import TaskService

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_EVERYTHING = Permit("", frozenset({Scope.ADMIN}))
_BEARER = HTTPBearer(auto_error=False, description="A key made by `shelfwise keys create`.")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same, for clients that set no bearer.")


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """One service: an engine, who may ask it, the threads that answer, and the work that takes longer."""

    engine: SearchEngine
    keys: KeyFile
    rates: RateLimiter
    threads: AnswerThreads
    impressions: ImpressionRecorder
    experiments: ServedExperiments
    tasks: TaskService


def context_of(request: Request) -> ServiceContext:
    """The application's."""
    context: ServiceContext = request.app.state.context
    return context


Contextual = Annotated[ServiceContext, Depends(context_of)]


def authorize(context: ServiceContext, request: Request, key: str, scope: Scope) -> Permit:
    """What whoever sent a request may do; raises RequestError (401, 403, 429) where that is not what it asks for.

    While there is no key at all, whoever is on this machine may do everything, and nobody else anything.
    """
    address = request.client.host if request.client else ""
    context.rates.count_address(address)
    if not context.keys.is_there:
        return _authorize_loopback(request, address)
    if not key:
        raise RequestError(401, "a key is needed: send it as Authorization: Bearer KEY, or as X-API-Key")
    permit = context.keys.permit(key, datetime.now(UTC))
    if permit is None:
        raise RequestError(401, "this key is unknown, was withdrawn, or has expired", code="bad_key")
    context.rates.count_key(permit.id, permit.requests_per_minute)
    if not permit.allows(scope):
        raise RequestError(403, f"this key has no scope {scope}; it has {', '.join(sorted(permit.scopes))}")
    return permit


def require_scope(scope: Scope) -> Callable[..., Awaitable[Permit]]:
    """A dependency of the routes that need a scope."""

    async def check(
        request: Request,
        context: Contextual,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
        header: Annotated[str | None, Depends(_HEADER)],
    ) -> Permit:
        return authorize(context, request, bearer.credentials if bearer else header or "", scope)

    return check


MaySearch = Annotated[Permit, Depends(require_scope(Scope.SEARCH))]
MayRecord = Annotated[Permit, Depends(require_scope(Scope.EVENTS))]
MayWrite = Annotated[Permit, Depends(require_scope(Scope.WRITE))]
MayWatch = Annotated[Permit, Depends(require_scope(Scope.METRICS))]
MayAdminister = Annotated[Permit, Depends(require_scope(Scope.ADMIN))]


def _authorize_loopback(request: Request, address: str) -> Permit:
    # The name is looked at too: a page of somewhere else may have a name that leads here.
    name = request.headers.get("host", "").lower()
    name = name if name.endswith("]") else name.rpartition(":")[0] or name
    if not is_loopback(address) or name not in _LOCAL_NAMES:
        raise RequestError(401, "without a key only this machine is served; make one: shelfwise keys create")
    origin = urlsplit(request.headers.get("origin", "")).hostname
    if is_protocol_path(request.scope) and "origin" in request.headers and not is_loopback(origin or ""):
        # Browsers let pages of any origin ask here, so those of other machines are told from this one's.
        raise RequestError(401, "without a key only pages of this machine are served; make one: shelfwise keys create")
    return _EVERYTHING


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
