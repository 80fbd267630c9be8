from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import FeedError
from tests.unit.indexer.events.event_logs import CLICK, Log

_NAME_LIST = "rating quantity results _source query_response_hit_ids event_attributes index ip"
NAMES = [*CLICK, *_NAME_LIST.split()]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([*CLICK.values()]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner, max_size=3),
    max_leaves=6,
)
ROWS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=8)
_MARKS = [bytes([mark]) for mark in b'{}[]",:\\1\n\x00\xff']
_WORDS = [b"PAR1", b"kind", b"time", b"product_id", b"click", b"2024-06-01T10:00:00Z", b"\x1f\x8b"]
_STARTS = [b'{"took":1,"hits":{"hits":[', json.dumps(CLICK).encode()]
SCRAPS = st.sampled_from([*_MARKS, *_WORDS, *_STARTS])
GOOD = {**CLICK, "event_id": "good"}


@given(st.lists(SCRAPS | st.binary(max_size=8), max_size=30).map(b"".join))
def test_no_bytes_end_an_import_but_with_a_reason(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder))
        try:
            report = log.take(log.write(content))
        except FeedError as error:
            assert folder in str(error)
        else:
            assert report.added == len(log.stored)
            assert report.added or report.failure


@given(st.lists(ROWS, min_size=1, max_size=5))
def test_a_good_row_beside_any_others_is_taken(rows: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder))
        report = log.take(log.write([*rows, GOOD, *rows]))
        assert report.rows == 2 * len(rows) + 1
        assert log.intake.pseudonyms.key("good") in [event["key"] for event in log.stored]


@given(st.binary(max_size=60).filter(lambda line: b"\n" not in line))
def test_a_good_row_after_any_line_is_taken(line: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder))
        log.take(log.write(b'{"a": 1}\n' + line + b"\n" + json.dumps(GOOD).encode()))
        assert [event["key"] for event in log.stored] == [log.intake.pseudonyms.key("good")]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=25), st.integers(0, 2**32))
def test_neither_the_order_of_rows_nor_a_second_import_changes_what_is_stored(numbers: list[int], seed: int) -> None:
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
