"""Files that a refresh writes for searches and reports."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.rerank.ranker.memory import NO_MEMORY, MemoryRows, QueryMemory
from shelfwise.rerank.sessions.bots import score_sessions
from shelfwise.rerank.sessions.options import DeriveOptions
from shelfwise.rerank.sessions.partitions import write_folder
from shelfwise.rerank.sessions.refresh import Steps, refresh
from shelfwise.retrieval.errors import StoreDamagedError, StoreError, StoreForeignError, StoreMissingError
from shelfwise.retrieval.events.sqlite import SqliteEvents
from shelfwise.retrieval.events.stored import DAY_MS, StoredEvent, milliseconds
from shelfwise.retrieval.records import EventKind, Relation, RelationEvidence, RelationKind
from shelfwise.retrieval.store.files import scratch_path
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.events.hot_reload import (
    follow_memory,
    follow_popular_queries,
    follow_popularity,
    follow_relations,
)
from shelfwise.service.events.popular_queries import (
    NO_QUERIES,
    PopularQuery,
    read_popular_queries,
    write_popular_queries,
)
from shelfwise.service.events.report_inputs import ReportInputs, read_inputs
from shelfwise.service.events.signals import (
    MAX_RELATED,
    NO_POPULARITY,
    NO_RELATIONS,
    Popularity,
    Relations,
    read_memory,
    read_popularity,
    read_relations,
    type_node,
    write_memory,
    write_popularity,
    write_relations,
)
from shelfwise.service.reports.event_report import build_report

MADE = datetime(2026, 11, 20, 12, tzinfo=UTC)
MEMORY = QueryMemory.of_rows(MemoryRows(["query"], ["drill"], ["product"], ["a"], [np.array([1.5])] * 5))
COVIEWS = Relations.of_pairs([("a", "b", 0.25, None), ("a", "c", 0.75, None)])
FILES = {
    "popularity.json": (partial(write_popularity, scores={"a": 2.5}), read_popularity, NO_POPULARITY),
    "popular_queries.json": (
        partial(write_popular_queries, queries=[PopularQuery("drill", 9)]),
        read_popular_queries,
        NO_QUERIES,
    ),
    "query_memory.bin": (partial(write_memory, memory=MEMORY), read_memory, NO_MEMORY),
    "relations.bin": (partial(write_relations, relations=COVIEWS), read_relations, NO_RELATIONS),
}
"""Functions by file name: a writer with content, a reader, and the value read if the file is missing."""


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda content: content[:-3], StoreDamagedError, "cannot be read"),
        (lambda content: content[:-4] + bytes([content[-4] ^ 1]) + content[-3:], StoreDamagedError, ""),
        (lambda _: b"", StoreDamagedError, "cannot be read"),
        (lambda _: b"\xff\xfe", StoreDamagedError, "cannot be read"),
        (lambda _: b"[1, 2]", StoreDamagedError, "cannot be read"),
        (lambda content: content.replace(b"schema", b"schemb"), StoreDamagedError, "cannot be read"),
        (None, StoreForeignError, "has schema 2, but this program reads 1"),
    ],
    ids=["cut off", "changed", "empty", "no text", "no object", "no schema", "newer"],
)
def test_invalid_file_is_refused(
    tmp_path: Path, name: str, damage: Callable[[bytes], bytes] | None, error: type[Exception], message: str
) -> None:
    write, read, default = FILES[name]
    assert read(tmp_path) == default
    write(tmp_path, made=MADE)
    assert read(tmp_path) != default
    path, codec = tmp_path / name, msgspec.json if name.endswith(".json") else msgspec.msgpack
    path.write_bytes(damage(path.read_bytes()) if damage else codec.encode({"schema": 2, "what": "else"}))
    with pytest.raises(error, match=f"{name} .*{message}.*; shelfwise events refresh creates it again"):
        read(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_unwritable_directory_raises(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        FILES[name][0](tmp_path / "nowhere", made=MADE)


@pytest.mark.parametrize("name", FILES)
def test_directory_with_only_popularity_is_an_event_directory(tmp_path: Path, name: str) -> None:
    FILES[name][0](tmp_path, made=MADE)
    scratch_path(tmp_path / name).write_bytes(b"left by a kill")
    with pytest.raises(StoreMissingError, match="has events but no index yet"):
        Store(tmp_path).check_ours()


@pytest.mark.parametrize(
    ("follow", "name", "notice"),
    [
        (follow_popularity, "popularity.json", "product popularity is not used: "),
        (follow_popular_queries, "popular_queries.json", "popular queries are not suggested: "),
        (follow_memory, "query_memory.bin", "the query memory is not used: "),
        (follow_relations, "relations.bin", "similar products are found by their texts alone: "),
    ],
)
def test_replaced_file_is_reloaded(tmp_path: Path, follow: Callable[[Path], Any], name: str, notice: str) -> None:
    (write, _, default), followed = FILES[name], follow(tmp_path)
    followed.reload_if_changed()
    assert followed.value == default
    write(tmp_path, made=MADE)
    followed.reload_if_changed()
    loaded = followed.value
    followed.reload_if_changed()
    assert default != loaded is followed.value
    (tmp_path / name).write_bytes(b"")
    followed.reload_if_changed()
    assert (followed.value, followed.notices[0][: len(notice)]) == (default, notice)
    (tmp_path / name).unlink()
    followed.reload_if_changed()
    assert (followed.value, followed.notices) == (default, ())


def of_pairs(*pairs: tuple[str, str, float]) -> Relations:
    return Relations.of_pairs((*pair, None) for pair in pairs)


SOME = of_pairs(("a", "b", 0.25), ("无线/耳机", "a", 0.5), ("a", "c", 0.75))

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=3)
strengths = st.integers(0, 16).map(lambda share: share / 16)


class TestPairs:
    @given(st.dictionaries(st.tuples(names, names), strengths, max_size=40))
    def test_strongest_pairs_equal_a_full_sort(self, pairs: dict[tuple[str, str], float]) -> None:
        made = of_pairs(*((*pair, strength) for pair, strength in pairs.items()))
        assert made.problem() == ""
        for name in {each for pair in pairs for each in pair}:
            mine = [(other, strength) for (one, other), strength in pairs.items() if one == name]
            assert made.of(name) == sorted(mine, key=lambda each: (-each[1], each[0]))[:MAX_RELATED]


class TestRelated:
    def test_relations_are_seen_from_both_sides(self, tmp_path: Path) -> None:
        fits = Relation(RelationKind.FITS, RelationEvidence.ATTRIBUTES, 1.0)
        complement = Relation(RelationKind.COMPLEMENT, RelationEvidence.SHOPPERS, 0.25, 7)
        pairs = [
            ("toner", "printer", 1.0, fits),
            ("printer", "paper", 0.25, complement),
            ("printer", "lamp", 0.5, None),
        ]
        write_relations(tmp_path, Relations.of_pairs(pairs), MADE)
        found = read_relations(tmp_path)
        assert found.related("toner") == [("printer", fits)]
        assert found.related("printer") == [("paper", complement), ("toner", replace(fits, reverse=True))]
        assert found.related("paper") == [("printer", complement)]
        assert (found.of("printer"), found.related("lamp")) == ([("lamp", 0.5)], [])

    def test_a_substitute_takes_the_place_of_one_product(self) -> None:
        instead = Relation(RelationKind.SUBSTITUTE, RelationEvidence.SHOPPERS, 0.5, 9)
        found = Relations.of_pairs([("a", "b", 0.5, instead)])
        assert (found.related("a"), found.related("b")) == ([("b", instead)], [])

    def test_types_are_no_products(self) -> None:
        case = Relation(RelationKind.ACCESSORY, RelationEvidence.TEXTS, 1.0)
        found = Relations.of_pairs([(type_node("phone case"), type_node("phone"), 1.0, case)])
        assert found.related_types("phone") == [("phone case", replace(case, reverse=True))]
        assert found.related("phone") == []


class TestCoViews:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (replace(SOME, ends=SOME.ends[:-1]), "ids that do not fit its neighbours"),
            (replace(SOME, ends=SOME.ends[::-1]), "invalid bounds"),
            (replace(SOME, others=SOME.others + 9), "neighbours that it does not contain"),
            (replace(SOME, shoppers=SOME.shoppers[1:]), "neighbours that it does not contain"),
            (replace(SOME, kinds=SOME.kinds + np.uint8(99)), "unknown kinds of relations"),
            (replace(SOME, strengths=-SOME.strengths), "strengths that are not within 0 and 1"),
            (replace(SOME, strengths=SOME.strengths * np.float32(np.nan)), "strengths that are not within 0 and 1"),
        ],
    )
    def test_impossible_values_are_damage(self, tmp_path: Path, wrong: Relations, message: str) -> None:
        write_relations(tmp_path, wrong, MADE)
        with pytest.raises(StoreDamagedError, match=message):
            read_relations(tmp_path)


class TestPopularity:
    def test_scores_are_shares_of_the_highest(self, tmp_path: Path) -> None:
        write_popularity(tmp_path, {"a": 2.5, "无线/耳机": 10.0, "none": 0.0}, MADE)
        found = read_popularity(tmp_path)
        assert found == Popularity({"a": 0.25, "无线/耳机": 1.0})
        result = found.of(["无线/耳机", "b", "a", "none"])
        assert result.dtype == np.float32
        assert result.tolist() == [1, 0, 0.25, 0]

    def test_impossible_scores_are_damage(self, tmp_path: Path) -> None:
        write_popularity(tmp_path, {"a": -1.0}, MADE)
        with pytest.raises(StoreDamagedError, match="negative or not finite"):
            read_popularity(tmp_path)


NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
NOW = NOON + timedelta(days=3)
BOT = "k1~bot"


def stored(number: int, kind: EventKind, shopper: str, time: datetime, query_id: str, product_id: str) -> StoredEvent:
    at, position = milliseconds(time), int(product_id[1:]) if product_id else None
    key = number.to_bytes(16, "big")
    return StoredEvent(key, kind.value, at, at, shopper, "", query_id, "drill", product_id, position, None, None, None)


def log() -> Iterator[StoredEvent]:
    number = 0
    for day in range(2):
        for who in (*(f"k1~shopper{at}" for at in range(6)), BOT):
            start = NOON + timedelta(days=day, minutes=10)
            answer = f"{who}-{day}"
            clicked = ("p1", "p2", "p3") if who == BOT else ("p2",)
            acts = [(EventKind.IMPRESSION, each) for each in ("p1", "p2", "p3")]
            acts += [(EventKind.CLICK, each) for each in clicked]
            for step, (kind, product) in enumerate(acts):
                number += 1
                yield stored(number, kind, who, start + timedelta(seconds=5 * step), answer, product)
    yield stored(number + 1, EventKind.CLICK, "k1~shopper0", NOON, "nowhere", "p1")


def bots(events: pl.DataFrame) -> pl.DataFrame:
    """Flags only the bot."""
    scored = score_sessions(events)
    is_bot = pl.col("shopper") == BOT
    reasons = pl.when(is_bot).then(pl.lit(["is one"])).otherwise(pl.lit([], dtype=pl.List(pl.String)))
    return scored.with_columns(score=is_bot.cast(pl.Float32), reasons=reasons, is_fraud=is_bot)


@pytest.fixture
def read(tmp_path: Path) -> ReportInputs:
    with closing(SqliteEvents(tmp_path / "events")) as store:
        store.append(list(log()))
        refresh(store, tmp_path / "derived", None, DeriveOptions(days=30), now=NOW, steps=Steps(score_sessions=bots))
    return read_inputs(tmp_path / "derived")


def test_every_event_is_honest_flagged_or_rejected(read: ReportInputs) -> None:
    report = build_report(read)
    counts = {kind.kind: (kind.honest, kind.flagged, kind.rejected) for kind in report.kinds}
    assert counts == {"impression": (2 * 6 * 3, 2 * 3, 0), "click": (2 * 6, 2 * 3, 1)}
    assert sum(map(sum, counts.values())) == len(list(log()))
    assert (report.sessions, report.flagged_sessions) == (2 * 7, 2)


def test_sessions_are_numbered_as_in_the_table(read: ReportInputs) -> None:
    events = pl.concat([read.honest, read.flagged])
    shoppers = events.group_by("session_number").agg(of_events=pl.col("shopper").first(), of_day=pl.col("day").first())
    joined = read.sessions.join(shoppers, on="session_number")
    assert joined.height == read.sessions.height == 2 * 7
    assert joined.filter((pl.col("shopper") != pl.col("of_events")) | (pl.col("day") != pl.col("of_day"))).is_empty()
    assert read.flagged["shopper"].unique().to_list() == [BOT]
    assert BOT not in read.honest["shopper"]


def test_missing_tables_error_names_the_command_and_no_events_give_an_empty_report(tmp_path: Path) -> None:
    with pytest.raises(StoreMissingError, match="refresh them from the events"):
        read_inputs(tmp_path / "derived")
    with closing(SqliteEvents(tmp_path / "events")) as store:
        refresh(store, tmp_path / "derived", None, now=NOW)
    assert build_report(read_inputs(tmp_path / "derived")).kinds == ()


def derived(tmp_path: Path) -> Path:
    with closing(SqliteEvents(tmp_path / "events")) as store:
        store.append(list(log()))
        refresh(store, tmp_path / "derived", None, DeriveOptions(days=30), now=NOW)
    return tmp_path / "derived"


@pytest.mark.parametrize("name", ["events.parquet", "rejected.parquet"])
def test_damaged_day_file_error_names_the_remedy(tmp_path: Path, name: str) -> None:
    folder = derived(tmp_path)
    path = next(each for each in sorted(folder.glob(f"days/*/{name}")))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"PAR1", b"PAR2", 1))
    with pytest.raises(StoreDamagedError, match="another checksum"):
        read_inputs(folder)
    path.write_bytes(whole)
    frames = {each.stem: pl.read_parquet(each) for each in path.parent.glob("*.parquet")}
    write_folder(path.parent, frames | {path.stem: pl.DataFrame({"kind": ["click"]})}, {}, {})
    with pytest.raises(StoreDamagedError, match="unexpected columns"):
        read_inputs(folder)
    path.unlink()
    with pytest.raises(StoreDamagedError, match="remove its folder and refresh"):
        read_inputs(folder)


@pytest.mark.parametrize("gone", ["days/*", "tables-*"])
def test_file_removed_by_a_concurrent_refresh_is_reported(tmp_path: Path, gone: str) -> None:
    folder = derived(tmp_path)
    for each in folder.glob(gone):
        shutil.rmtree(each)
    with pytest.raises(StoreMissingError, match="no longer exists"):
        read_inputs(folder)


def test_incomplete_manifest_error_names_the_remedy(tmp_path: Path) -> None:
    path = derived(tmp_path) / "derived.json"
    day = f'"{milliseconds(NOON) // DAY_MS}"'
    assert day in path.read_text()
    path.write_text(path.read_text().replace(day, '"Monday"'))
    with pytest.raises(StoreDamagedError, match="refresh the tables"):
        read_inputs(path.parent)
