"""Recording events by an engine: durable, counted once, under pseudonyms, all of a call or none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from retrieval.errors import EventError, QueryError, SettingError
from retrieval.events.sqlite import SqliteEvents
from retrieval.records import Event, EventKind
from retrieval.store.manifest import EVENTS_FOLDER
from service.engine.engine import SearchEngine
from service.events.event_log import EventLog
from service.settings import EventsSettings, Settings

CLICK = Event(EventKind.CLICK, "p1", "q1", "cordless drill", "jo@example.com", "s1", 3, event_id="e1")


@pytest.fixture
def index(demo_index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_index, tmp_path / "index"))


@pytest.fixture
def recording(index: Path) -> Iterator[SearchEngine]:
    with SearchEngine.open(index, settings=Settings(), follow=False) as opened:
        yield opened


def recorded(index: Path) -> pl.DataFrame:
    with closing(SqliteEvents(index / EVENTS_FOLDER)) as store:
        return pl.concat(store.read(0, 1 << 20))


def test_an_event_is_there_when_the_call_returns(recording: SearchEngine, index: Path) -> None:
    assert recording.record(CLICK).stored == 1
    row = recorded(index).row(0, named=True)
    assert (row["kind"], row["query"], row["product_id"], row["position"]) == ("click", "cordless drill", "p1", 3)


def test_an_event_that_is_sent_again_is_counted_once(recording: SearchEngine, index: Path) -> None:
    sent = replace(CLICK, time=datetime.now(UTC))
    assert recording.record(sent, sent).stored == 1
    again = recording.record(sent)
    assert (again.stored, again.repeated) == (0, 1)
    assert recorded(index).height == 1


def test_events_without_an_id_are_told_by_all_that_they_say(recording: SearchEngine) -> None:
    at = datetime.now(UTC)
    first = replace(CLICK, event_id="", time=at)
    done = recording.record(first, first, replace(first, time=at + timedelta(seconds=1)), replace(first, position=4))
    assert (done.stored, done.repeated) == (3, 1)


def test_an_id_that_another_event_has_is_refused_and_the_rest_is_taken(recording: SearchEngine, index: Path) -> None:
    at = datetime.now(UTC)
    recording.record(replace(CLICK, time=at))
    with pytest.raises(EventError, match="'e1' was taken before"):
        recording.record(replace(CLICK, time=at, product_id="p2"), replace(CLICK, event_id="e2"))
    assert sorted(recorded(index)["product_id"]) == ["p1", "p1"]


def test_a_bad_event_is_named_and_none_of_its_call_is_taken(recording: SearchEngine, index: Path) -> None:
    with pytest.raises(EventError, match="event 2 of 2: bad position"):
        recording.record(CLICK, replace(CLICK, event_id="e2", position=-1))
    recording.record(replace(CLICK, event_id="e3"))
    assert recorded(index).height == 1


def test_nothing_that_names_the_shopper_is_in_any_file(recording: SearchEngine, index: Path) -> None:
    recording.record(replace(CLICK, session="jo-phone-4711", query="mail jo@example.com", event_id="jo-event-17"))
    assert recorded(index)["query"].to_list() == ["mail [email]"]
    for path in (index / EVENTS_FOLDER).iterdir():
        content = path.read_bytes()
        assert not any(name in content for name in (b"jo@example", b"jo-phone", b"jo-event"))


def test_threads_and_engines_record_at_once(index: Path) -> None:
    with (
        SearchEngine.open(index, settings=Settings(), follow=False) as one,
        SearchEngine.open(index, settings=Settings(), follow=False) as other,
        ThreadPoolExecutor(8) as threads,
    ):
        at = datetime.now(UTC)
        engines = [one, other] * 50
        sent = [replace(CLICK, event_id=f"e{number // 2}", time=at) for number in range(100)]
        done = list(threads.map(lambda pair: pair[0].record(pair[1]).stored, zip(engines, sent, strict=True)))
    assert sum(done) == recorded(index).height == 50


def test_nothing_to_record_is_no_error(recording: SearchEngine) -> None:
    assert recording.record().stored == 0


def test_a_closed_engine_says_so(index: Path) -> None:
    with SearchEngine.open(index, settings=Settings(), follow=False) as opened:
        opened.record(CLICK)
    with pytest.raises(QueryError, match="closed"):
        opened.record(CLICK)


def test_keys_may_lie_elsewhere(index: Path, tmp_path: Path) -> None:
    keys = tmp_path / "secret" / "keys.json"
    with EventLog.open(index, Settings(events=EventsSettings(keys=keys))) as log:
        log.record([CLICK])
    assert keys.exists()
    assert not list((index / EVENTS_FOLDER).glob("keys*"))


def test_a_region_that_there_is_not_is_named(index: Path) -> None:
    with pytest.raises(SettingError, match="XX is no region"):
        EventLog.open(index, Settings(events=EventsSettings(phone_regions="US,XX")))


def test_a_rebuild_keeps_events(index: Path, recording: SearchEngine) -> None:
    recording.record(CLICK)
    assert recording.refresh() is False
    assert recorded(index).height == 1
