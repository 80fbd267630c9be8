"""The router of the protocol, and what its routes share: bodies, rights of keys, and index names."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, get_type_hints

from fastapi import Depends, Path, Request
from msgspec import structs
from pydantic import AfterValidator

from shelfwise.service.http.auth import Permit, Scope
from shelfwise.service.http.context import (
    FindIndex,
    Indexes,
    RequestIndexes,
    ServiceContext,
    SharedParts,
    WorkerRouter,
    authorize,
    check_scope,
    identify,
)
from shelfwise.service.http.errors import ProtocolErrorResponse, RequestError
from shelfwise.service.http.indexes import UnknownIndexError
from shelfwise.service.http.openapi import error_responses, struct_response
from shelfwise.service.http.raw_request import PREFIX
from shelfwise.service.http.schemas import MAX_ID
from shelfwise.service.instantsearch.filters import AttributeCatalog, FilterTranslator
from shelfwise.service.instantsearch.index_store import ProtocolStore
from shelfwise.service.instantsearch.protocol_request import (
    FILTERING,
    SORTED_INDEX,
    JsonObject,
    is_suggestions_index,
    parse_body,
    parse_refinements,
    text,
)

_KEY = "x-algolia-api-key"
_RESPONSES = error_responses(ProtocolErrorResponse, (400, 401, 403, 404, 405, 409, 413, 429, 500, 503, 504))
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
    permit = named_indexes(indexes, request, Scope.WRITE).permit
    make = partial(find_or_create, indexes, permit)
    return await indexes.shared.threads.run(partial(indexes.choose, name, make))


Writable = Annotated[ServiceContext, Depends(_writable_context_of)]
"""Resolved before the permit of a route, so that the permit finds the new index."""


def _key_of(request: Request, payload: JsonObject | None) -> str:
    """The key in the headers, the query string or the body; names in the query string are case-insensitive."""
    parameters = {name.lower(): value for name, value in request.query_params.items()}
    return request.headers.get(_KEY) or parameters.get(_KEY) or text(payload or {}, "apiKey")


def permit_of(
    context: ServiceContext, request: Request, scope: Scope, *, payload: JsonObject | None = None, secured: bool = False
) -> Permit:
    """The permit of a request's key for an index, which may be a secured API key only if `secured`; raises
    RequestError."""
    return narrowed(context, authorize(context, request, _key_of(request, payload), scope, secured=secured))


def narrowed(context: ServiceContext, permit: Permit) -> Permit:
    """A permit for an index, with the filters that a secured API key forces as those of a narrowed key."""
    if not permit.parameters:
        return permit
    refinements = FilterTranslator(AttributeCatalog(context.visible(permit).fields)).expression(
        parse_refinements(permit.parameters)
    )
    others = {name: value for name, value in permit.parameters.items() if name not in FILTERING}
    return structs.replace(permit, filters=(*permit.filters, refinements), parameters=others)


@dataclass(frozen=True, slots=True)
class NamedIndexes:
    """The indexes that the parts of a request name, for a key that may use each of them."""

    indexes: RequestIndexes
    permit: Permit
    scope: Scope
    secured: bool

    def by_name_or_new(self, names: Iterable[str]) -> Mapping[str, ServiceContext]:
        """Like `by_name`, creating missing indexes as in `find_or_create`."""
        return {name: self._get(name, partial(find_or_create, self.indexes, self.permit)) for name in names}

    @property
    def shared(self) -> SharedParts:
        """The parts that all indexes share."""
        return self.indexes.shared

    def by_name(self, names: Iterable[str]) -> Mapping[str, ServiceContext]:
        """The index of each name; raises RequestError."""
        return {name: self.get(name) for name in dict.fromkeys(names)}

    def get(self, name: str) -> ServiceContext:
        """The index of a name; raises RequestError."""
        return self._get(name, partial(find_index, self.indexes))

    def _get(self, name: str, find: FindIndex) -> ServiceContext:
        return self.indexes.admitted(self.permit, name, self.scope, find, secured=self.secured)


def named_indexes(
    indexes: RequestIndexes, request: Request, scope: Scope, *, payload: JsonObject | None = None, secured: bool = False
) -> NamedIndexes:
    """The indexes of a request whose path names none; raises RequestError like `permit_of`."""
    permit = identify(indexes.shared, request, _key_of(request, payload), scope)
    check_scope(permit, scope, secured=secured)
    return NamedIndexes(indexes, permit, scope, secured)


def _require(scope: Scope) -> Callable[..., Awaitable[Permit]]:
    async def check(context: Contextual, request: Request) -> Permit:
        return permit_of(context, request, scope)

    return check


MayWrite = Annotated[Permit, Depends(_require(Scope.WRITE))]
MayAdminister = Annotated[Permit, Depends(_require(Scope.ADMIN))]


async def _write_any(indexes: Indexes, request: Request) -> NamedIndexes:
    return named_indexes(indexes, request, Scope.WRITE)


MayWriteAny = Annotated[NamedIndexes, Depends(_write_any)]


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
