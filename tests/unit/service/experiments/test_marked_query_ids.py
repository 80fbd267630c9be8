"""Query ids that say what a search took part in: read back, bounded, and worth nothing when they were made up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.records import Event, EventKind
from retrieval.updates.validation import MAX_ID_BYTES
from service.experiments.assignment import MOST_TEAMS, DraftMark, Mark, SplitMark, read_marks, sign_query_id
from service.experiments.experiment import LONGEST_ID, LONGEST_VARIANT, MOST_AT_ONCE

KEY = b"k" * 32
ID = "9f" * 16
PARTS: list[Mark] = [SplitMark("price-test", "bold"), DraftMark("draft", 21, "abba-")]


def test_what_was_said_is_read_back() -> None:
    query_id = sign_query_id(ID, PARTS, KEY)
    assert query_id.startswith(f"{ID}~price-test.bold~draft:21:abba-~")
    assert read_marks(query_id, KEY) == tuple(PARTS)


def test_a_search_that_took_no_part_keeps_a_plain_id() -> None:
    assert sign_query_id(ID, [], KEY) == ID
    assert read_marks(ID, KEY) == ()


@pytest.mark.parametrize(
    "tampered",
    [
        sign_query_id(ID, PARTS, KEY).replace("bold", "plain"),
        sign_query_id(ID, PARTS, KEY).replace(ID, "8e" * 16),
        sign_query_id(ID, PARTS, KEY).replace("abba", "bbbb"),
        sign_query_id(ID, PARTS, b"another key"),
        f"{ID}~price-test.bold",
        f"{ID}~price-test.bold~",
        f"~{'x' * 12}",
        "~~~",
        f"{ID}~price-test.bold~ÄÖÜäöüßéèêëï",
        f"{ID}~price-test.bold~\ud800",
    ],
)
def test_a_mark_that_was_made_up_counts_for_nothing(tampered: str) -> None:
    assert read_marks(tampered, KEY) == ()


@given(st.text(max_size=600))
def test_any_text_is_read_without_harm(text: str) -> None:
    assert read_marks(text, KEY) == ()
    assert read_marks(text, b"") == ()


def test_the_longest_mark_is_an_id_that_events_take() -> None:
    """With the ending that an impression's own id has behind it."""
    parts: list[Mark] = [SplitMark("e" * LONGEST_ID, "v" * LONGEST_VARIANT)] * (MOST_AT_ONCE - 1)
    parts.append(DraftMark("d" * LONGEST_ID, 100_000, "ab" * 500))
    query_id = sign_query_id(ID, parts, KEY)
    assert len(f"{query_id}-100000".encode()) <= MAX_ID_BYTES
    assert read_marks(query_id, KEY)[-1] == DraftMark("d" * LONGEST_ID, 100_000, "ab" * (MOST_TEAMS // 2))
    assert Event(EventKind.CLICK, "p1", query_id=query_id).query_id == query_id
