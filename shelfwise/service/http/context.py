"""Shared state of the routes, and the authorization of requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial, wraps
from inspect import iscoroutinefunction
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from numpy.typing import NDArray
from pydantic import SecretStr

from shelfwise.retrieval.errors import FilterError, StoreDamagedError, UnknownFieldError
from shelfwise.retrieval.filters.parser import parse_filter
from shelfwise.retrieval.records import Event, Page, PastAct, Product
from shelfwise.retrieval.updates.changes import Change
from shelfwise.service.curation.relevance import without_fields
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.live import AppliedChanges, Plan
from shelfwise.service.engine.snapshot import unknown_product
from shelfwise.service.engine.spelling import VisibleCatalog
from shelfwise.service.engine.suggest import Suggestions
from shelfwise.service.http.auth import AdminToken, KeyFile, Permit, Scope, combine_filters
from shelfwise.service.http.errors import JsonRoute, RequestError
from shelfwise.service.http.impressions import ImpressionRecorder, public_events, trusted_events
from shelfwise.service.http.indexes import IndexRegistry, IndexUnavailableError, UnknownIndexError
from shelfwise.service.http.limits import CURRENT_CLIENT, Client, RateLimiter, WorkerThreads, search_cost
from shelfwise.service.http.raw_request import EXTENSION, INDEX, PREFIX, header_key
from shelfwise.service.http.schemas import ReturnedFields, json_response
from shelfwise.service.http.tasks import TaskRunner
from shelfwise.service.sponsored.placement import SHOPPER_ADDRESS
from shelfwise.service.worker_group import WorkerGroup

if TYPE_CHECKING:
    from shelfwise.service.events.event_log import RecordResult

_SHOWN_SECONDS = 0.5
"""Seconds that a write through the InstantSearch protocol waits; clients expect the response within two seconds."""
_MAX_NAMES = 20
"""Maximum number of indexes that an error message lists."""
_MAX_UNNAMED = 8
_STORE_WIDE = frozenset({Scope.METRICS, Scope.ADVERTISER, Scope.ADMIN})
_PUBLIC = Permit("", frozenset({Scope.SEARCH, Scope.EVENTS}))
"""The permit of a request without a key, as long as no key exists."""
_OWNER = Permit("token", frozenset({Scope.ADMIN}))
_BEARER = HTTPBearer(auto_error=False, description="An API key, created by `shelfwise keys create`.")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same, for clients without bearer tokens.")


@dataclass(frozen=True, slots=True, eq=False)
class SharedParts:
    """Parts of a service that all of its indexes share."""

    keys: KeyFile
    token: AdminToken
    rates: RateLimiter
    threads: WorkerThreads
    writer: WorkerThreads
    """One thread for live changes."""
    page_setting: str = ""
    """Key of the store page by the settings, instead of its own."""
    webhook_secrets: Mapping[str, SecretStr] = field(default_factory=dict)
    """Secrets of webhooks, by vendor."""
    group: WorkerGroup = field(default_factory=WorkerGroup)
    """The worker processes of the service."""
    proxies: tuple[str, ...] = ()
    """Addresses of the proxies whose forwarded addresses are trusted, by the settings."""
    unnamed_proxies: set[str] = field(default_factory=set)
    """Private addresses that forwarded requests though no proxy is trusted, at most `_MAX_UNNAMED`."""
    pressed: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(1, bool))
    """Whether the queue of each worker has been at least half full for a second, shape (workers,)."""

    def share_pressure(self) -> None:
        """Tells the other workers whether requests wait in this one."""
        self.pressed[self.group.number] = self.threads.is_pressed

    @property
    def is_pressed(self) -> bool:
        """Whether requests wait in all workers; a worker with free capacity would receive the new ones."""
        self.share_pressure()
        return bool(self.pressed.all())

    def note_proxy(self, request: Request, address: str) -> None:
        """Notes the address of a proxy that the settings do not name."""
        if self.proxies or "x-forwarded-for" not in request.headers or len(self.unnamed_proxies) == _MAX_UNNAMED:
            return
        with suppress(ValueError):
            if ip_address(address).is_private:
                self.unnamed_proxies.add(address)

    @property
    def notices(self) -> tuple[str, ...]:
        """Problems of the whole service that do not stop searches."""
        cure = "all its shoppers count as one address: their events, charges and rates are limited together"
        addresses = sorted(self.unnamed_proxies)
        proxies = (f"service.trusted_proxies does not name the proxy at {each}, so {cure}" for each in addresses)
        return tuple(filter(None, (self.page_problem(), *proxies)))

    def page_key(self) -> str:
        """The key that the store page sends; empty if there are no keys, or if visitors may not have it."""
        has_key = self.keys.exists and not self.page_problem()
        return (self.page_setting or self.keys.page_key()) if has_key else ""

    def page_problem(self) -> str:
        """The reason why the store page cannot search, for the owner; empty if it can."""
        if not (self.page_setting and self.keys.exists):
            return ""
        try:
            permit = self.keys.permit(self.page_setting, datetime.now(UTC))
        except StoreDamagedError as error:
            return str(error)
        if permit is None:
            reason = "unknown, withdrawn or expired"
        elif not permit.scopes <= _PUBLIC.scopes:
            reason = "one that may do more than search and record events, and every visitor would get it"
        elif Scope.SEARCH not in permit.scopes:
            reason = "without the scope search"
        else:
            return ""
        return f"the store page cannot search: service.page_key is {reason}; remove it, and the page uses its own key"

    def charge(self, permit: Permit, cost: int) -> None:
        """Counts the rest of a request's cost, in searches, against its key and its address with this key;
        authorization counted the first search. Raises RequestError (429) above a limit."""
        if cost > 1:
            self.rates.count_address(f"{CURRENT_CLIENT.get().address} {permit.id}", cost - 1)
            if permit.id:
                self.rates.count_key(permit.id, permit.requests_per_minute, cost - 1)

    def close(self) -> None:
        """Ends the threads."""
        self.threads.close()
        self.writer.close()


class Companion(Protocol):
    """A part of an index that one of the interfaces adds."""

    @property
    def notices(self) -> tuple[str, ...]:
        """Problems that do not stop searches."""


C = TypeVar("C", bound=Companion)


@dataclass(frozen=True, slots=True, eq=False)
class ServiceContext:
    """One index, as the routes use it."""

    name: str
    """Name of the index directory."""
    engine: SearchEngine
    shared: SharedParts
    impressions: ImpressionRecorder
    tasks: TaskRunner
    feeds: Callable[[], Path | None]
    """The folder from which feeds are read; None if there is none."""
    companions: tuple[Companion, ...] = ()
    called: str = ""
    """The index name in the request; empty if it has none."""
    protocol_name: Callable[[], str] = str
    """The name that a write of the InstantSearch protocol gave to the only index of a service, or empty."""
    on_close: Callable[[], None] = lambda: None
    """Called last when the context is closed."""

    @property
    def path(self) -> str:
        """The prefix of the paths of its routes."""
        return f"/v1/indexes/{quote(self.called, safe='')}" if self.called else "/v1"

    def companion(self, kind: type[C]) -> C:
        """The companion of a class."""
        return next(each for each in self.companions if isinstance(each, kind))

    @property
    def notices(self) -> tuple[str, ...]:
        """Problems that do not stop searches, from the engine and the companions."""
        of_companions = (notice for each in self.companions for notice in each.notices)
        return (*self.engine.notices, *of_companions)

    def close(self) -> None:
        """Writes recorded events, and interrupts the running task."""
        self.impressions.close()
        self.tasks.close()
        self.on_close()

    def visible(self, permit: Permit) -> VisibleCatalog:
        """The part of the catalog that is visible to a key."""
        return self.engine.visible(combine_filters(permit.filters))

    def narrow(self, permit: Permit, filters: str = "") -> str:
        """A request's filter combined with those of its key. Raises FilterError, or UnknownFieldError for a field that
        no product visible to the key has."""
        if permit.filters and (tree := parse_filter(filters)) is not None:
            self.visible(permit).fields.compile(tree)
        return combine_filters((*permit.filters, filters))

    def visible_history(self, permit: Permit, history: Iterable[PastAct]) -> list[PastAct]:
        """The acts of a history about products that are visible to a key."""
        acts = list(history)
        if not permit.filters:
            return acts
        visible = self.visible(permit).visible_ids(act.product_id for act in acts)
        return [act for act in acts if act.product_id in visible]

    def suggest(self, permit: Permit, typed: str, size: int) -> Suggestions:
        """Suggestions for typed text; for a key with filters, computed from the products that pass them."""
        suggestions = self.engine.suggest(typed, size=size, filters=combine_filters(permit.filters))
        products = tuple(replace(each, product=self.shown(permit, each.product)) for each in suggestions.products)
        return replace(suggestions, products=products)

    def shown(self, permit: Permit, product: Product) -> Product:
        """A product as visible to a key: without the fields that relevance settings hide, unless it is an admin key."""
        hidden = self.hidden_from(permit)
        return without_fields(product, hidden) if hidden else product

    def hidden_from(self, permit: Permit) -> Collection[str]:
        """The fields that relevance settings hide from a key."""
        sees_all = permit.allows(Scope.ADMIN) and not permit.filters
        return () if sees_all else self.engine.relevance.served.hidden

    def shown_page(self, permit: Permit, page: Page) -> Page:
        """A page with its products as visible to a key."""
        if not self.engine.relevance.served.hidden:
            return page
        hits, nearest = (
            tuple(replace(hit, product=self.shown(permit, hit.product)) for hit in each)
            for each in (page.hits, page.nearest)
        )
        sponsored = tuple(replace(hit, product=self.shown(permit, hit.product)) for hit in page.sponsored)
        return replace(page, hits=hits, nearest=nearest, sponsored=sponsored)

    def returned_fields(self, permit: Permit, names: Sequence[str]) -> ReturnedFields:
        """The product fields to return; raises UnknownFieldError for one that no product visible to a key has."""
        return ReturnedFields.of(names, self.visible(permit).fields) if names else ReturnedFields()

    def change(self, permit: Permit, changes: Sequence[Change]) -> AppliedChanges:
        """Applies live changes; with a key that has filters, only to products that pass them before and after."""
        self.shared.charge(permit, search_cost(hits=len(changes)))
        return self.engine.change(changes, filters=combine_filters(permit.filters))

    def append(self, permit: Permit, plan: Plan) -> AppliedChanges:
        """Stores the live changes that a plan makes, and waits briefly until searches show them. With a key that has
        filters, the plan only finds products that pass them."""
        result = self.engine.live.append(plan, filters=combine_filters(permit.filters))
        self.engine.live.wait_for(result.sequence, _SHOWN_SECONDS)
        return result

    def record(self, permit: Permit, events: Sequence[Event]) -> RecordResult:
        """Records events; with a key that has filters, only those about products that pass them. Their address is that
        of the request, unless the key is not public: then it is the one that the sender gives, if any."""
        self.shared.charge(permit, search_cost(hits=len(events)))
        ids = {each.product_id for each in events if each.product_id}
        if permit.filters and (hidden := ids - self.visible(permit).visible_ids(ids)):
            raise unknown_product(self.engine.snapshot, min(hidden))
        if not permit.is_public:
            return self.engine.record(*trusted_events(events))
        is_answer = self.engine.recorder.is_answer
        accepted, ignored = public_events(events, counted_address(permit), datetime.now(UTC), is_answer)
        return replace(self.engine.record(*accepted), ignored=ignored)


def counted_address(permit: Permit) -> str:
    """The network address whose allowance the events of this request use; empty for a trusted sender."""
    # The clients of a Unix socket have no address, and share one allowance.
    return (CURRENT_CLIENT.get().address or "unknown") if permit.is_public else ""


FindIndex = Callable[[str], "ServiceContext"]
"""Finds an index by the name that an interface uses; raises UnknownIndexError or IndexUnavailableError."""


class RequestIndexes:
    """The indexes of a service during one request; those that it uses are not closed until it is over."""

    def __init__(self, request: Request, stack: ExitStack) -> None:
        self.registry: IndexRegistry[ServiceContext] = request.app.state.indexes
        self.shared: SharedParts = request.app.state.shared
        self.name: str = request.scope.get(INDEX, "")
        """Name of the index in the path."""
        self._request = request
        self._stack = stack

    def get(self, name: str) -> ServiceContext:
        """An index by name, or the default one; raises UnknownIndexError or IndexUnavailableError."""
        context = self._stack.enter_context(self.registry.use(name))
        return replace(context, called=name)

    def choose(self, name: str, find: FindIndex | None = None) -> ServiceContext:
        """An index by name, found by `find` or else by `get`, after the request's key is verified. Raises RequestError:
        403 for an index that the key may not use, 404 or 503."""
        try:
            return (find or self.get)(name)
        except (UnknownIndexError, IndexUnavailableError) as error:
            named = {name.lower(): value for name, value in self._request.query_params.items()}
            key = header_key(self._request.scope) or named.get("x-algolia-api-key", "")
            permit = identify(self.shared, self._request, key)
            raise self._refusal(permit, name, error) from None

    def admitted(self, permit: Permit, name: str, find: FindIndex | None = None) -> ServiceContext:
        """Like `choose` with a known permit; by default the index in the path."""
        name = name or self.name
        try:
            context = (find or self.get)(name)
        except (UnknownIndexError, IndexUnavailableError) as error:
            raise self._refusal(permit, name, error) from None
        admit(context, permit)
        return context

    def visible(self, permit: Permit) -> Iterator[ServiceContext]:
        """The indexes that a permit may use, by name."""
        for name in self.registry.names:
            with suppress(UnknownIndexError, IndexUnavailableError, RequestError):
                context = self.get(name)
                admit(context, permit)
                yield context

    def set_alias(self, permit: Permit, alias: str, name: str) -> None:
        """Sets the index of an alias; raises RequestError if the key may not use both names, or SettingError."""
        for each in (alias, name):
            if not permit.sees(each):
                raise _not_its_index(permit, each)
        if self.registry.aliases is None:
            raise RequestError(409, "aliases need a directory of indexes; this service has one index", field="alias")
        self.registry.aliases.set(alias, name)

    def _refusal(self, permit: Permit, name: str, error: Exception) -> RequestError:
        """The error for an index that does not exist or cannot be opened."""
        if name and not permit.sees(name):
            return _not_its_index(permit, name)
        if isinstance(error, IndexUnavailableError):
            return RequestError(503, f"the index {error} cannot be opened now; see the log", retry_after=5)
        names = [each for each in self.registry.names if permit.sees(each)]
        there = f"{', '.join(names[:_MAX_NAMES])}{', ...' if len(names) > _MAX_NAMES else ''}" or "none"
        if not name:
            return RequestError(404, f"name an index, as in /v1/indexes/NAME/search: there is {there}", field="index")
        return RequestError(404, f"there is no index {name[:100]!r}; there is {there}", field="index")


async def _indexes_of(request: Request) -> AsyncIterator[RequestIndexes]:
    with ExitStack() as stack:
        yield RequestIndexes(request, stack)


Indexes = Annotated[RequestIndexes, Depends(_indexes_of)]


async def _context_of(indexes: Indexes) -> ServiceContext:
    return indexes.choose(indexes.name)


Contextual = Annotated[ServiceContext, Depends(_context_of)]


class WorkerRouter(APIRouter):
    """A router whose plain functions run in a worker thread and return a response, or a value for a JSON response.

    With `writes` they run in the one thread for changes, which run one after another anyway and would block other work.
    """

    def __init__(self, *, writes: bool = False, **options: Any) -> None:  # noqa: ANN401 - as FastAPI
        super().__init__(**{"route_class": JsonRoute, **options})
        self._writes = writes

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401 - as FastAPI
        """Adds a route; a plain function takes the ServiceContext as `context`, or the RequestIndexes as `indexes`."""

        @wraps(endpoint)
        async def respond(**arguments: Any) -> Response:  # noqa: ANN401 - as the endpoint
            shared: SharedParts = (arguments.get("context") or arguments["indexes"]).shared
            threads = shared.writer if self._writes else shared.threads
            result = await threads.run(partial(endpoint, **arguments))
            return result if isinstance(result, Response) else json_response(result)

        super().add_api_route(path, endpoint if iscoroutinefunction(endpoint) else respond, **options)


def identify(shared: SharedParts, request: Request, key: str, scope: Scope = Scope.SEARCH) -> Permit:
    """The permit of a request, before any scope is checked: that of its key, or the owner's for the token, which may
    also be in the cookie of a page of this service. As long as no key exists, searches and events need none. Raises
    RequestError (401, 403, 429)."""
    is_open = scope in _PUBLIC.scopes and not shared.keys.exists
    # Where no key is needed, the cookie has no effect: the store page shows its owner what it shows a shopper.
    cookies = () if key or is_open else request.headers.get("cookie", "").split(";")
    has_cookie = shared.token.is_among(each.partition("=")[2].strip() for each in cookies)
    address = request.client.host if request.client else ""
    shared.note_proxy(request, address)
    client = Client.of(key, address)
    CURRENT_CLIENT.set(client)
    SHOPPER_ADDRESS.set(client.address)
    shared.rates.count_address(client.address)
    if scope is Scope.WRITE:
        request.scope[EXTENSION]()
    if has_cookie:
        _check_own_page(request)
    if has_cookie or shared.token.is_among([key]):
        SHOPPER_ADDRESS.set("")
        return _OWNER
    if is_open:
        return _PUBLIC
    permit = shared.keys.permit(key, datetime.now(UTC), address) if key else None
    if permit is None:
        raise _unknown_key(shared, key)
    if permit.parameters is not None and not request.url.path.startswith(PREFIX):
        message = (
            "secured API keys are for the InstantSearch protocol; shelfwise keys narrow makes keys for other paths"
        )
        raise RequestError(403, message)
    shared.rates.count_key(permit.id, permit.requests_per_minute)
    SHOPPER_ADDRESS.set(counted_address(permit))
    return permit


def _unknown_key(shared: SharedParts, key: str) -> RequestError:
    """The error for a request without a valid key."""
    if not shared.keys.exists:
        return RequestError(
            401,
            "this request needs a key (shelfwise keys create), or the token that shelfwise serve printed at its start: "
            "send Authorization: Bearer TOKEN",
        )
    if not key:
        return RequestError(401, "this request needs an API key: send Authorization: Bearer KEY, or X-API-Key")
    return RequestError(401, "this key is unknown, withdrawn or expired", code="bad_key")


def _check_own_page(request: Request) -> None:
    """Raises RequestError (403) unless a page of this service sent a request with the cookie, or the visitor opened its
    address. Browsers also send the cookie for pages of other ports and of sites under the same domain."""
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site")
    own = f"{request.url.scheme}://{request.headers.get('host', '')}"
    is_own = origin in (None, own) and site in (None, "same-origin", "none")
    if not is_own or (origin is site is None and request.method not in ("GET", "HEAD")):
        raise RequestError(
            403,
            "the cookie of the admin page is accepted only from pages of this service; behind a proxy, pass the Host "
            "header on and set service.trusted_proxies, or use a key",
            code="other_page",
        )


def admit(context: ServiceContext, permit: Permit) -> None:
    """Raises RequestError (403) if a permit is for other indexes, or its filter is not valid for this one."""
    if not permit.sees(context.name, context.called, context.protocol_name()):
        raise _not_its_index(permit, context.called or context.name)
    try:
        context.visible(permit)
    except (FilterError, UnknownFieldError):
        message = "the filter of this key names a field that no product has; create a key with another filter"
        raise RequestError(403, message, code="bad_key_filter") from None


def authorize(context: ServiceContext, request: Request, key: str, scope: Scope, *, secured: bool = False) -> Permit:
    """The permit of a request's key for an index; raises RequestError like `identify`, `check_scope` and `admit`."""
    permit = identify(context.shared, request, key, scope)
    check_scope(permit, scope, secured=secured)
    admit(context, permit)
    return permit


def _not_its_index(permit: Permit, name: str) -> RequestError:
    """The error for an index that the key may not use, equal whether the index exists or not."""
    patterns = ", ".join(dict.fromkeys(each for group in permit.indexes for each in group))
    return RequestError(403, f"this key is not for the index {name[:100]!r}; it is for {patterns}", code="other_index")


def check_scope(permit: Permit, scope: Scope, *, secured: bool = False) -> None:
    """Raises RequestError (403) for a permit without the scope, and for that of a secured API key unless `secured`.

    The scopes `metrics`, `advertiser` and `admin` concern the whole store, so a key with a filter never has them. Its
    searches, events and writes go through `ServiceContext`, which applies the filter.
    """
    if not permit.allows(scope):
        message = f"this key lacks the scope {scope}; it has {', '.join(sorted(permit.scopes)) or 'none'}"
        raise RequestError(403, message)
    if permit.parameters is not None and not secured:
        raise RequestError(403, "a secured API key can only search, recommend and send events")
    if scope in _STORE_WIDE and permit.filters:
        message = f"this concerns the whole store: it needs a key with the scope {scope} and no filter"
        raise RequestError(403, message)


async def _sent_key(
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    header: Annotated[str | None, Depends(_HEADER)],
) -> str:
    return bearer.credentials if bearer else header or ""


SentKey = Annotated[str, Depends(_sent_key)]


def require_scope(scope: Scope) -> Callable[..., Awaitable[Permit]]:
    """A dependency of routes of an index that need a scope."""

    async def check(request: Request, context: Contextual, key: SentKey) -> Permit:
        return authorize(context, request, key, scope)

    return check


def require_any_scope(scope: Scope, *, whole: bool = False) -> Callable[..., Awaitable[Permit]]:
    """A dependency of routes that choose their indexes themselves; with `whole` of routes for the whole service, which
    a key for some indexes or products may not use."""

    async def check(request: Request, indexes: Indexes, key: SentKey) -> Permit:
        permit = identify(indexes.shared, request, key, scope)
        check_scope(permit, scope)
        if whole and not permit.sees(""):
            raise RequestError(
                403, "this concerns the whole service: it needs a key for all indexes", code="other_index"
            )
        if indexes.name:
            indexes.admitted(permit, "")
        return permit

    return check


MaySearch = Annotated[Permit, Depends(require_scope(Scope.SEARCH))]
MaySearchAny = Annotated[Permit, Depends(require_any_scope(Scope.SEARCH))]
MayAdministerAny = Annotated[Permit, Depends(require_any_scope(Scope.ADMIN))]
MayRecord = Annotated[Permit, Depends(require_scope(Scope.EVENTS))]
MayWrite = Annotated[Permit, Depends(require_scope(Scope.WRITE))]
MayAdminister = Annotated[Permit, Depends(require_scope(Scope.ADMIN))]
MayReadLedger = Annotated[Permit, Depends(require_scope(Scope.ADVERTISER))]
MayReadMetrics = Annotated[Permit, Depends(require_any_scope(Scope.METRICS, whole=True))]
MayAdministerService = Annotated[Permit, Depends(require_any_scope(Scope.ADMIN, whole=True))]
