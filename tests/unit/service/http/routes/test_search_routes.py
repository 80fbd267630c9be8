"""Routes of searches and of store pages."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shelfwise.retrieval.records import EventKind, Relation, RelationEvidence, RelationKind
from shelfwise.service.app import create_app
from shelfwise.service.demo import DemoFiles
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.events.signals import Relations, write_relations
from shelfwise.service.http.schemas import select_fields
from shelfwise.service.settings import (
    ServiceSettings,
    Settings,
    SourcedSettings,
    describe_settings,
    setting_names,
    variable_name,
)
from tests.machine import within
from tests.services import events_of_query, local_client


def test_post_search_equals_get_search_and_accepts_a_history(client: TestClient, store: SearchEngine) -> None:
    product = store.search("drill").hits[0].product.id
    request = {"q": "drill", "filters": "price < 100", "history": [{"product_id": product, "kind": "cart"}]}
    found = client.post("/v1/search", json=request).json()
    assert found["total"] == store.search("drill", filters="price < 100").total


def test_results_are_grouped_and_diversified(client: TestClient, store: SearchEngine) -> None:
    parameters = {"q": "backpack", "facets": "color", "group": "variants", "diversity": "0.5"}
    found = client.get("/v1/search", params=parameters).json()
    page = store.search("backpack", group="variants", diversity=0.5, facets=["color"])
    shown = [(hit["product"]["id"], hit["group_size"], tuple(hit["siblings"])) for hit in found["hits"]]
    assert shown == [(hit.product.id, hit.group_size, hit.siblings) for hit in page.hits]
    assert found["total"] == page.total < store.search("backpack").total
    assert found["facets"]["color"]["counts"][0]["count"] == page.facets["color"].counts[0].count


def test_operators_are_read_with_advanced_syntax(client: TestClient, store: SearchEngine) -> None:
    parameters = {"q": '"cordless drill" -brushless', "advanced_syntax": "true"}
    page = store.search("cordless drill", phrases=["cordless drill"], excluded=["brushless"])
    assert client.get("/v1/search", params=parameters).json()["total"] == page.total > 0


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"size": "many"}, "size"),
        ({"size": 1_001}, "size"),
        ({"q": "x" * 10_001}, "q"),
        ({"colour": "red"}, "colour"),
        ({"filters": "price <"}, "filters"),
        ({"filters": "(" * 1_000 + "price<1" + ")" * 1_000}, "filters"),
        ({"facets": "nosuch"}, "nosuch"),
        ({"sort": "price,nosuch"}, "nosuch"),
        ({"fields": "title,nosuch"}, "nosuch"),
        ({"ranges": "nosuch:1,2"}, "nosuch"),
        ({"fields": ",".join(["title"] * 51)}, "fields"),
    ],
)
def test_invalid_parameter_error_names_the_field(client: TestClient, parameters: dict[str, str], field: str) -> None:
    answer = client.get("/v1/search", params=parameters)
    assert answer.status_code == 400
    fault = answer.json()["error"]
    assert fault["field"] == field
    assert fault["message"]
    assert fault["request_id"] == answer.headers["X-Request-ID"]


def test_all_faults_of_a_body_are_named(client: TestClient) -> None:
    fault = client.post("/v1/search", json={"size": -1, "colour": "red", "page": "x"}).json()["error"]
    assert fault["message"].endswith("(and 2 more)")
    assert [each["field"] for each in fault["faults"]] == ["size", "page", "colour"]
    assert client.post("/v1/search", json={"size": -1}).json()["error"].keys().isdisjoint({"faults"})


def test_q_and_query_are_one_parameter(client: TestClient) -> None:
    one, other = (client.post("/v1/search", json={name: "drill"}).json() for name in ("q", "query"))
    assert (one["total"], one["query"]) == (other["total"], other["query"])
    assert client.get("/v1/search", params={"query": "drill"}).json()["total"] == one["total"]
    refused = client.get("/v1/search", params={"q": "drill", "query": "saw"})
    assert refused.status_code == 400 and "they differ" in refused.json()["error"]["message"]


def test_product_supports_etags(client: TestClient, store: SearchEngine) -> None:
    product = store.search("drill").hits[0].product
    first = client.get(f"/v1/products/{product.id}")
    assert first.json()["product"]["title"] == product.title
    assert first.json()["types"]["by_category"] == "drills"
    again = client.get(f"/v1/products/{product.id}", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_related_products_name_their_relation(client: TestClient, store: SearchEngine) -> None:
    one, other = (store.search(query, size=1).hits[0] for query in ("drill", "backpack"))
    fits = Relation(RelationKind.FITS, RelationEvidence.TEXTS, 0.75)
    pairs = [(one.product.id, other.product.id, 0.75, fits)]
    write_relations(store.root, Relations.of_pairs(pairs), datetime.now(UTC))
    store.reload_if_changed()
    path = f"/v1/products/{other.product.id}/related"
    (hit,) = client.get(path, params={"fields": "price"}).json()["hits"]
    assert (hit["product"]["id"], hit["score"], {*hit["product"]}) == (one.product.id, 0.75, {"id", "price"})
    assert hit["relation"] == {"kind": "fits", "evidence": "texts", "strength": 0.75, "shoppers": 0, "reverse": True}
    assert client.get(path, params={"kind": "substitute"}).json()["hits"] == []
    assert client.get(path, params={"kind": "beside"}).json()["error"]["field"] == "kind"
    assert client.get("/v1/products/nosuch/related").status_code == 404
    (store.root / "relations.bin").unlink()
    store.reload_if_changed()


def test_only_the_named_fields_are_returned(client: TestClient, store: SearchEngine) -> None:
    product = store.search("backpack", filters="color EXISTS").hits[0].product
    expected = {"id": product.id, "title": product.title, "attributes": {"color": product.attributes["color"]}}
    parameters = {"q": "backpack", "filters": "color EXISTS", "fields": "title,color"}
    named = {**parameters, "fields": ["title", "attributes.color"]}
    history = {"history": [{"product_id": product.id}], "fields": "price"}
    found = client.get("/v1/search", params=parameters).json()
    assert found["hits"][0]["product"] == expected
    assert found["hits"] == client.post("/v1/multi-search", json={"searches": [named]}).json()["results"][0]["hits"]
    assert client.get(f"/v1/products/{product.id}", params={"fields": "title,color"}).json()["product"] == expected
    similar = client.get(f"/v1/products/{product.id}/similar", params={"fields": "price"}).json()["hits"]
    recommended = client.post("/v1/recommend", json=history).json()["hits"]
    assert {(*hit["product"],) for hit in (*similar, *recommended)} == {("id", "price")}


def test_object_of_attributes_is_returned_whole() -> None:
    document = {"id": "p", "attributes": {"size.width": 2, "size.height": 3, "sizes": 4}, "size": {"width": 5}}
    assert select_fields(document, ["attributes.size"]) == {"attributes": {"size.width": 2, "size.height": 3}}
    assert select_fields(document, ["size.width", "attributes.size.width"]) == {
        "attributes": {"size.width": 2},
        "size": {"width": 5},
    }
    assert select_fields(document, ["size.depth", "id.length"]) == {}


def test_missing_product_is_a_404(client: TestClient) -> None:
    for path in ("/v1/products/nosuch", "/v1/products/nosuch/similar", "/v1/products/..%2f..%2fetc%2fpasswd"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_product")


def test_search_with_a_session_is_recorded_with_impressions(client: TestClient, store: SearchEngine) -> None:
    found = client.get("/v1/search", params={"q": "hammer", "size": 3, "page": 2, "session": "s1"}).json()
    events = events_of_query(store.root, found["query_id"])
    assert [event["kind"] for event in events].count(EventKind.QUERY) == 1
    shown = {event["position"]: event["product_id"] for event in events if event["kind"] == EventKind.IMPRESSION}
    assert shown == {place: hit["product"]["id"] for place, hit in enumerate(found["hits"], 4)}


def test_privacy_header_disables_recording(client: TestClient, store: SearchEngine) -> None:
    request = {"q": "saw", "session": "s2"}
    private = client.get("/v1/search", params=request, headers={"Sec-GPC": "1"}).json()
    open_one = client.get("/v1/search", params=request).json()
    assert events_of_query(store.root, open_one["query_id"])
    assert not events_of_query(store.root, private["query_id"], seconds=0)


@pytest.mark.parametrize(
    ("body", "field", "status"),
    [
        ({"q": "is it red? " * 1_000}, "q", 400),
        ({"q": ""}, "q", 400),
        ({"q": "is it red?", "about": {"product": "d1"}}, "about.product", 400),
        ({"q": "is it red?", "product_id": "no"}, "", 404),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(
    client: TestClient, body: dict[str, object], field: str, status: int
) -> None:
    refused = client.post("/v1/answer", json=body)
    assert (refused.status_code, refused.json()["error"].get("field")) == (status, field)


SECRET = "hush-hush"
FILE = """
backend = "embedded"

[elasticsearch]
url = "https://one.example:9200,https://two.example:9200"
username = "shelfwise"

[service]
page_key = "sw_hush-hush"
port = 9000
"""


@pytest.fixture
def sourced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SourcedSettings:
    for name in (*map(variable_name, setting_names()), "SHELFWISE_SETTINGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SHELFWISE_ELASTICSEARCH__PASSWORD", SECRET)
    monkeypatch.setenv("SHELFWISE_SERVICE__PORT", "9001")
    monkeypatch.setenv("SHELFWISE_SERVICE__WORKERS", "7")
    (tmp_path / "settings.toml").write_text(FILE)
    return SourcedSettings.read(tmp_path / "settings.toml").with_service({"workers": 8})


@pytest.fixture
def calling(store: SearchEngine, sourced: SourcedSettings) -> Iterator[TestClient]:
    with local_client(create_app(store, sourced.settings.service, sourced=sourced)) as client:
        yield client


def test_every_setting_is_shown_with_its_source(calling: TestClient) -> None:
    found = calling.get("/v1/settings").json()
    names = [f"{section}.{name}".removeprefix("index.") for section in found for name in found[section]]
    assert sorted(names) == sorted(setting_names())
    assert all(" " in each["description"] for section in found.values() for each in section.values())
    assert found["service"]["port"] == {
        "value": 9001,
        "default": 8080,
        "source": "environment",
        "is_secret": False,
        "variable": "SHELFWISE_SERVICE__PORT",
        "description": "the port; 0 selects a free one",
    }
    assert (found["service"]["workers"]["value"], found["service"]["workers"]["source"]) == (8, "option")
    assert (found["index"]["backend"]["value"], found["index"]["backend"]["source"]) == ("embedded", "file")
    assert (found["service"]["threads"]["value"], found["service"]["threads"]["source"]) == (None, "default")
    assert found["elasticsearch"]["url"]["value"] == ["https://one.example:9200", "https://two.example:9200"]
    assert found["events"]["phone_regions"]["value"] == found["events"]["phone_regions"]["default"]


def test_secrets_are_masked(calling: TestClient) -> None:
    answer = calling.get("/v1/settings")
    assert SECRET not in answer.text
    found = answer.json()
    assert {f"{table}.{name}" for table in found for name, each in found[table].items() if each["is_secret"]} == {
        "elasticsearch.password",
        "elasticsearch.api_key",
        "service.page_key",
        "service.shopify_secret",
        "service.woocommerce_secret",
    }
    password, api_key = found["elasticsearch"]["password"], found["elasticsearch"]["api_key"]
    assert (password["value"], password["default"], password["source"]) == (None, None, "environment")
    assert api_key["source"] == "default"
    assert found["service"]["page_key"]["source"] == "file"


def test_settings_named_like_secrets_are_masked() -> None:
    for table, settings in describe_settings(SourcedSettings(Settings())).items():
        for name, each in settings.items():
            assert each.is_secret == bool(re.search("password|secret|token|(api|page)_key$", name)), (table, name)


@pytest.fixture
def own(live: SearchEngine, tmp_path: Path) -> Iterator[TestClient]:
    (tmp_path / "feeds").mkdir()
    with local_client(create_app(live, ServiceSettings(feeds=tmp_path / "feeds"))) as calling:
        yield calling


def ended(client: TestClient, place: str) -> Any:  # noqa: ANN401 - JSON
    assert within(400, lambda: client.get(place).json()["state"] in ("done", "failed"))
    return client.get(place).json()


def test_rebuild_task_publishes_and_the_engine_loads_the_version(
    own: TestClient, demo: DemoFiles, tmp_path: Path
) -> None:
    feed = Path(shutil.copy(demo.products, tmp_path / "feeds")).name
    product = own.get("/v1/search").json()["hits"][0]["product"]["id"]
    assert own.patch(f"/v1/products/{product}", json={"price": 1.25}).status_code == 200
    accepted = own.post("/v1/tasks", json={"kind": "rebuild", "feeds": [feed]})
    assert accepted.status_code == 202
    finished = ended(own, accepted.headers["Location"])
    assert (finished["state"], finished["error"]) == ("done", "")
    assert within(60, lambda: own.get("/health/ready").json()["version"] == finished["result"]["version"])
    assert finished["result"]["version"] != "v000001"
    assert own.get(f"/v1/products/{product}").json()["product"]["price"] == 1.25
    assert own.get("/v1/tasks").json()[0]["id"] == finished["id"]


def test_invalid_rebuild_request_is_refused(own: TestClient) -> None:
    for feeds in (["nosuch.csv"], ["../index/keys.json"], [], ["/etc/passwd"]):
        answer = own.post("/v1/tasks", json={"kind": "rebuild", "feeds": feeds})
        assert answer.status_code == 400
        assert "feeds" in answer.json()["error"]["message"]
    assert own.get("/v1/tasks").json() == []
    assert own.get("/v1/tasks/nosuch").status_code == 404
    assert own.post("/v1/tasks/nosuch/cancel").status_code == 404


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": ""}, "name"),
        ({"scopes": []}, "scopes"),
        ({"expires": "2020-01-01T00:00:00Z"}, "expires"),
        ({"expires": "2100-01-01T00:00:00"}, "expires"),
        ({"filters": "price <"}, "filters"),
        ({"filters": "nosuch = 1"}, "nosuch"),
        ({"secret": "mine"}, "secret"),
    ],
)
def test_invalid_key_names_the_field(calling: TestClient, changed: dict[str, Any], field: str) -> None:
    answer = calling.post("/v1/keys", json={"name": "web", "scopes": ["admin"], **changed})
    assert answer.status_code == 400
    assert field in answer.json()["error"]["field"]
    assert calling.get("/v1/keys").json() == []
