"""Opening derived tables: errors for missing and damaged tables name the cure."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from shelfwise.rerank.sessions.partitions import SUFFIX
from shelfwise.rerank.sessions.refresh import Steps, refresh
from shelfwise.rerank.sessions.tables import DERIVED, SCHEMA, DerivedTables, open_derived
from shelfwise.retrieval.errors import StoreDamagedError, StoreForeignError, StoreMissingError
from shelfwise.retrieval.events.stored import StoredEvent
from tests.unit.rerank.sessions.derived_log import NOW, MemoryEvents, flag_nothing, stored


def refreshed(folder: Path, events: Sequence[StoredEvent] = ()) -> DerivedTables:
    refresh(MemoryEvents(events), folder, None, now=NOW, steps=Steps(score_sessions=flag_nothing))
    return open_derived(folder)


@pytest.fixture
def opened(tmp_path: Path) -> DerivedTables:
    return refreshed(tmp_path)


def test_missing_tables_raise(tmp_path: Path) -> None:
    with pytest.raises(StoreMissingError, match="no derived tables yet; refresh"):
        open_derived(tmp_path / "nowhere")


def test_lists_have_impressions_and_acts_in_time_order(tmp_path: Path) -> None:
    shown = NOW - timedelta(hours=2)
    events = [
        stored("click", shown + timedelta(minutes=1), product_id="x", query_id="q1", position=1),
        stored("impression", shown, product_id="x", query_id="q1", query="Kettle", position=1),
        stored("impression", shown - timedelta(days=1), product_id="y", query_id="q1", query="mug", position=1),
    ]
    lists = refreshed(tmp_path, events).lists()
    assert lists.select("kind", "query", "product_id").rows() == [
        ("impression", "mug", "y"),
        ("impression", "kettle", "x"),
        ("click", "kettle", "x"),
    ]
    assert lists["query_id"].n_unique() == 2


def test_lists_and_acts_have_their_shoppers(tmp_path: Path) -> None:
    shown = NOW - timedelta(hours=2)
    events = [
        stored("impression", shown, product_id="x", query_id="q1", query="mug", position=1, session="s1"),
        stored("click", shown + timedelta(minutes=1), product_id="x", query_id="q1", session="s1", shopper="u1"),
        stored("cart", shown + timedelta(minutes=2), product_id="x", session="s1"),
        stored("consultation", shown, product_id="y", session="s2"),
    ]
    found = refreshed(tmp_path, events)
    assert found.lists().select("kind", "shopper").rows() == [(kind, "u1") for kind in ("impression", "click", "cart")]
    acts = found.acts()
    assert acts.columns == ["shopper", "product_id", "kind", "time"]
    assert acts.select("shopper", "product_id", "kind").rows() == [("u1", "x", "click"), ("u1", "x", "cart")]


def test_lists_of_replaced_days_raise(opened: DerivedTables, tmp_path: Path) -> None:
    assert opened.lists().is_empty()
    found = refreshed(tmp_path, [stored("click", NOW - timedelta(hours=1), product_id="x")])
    shutil.rmtree(tmp_path / "parts")
    for read in (found.lists, found.acts):
        with pytest.raises(StoreMissingError, match="open them again"):
            read()


def test_replaced_generation_raises(opened: DerivedTables, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / opened.manifest.folder)
    with pytest.raises(StoreMissingError, match="open them again"):
        _ = opened.popularity


@pytest.mark.parametrize("content", [b"", b"PAR1 and more", None], ids=["empty", "short", "a changed byte"])
def test_changed_file_is_damaged(opened: DerivedTables, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / opened.manifest.folder / f"queries{SUFFIX}"
    path.write_bytes(path.read_bytes().replace(b"PAR1", b"PAR2", 1) if content is None else content)
    with pytest.raises(StoreDamagedError, match=r"queries\.parquet cannot be read .*; remove its folder and refresh"):
        _ = opened.queries
    assert opened.popularity.is_empty()


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[]"])
def test_unreadable_manifest_is_damaged(opened: DerivedTables, tmp_path: Path, content: bytes) -> None:
    (tmp_path / DERIVED).write_bytes(content)
    with pytest.raises(StoreDamagedError, match=r"derived\.json cannot be read"):
        open_derived(tmp_path)
    refresh(MemoryEvents(), tmp_path, None, now=NOW)
    assert open_derived(tmp_path).popularity.is_empty()


def test_other_schema_is_refused(opened: DerivedTables, tmp_path: Path) -> None:
    (tmp_path / DERIVED).write_bytes(msgspec.json.encode({"schema": SCHEMA + 1}))
    with pytest.raises(StoreForeignError, match=f"has schema {SCHEMA + 1}, but this program reads {SCHEMA}"):
        open_derived(tmp_path)
