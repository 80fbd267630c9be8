"""Algolia's official search clients, versions 5 and 4, in Node, as the back end of a store on a real service."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.auth import KEYS_FILE, KeyFile, Scope
from shelfwise.service.http.telemetry import WITHOUT_EFFECT
from shelfwise.service.instantsearch.protocol_request import COUNTING
from shelfwise.service.settings import Settings
from tests.browser import PackagesUnavailableError
from tests.browser.packages import node_modules, node_program
from tests.browsers import served
from tests.servers.skips import skip_for
from tests.services import add_key

Answers = Mapping[str, Any]
SCRIPT = Path(__file__).parents[1] / "browser/write_side.cjs"
DOCUMENT = Path(__file__).parents[2] / "docs/instantsearch.md"
_SECONDS = 300
_OF_CLIENT = {"customPost", "customPut", "customDelete"}
"""Methods that send the requests of other methods."""


def run_client(version: str, demo_index: Path, cache: Path, folder: Path) -> Answers:
    """The result of each call of the script, with a version of the client on a new service."""
    try:
        packages, program, missing = node_modules(cache), node_program(), ""
    except PackagesUnavailableError as error:
        packages, program, missing = cache, "", str(error)
    # Outside of the except clause, or pytest would print the reason twice.
    if missing:
        skip_for(missing)
    root = Path(shutil.copytree(demo_index, folder / "store"))
    keys = KeyFile(root / KEYS_FILE)
    key, parent = add_key(keys, Scope.ADMIN), add_key(keys, Scope.SEARCH, secured=True)
    with SearchEngine.open(root, settings=Settings(backend="embedded")) as engine, served(engine) as address:
        at = urlsplit(address)
        command = [program, str(SCRIPT), str(packages), version, str(at.hostname), str(at.port), key, parent]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_SECONDS)  # noqa: S603
    assert done.returncode == 0, done.stderr
    answers: Answers = json.loads(done.stdout)
    return answers


@pytest.fixture(scope="module")
def newer(demo_index: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return run_client("v5", demo_index, cache, tmp_path_factory.mktemp("v5"))


def value(answers: Answers, name: str) -> Any:  # noqa: ANN401 - JSON
    assert "value" in answers[name], answers[name]
    return answers[name]["value"]


def documented_methods() -> list[str]:
    section = DOCUMENT.read_text("utf-8").partition("## Methods of the client")[2].partition("\n###")[0]
    rows = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`(\w+)`", row)]


def test_each_documented_method_is_called(newer: Answers) -> None:
    methods = documented_methods()
    assert len(set(methods)) == len(methods) >= 30
    failed = [name for name in methods if name not in _OF_CLIENT and "value" not in newer.get(name, {})]
    assert not failed


def test_every_parameter_of_the_client_is_supported_or_named(newer: Answers, cache: Path) -> None:
    assert newer
    types = (node_modules(cache) / "@algolia/client-search/dist/node.d.ts").read_text("utf-8")
    found = set()
    for kind in ("BaseSearchParamsWithoutQuery", "BaseIndexSettings", "IndexSettingsAsSearchParams"):
        found |= set(re.findall(r"^    (\w+)\??:", types.partition(f"type {kind} = {{")[2].partition("\n};")[0], re.M))
    assert len(found) > 90
    # A parameter of searches among facet values, and not a setting.
    assert found - {"maxFacetHits"} <= COUNTING | WITHOUT_EFFECT


def test_saved_object_is_read_back(newer: Answers) -> None:
    saved = value(newer, "saveObject")
    assert (saved["objectID"], saved["taskID"] > 0) == ("kettle", True)
    record = saved["record"]
    assert (record["name"], record["price"], record["cost"]) == ("Enamel kettle", 49, 20)
    assert record["hierarchicalCategories"] == {"lvl0": "Kitchen", "lvl1": "Kitchen > Kettles"}
    assert record["size"] == {"width": 12, "label": "large"}
    assert value(newer, "saveObject back") == record
    assert value(newer, "addOrUpdateObject")["record"]["objectID"] == "pot/9"


def test_partial_updates_apply_built_in_operations(newer: Answers) -> None:
    updated = value(newer, "partialUpdateObject")
    kettle = updated["kettle"]
    assert (kettle["stock"], kettle["price"], kettle["sold"], kettle["tags"]) == (3 + 2 - 1, 45, 7, ["blue"])
    assert kettle["size"] == {"height": 30}
    assert (updated["spout"]["name"], updated["spout"]["stock"]) == ("Spout", 4)
    assert newer["partialUpdateObject of nothing"]["status"] == 404
    several = value(newer, "partialUpdateObjects")
    assert (several["price"], "pot-100" in several["ids"]) == (10, False)


def test_deletes(newer: Answers) -> None:
    assert "pot-0" not in value(newer, "deleteObject")["ids"]
    assert "pot-4" not in value(newer, "deleteObject")["ids"], "the batch has deleted it"
    assert value(newer, "deleteObjects")["ids"] == ["kettle", "pot-2", "pot-3", "pot-50", "pot-51", "pot-52"]
    assert value(newer, "deleteBy")["ids"] == ["kettle", "pot-2", "pot-3", "pot-50"]
    assert "clearObjects" in newer["deleteBy without filters"]["error"]
    assert value(newer, "clearObjects")["ids"] == []


def test_records_are_read(newer: Answers) -> None:
    assert value(newer, "getObject") == {"objectID": "kettle", "name": "Enamel kettle", "price": 45}
    assert value(newer, "getObjects")["results"] == [{"objectID": "kettle", "brand": "Torvald"}, None]
    first, second = value(newer, "browse"), value(newer, "browse by its cursor")
    assert [hit["objectID"] for page in (first, second) for hit in page["hits"]] == [
        "kettle",
        "pot-2",
        "pot-3",
        "pot-50",
    ]
    assert (first["nbHits"], first["nbPages"], "cursor" in second, "_highlightResult" in first["hits"][0]) == (
        (4, 2, False, False)
    )
    everything = value(newer, "browseObjects")
    assert everything["count"] == everything["distinct"] > 600
    assert everything["isSorted"]


def test_responses_have_what_typed_clients_require(newer: Answers) -> None:
    """Regression: the Python client raised an error for `deleteBy`, whose response had another field."""
    for method, field in (("saveObject", "createdAt"), ("deleteBy", "updatedAt"), ("deleteObject", "deletedAt")):
        assert value(newer, method)[field].endswith("Z"), method
    for method in ("getTask", "waitForTask", "getAppTask", "waitForAppTask"):
        assert value(newer, method)["status"] == "published"
    responses = value(newer, "saveObjects")["responses"]
    assert [each["objectIDs"] for each in responses] == [["pot-0", "pot-1"], ["pot-2", "pot-3"], ["pot-4"]]
    assert list(value(newer, "multipleBatch")["taskID"]) == ["products"]
    assert value(newer, "indexExists before")
    assert value(newer, "indexExists") == [True, False]
    hits = value(newer, "searchForFacetValues")["facetHits"]
    assert value(newer, "searchForFacets")["results"][0]["facetHits"] == hits


def test_errors_have_a_status_and_a_message(newer: Answers) -> None:
    for method, status, message in (
        ("getTask of an unknown one", 404, ""),
        ("saveObject of a wrong type", 400, "price is 'cheap'"),
        ("saveObject to a view", 400, ""),
        ("saveObject of another index", 404, "'articles'"),
        ("saveObject to a replica", 403, ""),
        ("batch with a fault", 400, "requests[1].action is 'paint'"),
        ("setSettings of a wrong type", 400, "hitsPerPage"),
        ("replaceAllObjects", 405, "is not a route"),
        ("saveRule", 404, "/v1/rules"),
        ("an unknown method", 404, "GET /1/clusters is not a route of this service"),
    ):
        assert (newer[method]["status"], message in newer[method]["error"]) == (status, True), method
    assert len(value(newer, "after replaceAllObjects")) > 600


def test_settings_come_back(newer: Answers) -> None:
    message = value(newer, "setSettings")["message"]
    for named in ("desc(nosuch)", "ignorePlurals", "minWordSizefor1Typo", "next rebuild"):
        assert named in message
    settings = value(newer, "getSettings")
    assert settings["attributesForFaceting"] == ["searchable(brand)", "filterOnly(stock)"]
    assert (settings["typoTolerance"], settings["distinct"], settings["hitsPerPage"]) == (False, True, 7)
    back = value(newer, "setSettings back")
    assert (back["hitsPerPage"], back["customRanking"], back["typoTolerance"]) == (20, None, True)


def test_a_secured_key_of_the_client_forces_its_restrictions(newer: Answers) -> None:
    found = value(newer, "generateSecuredApiKey")
    assert (found["brands"], found["count"]) == (["Torvald"], 2)


def test_older_client_works_too(demo_index: Path, cache: Path, tmp_path: Path) -> None:
    older = run_client("v4", demo_index, cache, tmp_path)
    failed = {name: answer for name, answer in older.items() if "value" not in answer and answer != {}}
    assert not failed
    assert value(older, "generateSecuredApiKey") == 1
    assert value(older, "partialUpdateObject")["stock"] == 5
    assert value(older, "getObjects")["results"] == [{"objectID": "kettle", "name": "Enamel kettle"}, None]
    assert value(older, "getSettings")["hitsPerPage"] == 9
    assert value(older, "exists") == [True, False]
    assert value(older, "clearObjects")["ids"] == []
