"""The commands for events on a small store: import, refresh, export, forget, rotate-key, expire."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.rerank.sessions.tables import open_derived
from shelfwise.retrieval.errors import FeedError, SettingError, StoreError, StoreForeignError, StoreMissingError
from shelfwise.retrieval.events.sqlite import SqliteEvents
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.events.event_log import DERIVED_FOLDER, EventLog
from shelfwise.service.events.privacy import expire
from shelfwise.service.settings import Settings
from tests.catalogs import write_feed
from tests.conftest import ENCODER
from tests.unit.service.cli.commands import document, run, shown

START = datetime(2026, 3, 2, 10, tzinfo=UTC)
EVENTS = 8 * (5 + 2)
"""Number of events in the log."""


def write_log(path: Path, rows: Iterable[dict[str, object]]) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return path


def imported(index: Path, log: Path) -> Any:  # noqa: ANN401 - JSON
    return document("events", "import", index, log, "--workers", 1)


@pytest.fixture
def products(index: Path) -> Sequence[str]:
    with SearchEngine.open(index, follow=False) as engine:
        return [engine.snapshot.products[row].id for row in range(5)]


@pytest.fixture
def log(products: Sequence[str], tmp_path: Path) -> Path:
    """A log of eight shoppers who run the same search, see five products, and click two of them; and two bad lines."""
    rows: list[dict[str, object]] = []
    for number in range(8):
        at = START + timedelta(hours=number)
        base = {"query_id": f"q{number}", "query": "drill", "shopper": f"shopper-{number}", "session": f"s{number}"}
        rows += [
            base | {"kind": "impression", "product_id": product, "position": place, "time": at}
            for place, product in enumerate(products, 1)
        ]
        for place in (1, 3):
            later = at + timedelta(seconds=20 * place)
            rows.append(base | {"kind": "click", "product_id": products[place - 1], "position": place, "time": later})
    rows.append({"kind": "click", "product_id": "p", "shopper": "shopper-0", "position": -3, "time": START})
    path = write_log(tmp_path / "log.jsonl", rows)
    with path.open("ab") as file:
        file.write(b'{"kind": "click", "ip": "10.0.0.7", broken\n')
    return path


@pytest.fixture
def filled(index: Path, log: Path) -> Path:
    imported(index, log)
    return index


def held(index: Path) -> int:
    with closing(SqliteEvents(index / EVENTS_FOLDER)) as store:
        return store.count()


def test_import_counts_events_and_rejected_rows_and_is_idempotent(index: Path, log: Path) -> None:
    report = imported(index, log)
    assert report["added"] == held(index) == EVENTS
    assert sum(each["count"] for each in report["rejected"].values()) == 2
    rejected = next((index / EVENTS_FOLDER / "rejected").iterdir()).read_text("utf-8")
    assert "bad position" in rejected
    assert "10.0.0.7" not in rejected
    assert "shopper-0" not in rejected
    assert stat.S_IMODE((index / EVENTS_FOLDER).stat().st_mode) == 0o700  # not accessible for other users
    text = shown("events", "import", index, log, "--workers", 1)
    assert "0 new, 56 already there" in text
    assert "bad position" in text
    shown("events", "rotate-key", index)
    report = imported(index, log)
    assert (report["added"], report["repeated"], held(index)) == (0, EVENTS, EVENTS)


def test_refresh_builds_tables_and_then_only_changes(filled: Path, products: Sequence[str]) -> None:
    done = document("events", "refresh", filled)
    assert (done["days_made"], done["events"]) == (1, EVENTS)
    derived = open_derived(filled / EVENTS_FOLDER / DERIVED_FOLDER)
    assert sorted(derived.popularity["product_id"]) == sorted([products[0], products[2]])
    assert derived.queries["query"].to_list() == ["drill"]
    text = shown("events", "refresh", filled)
    assert "0 cleaned, 1 unchanged" in text
    assert "popularity: 2" in text


def test_erased_shopper_is_in_no_file(filled: Path) -> None:
    run("events", "refresh", filled)
    done = document("events", "forget", filled, "shopper-0")
    assert (done["events"], done["rejected_rows"]) == (7, 1)
    assert (done["remaining_events"], done["remaining_rows"], done["found_in"]) == (0, 0, [])
    assert held(filled) == EVENTS - 7
    assert open_derived(filled / EVENTS_FOLDER / DERIVED_FOLDER).queries["shoppers"].to_list() == [7]
    assert document("events", "forget", filled, "shopper-0")["events"] == 0
    assert "No data of this shopper is left." in shown("events", "forget", filled, "shopper-3")
    assert run("events", "forget", filled, "").code == 2


def test_shopper_is_erased_under_every_pseudonym_key(filled: Path, tmp_path: Path) -> None:
    shown("events", "rotate-key", filled)
    row = {"kind": "click", "product_id": "p", "shopper": "shopper-1", "time": START}
    imported(filled, write_log(tmp_path / "more.jsonl", [row]))
    assert document("events", "forget", filled, "shopper-1")["events"] == 7 + 1


def test_export_writes_all_events(filled: Path, tmp_path: Path) -> None:
    exported = document("events", "export", filled, "--out", tmp_path / "out")
    assert exported["files"] == {"events-2026-03.parquet": EVENTS}
    assert pl.read_parquet(tmp_path / "out" / "events-2026-03.parquet").height == EVENTS


def test_unused_pseudonym_key_is_removed(filled: Path) -> None:
    run("events", "rotate-key", filled)
    with EventLog.open(filled, Settings(), make=False) as log:
        later = datetime.now(UTC) + timedelta(days=3)
        expire(log, 10_000, now=later)
        rejected = next((filled / EVENTS_FOLDER / "rejected").iterdir())
        expire(log, 30, now=later)
        assert "k1" in log.intake.pseudonyms.names, "a rejected row still uses the key"
        rejected.unlink()
        expire(log, 30, now=later)
        assert "k1" not in log.intake.pseudonyms.names


def test_refresh_says_that_events_before_the_window_are_not_used(filled: Path, tmp_path: Path) -> None:
    before = {"kind": "click", "product_id": "p", "shopper": "u", "time": START - timedelta(days=9)}
    imported(filled, write_log(tmp_path / "before.jsonl", [before]))
    assert "events of 1 earlier day are not used" in shown("events", "refresh", filled, "--days", "5")
    assert "earlier" not in shown("events", "refresh", filled)


def test_refresh_applies_the_retention_setting(filled: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("[events]\nretention_days = 1\n")
    done = run("events", "refresh", filled, "--settings", settings, "--json")
    assert (done.document()["events"], held(filled)) == (0, 0)
    assert "56 events were removed" in done.err


@pytest.mark.parametrize("command", [["refresh"], ["report"], ["forget", "u1"], ["export"], ["rotate-key"]])
def test_directory_without_events_is_reported_and_unchanged(command: list[str], tmp_path: Path) -> None:
    name, *arguments = command
    with pytest.raises(StoreMissingError):
        run("events", name, tmp_path / "typo", *arguments)
    assert not (tmp_path / "typo").exists()


def test_events_without_pseudonym_keys_are_reported(filled: Path) -> None:
    (filled / EVENTS_FOLDER / "keys.json").unlink()
    for command, argument in (("forget", "shopper-1"), ("import", "nothing.jsonl")):
        with pytest.raises(StoreError, match="restore the file"):
            run("events", command, filled, argument)
    assert not (filled / EVENTS_FOLDER / "keys.json").exists()


def test_anonymous_rejected_rows_of_an_erased_session_are_removed(filled: Path, tmp_path: Path) -> None:
    named = {"kind": "click", "product_id": "p", "shopper": "gone", "session": "s", "position": -1, "time": START}
    rows = [named, {**named, "shopper": ""}, {**named, "shopper": "", "session": "other"}]
    with pytest.raises(FeedError):
        imported(filled, write_log(tmp_path / "more.jsonl", rows))
    assert document("events", "forget", filled, "gone")["rejected_rows"] == 2


def test_report_is_printed(filled: Path) -> None:
    with pytest.raises(StoreMissingError, match="refresh"):
        run("events", "report", filled)
    run("events", "refresh", filled)
    assert "rejected by imports" in shown("events", "report", filled)
    assert document("events", "report", filled)["sessions"] == 8


def test_events_may_come_before_the_first_rebuild(
    log: Path, products: Sequence[str], tmp_path: Path, cache: Path
) -> None:
    index, feed = tmp_path / "new", write_feed(tmp_path / "feed.jsonl", [Product(each, "drill") for each in products])
    imported(index, log)
    assert document("events", "refresh", index)["sessions"] == 8
    rebuild(index, RebuildOptions((str(feed),), cache, encoder=ENCODER))
    assert document("events", "refresh", index)["sessions"] == 8


def test_invalid_commands_are_refused_with_the_reason(filled: Path, log: Path, tmp_path: Path) -> None:
    bad = write_log(tmp_path / "bad.jsonl", [{"kind": "wish", "product_id": "p1", "shopper": "u1"}])
    with pytest.raises(FeedError, match="unknown kind"):
        run("events", "import", filled, bad, "--workers", 1)
    with pytest.raises(SettingError, match="rebuild"):
        run("events", "move", filled, "--to", "elasticsearch")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "letter.txt").touch()
    with pytest.raises(StoreForeignError):
        run("events", "import", tmp_path / "theirs", log)
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["letter.txt"]
