"""The OpenAPI document: each operation has the schema of its response."""

from __future__ import annotations

from typing import cast

import jsonschema
from fastapi import FastAPI
from fastapi.testclient import TestClient


def test_every_schema_is_described(client: TestClient) -> None:
    """Regression: responses of the InstantSearch protocol had no schema."""
    document = cast(FastAPI, client.app).openapi()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            success = next(each for status, each in operation["responses"].items() if status.startswith("2"))
            assert success["content"], path
            assert all(media["schema"] for media in success["content"].values()), path
    jsonschema.Draft202012Validator.check_schema({"$defs": document["components"]["schemas"]})
