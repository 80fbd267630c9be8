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
from service.http.errors import Refused
from service.http.impressions import Exposures
from service.http.limits import Rates, Workers
from service.http.request import is_open
from service.http.tasks import ServedTasks

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_EVERYTHING = Permit("", frozenset({Scope.ADMIN}))
_BEARER = HTTPBearer(auto_error=False, description="A key made by `shelfwise keys create`.")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same, for clients that set no bearer.")


@dataclass(frozen=True, slots=True)
class Context:
    """One service: an engine, who may ask it, the threads that answer, and the work that takes longer."""

    engine: SearchEngine
    keys: KeyFile
    rates: Rates
    workers: Workers
    exposures: Exposures
    experiments: ServedExperiments
    tasks: ServedTasks


def context_of(request: Request) -> Context:
    """The application's."""
    context: Context = request.app.state.context
    return context


Contextual = Annotated[Context, Depends(context_of)]


def permitted(context: Context, request: Request, key: str, scope: Scope) -> Permit:
    """What whoever sent a request may do; raises Refused (401, 403, 429) where that is not what it asks for.

    While there is no key at all, whoever is on this machine may do everything, and nobody else anything.
    """
    address = request.client.host if request.client else ""
    context.rates.count_address(address)
    if not context.keys.is_there:
        return _on_this_machine(request, address)
    if not key:
        raise Refused(401, "a key is needed: send it as Authorization: Bearer KEY, or as X-API-Key")
    permit = context.keys.permit(key, datetime.now(UTC))
    if permit is None:
        raise Refused(401, "this key is unknown, was withdrawn, or has expired", code="bad_key")
    context.rates.count_key(permit.id, permit.requests_per_minute)
    if not permit.allows(scope):
        raise Refused(403, f"this key has no scope {scope}; it has {', '.join(sorted(permit.scopes))}")
    return permit


def allowed(scope: Scope) -> Callable[..., Awaitable[Permit]]:
    """A dependency of the routes that need a scope."""

    async def check(
        request: Request,
        context: Contextual,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
        header: Annotated[str | None, Depends(_HEADER)],
    ) -> Permit:
        return permitted(context, request, bearer.credentials if bearer else header or "", scope)

    return check


MaySearch = Annotated[Permit, Depends(allowed(Scope.SEARCH))]
MayRecord = Annotated[Permit, Depends(allowed(Scope.EVENTS))]
MayWrite = Annotated[Permit, Depends(allowed(Scope.WRITE))]
MayWatch = Annotated[Permit, Depends(allowed(Scope.METRICS))]
MayAdminister = Annotated[Permit, Depends(allowed(Scope.ADMIN))]


def _on_this_machine(request: Request, address: str) -> Permit:
    # The name is looked at too: a page of somewhere else may have a name that leads here.
    name = request.headers.get("host", "").lower()
    name = name if name.endswith("]") else name.rpartition(":")[0] or name
    if not is_loopback(address) or name not in _LOCAL_NAMES:
        raise Refused(401, "without a key only this machine is served; make one: shelfwise keys create")
    origin = urlsplit(request.headers.get("origin", "")).hostname
    if is_open(request.scope) and "origin" in request.headers and not is_loopback(origin or ""):
        # Browsers let pages of any origin ask here, so those of other machines are told from this one's.
        raise Refused(401, "without a key only pages of this machine are served; make one: shelfwise keys create")
    return _EVERYTHING


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
