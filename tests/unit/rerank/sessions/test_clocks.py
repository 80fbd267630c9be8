from datetime import timedelta

import polars as pl

from rerank.sessions.cleaning import ClockOptions, correct_clocks
from tests.unit.rerank.sessions.session_logs import at, event, log


def corrected(table: pl.DataFrame, options: ClockOptions | None = None) -> int:
    return int((correct_clocks(table, options)["time"] != table["time"]).sum())


def test_a_clock_that_is_behind_is_set_right_by_its_least_difference() -> None:
    hour = 3_600
    late = (hour + 3, hour + 1, hour + 4)
    table = log(event(60 * n, session="s", late=by) for n, by in enumerate(late))
    right = correct_clocks(table)
    assert right["time"].to_list() == [at(60 * n + min(late)) for n in range(3)]
    assert right.drop("time").equals(table.drop("time"))


def test_a_clock_that_is_ahead_is_set_back() -> None:
    right = correct_clocks(log(event(60 * n, session="s", late=-240) for n in range(3)))
    assert right["time"].to_list() == [at(60 * n - 240) for n in range(3)]


def test_only_the_wrong_clock_of_two_is_corrected() -> None:
    server = [event(600 + 60 * n, "impression", session="s", late=1) for n in range(3)]
    client = [event(60 * n, session="s", late=601) for n in range(3)]
    right = correct_clocks(log([*server, *client]))
    assert right["time"].to_list() == [at(600), at(660), at(720), at(601), at(661), at(721)]


def test_an_imported_log_keeps_its_times() -> None:
    table = log(event(60 * n, session="s", late=86_400 - 60 * n) for n in range(20))
    assert correct_clocks(table).equals(table)


def test_what_a_client_sends_at_once_after_being_offline_keeps_its_times() -> None:
    table = log(event(n, session="s", late=7_200) for n in range(3))  # received within 2 s: no proof of a clock
    assert corrected(table) == 0


def test_two_events_prove_nothing() -> None:
    assert corrected(log(event(60 * n, session="s", late=3_600) for n in range(2))) == 0


def test_what_is_received_in_time_is_left() -> None:
    table = log(event(60 * n, session="s", late=90) for n in range(5))
    assert corrected(table) == 0
    strict = ClockOptions(tolerance=timedelta(seconds=60))
    assert corrected(table, strict) == 5


def test_clients_are_looked_at_apart_even_when_a_session_is_called_as_a_shopper() -> None:
    session = [event(60 * n, session="x", late=3_600) for n in range(2)]
    shopper = [event(60 * n, shopper="x", late=3_600) for n in range(2)]
    assert corrected(log([*session, *shopper])) == 0
