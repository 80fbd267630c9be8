"""Tables and events are read as a refresh has written them, and every number agrees with the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from rerank.behaviour.options import DeriveOptions
from rerank.behaviour.refresh import Steps, refresh
from rerank.behaviour.robots import RobotOptions, score_visits
from retrieval.errors import StoreMissingError
from retrieval.events.event import EventKind
from retrieval.events.sqlite import SqliteEvents
from retrieval.events.stored import StoredEvent, milliseconds
from service.event_report.inputs import ReportInputs, read_inputs
from service.event_report.page import html
from service.event_report.report import build_report

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
NOW = NOON + timedelta(days=3)
ROBOT = "k1~robot"


def stored(number: int, kind: EventKind, shopper: str, time: datetime, query_id: str, product_id: str) -> StoredEvent:
    at, position = milliseconds(time), int(product_id[1:]) if product_id else None
    key = number.to_bytes(16, "big")
    return StoredEvent(key, kind.value, at, at, shopper, "", query_id, "drill", product_id, position, None, None, None)


def log() -> Iterator[StoredEvent]:
    """Six shoppers and a robot search on each of two days and click the second of three products, the robot all."""
    number = 0
    for day in range(2):
        for who in (*(f"k1~shopper{at}" for at in range(6)), ROBOT):
            start = NOON + timedelta(days=day, minutes=10)
            answer = f"{who}-{day}"
            clicked = ("p1", "p2", "p3") if who == ROBOT else ("p2",)
            acts = [(EventKind.IMPRESSION, each) for each in ("p1", "p2", "p3")]
            acts += [(EventKind.CLICK, each) for each in clicked]
            for step, (kind, product) in enumerate(acts):
                number += 1
                yield stored(number, kind, who, start + timedelta(seconds=5 * step), answer, product)
    yield stored(number + 1, EventKind.CLICK, "k1~shopper0", NOON, "nowhere", "p1")


def robots(events: pl.DataFrame, options: RobotOptions) -> pl.DataFrame:
    """Calls the robot a robot, and nobody else."""
    scored = score_visits(events, options)
    is_robot = pl.col("shopper") == ROBOT
    reasons = pl.when(is_robot).then(pl.lit(["is one"])).otherwise(pl.lit([], dtype=pl.List(pl.String)))
    return scored.with_columns(score=is_robot.cast(pl.Float32), reasons=reasons, is_fraud=is_robot)


@pytest.fixture
def read(tmp_path: Path) -> ReportInputs:
    with closing(SqliteEvents(tmp_path / "events")) as store:
        store.append(list(log()))
        refresh(store, tmp_path / "derived", None, DeriveOptions(days=30), now=NOW, steps=Steps(score_visits=robots))
    return read_inputs(tmp_path / "derived")


def test_every_event_is_honest_or_flagged_or_set_aside(read: ReportInputs) -> None:
    traffic = build_report(read).traffic
    counts = {kind.kind: (kind.honest, kind.flagged, kind.aside) for kind in traffic.kinds}
    assert counts == {"impression": (2 * 6 * 3, 2 * 3, 0), "click": (2 * 6, 2 * 3, 1)}
    assert traffic.events == len(list(log()))
    assert (traffic.visits, traffic.flagged_visits, traffic.shoppers) == (2 * 7, 2, 6)
    assert [(day.honest, day.flagged) for day in traffic.days] == [(6 * 4, 6), (6 * 4, 6)]


def test_visits_are_numbered_as_in_their_table(read: ReportInputs) -> None:
    shoppers = read.events.group_by("visit").agg(of_events=pl.col("shopper").first())
    joined = read.visits.join(shoppers, on="visit")
    assert joined.height == read.visits.height == 2 * 7
    assert joined.filter(pl.col("shopper") != pl.col("of_events")).is_empty()
    assert read.events.filter("is_fraud")["shopper"].unique().to_list() == [ROBOT]


def test_the_report_leaves_robots_out_and_names_them(read: ReportInputs) -> None:
    report = build_report(read)
    assert [step.answers for step in report.funnel.searches] == [2 * 6, 2 * 6, 2 * 6, 0, 0]
    assert [(row.query, row.searches, row.shoppers) for row in report.queries.top] == [("drill", 2 * 6, 6)]
    assert [(row.product_id, row.clicks) for row in report.products.top] == [("p2", 2 * 6)]
    (suspect,) = report.fraud.suspects
    assert (suspect.who, suspect.visits, suspect.clicks, suspect.reasons) == (ROBOT, 2, 2 * 3, ("is one",))
    assert [subject.name for subject in suspect.queries] == ["drill"]
    assert [subject.name for subject in suspect.products] == ["p1", "p2", "p3"]
    assert [(one.reason, one.count) for one in report.aside.events] == [("unknown query", 1)]
    assert (report.first, report.last, report.least_shoppers) == (read.window.first, NOW, 5)
    assert "is one" in html(report)


def test_a_store_without_events_makes_an_empty_report(tmp_path: Path) -> None:
    with closing(SqliteEvents(tmp_path / "events")) as store:
        refresh(store, tmp_path / "derived", None, now=NOW)
    assert build_report(read_inputs(tmp_path / "derived")).is_empty


def test_without_tables_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreMissingError, match="refresh them from the events"):
        read_inputs(tmp_path)
