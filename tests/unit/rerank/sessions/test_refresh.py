"""Refreshing: the same tables however events arrive, nothing after the window, no bots and no erased shoppers."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfwise.rerank.sessions.options import DeriveOptions
from shelfwise.rerank.sessions.partitions import SUFFIX, Context, PartialReader, TableMaker, write_folder
from shelfwise.rerank.sessions.refresh import TABLES, RefreshResult, Steps, refresh
from shelfwise.rerank.sessions.tables import DERIVED, FIRST, LAST, SCHEMA, DerivedTables, count_of, open_derived
from shelfwise.retrieval.errors import (
    SettingError,
    StoreDamagedError,
    StoreForeignError,
    StoreLockedError,
    StoreMissingError,
)
from shelfwise.retrieval.events.sqlite import SqliteEvents
from shelfwise.retrieval.events.stored import SPONSORED_MARK, StoredEvent
from shelfwise.retrieval.store.lock import hold_lock
from tests.unit.rerank.sessions.derived_log import (
    NOW,
    MemoryEvents,
    all_tables,
    catalog,
    flag_most_active,
    flag_nothing,
    search,
    shoppers_in,
    stored,
)

PRODUCTS = catalog({"a": "Light > Lamps", "b": "Light", "c": "Tools"}, datetime(2020, 1, 1, tzinfo=UTC))
DAYS = 5
ROOT = Path(__file__).parents[4]
ANY = DeriveOptions(least_shoppers=1, days=10)
BOT = Steps(score_sessions=flag_most_active)
HONEST = Steps(score_sessions=flag_nothing)


def refreshed(
    folder: Path,
    store: MemoryEvents | SqliteEvents,
    options: DeriveOptions = ANY,
    *,
    now: datetime = NOW,
    steps: Steps = BOT,
    purge: bool = False,
) -> RefreshResult:
    return refresh(store, folder, PRODUCTS, options, now=now, steps=steps, purge=purge)


def drawn_search(
    shopper: str, time: datetime, session: str, query: str, acts: list[tuple[str, str]]
) -> list[StoredEvent]:
    return search(shopper, time, query, ["a", "b", "c"], *acts, session=session)


searches = st.builds(
    drawn_search,
    st.sampled_from(["", "u1", "u2", "u3"]),
    st.integers(0, 3 * 24 * 30).map(lambda minutes: NOW - timedelta(minutes=2 * minutes)),
    st.sampled_from(["s1", "s2", "s3"]),
    st.sampled_from(["lamp", "Lamp", "desk lamp", "saw"]),
    st.lists(st.tuples(st.sampled_from(["click", "cart", "purchase"]), st.sampled_from("abc")), max_size=4),
)


@given(st.lists(searches, min_size=1, max_size=12), st.data())
@settings(max_examples=settings().max_examples // 5)
def test_incremental_refresh_equals_full_refresh(drawn: list[list[StoredEvent]], data: st.DataObject) -> None:
    events = data.draw(st.permutations([event for each in drawn for event in each]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=2)))
    with TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        # Sessions are scored in several batches, too.
        patch.setattr("shelfwise.rerank.sessions.refresh.SCORED_TOGETHER", 2)
        store = MemoryEvents()
        for number, end in enumerate((*cuts, len(events))):
            store.append(events[:end])
            refreshed(Path(scratch, "grown"), store, now=NOW - timedelta(hours=20 * (len(cuts) - number)))
        refreshed(Path(scratch, "anew"), MemoryEvents(events))
        assert all_tables(open_derived(Path(scratch, "grown"))) == all_tables(open_derived(Path(scratch, "anew")))


def some_days() -> list[StoredEvent]:
    """Ten shoppers who each search once a day, at noon, on the days up to yesterday, and sometimes buy."""
    noon = NOW - timedelta(days=1)
    return [
        event
        for age in range(DAYS)
        for number in range(10)
        for event in search(
            f"shopper{number}",
            noon - timedelta(days=age, minutes=5 * number),
            ("desk lamp", "lamp")[number % 2],
            ["a", "b", "c"],
            ("click", "abc"[(age + number) % 3]),
            *([("purchase", "abc"[(age + number) % 3])] if number % 3 == 0 else []),
            session=f"session{number}/{age}",
        )
    ]


def test_report_has_counts_and_files_have_their_window(tmp_path: Path) -> None:
    store = MemoryEvents(some_days())
    store.append([stored("click", NOW - timedelta(hours=1), product_id="x", query_id="q", shopper="u1")])
    report = refreshed(tmp_path, store)
    assert report.events + sum(report.rejected.values()) == store.count()
    assert (report.corrected, report.rejected, report.sessions) == (0, {"unknown product": 1}, 10 * DAYS)
    opened = open_derived(tmp_path)
    assert report.tables == {name: opened.table(name).height for name in report.tables}
    assert opened.rejected["events"].to_list() == [1]
    assert {"popularity", "neighbours", "queries", "sessions"} < report.tables.keys()
    assert (report.window.first, report.window.last) == (datetime(2026, 11, 11, tzinfo=UTC), NOW)
    for name in opened.manifest.tables:
        result = pl.read_parquet_metadata(tmp_path / opened.manifest.folder / f"{name}{SUFFIX}")
        assert (result[FIRST], result[LAST]) == ("2026-11-11T00:00:00+00:00", "2026-11-20T12:00:00+00:00")


def test_bots_are_only_in_the_sessions_table(tmp_path: Path) -> None:
    honest = some_days()
    begun = NOW - timedelta(hours=2)
    times = [begun + timedelta(seconds=2 * step) for step in range(60)]
    crawl = [stored("click", at, product_id="abc"[n % 3], shopper="crawler") for n, at in enumerate(times)]
    report = refreshed(tmp_path / "crawled", MemoryEvents(honest + crawl))
    refreshed(tmp_path / "honest", MemoryEvents(honest))
    crawled, alone = open_derived(tmp_path / "crawled"), open_derived(tmp_path / "honest")
    assert (report.flagged_sessions, report.flagged_clicks) == (1, 60)
    assert crawled.sessions.filter("is_fraud").select("shopper", "clicks").rows() == [("crawler", 60)]
    for table in TABLES:
        assert crawled.table(table.name).equals(alone.table(table.name)), table.name


def test_clicks_on_sponsored_hits_are_only_in_the_sessions_table(tmp_path: Path) -> None:
    """Rankings do not learn from paid clicks; bots among those who click them are still found."""
    honest, steps = some_days(), HONEST
    late = NOW - timedelta(hours=2)
    paid = [stored("click", late, product_id="c", shopper=f"u{n}", query_id=f"q{n}{SPONSORED_MARK}x") for n in range(3)]
    refreshed(tmp_path / "paid", MemoryEvents(honest + paid), steps=steps)
    refreshed(tmp_path / "honest", MemoryEvents(honest), steps=steps)
    with_paid, alone = open_derived(tmp_path / "paid"), open_derived(tmp_path / "honest")
    assert with_paid.sessions["clicks"].sum() == alone.sessions["clicks"].sum() + 3
    assert with_paid.rejected.equals(alone.rejected)
    for table in TABLES:
        assert with_paid.table(table.name).equals(alone.table(table.name)), table.name


def test_an_empty_store_gives_empty_tables(tmp_path: Path) -> None:
    report = refresh(MemoryEvents(), tmp_path, None, now=NOW)
    # The weights of signals have default values.
    assert {name for name, rows in report.tables.items() if rows} == {"label_weights"}
    assert {name for name in report.tables if not open_derived(tmp_path).table(name).is_empty()} == {"label_weights"}


def test_interrupted_refresh_keeps_the_old_tables(tmp_path: Path) -> None:
    store = MemoryEvents(some_days())
    refreshed(tmp_path, store)
    before = all_tables(open_derived(tmp_path))
    store.append(search("shopper1", NOW - timedelta(hours=2), "lamp", ["a"], ("click", "a")))

    def fail(read: PartialReader, context: Context) -> pl.DataFrame:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refreshed(tmp_path, store, steps=replace(BOT, tables=(*TABLES, TableMaker("late", (), fail))))
    assert all_tables(open_derived(tmp_path)) == before
    (tmp_path / ".tables-000002.x7").mkdir()
    (tmp_path / "tables-000002").mkdir()
    (tmp_path / "days" / ".2026-11-20.x7").mkdir()
    refreshed(tmp_path, store)
    refreshed(tmp_path / "anew", store)
    assert all_tables(open_derived(tmp_path)) == all_tables(open_derived(tmp_path / "anew"))
    assert not list(tmp_path.rglob("*.x7"))


KILLED = """
import os, pathlib, signal, sys
from shelfwise.rerank.sessions.partitions import TableMaker
from shelfwise.rerank.sessions.refresh import Steps, refresh
from tests.unit.rerank.sessions.derived_log import NOW
from shelfwise.retrieval.events.sqlite import SqliteEvents
folder = pathlib.Path(sys.argv[1])
kill = TableMaker("late", (), lambda *_: os.kill(os.getpid(), signal.SIGKILL))
refresh(SqliteEvents(folder / "events"), folder / "tables", None, now=NOW, steps=Steps(tables=(kill,)))
"""


def test_killed_refresh_releases_its_lock(tmp_path: Path) -> None:
    store = SqliteEvents(tmp_path / "events")
    store.append(some_days())
    process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False)
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(StoreMissingError):
        open_derived(tmp_path / "tables")
    report = refresh(store, tmp_path / "tables", None, now=NOW)
    store.close()
    assert (report.days_made, report.days_kept) == (0, DAYS)
    assert open_derived(tmp_path / "tables").popularity.height == 3


def test_concurrent_refresh_is_refused(tmp_path: Path) -> None:
    with hold_lock(tmp_path, "refresh of derived tables"), pytest.raises(StoreLockedError, match="refresh"):
        refreshed(tmp_path, MemoryEvents())


def test_previous_generation_is_kept_for_readers_and_purge_removes_it(tmp_path: Path) -> None:
    store = MemoryEvents(some_days())
    refreshed(tmp_path, store)
    reader = open_derived(tmp_path)
    refreshed(tmp_path, store)
    assert reader.popularity.height == 3
    refreshed(tmp_path, store)
    assert sorted(each.name for each in tmp_path.glob("tables-*")) == ["tables-000002", "tables-000003"]
    refreshed(tmp_path, store, purge=True)
    assert sorted(each.name for each in tmp_path.glob("tables-*")) == ["tables-000004"]


def test_erased_shopper_is_in_no_file_and_no_table(tmp_path: Path) -> None:
    events = some_days()
    lone = stored("consultation", NOW - timedelta(hours=3), product_id="a", session="session4/0")
    store = SqliteEvents(tmp_path / "events")
    store.append([*events, lone])
    refreshed(tmp_path / "tables", store)
    refreshed(tmp_path / "tables", store)
    theirs = {"shopper4", *(f"session4/{age}" for age in range(DAYS))}
    assert count_of(tmp_path / "tables", theirs) > 0
    store.forget(["shopper4"])
    refreshed(tmp_path / "tables", store, purge=True)
    store.close()
    assert count_of(tmp_path / "tables", theirs) == 0
    assert shoppers_in(tmp_path / "tables") == {f"shopper{number}" for number in range(10) if number != 4}
    others = [event for event in events if event.shopper != "shopper4"]
    refreshed(tmp_path / "never", MemoryEvents(others))
    assert all_tables(open_derived(tmp_path / "tables")) == all_tables(open_derived(tmp_path / "never"))


def test_erasure_check_finds_a_pseudonym_in_every_kind_of_file(tmp_path: Path) -> None:
    texts = pl.DataFrame({"detail": ["as k1~x did", "k1~x"], "reasons": [["k1~x"], ["none"]], "count": [1, 2]})
    write_folder(tmp_path / "days", {"rejected": texts}, {}, {})
    (tmp_path / "derived.json").write_text('{"of": "k1~x"}')
    assert count_of(tmp_path, ["k1~x"]) == 4
    assert count_of(tmp_path, ["k1~y", ""]) == 0


def test_retention_applies_to_derived_tables(tmp_path: Path) -> None:
    store = MemoryEvents(some_days())
    refreshed(tmp_path, store)
    store.expire(max(store.days()) - 1)
    report = refreshed(tmp_path, store)
    # The first remaining day is rebuilt: the answers of the day before it are gone.
    assert (report.sessions, report.days_made) == (2 * 10, 1)
    assert len(list((tmp_path / "days").iterdir())) == 2


@pytest.mark.parametrize("values", [{"days": 0}, {"days": 36_501}])
def test_invalid_options_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(SettingError, match=next(iter(values))):
        DeriveOptions(**values)  # type: ignore[arg-type]


def tables_of(folder: Path, events: Sequence[StoredEvent] = ()) -> DerivedTables:
    refresh(MemoryEvents(events), folder, None, now=NOW, steps=Steps(score_sessions=flag_nothing))
    return open_derived(folder)


@pytest.fixture
def opened(tmp_path: Path) -> DerivedTables:
    return tables_of(tmp_path)


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
    lists = tables_of(tmp_path, events).lists()
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
    found = tables_of(tmp_path, events)
    assert found.lists().select("kind", "shopper").rows() == [(kind, "u1") for kind in ("impression", "click", "cart")]
    acts = found.acts()
    assert acts.columns == ["shopper", "product_id", "kind", "time"]
    assert acts.select("shopper", "product_id", "kind").rows() == [("u1", "x", "click"), ("u1", "x", "cart")]


def test_lists_of_replaced_days_raise(opened: DerivedTables, tmp_path: Path) -> None:
    assert opened.lists().is_empty()
    found = tables_of(tmp_path, [stored("click", NOW - timedelta(hours=1), product_id="x")])
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
