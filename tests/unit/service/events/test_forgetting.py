"""An erased shopper is in no table and no model of the next training: both equal those of a store without the
shopper."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shelfwise.rerank.model_store import WEIGHTS_FILE
from shelfwise.rerank.ranker.network import RankerNetwork, save_network
from shelfwise.rerank.ranker.spec import ERASURES, RankerSpec, StoredRanker
from shelfwise.rerank.sessions.tables import DerivedTables
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.service.demo import write_demo_store
from shelfwise.service.events.event_log import EventLog
from shelfwise.service.events.popular_queries import read_popular_queries
from shelfwise.service.events.privacy import erase_pseudonyms, erasures
from shelfwise.service.events.signals import read_memory, read_popularity, read_relations
from shelfwise.service.training.click_dataset import ClickTrainingSet, HistoryResult, build_training_set, digest
from shelfwise.service.training.derived_tables import DerivedTablesManager
from shelfwise.service.training.expansions import JudgedParts
from shelfwise.service.training.ranker_from_clicks import new_start, train_network
from shelfwise.service.training.ranker_promotion import spec_of
from shelfwise.service.training.training_session import earlier_than_lists, fresh_tables
from shelfwise.service.training.user_tower import shopper_acts
from tests.learning_stores import QUICK, SETTINGS, import_log
from tests.rankers import REPORT

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
