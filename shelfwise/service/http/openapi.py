"""The OpenAPI document: schemas of msgspec types and of errors, which FastAPI does not describe."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import msgspec
from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from shelfwise.service.http.errors import ErrorResponse, ProtocolErrorResponse

_JSON = "application/json"
_SCHEMAS = "#/components/schemas/{name}"
_making = threading.Lock()


def struct_response(kind: object) -> dict[str, Any]:
    """A response of a msgspec type, for `responses` of a route."""
    (schema,), definitions = _schemas(kind)
    return _response(schema, definitions)


def batch_response(*kinds: object) -> dict[str, Any]:
    """A response with `results`, each of one of these types."""
    schemas, definitions = _schemas(*kinds)
    results = {"type": "array", "items": {"anyOf": list(schemas)}}
    return _response({"type": "object", "properties": {"results": results}, "required": ["results"]}, definitions)


def error_responses(kind: type[BaseModel], statuses: Iterable[int]) -> dict[int | str, dict[str, Any]]:
    """Error responses with a body of this type, for `responses` of a route.

    They refer to its schema by name: FastAPI builds a validator for each `model` of each route, which was a fifth of a
    service's start.
    """
    schema = {"$ref": _SCHEMAS.format(name=kind.__name__)}
    descriptions = {**dict.fromkeys(statuses), 422: "Never sent: an invalid request is a 400."}
    return {
        status: {"content": {_JSON: {"schema": schema}}} | ({"description": text} if text else {})
        for status, text in descriptions.items()
    }


def _schemas(*kinds: object) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    return msgspec.json.schema_components(kinds, ref_template=_SCHEMAS)


def _response(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    return {"description": "Successful Response", "content": {_JSON: {"schema": schema | {"$defs": definitions}}}}


class DescribedApp(FastAPI):
    """An application whose OpenAPI document has the schemas of `struct_response` and of errors."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, built once, which takes a second."""
        with _making:
            if self.openapi_schema is None:
                document = super().openapi()
                bodies = models_json_schema(
                    [(kind, "serialization") for kind in (ErrorResponse, ProtocolErrorResponse)],
                    ref_template=_SCHEMAS.format(name="{model}"),
                )
                document["components"]["schemas"] |= bodies[1]["$defs"]
                operations = [each for methods in document["paths"].values() for each in methods.values()]
                for response in (response for each in operations for response in each["responses"].values()):
                    for media in response.get("content", {}).values():
                        document["components"]["schemas"] |= media.get("schema", {}).pop("$defs", {})
        return self.openapi_schema or {}
