"""Every refusal of the HTTP API, in one JSON shape: what was wrong, where, and by which request; under the paths of the
InstantSearch protocol in that one's."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from retrieval import errors
from service.http.request import REQUEST_ID, is_protocol_path, request_id

_log = structlog.get_logger("shelfwise.http")
_STATUS: Mapping[type[errors.ShelfwiseError], tuple[int, str]] = {
    errors.UnknownProductError: (404, "unknown_product"),
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
    errors.ExperimentError: (400, "bad_experiment"),
    errors.InputError: (400, "bad_request"),
    errors.StoreLockedError: (409, "busy"),
    errors.StoreMissingError: (404, "nothing_there"),
    errors.StoreError: (503, "store"),
    errors.ClusterError: (503, "cluster"),
    errors.EncoderError: (503, "encoder"),
    errors.ModelError: (503, "{family}"),
}
_SERVER_MESSAGES = {
    "store": "the index cannot be used as asked now",
    "cluster": "the search cluster does not answer as it should now",
    "encoder": "what was asked cannot be encoded now",
    "ranker": "the ranker cannot be used as asked now",
    "user_tower": "the user tower cannot be used as asked now",
    "internal": "this is a fault of the server",
}
"""What a client is told, by code."""
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


class ErrorDetail(BaseModel):
    """What was wrong."""

    code: str = Field(description="One word for programs.", examples=["bad_filter"])
    message: str = Field(description="For people: what was wrong, and what is right.")
    field: str = Field("", description="Which field of the request it is about, where it is one.", examples=["filters"])
    request_id: str = Field(description="The request, as the log names it.")


class ErrorResponse(BaseModel):
    """The body of every answer that is not what was asked for."""

    error: ErrorDetail


class ProtocolErrorResponse(BaseModel):
    """The same under the paths of the InstantSearch protocol."""

    message: str = Field(description="For people: what was wrong, and what is right.")
    status: int = Field(description="The status of the answer.")


class RequestError(Exception):
    """Ends a request with a status; `retry_after` is in seconds, `allow` the methods that a path knows."""

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


def error_response(error: RequestError, identity: str, *, in_protocol: bool = False) -> Response:
    """Its answer; in the InstantSearch protocol's shape, if that is what was spoken."""
    headers = {REQUEST_ID: identity}
    if error.retry_after:
        headers["Retry-After"] = str(error.retry_after)
    if error.allow:
        headers["Allow"] = error.allow
    if in_protocol:
        told = ProtocolErrorResponse(message=error.message, status=error.status)
        return Response(told.model_dump_json(), error.status, headers, "application/json")
    body = ErrorResponse(
        error=ErrorDetail(code=error.code, message=error.message, field=error.field, request_id=identity)
    )
    return Response(body.model_dump_json(), error.status, headers, "application/json")


def handle_errors(app: FastAPI) -> None:
    """Has every error of the application answered in the one shape."""

    async def refused(request: Request, error: Exception) -> Response:
        return error_response(
            to_request_error(error), request_id(request.scope), in_protocol=is_protocol_path(request.scope)
        )

    for kind in (RequestError, RequestValidationError, HTTPException, errors.ShelfwiseError, Exception):
        app.add_exception_handler(kind, refused)


def to_request_error(error: Exception) -> RequestError:
    """What a client is told of an error: of one that nobody foresaw, nothing but that it happened."""
    match error:
        case RequestError():
            return error
        case RequestValidationError():
            return _from_validation_error(error)
        case HTTPException() if isinstance(error.__cause__, UnicodeDecodeError):
            return RequestError(400, "the body holds bytes that are no UTF-8", field="body")
        case HTTPException():
            return RequestError(error.status_code, str(error.detail), allow=(error.headers or {}).get("Allow", ""))
        case errors.ShelfwiseError():
            return _from_shelfwise_error(error)
        case _:
            return RequestError(500, f"{_SERVER_MESSAGES['internal']}; the log has the request's id", code="internal")


def _from_shelfwise_error(error: errors.ShelfwiseError) -> RequestError:
    status, code = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), (500, "internal"))
    if isinstance(error, errors.ModelError):
        code = code.format(family=error.family)
    if status >= 500:
        # What is said of it names files and machines, which are the operator's business.
        return RequestError(status, f"{_SERVER_MESSAGES[code]}; the log has the request's id", code=code, retry_after=1)
    field = "filters" if isinstance(error, errors.FilterError) else getattr(error, "field", "")
    return RequestError(status, str(error), field=field, code=code)


def _from_validation_error(error: RequestValidationError) -> RequestError:
    """The first fault alone: the others often follow from it."""
    faults = error.errors()
    first = faults[0]
    place = [str(part) for part in first["loc"]]
    field = ".".join(place[1:] if place and place[0] in ("body", "query", "path", "header") else place)
    if first["type"] == "json_invalid":
        told = f"the body is no JSON: {first.get('ctx', {}).get('error', first['msg'])}"
        return RequestError(400, told, field="body")
    unknown = first["type"] == "extra_forbidden"
    told = f"there is no field {field}" if unknown else f"{field or 'the request'}: {first['msg']}"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return RequestError(400, told + more, field=field, code="unknown_field" if unknown else "bad_request")
