"""Inputs of the report, read from a refreshed store: every number agrees with the events."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from shelfwise.rerank.sessions.bots import score_sessions
from shelfwise.rerank.sessions.options import DeriveOptions
from shelfwise.rerank.sessions.partitions import write_folder
from shelfwise.rerank.sessions.refresh import Steps, refresh
from shelfwise.retrieval.errors import StoreDamagedError, StoreMissingError
from shelfwise.retrieval.events.sqlite import SqliteEvents
from shelfwise.retrieval.events.stored import DAY_MS, StoredEvent, milliseconds
from shelfwise.retrieval.records import EventKind
from shelfwise.service.events.report_inputs import ReportInputs, read_inputs
from shelfwise.service.reports.event_report import build_report

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
