"""The commands for events on a small store: import, refresh, export, forget, rotate-key, expire."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from indexer.build import RebuildOptions, rebuild
from rerank.sessions.tables import open_derived, shoppers_in
from retrieval.errors import FeedError, SettingError, StoreError, StoreForeignError, StoreMissingError
from retrieval.events.sqlite import SqliteEvents
from retrieval.store.manifest import EVENTS_FOLDER
from service.cli.main import app
from service.demo import DemoFiles
from service.engine.engine import SearchEngine
from service.events.event_log import DERIVED_FOLDER, EventLog
from service.events.privacy import expire
from service.settings import Settings
from tests.conftest import ENCODER

START = datetime(2026, 3, 2, 10, tzinfo=UTC)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["events", *map(str, arguments)])


def document(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return msgspec.json.decode(result.stdout, type=dict[str, Any])


@pytest.fixture
def index(demo_index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_index, tmp_path / "index"))


@pytest.fixture
def products(index: Path) -> Sequence[str]:
    with SearchEngine.open(index, follow=False) as engine:
        return [engine.snapshot.products[row].id for row in range(5)]


@pytest.fixture
def log(products: Sequence[str], tmp_path: Path) -> Path:
    """Eight shoppers who search the same, see five products, and click two of them; and two bad lines."""
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
    lines = [msgspec.json.encode(row) for row in rows]
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n".join([*lines, b'{"kind": "click", "ip": "10.0.0.7", broken']) + b"\n")
    return path


@pytest.fixture
def filled(index: Path, log: Path) -> Path:
    document(run("import", index, log, "--workers", 1, "--json"))
    return index


def held(index: Path) -> int:
    with closing(SqliteEvents(index / EVENTS_FOLDER)) as store:
        return store.count()


def test_import_counts_what_it_takes_and_sets_aside(index: Path, log: Path) -> None:
    report = document(run("import", index, log, "--workers", 1, "--json"))
    assert report["added"] == held(index) == 8 * (5 + 2)
    assert sum(each["count"] for each in report["rejected"].values()) == 2
    rejected = next((index / EVENTS_FOLDER / "rejected").iterdir()).read_text("utf-8")
    assert "bad position" in rejected
    assert "10.0.0.7" not in rejected
    assert "shopper-0" not in rejected


def test_import_again_takes_nothing_twice(filled: Path, log: Path) -> None:
    report = document(run("import", filled, log, "--workers", 1, "--json"))
    assert (report["added"], report["repeated"]) == (0, 8 * (5 + 2))
    assert held(filled) == 8 * (5 + 2)


def test_import_shows_where_what_is_set_aside_lies(index: Path, log: Path) -> None:
    result = run("import", index, log, "--workers", 1)
    assert result.exit_code == 0
    assert "bad position" in result.stdout
    assert "rejected" in result.stdout


def test_a_log_in_which_nothing_can_be_used_is_refused_with_the_reason(index: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"kind": "wish", "product_id": "p1", "shopper": "u1"}\n')
    result = run("import", index, tmp_path / "bad.jsonl", "--workers", 1)
    assert isinstance(result.exception, FeedError)
    assert "unknown kind" in str(result.exception)


def test_refresh_makes_tables_and_again_only_what_changed(filled: Path, products: Sequence[str]) -> None:
    done = document(run("refresh", filled, "--json"))
    assert (done["days_made"], done["events"]) == (1, 8 * (5 + 2))
    derived = open_derived(filled / EVENTS_FOLDER / DERIVED_FOLDER)
    assert sorted(derived.popularity["product_id"]) == sorted([products[0], products[2]])
    assert derived.queries["query"].to_list() == ["drill"]
    again = document(run("refresh", filled, "--json"))
    assert (again["days_made"], again["days_kept"]) == (0, 1)


def test_refresh_shows_what_it_did(filled: Path) -> None:
    result = run("refresh", filled)
    assert result.exit_code == 0
    assert "popularity: 2" in result.stdout


def test_a_shopper_who_is_forgotten_is_in_no_file(filled: Path) -> None:
    run("refresh", filled)
    done = document(run("forget", filled, "shopper-0", "--json"))
    assert (done["events"], done["rejected_rows"]) == (7, 1)
    assert (done["remaining_events"], done["remaining_rows"], done["found_in"]) == (0, 0, [])
    assert held(filled) == 7 * (5 + 2)
    assert open_derived(filled / EVENTS_FOLDER / DERIVED_FOLDER).queries["shoppers"].to_list() == [7]
    assert document(run("forget", filled, "shopper-0", "--json"))["events"] == 0


def test_a_shopper_is_forgotten_under_every_key(filled: Path, log: Path, tmp_path: Path) -> None:
    assert run("rotate-key", filled).exit_code == 0
    row = {"kind": "click", "product_id": "p", "shopper": "shopper-1", "time": START}
    (tmp_path / "more.jsonl").write_bytes(msgspec.json.encode(row) + b"\n")
    document(run("import", filled, tmp_path / "more.jsonl", "--workers", 1, "--json"))
    assert document(run("forget", filled, "shopper-1", "--json"))["events"] == 7 + 1


def test_forget_shows_the_proof(filled: Path) -> None:
    result = run("forget", filled, "shopper-3")
    assert result.exit_code == 0
    assert "Nothing of this shopper is left." in result.stdout


def test_export_writes_what_is_there(filled: Path, tmp_path: Path) -> None:
    exported = document(run("export", filled, "--out", tmp_path / "out", "--json"))
    assert exported["files"] == {"events-2026-03.parquet": 8 * (5 + 2)}
    assert pl.read_parquet(tmp_path / "out" / "events-2026-03.parquet").height == 8 * (5 + 2)


def test_expire_removes_events_and_what_was_made_of_them(filled: Path) -> None:
    run("refresh", filled, "--days", 20)
    done = document(run("expire", filled, "--days", 1, "--json"))
    assert (done["events"], held(filled)) == (8 * (5 + 2), 0)
    derived = filled / EVENTS_FOLDER / DERIVED_FOLDER
    assert shoppers_in(derived) == set()
    assert open_derived(derived).manifest.options["days"] == 20


def test_a_key_goes_when_nothing_is_under_it_any_more(filled: Path) -> None:
    run("rotate-key", filled)
    with EventLog.open(filled, Settings(), make=False) as log:
        later = datetime.now(UTC) + timedelta(days=3)
        assert expire(log, 10_000, now=later).keys == ()
        rejected = next((filled / EVENTS_FOLDER / "rejected").iterdir())
        assert expire(log, 30, now=later).keys == ()  # a row that was rejected is under it still
        rejected.unlink()
        assert expire(log, 30, now=later).keys == ("k1",)


def test_expire_asks_how_old(filled: Path) -> None:
    result = run("expire", filled)
    assert isinstance(result.exception, SettingError)
    assert held(filled) == 8 * (5 + 2)


def test_refresh_removes_what_is_too_old_where_that_is_set(filled: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("[events]\nretention_days = 1\n")
    assert document(run("refresh", filled, "--settings", settings, "--json"))["events"] == 0
    assert held(filled) == 0


@pytest.mark.parametrize("command", [["refresh"], ["report"], ["forget", "u1"], ["export"], ["rotate-key"]])
def test_a_place_without_events_is_told_and_left_as_it_is(command: list[str], tmp_path: Path) -> None:
    name, *arguments = command
    result = run(name, tmp_path / "typo", *arguments)
    assert isinstance(result.exception, StoreMissingError)
    assert not (tmp_path / "typo").exists()


def test_an_import_again_after_a_rotation_takes_nothing_twice(filled: Path, log: Path) -> None:
    run("rotate-key", filled)
    report = document(run("import", filled, log, "--workers", 1, "--json"))
    assert (report["added"], report["repeated"]) == (0, 8 * (5 + 2))


def test_forgetting_nobody_is_misuse(filled: Path) -> None:
    assert run("forget", filled, "").exit_code == 2


def test_a_shopper_of_logs_that_interleave_is_in_no_file(filled: Path, tmp_path: Path) -> None:
    for part in range(2):
        rows = [
            {"kind": "click", "product_id": f"p{n}", "shopper": f"u{n % 97}", "time": START + timedelta(seconds=n)}
            for n in range(part, 6_000, 2)
        ]
        (tmp_path / f"{part}.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
        run("import", filled, tmp_path / f"{part}.jsonl", "--workers", 1)
    for number in range(20):
        done = document(run("forget", filled, f"u{number}", "--json"))
        assert (done["events"] > 0, done["found_in"]) == (True, [])


def test_events_without_their_keys_are_no_ones_and_that_is_told(filled: Path) -> None:
    (filled / EVENTS_FOLDER / "keys.json").unlink()
    for command, argument in (("forget", "shopper-1"), ("import", "nothing.jsonl")):
        result = run(command, filled, argument)
        assert isinstance(result.exception, StoreError)
        assert "restore them" in str(result.exception)
    assert not (filled / EVENTS_FOLDER / "keys.json").exists()


def test_what_was_set_aside_without_a_name_in_a_forgotten_session_goes_too(filled: Path, tmp_path: Path) -> None:
    named = {"kind": "click", "product_id": "p", "shopper": "gone", "session": "s", "position": -1, "time": START}
    rows = [named, {**named, "shopper": ""}, {**named, "shopper": "", "session": "other"}]
    (tmp_path / "more.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    run("import", filled, tmp_path / "more.jsonl", "--workers", 1)
    assert document(run("forget", filled, "gone", "--json"))["rejected_rows"] == 2


def test_events_are_moved_only_to_where_they_are_recorded(filled: Path) -> None:
    result = run("move", filled, "--to", "elasticsearch")
    assert isinstance(result.exception, SettingError)
    assert "rebuild" in str(result.exception)


def test_a_page_that_cannot_be_written_is_named(filled: Path, tmp_path: Path) -> None:
    run("refresh", filled)
    result = run("report", filled, "--html", tmp_path / "nowhere" / "report.html")
    assert "nowhere/report.html cannot be written" in str(result.exception)


def test_nobody_else_may_look_into_the_folder_of_events(index: Path, log: Path) -> None:
    run("import", index, log, "--workers", 1)
    assert stat.S_IMODE((index / EVENTS_FOLDER).stat().st_mode) == 0o700


def test_report_is_shown_written_as_a_page_and_as_json(filled: Path, tmp_path: Path) -> None:
    run("refresh", filled)
    page = tmp_path / "report.html"
    shown = run("report", filled, "--html", page)
    assert shown.exit_code == 0
    assert "drill" in shown.stdout
    assert "bad position" in page.read_text("utf-8")
    told = document(run("report", filled, "--json"))
    assert told["traffic"]["sessions"] == 8


def test_report_before_any_refresh_says_what_to_do(filled: Path) -> None:
    assert "refresh" in str(run("report", filled).exception)


@pytest.mark.parametrize("name", ["import", "refresh", "report", "export", "forget", "expire", "rotate-key", "move"])
def test_every_command_has_an_example(name: str) -> None:
    result = run(name, "--help")
    assert f"Example: shelfwise events {name}" in " ".join(result.stdout.split())


def test_events_may_come_before_the_first_rebuild(log: Path, tmp_path: Path, demo: DemoFiles, cache: Path) -> None:
    index = tmp_path / "new"
    document(run("import", index, log, "--workers", 1, "--json"))
    assert document(run("refresh", index, "--json"))["sessions"] == 8
    rebuild(index, RebuildOptions((str(demo.products),), cache, encoder=ENCODER))
    assert document(run("refresh", index, "--json"))["sessions"] == 8


def test_a_directory_of_somebody_else_gets_no_events(log: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "letter.txt").touch()
    result = run("import", tmp_path / "theirs", log)
    assert isinstance(result.exception, StoreForeignError)
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["letter.txt"]
