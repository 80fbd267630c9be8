"""The log of events: writes, and a shopper who is forgotten."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray

from shelfwise.rerank.model_store import WEIGHTS_FILE
from shelfwise.rerank.ranker.network import RankerNetwork, save_network
from shelfwise.rerank.ranker.spec import ERASURES, RankerSpec, StoredRanker
from shelfwise.rerank.sessions.tables import DerivedTables
from shelfwise.retrieval.errors import EventError, QueryError, StoreError
from shelfwise.retrieval.events.sqlite import SqliteEvents
from shelfwise.retrieval.events.stored import DAY_MS, StoredEvent
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.records import Event, EventKind
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.service.demo import write_demo_store
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.events.event_log import EventLog, MoveResult, RecordResult, move_events, stored_events
from shelfwise.service.events.popular_queries import read_popular_queries
from shelfwise.service.events.privacy import erase_pseudonyms, erasures
from shelfwise.service.events.signals import read_memory, read_popularity, read_relations
from shelfwise.service.settings import EventsSettings, Settings
from shelfwise.service.training.click_dataset import ClickTrainingSet, HistoryResult, build_training_set, digest
from shelfwise.service.training.derived_tables import DerivedTablesManager
from shelfwise.service.training.expansions import JudgedParts
from shelfwise.service.training.ranker_from_clicks import new_start, train_network
from shelfwise.service.training.ranker_promotion import spec_of
from shelfwise.service.training.training_session import earlier_than_lists, fresh_tables
from shelfwise.service.training.user_tower import shopper_acts
from tests.learning_stores import QUICK, SETTINGS, import_log
from tests.rankers import REPORT

CLICK = Event(EventKind.CLICK, "p1", "q1", "cordless drill", "jo@example.com", "s1", 3, event_id="e1")


def recorded(root: Path) -> pl.DataFrame:
    with closing(SqliteEvents(root / EVENTS_FOLDER)) as store:
        return pl.concat(store.read(0, 1 << 20))


def test_recorded_event_is_stored_once_when_the_call_returns(live: SearchEngine, root: Path) -> None:
    at = datetime.now(UTC)
    sent = replace(CLICK, time=at)
    assert live.record() == RecordResult(0, 0)
    assert live.record(sent, sent) == RecordResult(1, 1)
    assert live.record(sent) == RecordResult(0, 1)
    assert live.refresh() is False
    (row,) = recorded(root).iter_rows(named=True)
    assert (row["kind"], row["query"], row["product_id"], row["position"]) == ("click", "cordless drill", "p1", 3)
    first = replace(sent, event_id="", product_id="p2")
    others = (replace(first, time=at + timedelta(seconds=1)), replace(first, position=4))
    assert live.record(first, first, *others) == RecordResult(3, 1), "without an id by all that they say"


def test_conflicting_event_id_is_refused_and_the_rest_stored(live: SearchEngine, root: Path) -> None:
    at = datetime.now(UTC)
    live.record(replace(CLICK, time=at))
    with pytest.raises(EventError, match="'e1' was already stored"):
        live.record(replace(CLICK, time=at, product_id="p2"), replace(CLICK, event_id="e2"))
    assert sorted(recorded(root)["product_id"]) == ["p1", "p1"]


def test_invalid_event_is_named_and_its_call_stores_nothing(live: SearchEngine, root: Path) -> None:
    with pytest.raises(EventError, match="event 2 of 2: bad position"):
        live.record(CLICK, replace(CLICK, event_id="e2", position=-1))
    live.record(replace(CLICK, event_id="e3"))
    assert recorded(root).height == 1


def test_shopper_id_is_in_no_file(live: SearchEngine, root: Path) -> None:
    live.record(replace(CLICK, session="jo-phone-4711", query="mail jo@example.com", event_id="jo-event-17"))
    assert recorded(root)["query"].to_list() == ["mail [email]"]
    for path in (root / EVENTS_FOLDER).iterdir():
        content = path.read_bytes()
        assert not any(name in content for name in (b"jo@example", b"jo-phone", b"jo-event"))


def test_an_address_is_stored_as_a_pseudonym_and_does_not_distinguish_events(live: SearchEngine, root: Path) -> None:
    sent = replace(CLICK, time=datetime.now(UTC), address="2001:db8:1:2:3:4:5:6")
    moved = replace(sent, address="192.0.2.7")
    assert live.record(sent, moved) == RecordResult(1, 1), "a phone that sends again from another network"
    live.record(replace(sent, event_id="e2", address="2001:db8:1:2::9"), replace(moved, event_id="e3"))
    one, two, three = recorded(root).sort("address", "key")["address"].to_list()
    assert (len({one, two, three}), len(one)) == (2, 22)
    assert not any(b"2001:db8" in path.read_bytes() for path in (root / EVENTS_FOLDER).iterdir())


def test_closed_engine_refuses_events(root: Path) -> None:
    with SearchEngine.open(root, settings=Settings(), follow=False) as opened:
        opened.record(CLICK)
    with pytest.raises(QueryError, match="closed"):
        opened.record(CLICK)


def test_pseudonym_keys_may_be_in_another_directory(root: Path, tmp_path: Path) -> None:
    keys = tmp_path / "secret" / "keys.json"
    with EventLog.open(root, Settings(events=EventsSettings(keys=keys))) as log:
        log.record([CLICK])
    assert keys.exists()
    assert not list((root / EVENTS_FOLDER).glob("keys*"))


DAY = 20_000


def event(number: int, product: str = "p1") -> StoredEvent:
    key, ms = number.to_bytes(16, "big"), DAY * DAY_MS + number * 3_600_000
    return StoredEvent(key, "rating", ms, ms + 1, "k1~a", "", "q1", "drill", product, 1, None, 4.5, None)


EVENTS = [event(number) for number in range(100)]


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[SqliteEvents, SqliteEvents]]:
    with closing(SqliteEvents(tmp_path / "a")) as source, closing(SqliteEvents(tmp_path / "b")) as target:
        source.append(EVENTS)
        yield source, target


def held(store: SqliteEvents) -> list[StoredEvent]:
    return [one for table in store.read(0, 1 << 20) for one in stored_events(table)]


def test_interrupted_move_resumes(stores: tuple[SqliteEvents, SqliteEvents]) -> None:
    source, target = stores
    target.append(EVENTS[:40])
    assert move_events(source, target) == MoveResult(60, 40)
    assert held(target) == EVENTS


def test_move_with_a_conflicting_id_removes_nothing(stores: tuple[SqliteEvents, SqliteEvents]) -> None:
    source, target = stores
    target.append([event(3, "another")])
    with pytest.raises(StoreError, match="belong to other events"):
        move_events(source, target)
    assert held(source) == EVENTS


def test_event_recorded_during_a_move_is_not_lost(stores: tuple[SqliteEvents, SqliteEvents]) -> None:
    source, target = stores

    def record(_: int) -> None:
        source.append([event(0)._replace(key=b"another" + bytes(9))])

    with pytest.raises(StoreError, match="in the meantime"):
        move_events(source, target, record)
    assert source.count() == 101
    assert move_events(source, target).moved == 1
    assert target.count() == 101


pytestmark = pytest.mark.usefixtures("one_thread")
Shared = dict[str, object]


def with_log(index: Path, root: Path, lines: list[bytes], keys: Path | None = None) -> Path:
    """A copy of an index with a log, with the pseudonym keys of another index if given."""
    shutil.copytree(index, root)
    if keys is not None:
        (root / EVENTS_FOLDER).mkdir(mode=0o700)
        shutil.copy(keys, root / EVENTS_FOLDER)
    log = root.with_name(f"{root.name}.jsonl")
    log.write_bytes(b"\n".join(lines))
    import_log(root, log)
    return root


def forget(root: Path, shopper: str) -> int:
    with EventLog.open(root, SETTINGS) as log:
        tables = DerivedTablesManager(root, log, SETTINGS.events)
        done = erase_pseudonyms(log, log.intake.pseudonyms.all_pseudonyms(shopper), tables.purge, tables.rows_of)
        assert done.is_complete
        return done.events


def trained(
    root: Path, served: StoredRanker | None = None
) -> tuple[Shared, ClickTrainingSet, RankerNetwork, RankerSpec]:
    """The inputs of a training, and its results if such a ranker serves."""
    with fresh_tables(root, SETTINGS, NullProgress()) as tables:
        acts = shopper_acts(tables.derived.acts(), tables.snapshot.products.row_of)
        read = known(root, tables.derived) | {"user tower": acts.digest}
        options = replace(QUICK, erasures=tables.erasures)
        lists, earlier = tables.derived.lists(), earlier_than_lists(tables)
        made = build_training_set(tables.snapshot, lists, served, options, tables.built, NullProgress(), earlier)
        start = new_start(made)
        done = train_network(made, start.network, tables.work / digest(made, start.parent), NullProgress())
        return read, made, done.network, spec_of(made, done, HistoryResult(""), start.parent, {})


def known(root: Path, derived: DerivedTables) -> Shared:
    parts = JudgedParts.by_time(derived, {})
    memory, relations = read_memory(root), read_relations(root)
    tables = ("popularity", "neighbours", "queries", "reformulations", "query_memory", "labels")
    return {
        **{name: derived.table(name).to_dicts() for name in (*tables, "relations")},
        "lists": derived.lists().sort("time", "query_id", "kind", "product_id").to_dicts(),
        "expansions": sorted((each.query, sorted(each.opinions)) for each in parts.everything),
        "popularity file": read_popularity(root).shares,
        "popular queries": read_popular_queries(root).queries,
        "memory": [whole(memory.keys), whole(memory.members), whole(memory.attraction)],
        "relations": [whole(relations.ids), whole(relations.others), whole(relations.strengths)],
    }


def whole(values: NDArray[np.generic]) -> bytes:
    return values.tobytes()


@pytest.mark.slow
def test_next_training_is_that_of_a_store_which_never_knew_the_shopper(demo_index: Path, tmp_path: Path) -> None:
    with gzip.open(write_demo_store(tmp_path / "demo", products=600, sessions=300).events) as file:
        lines = file.read().splitlines()
    rows = [msgspec.json.decode(line) for line in lines]
    shoppers = [row["shopper"] for row in rows]
    # Buyers only: bots never buy, and are in no table.
    buyers = [row["shopper"] for row in rows if row["kind"] == "purchase"]
    shopper = max(sorted(set(buyers)), key=shoppers.count)
    root = with_log(demo_index, tmp_path / "knew", lines)
    before, made, network, spec = trained(root)
    (tmp_path / "served").mkdir()
    save_network(network, tmp_path / "served" / WEIGHTS_FILE)
    served = StoredRanker("ranker-0001", tmp_path / "served", msgspec.structs.replace(spec, identity="first"), REPORT)
    assert new_start(replace(made, served=served)).parent == "first"
    assert forget(root, shopper) == shoppers.count(shopper)
    kept = [line for line, who in zip(lines, shoppers, strict=True) if who != shopper]
    stranger = with_log(demo_index, tmp_path / "stranger", kept, root / EVENTS_FOLDER / "keys.json")
    (read, _, again, spec), (expected, _, other, _) = trained(root, served), trained(stranger)
    assert {name for name in read if read[name] != expected[name]} == set()
    assert all(read[name] != before[name] for name in ("lists", "labels", "user tower"))
    assert spec.parent == ""
    assert spec.trained_on[ERASURES] == erasures(root / EVENTS_FOLDER) > 0
    weights = other.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in again.state_dict().items())
