"""Routes of settings and tasks."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shelfwise.service.app import create_app
from shelfwise.service.demo import DemoFiles
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.settings import (
    ServiceSettings,
    Settings,
    SourcedSettings,
    describe_settings,
    read_settings,
    setting_names,
    variable_name,
)
from tests.machine import within
from tests.services import local_client

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


def test_secrets_are_masked(calling: TestClient, tmp_path: Path) -> None:
    assert SECRET not in repr(read_settings(tmp_path / "settings.toml"))
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


def test_settings_route_is_read_only(calling: TestClient) -> None:
    for method in ("PUT", "PATCH", "POST", "DELETE"):
        answer = calling.request(method, "/v1/settings", json={"service": {"port": 1}})
        code = answer.json()["error"]["code"]
        assert (answer.status_code, code, answer.headers["Allow"]) == (405, "method_not_allowed", "GET")


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
