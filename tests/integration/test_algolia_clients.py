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
from shelfwise.service.instantsearch.request import COUNTING
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


@pytest.fixture(scope="module")
def older(demo_index: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return run_client("v4", demo_index, cache, tmp_path_factory.mktemp("v4"))


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


def test_saved_object_is_found_by_its_place(newer: Answers) -> None:
    found = value(newer, "search by place")
    (hit,) = found["hits"]
    assert (hit["objectID"], hit["_geoloc"][1]) == ("kettle", {"lat": 52.5, "lng": 13.4})
    info = hit["_rankingInfo"]
    assert (info["geoDistance"], info["matchedGeoLocation"]) == (22, {"lat": 52.5, "lng": 13.4, "distance": 2249})
    assert "ignoredParameters" not in found


def test_saved_objects_are_browsed(newer: Answers) -> None:
    saved = value(newer, "saveObjects")
    assert [each["objectIDs"] for each in saved["responses"]] == [["pot-0", "pot-1"], ["pot-2", "pot-3"], ["pot-4"]]
    assert saved["ids"] == ["kettle", "pot-0", "pot-1", "pot-2", "pot-3", "pot-4"]
    assert [each["objectIDs"] for each in value(newer, "chunkedBatch")] == [["pot-51"], ["pot-52"]]


def test_partial_updates_apply_built_in_operations(newer: Answers) -> None:
    updated = value(newer, "partialUpdateObject")
    kettle = updated["kettle"]
    assert (kettle["stock"], kettle["price"], kettle["sold"], kettle["tags"]) == (3 + 2 - 1, 45, 7, ["blue"])
    assert kettle["size"] == {"height": 30}
    assert (updated["spout"]["name"], updated["spout"]["stock"]) == ("Spout", 4)
    assert newer["partialUpdateObject of nothing"]["status"] == 404
    assert "brand: Increment needs a number" in newer["partialUpdateObject by a wrong operation"]["error"]
    several = value(newer, "partialUpdateObjects")
    assert (several["price"], "pot-100" in several["ids"]) == (10, False)


def test_batch_applies_each_action_to_the_result_of_earlier_ones(newer: Answers) -> None:
    batch = value(newer, "batch")
    assert batch["objectIDs"][1:] == ["pot-1", "pot-1", "ghost", "pot-4"]
    assert (batch["pot"]["price"], batch["pot"]["stock"], batch["whisk"]["name"]) == (21, 1, "Whisk")
    assert "requests[1].action is 'paint'" in newer["batch with a fault"]["error"]
    several = value(newer, "multipleBatch")
    assert list(several["taskID"]) == ["products"]
    assert several["pot"]["price"] == 50


def test_deletes(newer: Answers) -> None:
    assert "pot-0" not in value(newer, "deleteObject")["ids"]
    assert "pot-4" not in value(newer, "deleteObject")["ids"], "the batch has deleted it"
    assert value(newer, "deleteObjects")["ids"] == ["kettle", "pot-2", "pot-3", "pot-50", "pot-51", "pot-52"]
    assert value(newer, "deleteBy")["ids"] == ["kettle", "pot-2", "pot-3", "pot-50"]
    assert "clearObjects" in newer["deleteBy without filters"]["error"]
    assert "aroundLatLng" in newer["deleteBy by a place"]["error"]
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
    assert "cursor" in newer["browse by a wrong cursor"]["error"]
    assert value(newer, "browse a query")["hits"][0]["objectID"] == "kettle"
    everything = value(newer, "browseObjects")
    assert everything["count"] == everything["distinct"] > 600
    assert everything["isSorted"]


@pytest.mark.parametrize("method", ["getTask", "waitForTask", "getAppTask", "waitForAppTask"])
def test_tasks_are_published(newer: Answers, method: str) -> None:
    assert value(newer, method)["status"] == "published"
    assert newer["getTask of an unknown one"]["status"] == 404


@pytest.mark.parametrize(
    ("field", "methods"),
    [
        ("createdAt", "saveObject"),
        ("updatedAt", "addOrUpdateObject deleteBy clearObjects setSettings"),
        ("deletedAt", "deleteObject"),
    ],
)
def test_responses_have_the_time_that_typed_clients_require(newer: Answers, field: str, methods: str) -> None:
    """Regression: the Python client raised an error for `deleteBy`, whose response had another field."""
    for method in methods.split():
        assert value(newer, method)[field].endswith("Z"), method


def test_faults_name_the_object_and_the_attribute(newer: Answers) -> None:
    assert "'nameless': name is missing" in newer["saveObject without a name"]["error"]
    assert "price is 'cheap'" in newer["saveObject of a wrong type"]["error"]
    assert newer["saveObject to a view"]["status"] == 400
    unknown = newer["saveObject of another index"]
    assert (unknown["status"], "'articles'" in unknown["error"], "shelfwise serve" in unknown["error"]) == (
        404,
        True,
        True,
    )
    assert newer["an unknown method"] == {"error": "GET /1/clusters is not a route of this service", "status": 404}
    assert newer["another unknown method"]["status"] == 404


def test_first_write_names_the_index(newer: Answers) -> None:
    assert value(newer, "indexExists before")
    assert value(newer, "indexExists") == [True, False]


def test_settings_are_applied_or_named(newer: Answers) -> None:
    message = value(newer, "setSettings")["message"]
    for named in ("desc(nosuch)", "ignorePlurals", "minWordSizefor1Typo", "next rebuild"):
        assert named in message
    settings = value(newer, "getSettings")
    assert settings["searchableAttributes"] == ["name", "brand,categories", "size.label"]
    assert settings["customRanking"] == ["desc(rating)", "asc(price)", "desc(nosuch)"]
    assert (settings["typoTolerance"], settings["distinct"], settings["hitsPerPage"]) == (False, True, 7)
    assert settings["unretrievableAttributes"] == ["cost"]
    assert settings["attributesForFaceting"] == ["searchable(brand)", "filterOnly(stock)"]
    found = value(newer, "search by the settings")
    assert (found["hitsPerPage"], list(found["facets"])) == (7, ["brand"])
    pot = next(hit for hit in found["hits"] if hit["objectID"].startswith("pot-"))
    assert pot["_groupSize"] > 1, "one hit for each brand"
    assert "hitsPerPage" in newer["setSettings of a wrong type"]["error"]
    back = value(newer, "setSettings back")
    assert (back["hitsPerPage"], back["customRanking"], back["searchableAttributes"]) == (20, None, None)
    assert (back["typoTolerance"], back["unretrievableAttributes"]) == (True, ["cost"])


def test_a_secured_key_of_the_client_forces_its_restrictions(newer: Answers, older: Answers) -> None:
    found = value(newer, "generateSecuredApiKey")
    assert (found["brands"], found["count"]) == (["Torvald"], 2)
    assert value(older, "generateSecuredApiKey") == 1


def test_a_replica_has_an_order_of_its_own(newer: Answers) -> None:
    prices = value(newer, "search a replica")
    assert (len(prices), prices) == (3, sorted(prices))
    assert newer["saveObject to a replica"]["status"] == 403


def test_searches_of_the_full_client(newer: Answers) -> None:
    for method in ("search", "searchForHits"):
        assert value(newer, method)["results"][0]["hits"]
    hits = value(newer, "searchForFacetValues")["facetHits"]
    assert "Torvald" in [hit["value"] for hit in hits]
    assert value(newer, "searchForFacets")["results"][0]["facetHits"] == hits
    assert value(newer, "searchSingleIndex")["index"] == "products"


def test_a_method_that_is_not_supported_changes_nothing(newer: Answers) -> None:
    refused = newer["replaceAllObjects"]
    assert (refused["status"], "is not a route" in refused["error"]) == (405, True)
    assert (newer["saveRule"]["status"], "/v1/rules" in newer["saveRule"]["error"]) == (404, True)
    assert len(value(newer, "after replaceAllObjects")) > 600


def test_older_client_works_too(older: Answers) -> None:
    failed = {name: answer for name, answer in older.items() if "value" not in answer and answer != {}}
    assert not failed
    assert len(value(older, "saveObjects")["objectIDs"]) == 2
    assert value(older, "partialUpdateObject")["stock"] == 5
    assert value(older, "getObjects")["results"] == [{"objectID": "kettle", "name": "Enamel kettle"}, None]
    assert value(older, "browseObjects") > 600
    assert "min is applied as true" in value(older, "setSettings")["message"]
    assert value(older, "getSettings")["hitsPerPage"] == 9
    assert value(older, "exists") == [True, False]
    assert value(older, "clearObjects")["ids"] == []
