"""The examples of the OpenAPI document, sent to a service; `python -m tests.openapi_examples INDEX` records responses.

INDEX is that of the demo store (`make demo`): only a copy of it is changed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response
from pydantic import SecretStr

from shelfwise.service.app import create_app
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.auth import KEYS_FILE, KeyFile, Scope
from shelfwise.service.http.openapi import EXAMPLES, operations
from shelfwise.service.settings import ServiceSettings
from tests.services import add_key, local_client

SECRET = SecretStr("secret of the examples")
_SIGNATURES = {"/v1/webhooks/shopify": "X-Shopify-Hmac-Sha256", "/v1/webhooks/woocommerce": "X-WC-Webhook-Signature"}
_MOST_ITEMS = 2
"""Number of recorded entries of each list."""
_MOST_LINES = 6
"""Number of recorded lines of the metrics."""
_EARLIER = {
    "GET /v1/tasks/{task_id}": ("task_id", "POST /v1/tasks", ("id",)),
    "POST /v1/tasks/{task_id}/cancel": ("task_id", "POST /v1/tasks", ("id",)),
    "DELETE /v1/keys/{key_id}": ("key_id", "POST /v1/keys", ("id",)),
    "POST /v1/synonyms/proposals/{proposal_id}": ("proposal_id", "GET /v1/synonyms/proposals", ("proposals", 0, "id")),
    "GET /1/indexes/{index}/task/{task_id}": ("task_id", "POST /1/indexes/{index}", ("taskID",)),
    "GET /1/task/{task_id}": ("task_id", "POST /1/indexes/{index}", ("taskID",)),
}
"""Parameters taken from an earlier response: the operation, and the path in its response."""


def read_examples() -> dict[str, dict[str, Any]]:
    """The examples by operation, in an order in which they can be sent."""
    found: dict[str, dict[str, Any]] = json.loads(EXAMPLES.read_bytes())
    return found


def described_by(client: TestClient) -> dict[str, Any]:
    """The document of a service, without the deadline of requests, since a busy machine takes seconds to make it."""
    return cast(FastAPI, client.app).openapi()


def replay(client: TestClient, key: str, examples: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Response]]:
    """Sends the request of each example, with a key with all rights."""
    described = dict(operations(described_by(client)))
    answers: dict[str, Any] = {}
    for name, example in examples.items():
        if name in _EARLIER:
            parameter, earlier, place = _EARLIER[name]
            value: Any = answers.get(earlier)
            with suppress(LookupError, TypeError):
                for step in place:
                    value = value[step]
                example["parameters"][parameter] = value
        response = _send(client, key, name, example, described[name].get("parameters", ()))
        answers[name] = response.json() if response.is_success and name != "GET /metrics" else None
        yield name, response


def _send(client: TestClient, key: str, name: str, example: dict[str, Any], parameters: Any) -> Response:  # noqa: ANN401
    method, path = name.split()
    given = example.get("parameters", {})
    places = {each["name"]: each["in"] for each in parameters}
    for each in given:
        path = path.replace(f"{{{each}}}", quote(str(given[each])))
    headers = {each: str(given[each]) for each in given if places[each] == "header"}
    query = {each: given[each] for each in given if places[each] == "query"}
    body = json.dumps(example["request"]).encode() if "request" in example else None
    if path in _SIGNATURES and body:
        headers[_SIGNATURES[path]] = base64.b64encode(
            hmac.digest(SECRET.get_secret_value().encode(), body, hashlib.sha256)
        ).decode()
    headers |= {"X-API-Key": key, "x-algolia-api-key": key, "Content-Type": "application/json"}
    return client.request(method, path, params=query, content=body, headers=headers)


def service_of(engine: SearchEngine, feeds: Path) -> tuple[TestClient, str]:
    """A client of a service for the examples, and a key with all rights."""
    key = add_key(KeyFile(engine.root / KEYS_FILE), Scope.ADMIN)
    settings = ServiceSettings(feeds=feeds, shopify_secret=SECRET, woocommerce_secret=SECRET, deadline=300)
    return local_client(create_app(engine, settings)), key


def trimmed(value: Any) -> Any:  # noqa: ANN401 - JSON
    """A response without the later entries of long lists."""
    if isinstance(value, list):
        return [trimmed(each) for each in value[:_MOST_ITEMS]]
    return {name: trimmed(each) for name, each in value.items()} if isinstance(value, dict) else value


def main() -> None:
    """Records the responses; examples whose requests fail on this index keep theirs."""
    examples = read_examples()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(shutil.copytree(sys.argv[1], Path(folder) / "store"))
        feeds = Path(sys.argv[1]).parent
        with SearchEngine.open(root) as engine:
            client, key = service_of(engine, feeds)
            with client:
                for name, response in replay(client, key, examples):
                    if not response.is_success:
                        sys.stdout.write(f"{response.status_code} {name} {response.text[:300]}\n")
                    elif name == "GET /metrics":
                        own = [line for line in response.text.splitlines() if "shelfwise_" in line]
                        examples[name]["response"] = "\n".join(own[:_MOST_LINES])
                    elif name != "GET /v1/settings":
                        examples[name]["response"] = trimmed(response.json())
    EXAMPLES.write_text(f"{json.dumps(examples, indent=1, ensure_ascii=False)}\n", "utf-8")


if __name__ == "__main__":
    main()
