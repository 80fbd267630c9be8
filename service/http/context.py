"""Shared state of the routes, and the authorization of requests."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from retrieval.errors import FilterError, UnknownFieldError
from retrieval.filters.parser import parse_filter
from retrieval.records import Event, Page, PastAct, Product
from retrieval.updates.changes import Change
from service.curation.relevance import without_fields
from service.engine.engine import SearchEngine
from service.engine.live import AppliedChanges, Plan
from service.engine.search import unknown_product
from service.engine.spelling import Suggestions, VisibleCatalog
from service.experiments.store import ServedExperiments
from service.http.auth import KeyFile, Permit, Scope, combine_filters
from service.http.errors import RequestError
from service.http.fields import ReturnedFields
from service.http.impressions import ImpressionRecorder
from service.http.limits import CURRENT_CLIENT, Client, RateLimiter, WorkerThreads, search_cost
from service.http.request import EXTENSION
from service.http.schemas import json_response
from service.http.tasks import TaskService

if TYPE_CHECKING:
    from service.events.event_log import RecordResult

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_FORWARDING = frozenset(
    ("forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "cf-connecting-ip")
)
"""Headers of proxies, besides those that begin with X-Forwarded."""
_SHOWN_SECONDS = 0.5
"""For which a write of the protocol waits: clients want the response to begin within two seconds."""
_STORE_WIDE = frozenset({Scope.METRICS, Scope.ADMIN})
_EVERYTHING = Permit("", frozenset({Scope.ADMIN}))
_BEARER = HTTPBearer(auto_error=False, description="A key made by `shelfwise keys create`.")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same, for clients that set no bearer.")


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """Shared state of one service's routes."""

    engine: SearchEngine
    keys: KeyFile
    rates: RateLimiter
    threads: WorkerThreads
    writer: WorkerThreads
    """One thread for live changes."""
    impressions: ImpressionRecorder
    experiments: ServedExperiments
    tasks: TaskService
    origins: tuple[str, ...] = ()
    """Origins whose pages may send requests without a key, while there is none."""

    def visible(self, permit: Permit) -> VisibleCatalog:
        """The part of the catalog that a key sees."""
        return self.engine.visible(combine_filters(permit.filters))

    def narrow(self, permit: Permit, filters: str = "") -> str:
        """A filter of a request within those of its key; raises FilterError, and UnknownFieldError for a field that no
        product has which the key sees."""
        if permit.filters and (tree := parse_filter(filters)) is not None:
            self.visible(permit).fields.compile(tree)
        return combine_filters((*permit.filters, filters))

    def visible_history(self, permit: Permit, history: Iterable[PastAct]) -> list[PastAct]:
        """The acts of a history about products that a key sees."""
        acts = list(history)
        if not permit.filters:
            return acts
        visible = self.visible(permit).visible_ids(act.product_id for act in acts)
        return [act for act in acts if act.product_id in visible]

    def charge(self, permit: Permit, cost: int) -> None:
        """Counts the work of a request, in searches, for its key and for its address with this key; its authorization
        counted the first. Raises RequestError (429) where it is too much."""
        if cost > 1:
            self.rates.count_address(f"{CURRENT_CLIENT.get().address} {permit.id}", cost - 1)
            if permit.id:
                self.rates.count_key(permit.id, permit.requests_per_minute, cost - 1)

    def suggest(self, permit: Permit, typed: str, size: int) -> Suggestions:
        """Suggestions for typed text; for a key with filters, by the products that pass them alone."""
        found = self.engine.suggest(typed, size=size, filters=combine_filters(permit.filters))
        products = tuple(replace(each, product=self.shown(permit, each.product)) for each in found.products)
        return replace(found, products=products)

    def shown(self, permit: Permit, product: Product) -> Product:
        """A product as a key sees it: without the fields that relevance settings hide, unless it administers."""
        hidden = self.engine.relevance.served.hidden
        if not hidden or (permit.allows(Scope.ADMIN, ("seeUnretrievableAttributes",)) and not permit.filters):
            return product
        return without_fields(product, hidden)

    def shown_page(self, permit: Permit, page: Page) -> Page:
        """A page with its products as a key sees them."""
        if not self.engine.relevance.served.hidden:
            return page
        hits, nearest = (
            tuple(replace(hit, product=self.shown(permit, hit.product)) for hit in each)
            for each in (page.hits, page.nearest)
        )
        return replace(page, hits=hits, nearest=nearest)

    def returned_fields(self, permit: Permit, names: Sequence[str]) -> ReturnedFields:
        """The fields of products to return; raises UnknownFieldError for one that no product has which a key sees."""
        return ReturnedFields.of(names, self.visible(permit).fields) if names else ReturnedFields()

    def change(self, permit: Permit, changes: Sequence[Change]) -> AppliedChanges:
        """Applies live changes; for a key with filters, only of products that pass them before and after."""
        self.charge(permit, search_cost(hits=len(changes)))
        return self.engine.change(changes, filters=combine_filters(permit.filters))

    def append(self, permit: Permit, plan: Plan) -> AppliedChanges:
        """Stores the live changes that a plan makes, and waits a moment until searches show them; a key with filters
        finds only the products that pass them."""
        stored = self.engine.append(plan, filters=combine_filters(permit.filters))
        self.engine.wait_for(stored.sequence, _SHOWN_SECONDS)
        return stored

    def record(self, permit: Permit, events: Sequence[Event]) -> RecordResult:
        """Records events; for a key with filters, only about products that pass them."""
        self.charge(permit, search_cost(hits=len(events)))
        ids = {each.product_id for each in events if each.product_id}
        if permit.filters and (hidden := ids - self.visible(permit).visible_ids(ids)):
            raise unknown_product(self.engine.snapshot, min(hidden))
        return self.engine.record(*events)


async def context_of(request: Request) -> ServiceContext:
    """The context of a request's application."""
    context: ServiceContext = request.app.state.context
    return context


Contextual = Annotated[ServiceContext, Depends(context_of)]


class WorkerRouter(APIRouter):
    """Routes whose plain functions run in a worker thread and return a value for a JSON response, or a response.

    With `writes` that is the one thread for changes: they follow one another anyway, and would keep other work waiting.
    """

    def __init__(self, *, writes: bool = False, **options: Any) -> None:  # noqa: ANN401 - as FastAPI
        super().__init__(**options)
        self._writes = writes

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401 - as FastAPI
        """Adds a route; a plain function takes the ServiceContext as `context`."""

        @wraps(endpoint)
        async def respond(context: ServiceContext, **arguments: object) -> Response:
            threads = context.writer if self._writes else context.threads
            result = await threads.run(partial(endpoint, context=context, **arguments))
            return result if isinstance(result, Response) else json_response(result)

        super().add_api_route(path, endpoint if iscoroutinefunction(endpoint) else respond, **options)


def authorize(
    context: ServiceContext, request: Request, key: str, scope: Scope, rights: Collection[str] = ()
) -> Permit:
    """The permit of a request's key; raises RequestError (401, 403, 429) if it lacks the scope, or, made through the
    InstantSearch protocol, all of `rights`.

    The scopes `metrics` and `admin` are about the whole store: a key with a filter never has them. Its searches, events
    and writes go through `ServiceContext`, which applies the filter.
    While the service has no key at all, requests from this machine may do everything and others nothing.
    """
    address = request.client.host if request.client else ""
    CURRENT_CLIENT.set(Client(key, address))
    context.rates.count_address(address)
    if scope is Scope.WRITE:
        request.scope[EXTENSION]()
    if not context.keys.exists:
        return _authorize_loopback(context, request, address)
    if not key:
        raise RequestError(401, "a key is needed: send it as Authorization: Bearer KEY, or as X-API-Key")
    permit = context.keys.permit(key, datetime.now(UTC))
    if permit is None:
        raise RequestError(401, "this key is unknown, was withdrawn, or has expired", code="bad_key")
    context.rates.count_key(permit.id, permit.requests_per_minute)
    check_right(permit, scope, rights)
    try:
        context.visible(permit)
    except (FilterError, UnknownFieldError):
        message = "the filter of this key names a field that no product has now; make a key with another filter"
        raise RequestError(403, message, code="bad_key_filter") from None
    if permit.filters and scope in _STORE_WIDE:
        raise RequestError(403, f"this is about the whole store: it needs a key with the scope {scope} and no filter")
    return permit


def check_right(permit: Permit, scope: Scope, rights: Collection[str] = ()) -> None:
    """Raises RequestError (403) unless a permit has the scope, or one of `rights`."""
    if permit.allows(scope, rights):
        return
    if permit.rights and rights:
        message = f"this key has no right {' or '.join(rights)}; it has {', '.join(sorted(permit.rights))}"
    else:
        message = f"this key has no scope {scope}; it has {', '.join(sorted(permit.scopes)) or 'none'}"
    raise RequestError(403, message)


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
MayReadMetrics = Annotated[Permit, Depends(require_scope(Scope.METRICS))]
MayAdminister = Annotated[Permit, Depends(require_scope(Scope.ADMIN))]


def _authorize_loopback(context: ServiceContext, request: Request, address: str) -> Permit:
    # The host name is checked, too: a page of another site may have a name that resolves to this machine.
    name = request.headers.get("host", "").lower()
    name = name if name.endswith("]") else name.rpartition(":")[0] or name
    if not is_loopback(address) or name not in _LOCAL_NAMES:
        raise RequestError(401, "without a key only this machine is served; make one: shelfwise keys create")
    if any(each in _FORWARDING or each.startswith("x-forwarded") for each in request.headers):
        # The proxy is on this machine, its client may be anywhere.
        raise RequestError(401, "a request through a proxy needs a key; make one: shelfwise keys create")
    if _is_cross_site(request, context.origins):
        raise RequestError(401, "without a key only pages of this machine are served; make one: shelfwise keys create")
    return _EVERYTHING


def _is_cross_site(request: Request, origins: Collection[str]) -> bool:
    """Whether a browser sent a request for a page of another machine, whose origin `origins` does not name.

    A browser lets any page send some requests, such as a POST without a body, and only keeps the response from it.
    """
    origin = request.headers.get("origin")
    if origin is None:
        return request.headers.get("sec-fetch-site") == "cross-site"
    try:
        host = urlsplit(origin).hostname or ""
    except ValueError:
        return True
    return origin not in origins and not is_loopback(host)


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
