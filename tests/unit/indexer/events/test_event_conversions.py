from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.events.mapping import FieldRule
from indexer.events.row_parser import stars, text_reader, time_reader, whole_reader
from retrieval.errors import EventError
from retrieval.events.stored import milliseconds

LONDON = FieldRule(zone="Europe/London")


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        (FieldRule(), "85123A", "85123A"),
        (FieldRule(), 17850, "17850"),
        (FieldRule(), 17850.0, "17850"),
        (FieldRule(), 0.5, "0.5"),
        (FieldRule(), "17850.0", "17850.0"),
        (FieldRule(whole=True), "17850.0", "17850"),
        (FieldRule(whole=True), "17850.", "17850"),
        (FieldRule(whole=True), "17850.5", "17850.5"),
        (FieldRule(whole=True), "v1.0", "v1.0"),
        (FieldRule(pad=12), "36725617605", "036725617605"),
        (FieldRule(pad=12), 36725617605, "036725617605"),
        (FieldRule(pad=12), "9781400532711", "9781400532711"),
        (FieldRule(pad=4, whole=True), "7.0", "0007"),
    ],
)
def test_ids(rule: FieldRule, value: object, expected: str) -> None:
    assert text_reader("product_id", rule)(value) == expected


@pytest.mark.parametrize("value", [["a"], {"a": 1}, True])
def test_ids_of_another_type_are_refused_without_being_repeated(value: object) -> None:
    with pytest.raises(EventError) as caught:
        text_reader("shopper", FieldRule())(value)
    assert (caught.value.reason, caught.value.detail) == (
        "bad shopper",
        f"shopper is a text or a number, not {type(value).__name__}",
    )


@pytest.mark.parametrize(
    ("value", "expected"), [("3", 3), ("0.0", 0), (" 4 ", 4), (5, 5), (6.0, 6), ("-2", -2), ("1e2", 100)]
)
def test_whole_numbers(value: object, expected: int) -> None:
    assert whole_reader("position")(value) == expected
    assert whole_reader("position", 1)(value) == expected + 1
    assert whole_reader("quantity", is_absolute=True)(value) == abs(expected)


@pytest.mark.parametrize("value", ["x", "1.5", 1.5, True, [1], "nan", "inf", "1e999", "9" * 5_000])
def test_what_is_no_whole_number(value: object) -> None:
    with pytest.raises(EventError, match="bad position"):
        whole_reader("position")(value)


@pytest.mark.parametrize("value", ["x", True, [1], {"a": 1}, 10**400])
def test_what_is_no_rating(value: object) -> None:
    with pytest.raises(EventError, match="bad rating"):
        stars(value)


def test_ratings() -> None:
    assert (stars("4.5"), stars(3)) == (4.5, 3.0)


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        (FieldRule(), "2024-06-01T10:00:00Z", datetime(2024, 6, 1, 10, tzinfo=UTC)),
        (FieldRule(), "20240601T100000Z", datetime(2024, 6, 1, 10, tzinfo=UTC)),
        (FieldRule(), "2024-06-01 10:00:00.250+02:00", datetime(2024, 6, 1, 8, 0, 0, 250_000, tzinfo=UTC)),
        (LONDON, "2011-01-10 09:00:00", datetime(2011, 1, 10, 9, tzinfo=UTC)),
        (LONDON, "2011-07-10 09:00:00", datetime(2011, 7, 10, 8, tzinfo=UTC)),
        (LONDON, "2011-07-10T09:00:00+05:00", datetime(2011, 7, 10, 4, tzinfo=UTC)),
        (LONDON, "2011-07-10", datetime(2011, 7, 9, 23, tzinfo=UTC)),
        (
            FieldRule(zone="Europe/London", format="%d/%m/%Y %H:%M"),
            "10/07/2011 09:05",
            datetime(2011, 7, 10, 8, 5, tzinfo=UTC),
        ),
        (FieldRule(), 1_717_236_000, datetime(2024, 6, 1, 10, tzinfo=UTC)),
        (FieldRule(), 1_717_236_000_250, datetime(2024, 6, 1, 10, 0, 0, 250_000, tzinfo=UTC)),
        (FieldRule(), "1717236000.5", datetime(2024, 6, 1, 10, 0, 0, 500_000, tzinfo=UTC)),
        (FieldRule(), "1717236000250", datetime(2024, 6, 1, 10, 0, 0, 250_000, tzinfo=UTC)),
        (FieldRule(unit="milliseconds"), 1000, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (FieldRule(unit="seconds"), "1717236000", datetime(2024, 6, 1, 10, tzinfo=UTC)),
    ],
)
def test_times(rule: FieldRule, value: object, expected: datetime) -> None:
    assert time_reader(rule)(value) == expected


@pytest.mark.parametrize(
    ("rule", "value", "detail"),
    [
        (FieldRule(), "2024-06-01T10:00:00", "names no zone"),
        (FieldRule(), "yesterday", "ISO 8601"),
        (FieldRule(), "2024-13-01T10:00:00Z", "ISO 8601"),
        (FieldRule(), True, "a bool"),
        (FieldRule(), ["2024"], "a list"),
        (FieldRule(), 1e300, "no date"),
        (FieldRule(), float("inf"), "no date"),
        (FieldRule(unit="seconds"), 10**30, "no date"),
        (LONDON, "0001-01-01T00:00:00+14:00", "ISO 8601"),
        (FieldRule(format="%d/%m/%Y"), "2024-06-01", "written %d/%m/%Y"),
    ],
)
def test_what_is_no_time(rule: FieldRule, value: object, detail: str) -> None:
    with pytest.raises(EventError) as caught:
        time_reader(rule)(value)
    assert caught.value.reason == "bad time"
    assert detail in caught.value.detail


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), st.integers(-720, 720))
def test_every_way_to_write_a_time_is_the_same_moment(naive: datetime, minutes: int) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    ms = milliseconds(moment)
    read = time_reader(FieldRule())
    written: list[Any] = [moment.isoformat(), moment.isoformat(" "), ms]
    assert {milliseconds(read(value)) for value in written} == {ms}
    assert milliseconds(time_reader(FieldRule(unit="seconds"))(ms // 1000)) == ms // 1000 * 1000
