"""Daily partitions are rebuilt only if they would change, and leave bots out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.rerank.sessions.cleaning import CLEAN_SCHEMA, CleaningResult, clean
from shelfwise.rerank.sessions.options import DeriveOptions, Window
from shelfwise.rerank.sessions.partitions import (
    AFTER_WINDOW,
    SUFFIX,
    Context,
    Day,
    DayFacts,
    DayMaker,
    read_frame,
    stretches,
)
from shelfwise.retrieval.errors import StoreDamagedError
from shelfwise.retrieval.events.stored import DAY_MS, StoredEvent, milliseconds
from tests.unit.rerank.sessions.derived_log import NOW, TODAY, MemoryEvents, catalog, search, stored

MIDNIGHT = datetime(2026, 11, 19, tzinfo=UTC)
WINDOW = Window(datetime(2026, 11, 11, tzinfo=UTC), NOW)


def view(time: datetime, product: str = "a", **values: object) -> StoredEvent:
    return stored("consultation", time, product_id=product, **{"shopper": "u1", **values})


def maker(folder: Path, store: MemoryEvents, products: pl.DataFrame | None = None, window: Window = WINDOW) -> DayMaker:
    return DayMaker(store, Context(window, DeriveOptions(), products), folder)


def keys(days: Sequence[Day]) -> list[list[bytes]]:
    frames = (pl.concat([day.events().select("key"), rejected(day).select("key")]) for day in days)
    return [sorted(frame["key"]) for frame in frames]


def rejected(day: Day) -> pl.DataFrame:
    return read_frame(day.folder / f"rejected{SUFFIX}")


def test_session_across_midnight_belongs_to_its_first_day(tmp_path: Path) -> None:
    before, after = view(MIDNIGHT - timedelta(minutes=5)), view(MIDNIGHT + timedelta(minutes=5), "b")
    much_later = view(MIDNIGHT + timedelta(hours=5), "c")
    first, second = maker(tmp_path, MemoryEvents([before, after, much_later])).days()
    assert keys([first, second]) == [sorted([before.key, after.key]), [much_later.key]]
    assert first.events()["session_number"].to_list() == [0, 0]
    assert second.events()["session_number"].to_list() == [0]


def test_anonymous_event_after_midnight_is_joined_by_query_id(tmp_path: Path) -> None:
    before = view(MIDNIGHT - timedelta(minutes=2), session="s1")
    searched = search("", MIDNIGHT + timedelta(minutes=1), "lamp", ["a"], session="s1")
    click = stored("click", MIDNIGHT + timedelta(minutes=2), product_id="a", query_id=searched[0].query_id, position=1)
    day, after = maker(tmp_path, MemoryEvents([before, *searched, click])).days()
    assert click.key in keys([day])[0]
    assert (day.facts.sessions, after.facts.sessions) == (1, 0)


@pytest.mark.parametrize("minutes", [40, 20 * 60])
def test_act_on_an_answer_of_the_previous_day_is_known(tmp_path: Path, minutes: int) -> None:
    asked = search("u1", MIDNIGHT - timedelta(minutes=20), "lamp", ["a", "b"])
    late, query_id = MIDNIGHT + timedelta(minutes=minutes), asked[0].query_id
    acts = [stored(kind, late, product_id="a", query_id=query_id, shopper="u1") for kind in ("click", "cart")]
    wrong = stored("click", late, product_id="c", query_id=query_id, shopper="u1")
    others = search("u2", late, "saw", ["a"])
    _, day = maker(tmp_path, MemoryEvents([*asked, *acts, wrong, *others])).days()
    assert {event.key for event in acts} <= set(day.events()["key"])
    assert rejected(day).select("key", "reason").rows() == [(wrong.key, "never shown")]


def test_answers_older_than_one_day_are_unknown(tmp_path: Path) -> None:
    asked = search("u1", MIDNIGHT - timedelta(days=1, minutes=20), "lamp", ["a"])
    between = search("u2", MIDNIGHT - timedelta(hours=2), "saw", ["a"])
    click = stored("click", MIDNIGHT + timedelta(hours=1), product_id="a", query_id=asked[0].query_id, shopper="u1")
    others = search("u3", MIDNIGHT + timedelta(hours=1), "saw", ["a"])
    *_, day = maker(tmp_path, MemoryEvents([*asked, *between, click, *others])).days()
    assert day.facts.rejected == {"unknown query": 1}


moments = st.integers(-36 * 60, 36 * 60).map(lambda minutes: MIDNIGHT + timedelta(minutes=minutes / 2))
anything = st.builds(
    lambda kind, time, shopper, session, query, product: stored(
        kind, time, shopper=shopper, session=session, query_id=query, product_id=product, position=1, quantity=1
    ),
    st.sampled_from(["impression", "click", "consultation", "cart", "purchase"]),
    moments,
    st.sampled_from(["", "u1", "u2"]),
    st.sampled_from(["", "s1", "s2"]),
    st.sampled_from(["q1", "q2", "q3"]),
    st.sampled_from("ab"),
)


@given(st.lists(anything, max_size=30))
def test_every_event_is_in_one_day_once_and_sessions_are_numbered_from_0(events: list[StoredEvent]) -> None:
    with TemporaryDirectory() as folder:
        days = list(maker(Path(folder), MemoryEvents(events)).days())
        found = keys(days)
        tables = [day.events() for day in days]
    assert sorted(key for of_day in found for key in of_day) == sorted(event.key for event in events)
    for day, table in zip(days, tables, strict=True):
        assert sorted(table["session_number"].unique()) == list(range(day.facts.sessions))
        assert table.schema == CLEAN_SCHEMA
        assert {time.date() for time in table.group_by("session_number").agg(pl.col("time").min())["time"]} <= {
            datetime.fromtimestamp(day.number * DAY_MS / 1000, UTC).date()
        }


def logged(days: int) -> MemoryEvents:
    noon = datetime(2026, 11, 19, 12, tzinfo=UTC)
    searches = (search(f"u{age}", noon - timedelta(days=age), "lamp", ["a", "b"]) for age in range(days))
    return MemoryEvents([event for each in searches for event in each])


def counts_of_days(folder: Path, store: MemoryEvents, **values: object) -> tuple[int, int]:
    """Number of rebuilt and of kept days; asserts that each day of the store is read once at most."""
    store.read_days.clear()
    days = maker(folder, store, **values)  # type: ignore[arg-type]
    list(days.days())
    assert len(set(store.read_days)) == len(store.read_days)
    return days.made, days.kept


def test_only_the_new_day_and_the_previous_one_are_read(tmp_path: Path) -> None:
    store = logged(7)
    assert counts_of_days(tmp_path, store) == (7, 0)
    assert (counts_of_days(tmp_path, store), store.read_days) == ((0, 7), [])
    store.append(search("u9", NOW - timedelta(hours=2), "lamp", ["a"]))
    assert counts_of_days(tmp_path, store) == (2, 6)
    assert store.read_days == [TODAY - 2, TODAY - 1, TODAY]


def test_late_event_recomputes_its_day_and_the_adjacent_days(tmp_path: Path) -> None:
    store = logged(7)
    counts_of_days(tmp_path, store)
    store.append([view(datetime(2026, 11, 16, 18, tzinfo=UTC))])
    assert counts_of_days(tmp_path, store) == (3, 4)
    late = milliseconds(datetime(2026, 11, 16, tzinfo=UTC)) // DAY_MS
    assert store.read_days == [late - 2, late - 1, late, late + 1, late + 2]


def test_day_is_recomputed_if_its_first_events_move_to_the_previous_day(tmp_path: Path) -> None:
    after = view(MIDNIGHT + timedelta(minutes=5), "b")
    store = MemoryEvents([view(MIDNIGHT - timedelta(hours=5)), after, view(MIDNIGHT + timedelta(hours=5), "c")])
    list(maker(tmp_path, store).days())
    store.append([view(MIDNIGHT - timedelta(minutes=5), "d")])
    again = maker(tmp_path, store)
    first, second = again.days()
    assert again.made == 2
    assert after.key in keys([first])[0]
    assert after.key not in keys([second])[0]


def test_catalog_change_recomputes_only_affected_days(tmp_path: Path) -> None:
    store = logged(3)
    store.append([view(MIDNIGHT - timedelta(hours=12), "c")])
    old = datetime(2020, 1, 1, tzinfo=UTC)
    one, more = catalog({"a": "A", "b": "B", "c": "C"}, old), catalog({"a": "X", "b": "X", "c": "X", "d": "D"}, old)
    assert counts_of_days(tmp_path, store, products=one) == (3, 0)
    assert counts_of_days(tmp_path, store, products=more) == (0, 3)
    without = more.filter(pl.col("product_id") != "c")
    assert counts_of_days(tmp_path, store, products=without) == (1, 2)
    (day,) = (day for day in maker(tmp_path, store, without).days() if day.facts.rejected)
    assert day.facts.rejected == {"unknown product": 1}


def test_days_outside_the_window_are_not_read(tmp_path: Path) -> None:
    store = logged(7)
    window = Window(datetime(2026, 11, 17, tzinfo=UTC), datetime(2026, 11, 18, 18, tzinfo=UTC))
    assert counts_of_days(tmp_path, store, window=window) == (2, 0)
    assert store.read_days == [TODAY - 3, TODAY - 2]


def test_events_after_the_window_are_read_by_a_later_window(tmp_path: Path) -> None:
    early, late = view(NOW - timedelta(hours=3)), view(NOW - timedelta(hours=1), "b")
    store = MemoryEvents([early, late])
    window = Window(WINDOW.first, NOW - timedelta(hours=2))
    for _ in range(2):
        assert keys(list(maker(tmp_path, store, window=window).days())) == [[early.key]]
    assert keys(list(maker(tmp_path, store).days())) == [sorted([early.key, late.key])]
    assert keys(list(maker(tmp_path, store, window=window).days())) == [[early.key]]


def test_event_corrected_to_after_the_window_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def a_day_on(*given: Any, **named: Any) -> CleaningResult:  # noqa: ANN401 - as `clean` takes it
        cleaned = clean(*given, **named)
        return CleaningResult(cleaned.events.with_columns(pl.col("time") + timedelta(days=1)), cleaned.rejected)

    monkeypatch.setattr("shelfwise.rerank.sessions.partitions.clean", a_day_on)
    store = MemoryEvents([view(NOW - timedelta(hours=1)), view(NOW - timedelta(days=2))])
    for _ in range(2):
        days = list(maker(tmp_path, store).days())
        assert [day.facts.events for day in days] == [1, 0]
        assert [day.facts.rejected for day in days] == [{}, {AFTER_WINDOW: 1}]
        assert [day.facts.corrected for day in days] == [1, 1]


def test_unreadable_day_is_named_with_the_remedy(tmp_path: Path) -> None:
    (day,) = maker(tmp_path, logged(1)).days()
    (day.folder / f"events{SUFFIX}").write_bytes(b"PAR1")
    with pytest.raises(StoreDamagedError, match=f"{day.folder.name}.*remove its folder and refresh"):
        day.events()


def day(number: int, sessions: int) -> Day:
    return Day(number, Path(str(number)), DayFacts(0, sessions, 0, {}, 0, "", 0))


def numbers(days: list[list[Day]]) -> list[list[int]]:
    return [[each.number for each in stretch] for stretch in days]


@pytest.mark.parametrize(
    ("together", "expected"),
    [
        (10, [[15], [16], [17], [18], [20]]),
        (15, [[15], [16, 17], [18], [20]]),
        (40, [[15], [16, 17, 18], [20]]),
        (41, [[15, 16, 17, 18, 20]]),
    ],
)
def test_day_ranges_are_aligned_powers_of_two(together: int, expected: list[list[int]]) -> None:
    # 60 sessions in 6 days: 10 a day.
    assert numbers(stretches([day(number, 12) for number in (15, 16, 17, 18, 20)], together)) == expected


@given(st.dictionaries(st.integers(20_000, 20_200), st.integers(0, 50)), st.integers(1, 1_000))
def test_every_day_is_in_one_range_in_order(sessions: dict[int, int], together: int) -> None:
    days = [day(number, sessions[number]) for number in sorted(sessions)]
    assert [each for stretch in stretches(days, together) for each in stretch] == days
