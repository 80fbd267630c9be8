"""The OpenAPI document: each operation has the schema of its response."""

from __future__ import annotations

from typing import cast

import jsonschema
from fastapi import FastAPI
from fastapi.testclient import TestClient

from shelfwise.service.http.openapi import operations, success_of


def test_every_schema_is_described(client: TestClient) -> None:
    """Regression: responses of the InstantSearch protocol had no schema."""
    document = cast(FastAPI, client.app).openapi()
    for name, operation in operations(document):
        assert success_of(operation)["content"], name
        for media in success_of(operation)["content"].values():
            assert media["schema"], name
    jsonschema.Draft202012Validator.check_schema({"$defs": document["components"]["schemas"]})
