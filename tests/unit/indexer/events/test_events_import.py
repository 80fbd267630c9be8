from __future__ import annotations

import gzip
import io
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.indexer.events.importer import ImportOptions, import_events
from shelfwise.indexer.feeds.io import MAX_LINE
from shelfwise.retrieval.errors import FeedError, StoreError
from shelfwise.retrieval.events.sqlite import SqliteEvents
from shelfwise.retrieval.events.store import AppendResult
from shelfwise.retrieval.events.stored import StoredEvent
from tests.unit.indexer.events.event_logs import CLICK, NOW, UBI_EVENT, UBI_QUERY, Log

SECRET = "secret-of-ann"
PRIVATE = {"ip": "203.0.113.77", "user_agent": "Mozilla/5.0", "name": "Ann Example"}


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def clicks(count: int) -> list[dict[str, Any]]:
    return [{**CLICK, "event_id": f"e{number}", "product_id": f"B{number}"} for number in range(count)]


def lines(rows: Sequence[object]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_a_log_is_imported_and_reported(log: Log) -> None:
    bought = {"kind": "purchase", "time": "2024-06-02T10:00:00Z", "quantity": 2}
    rows = [*clicks(20), {**CLICK, "event_id": "e20", **bought}]
    report = log.take(log.write(rows))
    assert (report.rows, report.added, report.repeated, report.rejected_count) == (21, 21, 0, 0)
    assert report.events == {"click": 20, "purchase": 1}
    assert report.first == datetime(2024, 6, 1, 10, tzinfo=UTC)
    assert report.last == datetime(2024, 6, 2, 10, tzinfo=UTC)
    assert (report.products, report.shoppers, report.sessions) == (20, 1, 1)
    assert (report.notes, report.skipped, report.failure) == ((), {}, "")
    assert msgspec.json.decode(msgspec.json.encode(report))["added"] == 21
    last = log.stored[-1]
    assert last.pop("key") == log.intake.pseudonyms.key("e20")
    assert last == {
        "kind": "purchase",
        "time": datetime(2024, 6, 2, 10, tzinfo=UTC),
        "received": NOW,
        "shopper": log.intake.pseudonyms.shopper("ann"),
        "session": log.intake.pseudonyms.session("s1"),
        "query_id": "q1",
        "query": "cordless drill",
        "product_id": "B1",
        "position": 3,
        "quantity": 2,
    }


def test_conflicting_event_id_is_rejected(log: Log) -> None:
    path = log.write([CLICK, {**CLICK, "product_id": "B2", **PRIVATE}, {**CLICK, "event_id": "e2"}])
    report = log.take(path)
    assert (report.added, report.repeated, report.events) == (2, 0, {"click": 2})
    assert log.reasons == [(2, "another event's id")]
    assert log.rejects[0]["event"]["product_id"] == "B2"


BAD: list[tuple[dict[str, Any], str]] = [
    ({"time": "soon"}, "bad time"),
    ({"kind": None}, "no kind"),
    ({"time": "2024-06-15T12:06:00Z"}, "in the future"),
    ({"query": "x" * 900_000}, "query too long"),
]
"""Two rows that the parser refuses, and two whose events the store refuses."""


@pytest.mark.parametrize(("change", "reason"), BAD)
def test_bad_row_is_rejected_and_the_next_imported(log: Log, change: dict[str, Any], reason: str) -> None:
    bad = {**CLICK, "event_id": "bad", **change}
    report = log.take(log.write([CLICK, bad]))
    assert (report.added, log.reasons) == (1, [(2, reason)])
    (example,) = report.rejected[reason].examples
    assert (example.line, report.rejected[reason].count) == (2, 1)
    assert len((log.folder / "rejected.jsonl").read_bytes()) < 3_000


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"{", "not JSON"),
        (b"[1]", "not an object"),
        (b'{"kind": "\xff"}', "not UTF-8"),
        (b'{"kind": "\\ud800"}', "not JSON"),
        (b"\x00\x01\x02", "not JSON"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "not JSON"),
        (b'{"a": "' + b"x" * MAX_LINE + b'"}', "over 1 MB"),
    ],
)
def test_unreadable_row_is_logged_without_its_text(log: Log, bad: bytes, reason: str) -> None:
    report = log.take(log.write(lines([CLICK]) + bad + b"\n" + lines([{**CLICK, "event_id": "e2"}])))
    assert (report.added, log.reasons) == (2, [(2, reason)])
    assert log.rejects[0].keys() == {"file", "line", "reason", "detail"}


def test_no_personal_data_is_stored(log: Log) -> None:
    private = {**CLICK, **PRIVATE, "shopper": SECRET, "session": f"{SECRET}-1", "query": "mail ann@example.com"}
    rows = [
        {**private, "event_id": "e1"},
        {**private, "event_id": "e2", "position": "203.0.113.77"},
        {**private, "event_id": "e3", "time": "2030-01-01T00:00:00Z"},
        {**private, "event_id": "e4", "query": "ann@example.com " + "x" * 1_000},
        {**private, "event_id": "e5", "shopper": f"{SECRET}\x07"},
        {**private, "event_id": "e6", "session": SECRET * 100},
        {**private, "event_id": "e7", "product_id": "ann@example.com", "kind": "ann@example.com"},
        {**private, "event_id": "e8", "shopper": [SECRET]},
        {**private, "event_id": "e9", "position": "x" * 70 + " ann@example.com"},
        {**private, "event_id": "e10", "time": "x" * 70 + " ann@example.com"},
        {**private, "event_id": "e11", "product_id": "x" * 70 + " ann@example.com\x07"},
        {**private, "event_id": "e12", "kind": "x" * 70 + " ann@example.com"},
        {**private, "event_id": "e1", "product_id": "B2"},
    ]
    report = log.take(log.write(rows))
    assert (report.added, report.rejected_count) == (1, 12)
    written = (path for path in log.folder.iterdir() if path.name not in ("events.jsonl", "keys.json"))
    kept = b"".join(path.read_bytes() for path in written) + msgspec.json.encode(report)
    for secret in (SECRET, "ann@ex", *PRIVATE.values()):
        assert secret.encode() not in kept
    assert log.rejects[1]["event"]["shopper"] == log.intake.pseudonyms.shopper(SECRET)
    assert log.rejects[1]["event"]["session"] == log.intake.pseudonyms.session(f"{SECRET}-1")
    assert log.rejects[1]["event"]["query"] == "mail [email]"


def test_joined_session_id_is_not_shown(log: Log) -> None:
    mapping = {"fields": {"query_id": {"join": ["session", "product_id"]}}}
    log.take(log.write([{**CLICK, "session": SECRET, "position": "x"}]), mapping=mapping)
    assert SECRET not in json.dumps(log.rejects)


TABLE = "kind,time,Session ID,product_id,position\n"
ROWS = "click,2024-06-01T10:00:00Z,s1,B1,3\nclick,2024-06-01T10:01:00Z,s1,B2,\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_tables_are_imported(log: Log, delimiter: str) -> None:
    report = log.take(log.write((TABLE + ROWS).replace(",", delimiter), "events.txt"))
    assert (report.added, report.sessions) == (2, 1)
    assert [event.get("position") for event in log.stored] == [3, None]


def test_row_with_wrong_number_of_cells_is_rejected(log: Log) -> None:
    report = log.take(log.write(TABLE + f"click,{SECRET}\n" + ROWS, "events.csv"))
    assert (report.added, log.reasons) == (2, [(2, "wrong number of cells")])
    assert SECRET not in json.dumps(log.rejects)


@pytest.mark.parametrize(
    ("header", "missing"),
    [
        ("kind,time,session,product", "no column is the product_id (known: product_id: product_id, object_id"),
        ("kind,session,product_id", "no column is the time (known: time: time, timestamp)"),
        ("a,b", "no column is the kind or the product_id or the time or the session"),
        (",a", "its columns are column 1, a; name it"),
    ],
)
def test_table_without_a_required_column_is_refused(log: Log, header: str, missing: str) -> None:
    assert missing in log.take_broken(log.write(f"{header}\n1,2,3,4\n", "events.csv"))


ROWS_WITHOUT_HEADER = (
    "2025-01-01T00:00:00Z,jo.doe@example.com,192.168.1.10,jo doe|20250101T000000Z,jo doe|01.12.2010 08:26,jo doe|"
    "jo doe,9:05 PM|17850.0,jo doe|1e5,jo doe|10.1.2.3,jo doe|jo.doe@example.com,jo doe"
)


@pytest.mark.parametrize("row", [*ROWS_WITHOUT_HEADER.split("|"), "x," * 30 + "jo doe,7"])
def test_data_row_in_place_of_the_header_is_not_shown(log: Log, row: str) -> None:
    message = log.take_broken(log.write(f"{row}\n{row}\n", "events.csv"))
    assert "the first line is not a header" in message
    assert not any(cell in message.removeprefix(str(log.folder)) for cell in row.split(",") if len(cell) > 1)


def test_first_line_of_an_unknown_file_is_masked(log: Log) -> None:
    path = log.write("who: " + "x" * 48 + " jo.doe@example.com\n")
    assert "jo.doe" not in log.take_broken(path)
    with pytest.raises(FeedError) as caught:
        log.take(log.write("jo.doe@example.com \x07\n"), format="csv")
    assert "is not a table header" in str(caught.value)
    assert "jo.doe" not in str(caught.value)


def test_table_of_queries_needs_no_product_column(log: Log) -> None:
    mapping = {"events": [{"kind": "query"}]}
    report = log.take(log.write("time,session,query\n2024-06-01T10:00:00Z,s1,drill\n", "q.csv"), mapping=mapping)
    assert report.events == {"query": 1}


def test_parquet_is_imported(log: Log) -> None:
    path = log.folder / "events.parquet"
    rows = [{**row, "time": datetime(2024, 6, 1, 10, tzinfo=UTC)} for row in clicks(3)]
    pl.DataFrame(rows).write_parquet(path)
    report = log.take(path)
    assert (report.added, report.rejected_count) == (3, 0)
    stored = log.stored
    log.take(log.write(clicks(3)))
    assert log.stored == stored
    pl.DataFrame({"kind": ["click"], "sku": ["B1"], "session": ["s"]}).write_parquet(path)
    assert "no column is the time" in log.take_broken(path)


@pytest.mark.parametrize("indent", [None, 2])
def test_arrays_and_search_responses_are_imported(log: Log, indent: int | None) -> None:
    hits = [{"_index": "ubi", "_id": str(place), "_source": row} for place, row in enumerate((UBI_EVENT, UBI_QUERY))]
    response = {"took": 3, "hits": {"total": {"value": 2}, "max_score": 1.0, "hits": hits}}
    array = log.take(log.write(json.dumps(hits, indent=indent)))
    stored = log.stored
    assert array.events == {"impression": 3, "click": 1, "query": 1}
    assert log.take(log.write(json.dumps(response, indent=indent))).repeated == 5
    assert log.take(log.write(lines(hits))).repeated == 5
    bulk = [{"index": {}}, UBI_EVENT, {"index": {}}, UBI_QUERY]
    report = log.take(log.write(lines(bulk)))
    assert (report.repeated, report.skipped) == (5, {"a bulk request's action line": 2})
    assert log.stored == stored


def test_several_responses_in_one_file_are_all_read(log: Log) -> None:
    pages = [{"took": 1, "hits": {"hits": [{"_source": {**UBI_EVENT, "query_id": f"q{page}"}}]}} for page in range(3)]
    assert log.take(log.write(lines(pages))).added == 3
    assert log.take(log.write(b"\n" * 5_000 + lines(pages))).repeated == 3


def test_truncated_response_is_refused(log: Log) -> None:
    whole = json.dumps({"took": 1, "hits": {"hits": [{"_source": UBI_EVENT}, {"_source": UBI_QUERY}]}})
    assert "the array is not closed" in log.take_broken(log.write(whole[:-40]))
    assert len(log.stored) == 1


def test_standard_input_is_imported(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(lines(clicks(3))))))
    assert log.take("-").added == 3
    assert log.progress.totals == [None]


def test_events_before_a_truncation_are_stored(log: Log) -> None:
    whole = gzip.compress(lines([{**row, "query": f"{number * 7919:x}"} for number, row in enumerate(clicks(9_000))]))
    bad = log.write(whole[: len(whole) // 2])
    message = log.take_broken(bad)
    assert "cannot be read after line" in message
    stored = log.stored
    assert 1_000 < len(stored) < 9_000
    report = log.take(log.write(whole))
    assert (report.repeated, report.added) == (len(stored), 9_000 - len(stored))


def test_missing_log_is_reported_before_importing(log: Log) -> None:
    assert "cannot be read" in log.take_broken(log.write(clicks(3)), log.folder / "nowhere.jsonl")
    assert log.stored == []


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no rows in it"),
        (b"\n\n", "no rows in it"),
        (TABLE.encode(), "no rows in it"),
        (lines([{"a": 1}] * 3), "none of its 3 rows can be used: no kind (3); for example line 1 of "),
        (lines([{**CLICK, "time": "x"}] * 2 + [{**CLICK, "kind": "x"}]), "bad time (2), unknown kind (1); for example"),
    ],
)
def test_log_without_usable_rows_is_refused_with_reason(log: Log, content: bytes, why: str) -> None:
    report = log.take(log.write(content))
    assert why in report.failure
    assert (report.added, log.stored) == (0, [])


def test_import_resumes_after_a_store_failure(log: Log) -> None:
    class Filling(SqliteEvents):
        def append(self, events: Sequence[StoredEvent]) -> AppendResult:
            if self.count():
                raise StoreError("the disk is full")
            return super().append(events)

    path = log.write([{**CLICK, "event_id": "bad", "time": "soon"}, *clicks(9_000)])
    store = Filling(log.folder)
    options = ImportOptions(clock=lambda: NOW, batch=3_000, workers=1)
    with pytest.raises(StoreError, match="the disk is full"):
        import_events([str(path)], store, log.intake, options, rejected=log.folder / "rejected.jsonl")
    taken = store.count()
    store.close()
    assert 0 < taken < 9_000
    assert log.reasons == [(1, "bad time")]
    report = log.take(path, batch=3_000)
    assert (report.repeated, report.added, report.rejected_count) == (taken, 9_000 - taken, 1)


def test_conflicting_query_and_hit_without_a_product(log: Log) -> None:
    query = {**UBI_QUERY, "id": "e", "query_response_hit_ids": ["", "B1"]}
    log.take(log.write([query]))
    report = log.take(log.write([{**query, "user_query": "hammer"}, CLICK]))
    assert (report.added, report.repeated) == (1, 0)
    assert log.reasons == [(1, "no product"), (1, "another event's id"), (1, "another event's id")]
    assert [row["event"]["kind"] for row in log.rejects] == ["impression", "query", "impression"]


def test_unwritable_rejects_file_is_refused(log: Log) -> None:
    (log.folder / "rejected.jsonl").mkdir()
    with pytest.raises(StoreError, match="the file of rejected rows, cannot be written"):
        log.take(log.write([CLICK]))


def test_worker_processes_give_the_same_result(log: Log, tmp_path: Path) -> None:
    rows = [{**row, "time": "soon"} if number % 1_000 == 7 else row for number, row in enumerate(clicks(11_000))]
    rows.append({**CLICK, "event_id": "e1", "product_id": "other"})
    path = log.write(rows)
    alone = log.take(path, batch=1_000)
    stored, rejects = log.stored, log.rejects
    other = Log(tmp_path)
    for file in tmp_path.glob("events.sqlite*"):
        file.unlink()
    store = SqliteEvents(tmp_path)
    options = ImportOptions(clock=lambda: NOW, batch=1_000, workers=2)
    report = import_events([str(path)], store, other.intake, options, rejected=tmp_path / "rejected.jsonl")
    store.close()
    assert (report.added, report.rejected) == (alone.added, alone.rejected)
    assert (report.added, other.stored, other.rejects) == (10_989, stored, rejects)


_NAME_LIST = "rating quantity results _source query_response_hit_ids event_attributes index ip"
NAMES = [*CLICK, *_NAME_LIST.split()]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([*CLICK.values()]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner, max_size=3),
    max_leaves=6,
)
ANY_ROWS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=8)
_MARKS = [bytes([mark]) for mark in b'{}[]",:\\1\n\x00\xff']
_WORDS = [b"PAR1", b"kind", b"time", b"product_id", b"click", b"2024-06-01T10:00:00Z", b"\x1f\x8b"]
_STARTS = [b'{"took":1,"hits":{"hits":[', json.dumps(CLICK).encode()]
FRAGMENTS = st.sampled_from([*_MARKS, *_WORDS, *_STARTS])
GOOD = {**CLICK, "event_id": "good"}


@given(st.lists(FRAGMENTS | st.binary(max_size=8), max_size=30).map(b"".join))
def test_arbitrary_bytes_are_imported_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder))
        try:
            report = log.take(log.write(content))
        except FeedError as error:
            assert folder in str(error)
        else:
            assert report.added == len(log.stored)
            assert report.added or report.failure


@given(st.lists(ANY_ROWS, min_size=1, max_size=5))
def test_valid_row_among_arbitrary_rows_is_imported(rows: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder))
        report = log.take(log.write([*rows, GOOD, *rows]))
        assert report.rows == 2 * len(rows) + 1
        assert log.intake.pseudonyms.key("good") in [event["key"] for event in log.stored]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=25), st.integers(0, 2**32))
def test_row_order_and_repeated_import_do_not_change_the_store(numbers: list[int], seed: int) -> None:
    kinds = ["query", "impression", "click", "purchase", "nothing"]
    rows = [
        {**CLICK, "event_id": "", "kind": kinds[number % 5], "session": f"s{number % 3}", "query_id": ""}
        for number in numbers
    ]
    shuffled = random.Random(seed).sample(rows, len(rows))
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder))
        first = log.take(log.write(rows))
        stored = log.stored
        again = log.take(log.write(shuffled))
        assert log.stored == stored
        assert (again.added, again.repeated) == (0, first.added + first.repeated)
