"""The OpenAPI document: schemas of msgspec types, which FastAPI does not describe, and examples of all operations."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from shelfwise.service.http.errors import ErrorResponse, ProtocolErrorResponse

EXAMPLES = Path(__file__).parent / "examples.json"
"""Examples by operation ("GET /v1/search"): `parameters`, `request`, and `response` as recorded from the demo store.
`python -m tests.openapi_examples` records the responses again."""
_JSON = "application/json"
_SCHEMAS = "#/components/schemas/{name}"
_making = threading.Lock()
_METHODS = ("get", "put", "post", "patch", "delete")


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
    described = {**dict.fromkeys(statuses), 422: "Never sent: an invalid request is a 400."}
    return {
        status: {"content": {_JSON: {"schema": schema}}} | ({"description": text} if text else {})
        for status, text in described.items()
    }


def _schemas(*kinds: object) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    return msgspec.json.schema_components(kinds, ref_template=_SCHEMAS)


def _response(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    return {"description": "Successful Response", "content": {_JSON: {"schema": schema | {"$defs": definitions}}}}


class DescribedApp(FastAPI):
    """An application whose OpenAPI document has the schemas of `struct_response` and of errors, and the examples."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, built once, which takes a second."""
        with _making:
            if self.openapi_schema is None:
                document, examples = super().openapi(), json.loads(EXAMPLES.read_bytes())
                bodies = models_json_schema(
                    [(kind, "serialization") for kind in (ErrorResponse, ProtocolErrorResponse)],
                    ref_template=_SCHEMAS.format(name="{model}"),
                )
                document["components"]["schemas"] |= bodies[1]["$defs"]
                for name, operation in operations(document):
                    for media in (each for each in _contents(operation) if "schema" in each):
                        document["components"]["schemas"] |= media["schema"].pop("$defs", {})
                    _add_example(operation, examples.get(name, {}))
        return self.openapi_schema or {}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The operations of a document by method and path."""
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                yield f"{method.upper()} {path}", methods[method]


def success_of(operation: dict[str, Any]) -> dict[str, Any]:
    """The description of an operation's successful response."""
    found: dict[str, Any] = next(each for status, each in operation["responses"].items() if status.startswith("2"))
    return found


def _contents(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from success_of(operation).get("content", {}).values()


def _add_example(operation: dict[str, Any], example: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in example.get("parameters", {}):
            parameter["example"] = example["parameters"][parameter["name"]]
    if "request" in example:
        for media in operation["requestBody"]["content"].values():
            media["example"] = example["request"]
    if "response" in example:
        for media in _contents(operation):
            media["example"] = example["response"]
