"""The router of the protocol, and what its routes share: bodies, rights of keys, and the name of the index."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, cast, get_type_hints

from fastapi import Depends, Path, Request

from retrieval.errors import QueryError
from service.http.auth import Permit, Scope
from service.http.context import Contextual, ServiceContext, WorkerRouter, authorize
from service.http.errors import ProtocolErrorResponse, RequestError
from service.http.openapi import struct_response
from service.http.request import PREFIX
from service.http.schemas import MOST_ID
from service.instantsearch.index_store import ProtocolStore
from service.instantsearch.request import SORTED_INDEX, JsonObject, is_suggestions_index, parse_body, parse_json, text

MOST_ITEMS = 1_000
"""Rules or synonyms of one request."""
_KEY = "x-algolia-api-key"
_RESPONSES: dict[int | str, dict[str, Any]] = {
    **{status: {"model": ProtocolErrorResponse} for status in (400, 401, 403, 404, 405, 409, 413, 429, 500, 503, 504)},
    422: {"model": ProtocolErrorResponse, "description": "Never sent: an invalid request is a 400."},
}
BODY: dict[str, Any] = {
    "requestBody": {
        "description": "JSON with any content type, or a form.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}
LIST_BODY: dict[str, Any] = {
    "requestBody": {
        "description": "JSON with any content type.",
        "content": {"application/json": {"schema": {"type": "array", "items": {"type": "object"}}}},
    }
}

Index = Annotated[str, Path(max_length=500, description="Any name; one that ends in `_price_desc` sorts so.")]
ObjectId = Annotated[str, Path(min_length=1, max_length=MOST_ID, description="The `objectID`.")]


class ProtocolRouter(WorkerRouter):
    """Routes of the protocol, whose functions return types of msgspec, or a response that `responses` describes."""

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


async def _read_items(request: Request) -> Sequence[JsonObject]:
    found = parse_json(await request.body() or b"null", "the body")
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise QueryError("the body must be a list of objects")
    if len(found) > MOST_ITEMS:
        raise QueryError(f"the body has {len(found):,} entries, it may have {MOST_ITEMS:,}")
    return cast(Sequence[JsonObject], found)


Payload = Annotated[JsonObject, Depends(_read_payload)]
Items = Annotated[Sequence[JsonObject], Depends(_read_items)]


def permit_of(
    context: ServiceContext, request: Request, scope: Scope, *rights: str, payload: JsonObject | None = None
) -> Permit:
    """Authorizes by the key in the headers, the query string or the body; names in the query string have no case.

    A key that was made through the protocol needs one of `rights`, any other the scope. Raises RequestError.
    """
    parameters = {name.lower(): value for name, value in request.query_params.items()}
    key = request.headers.get(_KEY) or parameters.get(_KEY) or text(payload or {}, "apiKey")
    return authorize(context, request, key, scope, rights)


def _require(scope: Scope, *rights: str) -> Callable[..., Awaitable[Permit]]:
    async def check(context: Contextual, request: Request) -> Permit:
        return permit_of(context, request, scope, *rights)

    return check


MayList = Annotated[Permit, Depends(_require(Scope.SEARCH, "listIndexes"))]
MayAdd = Annotated[Permit, Depends(_require(Scope.WRITE, "addObject"))]
MayDelete = Annotated[Permit, Depends(_require(Scope.WRITE, "deleteObject"))]
MayClear = Annotated[Permit, Depends(_require(Scope.WRITE, "deleteIndex"))]
MayWrite = Annotated[Permit, Depends(_require(Scope.WRITE, "addObject", "deleteObject", "deleteIndex", "editSettings"))]
MayReadSettings = Annotated[Permit, Depends(_require(Scope.ADMIN, "settings", "editSettings"))]
MayEditSettings = Annotated[Permit, Depends(_require(Scope.ADMIN, "editSettings"))]
MayAdminister = Annotated[Permit, Depends(_require(Scope.ADMIN, "admin"))]
"""No key of the protocol has this right."""


async def _protocol_of(context: Contextual) -> ProtocolStore:
    """The protocol's store of the index."""
    return context.companion(ProtocolStore)


Stored = Annotated[ProtocolStore, Depends(_protocol_of)]


def check_index(stored: ProtocolStore, name: str) -> None:
    """Raises RequestError (404) for a name that is not the index's; before the first write every name is."""
    known = stored.settings.name
    is_replica = name.startswith(f"{known}_") and (SORTED_INDEX.fullmatch(name) or is_suggestions_index(name))
    if known and name != known and not is_replica:
        raise RequestError(
            404,
            f"there is no index {name[:100]!r}: this service has one, {known!r}. For another one, build a directory of "
            "its own (shelfwise rebuild DIRECTORY FEED) and serve it (shelfwise serve DIRECTORY --port PORT)",
            field="indexName",
        )


def check_writable(stored: ProtocolStore, name: str) -> None:
    """Raises RequestError for a name that cannot be written to: of another index, or of a view of this one."""
    if stored.is_temporary(name):
        return
    if SORTED_INDEX.fullmatch(name) or is_suggestions_index(name):
        message = f"{name[:100]!r} is a view of the index, which cannot be written to: write to the index itself"
        raise RequestError(400, message, field="indexName")
    check_index(stored, name)
