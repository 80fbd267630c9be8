"""Error responses of the HTTP API in one JSON shape; under the InstantSearch paths, in that protocol's shape."""

from __future__ import annotations

import errno
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from shelfwise.retrieval import errors
from shelfwise.retrieval.updates.validation import decode_json
from shelfwise.service.http.raw_request import REQUEST_ID, is_protocol_path, request_id

_log = structlog.get_logger("shelfwise.http")
_STATUS: Mapping[type[errors.ShelfwiseError], tuple[int, str]] = {
    errors.UnknownProductError: (404, "unknown_product"),
    errors.OutsideFilterError: (403, "outside_filter"),
    errors.UnknownVersionError: (404, "unknown_version"),
    errors.UnknownModelError: (404, "unknown_{family}"),
    errors.ModelRefusedError: (409, "{family}_refused"),
    errors.UnknownTaskError: (404, "unknown_task"),
    errors.FilterError: (400, "bad_filter"),
    errors.UnknownFieldError: (400, "unknown_field"),
    errors.QueryError: (400, "bad_query"),
    errors.ChangeError: (400, "bad_change"),
    errors.EventError: (400, "bad_event"),
    errors.RuleError: (400, "bad_rule"),
    errors.SynonymError: (400, "bad_synonym"),
    errors.RelationError: (400, "bad_relation"),
    errors.RelevanceError: (400, "bad_relevance"),
    errors.FaqError: (400, "bad_answer_text"),
    errors.ExperimentError: (400, "bad_experiment"),
    errors.CampaignError: (400, "bad_campaign"),
    errors.InputError: (400, "bad_request"),
    errors.StoreLockedError: (409, "busy"),
    errors.StoreMissingError: (404, "nothing_there"),
    errors.StoreError: (503, "store"),
    errors.ClusterError: (503, "cluster"),
    errors.EncoderError: (503, "encoder"),
    errors.ModelError: (503, "{family}"),
}
_SERVER_MESSAGES = {
    "store": "the index cannot be used now",
    "cluster": "the search cluster does not respond as expected now",
    "encoder": "the text cannot be encoded now",
    "ranker": "the ranker cannot be used now",
    "user_tower": "the user tower cannot be used now",
    "expansion": "the learned expansions cannot be used now",
    "internal": "internal server error",
}
"""Messages of server errors by code; the original messages would reveal files and machines."""
_CODES = {
    400: "bad_request",
    401: "no_key",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "slow_request",
    409: "conflict",
    413: "too_large",
    415: "unsupported",
    429: "too_many",
    503: "unavailable",
    504: "too_slow",
}


_MAX_FAULTS = 50


class Fault(BaseModel):
    """A field that is wrong."""

    field: str
    message: str


class ErrorDetail(BaseModel):
    """Content of an error response."""

    code: str = Field(description="Error code, for programs.", examples=["bad_filter"])
    message: str = Field(description="Message for people: what is wrong, and how to correct it.")
    field: str = Field("", description="The field of the request that is wrong, if one is.", examples=["filters"])
    faults: list[Fault] = Field(
        [], description="All faults, if the request has more than one; `message` describes the first."
    )
    request_id: str = Field(description="Id of the request in the log.")


class ErrorResponse(BaseModel):
    """Body of every error response."""

    error: ErrorDetail


class ProtocolErrorResponse(BaseModel):
    """Body of an error response under the InstantSearch paths."""

    message: str = Field(description="Message for people: what is wrong, and how to correct it.")
    status: int = Field(description="HTTP status code of the response.")


class RequestError(Exception):
    """Ends a request with a status; `retry_after` is in seconds, `allow` lists the methods of the path."""

    def __init__(
        self, status: int, message: str, *, field: str = "", code: str = "", retry_after: int = 0, allow: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.field = field
        self.code = code or _CODES.get(status, "error")
        self.retry_after = retry_after
        self.allow = allow
        self.faults: list[Fault] = []
        """All faults, if there are several."""


def error_response(error: RequestError, identity: str, *, in_protocol: bool = False) -> Response:
    """The response for an error of the request with this id; `in_protocol` for the InstantSearch shape."""
    headers = {REQUEST_ID: identity}
    if error.retry_after:
        headers["Retry-After"] = str(error.retry_after)
    if error.allow:
        headers["Allow"] = error.allow
    body: BaseModel
    if in_protocol:
        body = ProtocolErrorResponse(message=error.message, status=error.status)
    else:
        field = error.field.encode("utf-8", "replace").decode()  # may name half a surrogate pair of a body
        detail = ErrorDetail(
            code=error.code, message=error.message, field=field, faults=error.faults, request_id=identity
        )
        body = ErrorResponse(error=detail)
    content = body.model_dump_json(exclude=None if error.faults else {"error": {"faults"}})
    return Response(content, error.status, headers, "application/json")


class JsonRoute(APIRoute):
    """A route whose JSON body is decoded by `decode_json`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def respond(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return respond


class _JsonRequest(Request):
    async def json(self) -> object:
        return decode_json(await self.body())


def handle_errors(app: FastAPI) -> None:
    """Installs one handler for every error of an application."""

    async def respond(request: Request, error: Exception) -> Response:
        scope, in_protocol = request.scope, is_protocol_path(request.scope)
        request_error = to_request_error(error)
        if isinstance(error, HTTPException) and request_error.status in (404, 405):
            advice = f"; the path takes {request_error.allow}" if request_error.allow else "; /docs lists all routes"
            route = f"{request.method} {request.url.path[:200]} is not a route of this service"
            request_error.message = route if in_protocol else route + advice
        if isinstance(error, errors.ShelfwiseError) and request_error.status >= 500:
            _log.error("failed", request=request_id(scope), kind=type(error).__name__, error=str(error))
        return error_response(request_error, request_id(scope), in_protocol=in_protocol)

    for kind in (RequestError, RequestValidationError, HTTPException, errors.ShelfwiseError, Exception):
        app.add_exception_handler(kind, respond)


def to_request_error(error: Exception) -> RequestError:
    """Status, code and message for an error; the message of an unexpected error has no details."""
    match error:
        case RequestError():
            return error
        case RequestValidationError():
            return _from_validation_error(error)
        case HTTPException() if isinstance(error.__cause__, ValueError):
            return RequestError(400, f"the body {error.__cause__}", field="body")
        case HTTPException():
            return RequestError(error.status_code, str(error.detail), allow=(error.headers or {}).get("Allow", ""))
        case errors.MissingExtraError():
            return RequestError(501, str(error), code="missing_extra")
        case errors.ShelfwiseError():
            return _from_shelfwise_error(error)
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            return RequestError(503, "this server has no free file descriptors; try again later", retry_after=5)
        case _:
            return _server_error(500, "internal")


def _from_shelfwise_error(error: errors.ShelfwiseError) -> RequestError:
    status, code = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), (500, "internal"))
    if isinstance(error, errors.ModelError):
        code = code.format(family=error.family)
    if status >= 500:
        return _server_error(status, code, retry_after=1)
    field = "filters" if isinstance(error, errors.FilterError) else getattr(error, "field", "")
    return RequestError(status, str(error), field=field, code=code)


def _server_error(status: int, code: str, retry_after: int = 0) -> RequestError:
    message = f"{_SERVER_MESSAGES[code]}; see the log for this request id"
    return RequestError(status, message, code=code, retry_after=retry_after)


def _from_validation_error(error: RequestValidationError) -> RequestError:
    details = error.errors()
    is_missing = details[0]["type"] == "missing"
    if tuple(details[0]["loc"]) == ("body",) and (is_missing or isinstance(details[0].get("input"), bytes)):
        what = "is missing" if is_missing else "was not read as JSON"
        return RequestError(400, f"the body {what}; send JSON with Content-Type: application/json", field="body")
    faults = list(map(_fault, details[:_MAX_FAULTS]))
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    code = "unknown_field" if details[0]["type"] == "extra_forbidden" else "bad_request"
    request_error = RequestError(400, faults[0].message + more, field=faults[0].field, code=code)
    request_error.faults = faults if len(details) > 1 else []
    return request_error


def _fault(error: Mapping[str, Any]) -> Fault:
    path = [str(part) for part in error["loc"]]
    field = ".".join(path[1:] if path and path[0] in ("body", "query", "path", "header") else path)
    field = field.encode("utf-8", "replace").decode()
    is_unknown = error["type"] == "extra_forbidden"
    return Fault(
        field=field, message=f"there is no field {field}" if is_unknown else f"{field or 'the request'}: {error['msg']}"
    )
