"""Traces: a span of each request with its stages, without queries or personal data."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shelfwise.retrieval.errors import SettingError
from shelfwise.service.app import create_app, open_tracing
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.otlp import OpenTelemetry, place_stages
from shelfwise.service.settings import ServiceSettings
from tests.services import local_client

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced(store: SearchEngine, spans: InMemorySpanExporter) -> TestClient:
    return local_client(create_app(store, ServiceSettings(), OpenTelemetry(SimpleSpanProcessor(spans))))


def test_search_has_a_span_with_child_spans_for_stages(traced: TestClient, spans: InMemorySpanExporter) -> None:
    answer = traced.get(
        "/v1/search",
        params={"q": "hammer drill", "filters": "price > 1", "session": "visit-1", "shopper": "mia"},
        headers={"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-ID": "shop-1"},
    )
    assert answer.status_code == 200
    made = {span.name: span for span in spans.get_finished_spans()}
    request = made.pop("GET /v1/search")
    assert request.context is not None
    assert request.parent is not None
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    assert request.attributes == {
        "http.request.method": "GET",
        "http.route": "/v1/search",
        "http.response.status_code": 200,
        "shelfwise.request_id": "shop-1",
    }
    assert {"bm25", "encode", "dense", "merge"} <= set(made)
    for span in made.values():
        assert span.parent is not None
        assert span.parent.span_id == request.context.span_id
        assert request.start_time and request.end_time and span.start_time and span.end_time
        assert request.start_time <= span.start_time <= span.end_time <= request.end_time
    message = " ".join(span.to_json() for span in spans.get_finished_spans())
    assert not any(word in message for word in ("hammer", "price", "visit-1", "mia"))


def test_each_search_of_a_multi_search_has_stage_spans(traced: TestClient, spans: InMemorySpanExporter) -> None:
    traced.post("/v1/multi-search", json={"searches": [{"q": "drill"}, {"q": "mug"}]})
    names = [span.name for span in spans.get_finished_spans()]
    assert names.count("merge") == 2
    assert names[-1] == "POST /v1/multi-search"


def test_unsampled_and_health_requests_have_no_span(traced: TestClient, spans: InMemorySpanExporter) -> None:
    traced.get("/v1/search", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    for path in ("/health/live", "/health/ready", "/metrics"):
        traced.get(path)
    assert not spans.get_finished_spans()


def test_unknown_path_is_in_no_span(traced: TestClient, spans: InMemorySpanExporter) -> None:
    assert traced.get("/v1/secret-of-mia").status_code == 404
    (span,) = spans.get_finished_spans()
    assert "secret" not in span.to_json()


def test_stage_spans_start_after_their_inputs() -> None:
    timings = {"encode": 4.0, "dense": 2.0, "bm25": 9.0, "merge": 1.0, "rerank": 5.0}
    assert list(place_stages(timings)) == [
        ("bm25", 0.0, 9.0),
        ("encode", 0.0, 4.0),
        ("dense", 4.0, 4.0 + 2.0),
        ("merge", 9.0, 9.0 + 1.0),
        ("rerank", 10.0, 10.0 + 5.0),
    ]
    assert list(place_stages({"merge": 1.0})) == [("merge", 0.0, 1.0)]


def test_unavailable_collector_does_not_block(store: SearchEngine) -> None:
    tracing = open_tracing("http://127.0.0.1:9/v1/traces")
    with local_client(create_app(store, ServiceSettings(), tracing)) as client:
        started = time.monotonic()
        assert client.get("/v1/search", params={"q": "drill"}).status_code == 200
        assert time.monotonic() - started < 2
    assert time.monotonic() - started < 10


def test_missing_tracing_packages_error_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "shelfwise.service.http.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingError, match=r"shelfwise\[trace\]"):
        open_tracing("http://127.0.0.1:9/v1/traces")


def test_service_imports_no_tracing_or_training_packages() -> None:
    program = (
        "import sys, shelfwise.service.app; "
        "sys.exit(not {'opentelemetry.sdk', 'scipy.stats', 'sklearn'}.isdisjoint(sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
