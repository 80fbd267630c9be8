"""What a service says of experiments that nobody takes part in: when one is put, in its health, in its metrics."""

from __future__ import annotations

from fastapi.testclient import TestClient

from rerank.ranker.spec import ranker_store
from service.engine.engine import SearchEngine
from tests.unit.service.engine.demo_rankers import publish, spec_for, weighing
from tests.unit.service.http.test_metrics import value

ORDER = {"id": "order", "variants": [{"name": "now"}, {"name": "words", "options": {"ranker": "ranker-0001"}}]}


def test_an_experiment_without_its_ranker_is_refused_and_one_that_loses_it_is_told_of(
    client: TestClient, store: SearchEngine
) -> None:
    refused = client.put("/v1/experiments", json=ORDER)
    assert (refused.status_code, refused.json()["error"]["field"]) == (400, "ranker")
    assert "has no ranker 'ranker-0001'" in refused.json()["error"]["message"]
    for sign in (1.0, -1.0):
        publish(store.root, spec_for(store.snapshot), weighing(merged=sign))
    store.reload_if_changed()
    assert client.put("/v1/experiments", json=ORDER).json() == {"changed": True}
    request = {"q": "drill", "shopper": "u1"}
    assert "~order." in client.get("/v1/search", params=request).json()["query_id"]
    assert client.get("/health/ready").json()["notices"] == []
    before = value(client, "shelfwise_notices")
    ranker_store(store.root).off()
    store.reload_if_changed()
    assert "~" not in client.get("/v1/search", params=request).json()["query_id"]
    (notice,) = client.get("/health/ready").json()["notices"]
    assert notice == "nobody takes part in the experiment order: no ranker serves"
    assert client.get("/v1/experiments").json()["notices"] == [notice]
    assert value(client, "shelfwise_notices") == before + 1
    assert value(client, 'shelfwise_unserved_experiment_searches_total{experiment="order"}') >= 1
    client.post("/v1/experiments/order/stop")
    assert client.get("/health/ready").json()["notices"] == []


def test_experiments_that_cannot_be_read_are_told_of(client: TestClient, store: SearchEngine) -> None:
    file = store.root / "experiments.sqlite"
    kept = file.read_bytes() if file.is_file() else b""
    file.write_bytes(b"no database" * 100)
    try:
        client.app.state.context.experiments.reload_if_changed()  # type: ignore[attr-defined]  # TestClient's app is any application
        (notice,) = client.get("/health/ready").json()["notices"]
        assert notice.startswith("changes of the experiments are not loaded: ")
    finally:
        file.write_bytes(kept)
