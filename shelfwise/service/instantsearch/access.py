"""The router of the protocol, and what its routes share: bodies, rights of keys, and index names."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, get_type_hints

from fastapi import Depends, Path, Request
from msgspec import structs
from pydantic import AfterValidator

from shelfwise.service.http.auth import Permit, Scope
from shelfwise.service.http.context import (
    Indexes,
    RequestIndexes,
    ServiceContext,
    WorkerRouter,
    authorize,
    check_scope,
    identify,
)
from shelfwise.service.http.errors import ProtocolErrorResponse, RequestError
from shelfwise.service.http.indexes import UnknownIndexError
from shelfwise.service.http.raw_request import PREFIX
from shelfwise.service.http.schemas import MAX_ID, struct_response
from shelfwise.service.instantsearch.filters import AttributeCatalog, FilterTranslator
from shelfwise.service.instantsearch.protocol_request import (
    FILTERING,
    SORTED_INDEX,
    JsonObject,
    is_suggestions_index,
    parse_body,
    parse_refinements,
    text,
)
from shelfwise.service.instantsearch.protocol_settings import ProtocolStore

_KEY = "x-algolia-api-key"
_IN_BODY = (Scope.SEARCH, Scope.EVENTS)
"""The scopes of requests whose body may have the key."""
_RESPONSES: dict[int | str, dict[str, Any]] = {"default": {"model": ProtocolErrorResponse, "description": "An error."}}
BODY: dict[str, Any] = {
    "requestBody": {
        "description": "JSON with any content type, or a form.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}
Index = Annotated[str, Path(max_length=500, description="Any name; one that ends in `_price_desc` sorts accordingly.")]


def _check_object_id(value: str) -> str:
    if value.startswith(("rules/", "synonyms/")):
        raise RequestError(404, "rules and synonyms are not part of this protocol: use /v1/rules and /v1/synonyms")
    return value


ObjectId = Annotated[
    str, Path(min_length=1, max_length=MAX_ID, description="The `objectID`."), AfterValidator(_check_object_id)
]


class ProtocolRouter(WorkerRouter):
    """A router for functions that return msgspec types, or a response that `responses` describes."""

    def __init__(self, *, writes: bool = False) -> None:
        super().__init__(writes=writes, prefix=PREFIX.rstrip("/"), tags=["InstantSearch"], responses=_RESPONSES)

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401 - as FastAPI
        """Adds a route."""
        responses = options.pop("responses", None) or {
            200: struct_response(get_type_hints(endpoint, None, None, True)["return"])
        }
        super().add_api_route(path, endpoint, **options | {"response_model": None, "responses": responses})


async def _read_payload(request: Request) -> JsonObject:
    return parse_body(await request.body())


Payload = Annotated[JsonObject, Depends(_read_payload)]


def find_index(indexes: RequestIndexes, name: str) -> ServiceContext:
    """The index of a name in the protocol: its own name, an alias, or a view or replica of it. A service with one index
    has it under every name. Raises UnknownIndexError or IndexUnavailableError."""
    registry = indexes.registry
    if registry.root is None:
        context = indexes.get("")
        return replace(context, called="" if context.protocol_name() else name)
    is_view = SORTED_INDEX.fullmatch(name) or is_suggestions_index(name)
    for end in (len(name), *(each.start() for each in reversed([*re.finditer("_", name)]) if is_view)):
        with suppress(UnknownIndexError):
            return indexes.get(name[:end])
    for each in registry.opened:
        if each.companion(ProtocolStore).settings.view(name):
            return replace(indexes.get(each.name), called=name)
    raise UnknownIndexError(name)


async def _context_of(request: Request, indexes: Indexes) -> ServiceContext:
    name: str = request.path_params.get("index", "")
    return indexes.choose(name, partial(find_index, indexes) if name else None)


Contextual = Annotated[ServiceContext, Depends(_context_of)]


def find_or_create(indexes: RequestIndexes, permit: Permit, name: str) -> ServiceContext:
    """The index of a name. With several indexes, a missing one is created if the key may add objects. Raises
    RequestError, UnknownIndexError, IndexUnavailableError, or SettingError for an invalid name."""
    try:
        return find_index(indexes, name)
    except UnknownIndexError:
        is_view = SORTED_INDEX.fullmatch(name) or is_suggestions_index(name)
        if is_view or permit.filters or not (permit.sees(name) and permit.allows(Scope.WRITE)):
            raise
        indexes.registry.create(name)
        return find_index(indexes, name)


async def _writable_context_of(request: Request, indexes: Indexes) -> ServiceContext:
    """Like `find_or_create`."""
    name: str = request.path_params["index"]
    if indexes.registry.root is None:
        return await _context_of(request, indexes)
    make = partial(find_or_create, indexes, await _may_write_any(indexes, request))
    return await indexes.shared.threads.run(partial(indexes.choose, name, make))


Writable = Annotated[ServiceContext, Depends(_writable_context_of)]
"""Resolved before the permit of a route, so that the permit finds the new index."""


async def _key_of(request: Request, scope: Scope) -> str:
    """The key in the headers or the query string, whose names are case-insensitive; for searches and events also in the
    body."""
    parameters = {name.lower(): value for name, value in request.query_params.items()}
    key = request.headers.get(_KEY) or parameters.get(_KEY, "")
    return key or (text(parse_body(await request.body()), "apiKey") if scope in _IN_BODY else "")


def narrowed(context: ServiceContext, permit: Permit) -> Permit:
    """A permit for an index, with the filters that a secured API key forces as those of a narrowed key."""
    if not permit.parameters:
        return permit
    refinements = FilterTranslator(AttributeCatalog(context.visible(permit).fields)).expression(
        parse_refinements(permit.parameters)
    )
    others = {name: value for name, value in permit.parameters.items() if name not in FILTERING}
    return structs.replace(permit, filters=(*permit.filters, refinements), parameters=others)


def _require(scope: Scope, *, secured: bool = False) -> Callable[..., Awaitable[Permit]]:
    """A dependency of routes of an index that need a scope; the key may be a secured API key only if `secured`."""

    async def check(context: Contextual, request: Request) -> Permit:
        key = await _key_of(request, scope)
        return narrowed(context, authorize(context, request, key, scope, secured=secured))

    return check


def _require_any(scope: Scope, *, secured: bool = False) -> Callable[[RequestIndexes, Request], Awaitable[Permit]]:
    """The same for routes whose path names no index."""

    async def check(indexes: Indexes, request: Request) -> Permit:
        permit = identify(indexes.shared, request, await _key_of(request, scope), scope)
        check_scope(permit, scope, secured=secured)
        return permit

    return check


_may_write_any = _require_any(Scope.WRITE)
MaySearch = Annotated[Permit, Depends(_require(Scope.SEARCH, secured=True))]
MayBrowse = Annotated[Permit, Depends(_require(Scope.SEARCH))]
MayWrite = Annotated[Permit, Depends(_require(Scope.WRITE))]
MayAdminister = Annotated[Permit, Depends(_require(Scope.ADMIN))]
MaySearchAny = Annotated[Permit, Depends(_require_any(Scope.SEARCH, secured=True))]
MayRecordAny = Annotated[Permit, Depends(_require_any(Scope.EVENTS, secured=True))]
MayWriteAny = Annotated[Permit, Depends(_may_write_any)]


def indexes_by_name(indexes: RequestIndexes, permit: Permit, names: Iterable[str]) -> Mapping[str, ServiceContext]:
    """The index of each name; raises RequestError if the key may not use it, or if it does not exist."""
    return {name: indexes.admitted(permit, name, partial(find_index, indexes)) for name in dict.fromkeys(names)}


async def _protocol_of(context: Contextual) -> ProtocolStore:
    """The protocol's store of the index."""
    return context.companion(ProtocolStore)


Stored = Annotated[ProtocolStore, Depends(_protocol_of)]


def check_index(context: ServiceContext, name: str) -> None:
    """Raises RequestError (404) for a name other than that of the only index; before the first write, any is valid."""
    own_name = context.protocol_name()
    is_replica = context.companion(ProtocolStore).settings.view(name)
    is_view = name.startswith(f"{own_name}_") and (SORTED_INDEX.fullmatch(name) or is_suggestions_index(name))
    if own_name and name != own_name and not (is_view or is_replica):
        raise RequestError(
            404,
            f"there is no index {name[:100]!r}: this service has one, {own_name!r}. For another one, build a directory "
            "of its own (shelfwise rebuild DIRECTORY FEED) and serve it (shelfwise serve DIRECTORY --port PORT)",
            field="indexName",
        )


def check_writable(context: ServiceContext, name: str) -> None:
    """Raises RequestError for a name that cannot be written to: that of another index, or of a view of this one."""
    if primary := context.companion(ProtocolStore).settings.of(name).primary:
        message = f"{name[:100]!r} is a replica: write to its primary, {primary!r}"
        raise RequestError(403, message, field="indexName")
    if SORTED_INDEX.fullmatch(name) or is_suggestions_index(name):
        message = f"{name[:100]!r} is a read-only view of the index: write to the index itself"
        raise RequestError(400, message, field="indexName")
    check_index(context, name)
