"""The OpenAPI document: every operation has examples that are valid by its schemas and work on the service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fastapi.testclient import TestClient

from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.openapi import operations, success_of
from tests.openapi_examples import described_by, read_examples, replay, service_of

_PERSONAL_OR_LONG = ("POST /v1/tasks", "PUT /v1/feeds/uploads/{name}")
"""Operations that start a process, and an upload."""


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    return described_by(client)


def check(document: dict[str, Any], schema: dict[str, Any], value: object) -> None:
    """Raises ValidationError; references of the schema are resolved in the document."""
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def test_every_operation_has_valid_examples(document: dict[str, Any]) -> None:
    found = dict(operations(document))
    assert set(found) == set(read_examples()), "service/http/examples.json has an example of each operation"
    for operation in found.values():
        for parameter in operation.get("parameters", ()):
            if parameter.get("required") or "example" in parameter:
                check(document, parameter["schema"], parameter["example"])
        for described in [success_of(operation), *filter(None, [operation.get("requestBody")])]:
            assert described["content"]
            for media in described["content"].values():
                if media["schema"].get("format") != "binary":
                    check(document, media["schema"], media["example"])


def test_every_schema_is_described(document: dict[str, Any]) -> None:
    """Regression: responses of the InstantSearch protocol had no schema."""
    for name, operation in operations(document):
        for media in success_of(operation)["content"].values():
            assert media["schema"], name
    jsonschema.Draft202012Validator.check_schema({"$defs": document["components"]["schemas"]})


def test_the_examples_are_answered_as_described(live: SearchEngine, tmp_path: Path, document: dict[str, Any]) -> None:
    examples = {name: each for name, each in read_examples().items() if name not in _PERSONAL_OR_LONG}
    described = dict(operations(document))
    client, key = service_of(live, tmp_path)
    refused = []
    with client:
        for name, response in replay(client, key, examples):
            (type_, media), *_ = success_of(described[name])["content"].items()
            if response.is_success:
                assert response.headers["Content-Type"].startswith(type_)
                check(document, media["schema"], response.text if type_ == "text/plain" else response.json())
            else:
                refused.append(name)
    # Operations without data in a store without pictures, events, tasks, own models and a directory of indexes.
    assert refused == [
        "GET /v1/products/{product_id}/pictures/{number}",
        "POST /v1/search/picture",
        "GET /v1/experiments/{experiment_id}/report",
        "POST /v1/synonyms/proposals/{proposal_id}",
        "PUT /v1/aliases/{alias}",
        "DELETE /v1/aliases/{alias}",
        "POST /v1/versions/rollback",
        "POST /v1/models/rollback",
        "GET /v1/reports/events",
        "POST /v1/feeds/uploads/{name}/check",
        "POST /v1/feeds/uploads/{name}/publish",
        "DELETE /v1/feeds/uploads/{name}",
        "GET /v1/reports/analytics",
        "GET /v1/tasks/{task_id}",
        "POST /v1/tasks/{task_id}/cancel",
    ]
