"""A night of forged events, sent to a real service with what any visitor has, and what the next refresh makes of it."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import httpx2
import pytest

from shelfwise.indexer.events.importer import import_events
from shelfwise.rerank.sessions.cleaning import RejectReason
from shelfwise.rerank.sessions.refresh import RefreshResult
from shelfwise.rerank.sessions.tables import open_derived
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.service.demo import write_demo_store
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.events.event_log import DERIVED_FOLDER, EventLog, rejects_path
from shelfwise.service.settings import RankerSettings, Settings
from shelfwise.service.training.derived_tables import DerivedTablesManager
from tests.browsers import served

SETTINGS = Settings(backend="embedded", ranker=RankerSettings(deadline=60.0))
QUERY = "drill"
HOUSEHOLD = 1 + 0.5 + 3 + 5
"""The score by which a click, a view, a cart and a purchase raise a product's popularity."""


def counted(root: Path) -> RefreshResult:
    with EventLog.open(root, SETTINGS) as log:
        return DerivedTablesManager(root, log, SETTINGS.events).refresh()


def hits(root: Path) -> list[str]:
    with SearchEngine.open(root, settings=SETTINGS) as engine:
        return [hit.product.id for hit in engine.search(QUERY, size=20).hits]


def popularity(root: Path, column: str = "score") -> dict[str, float]:
    table = open_derived(root / EVENTS_FOLDER / DERIVED_FOLDER).popularity
    return dict(table.select("product_id", column).iter_rows())


@pytest.fixture
def root(demo_index: Path, tmp_path: Path) -> Path:
    """An index with the events of six weeks of honest shoppers."""
    root = Path(shutil.copytree(demo_index, tmp_path / "store"))
    first = (datetime.now(UTC) - timedelta(days=43)).date()
    files = write_demo_store(tmp_path / "demo", products=600, sessions=1_000, day=first)
    with EventLog.open(root, SETTINGS) as log:
        rejects = rejects_path(log.folder, datetime.now(UTC))
        import_events([str(files.events)], log.store, log.intake, rejected=rejects)
    counted(root)
    return root


def test_night_of_forged_events_moves_a_product_by_one_place_at_most(root: Path) -> None:
    before, scores, shoppers = hits(root), popularity(root), popularity(root, "shoppers")
    target, number = next(each for each in before[3:] if each in scores), count()
    with (
        SearchEngine.open(root, settings=SETTINGS) as engine,
        served(engine) as url,
        httpx2.Client(base_url=url) as web,
    ):

        def forged(kind: str, **values: object) -> dict[str, object]:
            name = f"forger-{next(number)}"
            return {"kind": kind, "product_id": target, "shopper": name, "session": name, **values}

        def sent(events: list[dict[str, object]]) -> int:
            return web.post("/v1/events", json={"events": events}).status_code

        lie = {"query_id": "made-up", "query": QUERY}
        assert sent([forged("impression", position=1, **lie), forged("click", position=1, **lie)]) == 403
        acts = [forged(kind, position=1, **lie) for kind in ("click", "cart", "purchase") * 100]
        acts += [forged(kind) for kind in ("click", "consultation", "cart", "purchase") * 25]
        assert all(sent(acts[at : at + 100]) == 200 for at in range(0, len(acts), 100))
        for session in range(20):
            answer = web.get("/v1/search", params={"q": QUERY, "session": f"searching-{session}"}).json()
            click = {"kind": "click", "product_id": target, "query_id": answer["query_id"], "position": 1}
            assert sent([click | {"session": f"searching-{session}"}]) == 200
    refreshed = counted(root)
    assert refreshed.rejected[RejectReason.SURPLUS] > 300
    assert abs(before.index(target) - hits(root).index(target)) <= 1
    # Earlier events count a little less by now.
    assert popularity(root)[target] - scores[target] <= HOUSEHOLD
    assert popularity(root, "shoppers")[target] <= shoppers[target] + 1
