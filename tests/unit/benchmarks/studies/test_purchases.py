"""What is held out is known to nobody before it is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.studies.purchases import (
    Line,
    Purchases,
    divided_by_file,
    divided_by_time,
    purchases_of_events,
    read_lines,
    seen_left_out,
)
from retrieval.errors import InputError
from retrieval.events.stored import event_table
from retrieval.records import EventKind
from tests.event_stores import at, event
from tests.purchase_sets import case

ROWS = {f"p{number}": number for number in range(10)}


def bought(number: int, shopper: str, product: str, day: int, **said: object) -> tuple[object, ...]:
    more = {"session": f"s{day}", **said}
    return event(number, kind=EventKind.PURCHASE, shopper=shopper, product_id=product, time=at(day), **more)


def purchases(*events: tuple[object, ...]) -> Purchases:
    return purchases_of_events([event_table(events)], ROWS.get)


class TestEvents:
    def test_purchases_of_known_shoppers_in_the_order_of_time(self) -> None:
        made = purchases(
            bought(1, "ben", "p3", 2),
            bought(2, "ann", "p5", 4),
            bought(3, "ann", "p1", 3),
            bought(4, "", "p1", 3),
            bought(5, "ann", "gone", 3),
            event(6, shopper="ann", product_id="p7"),
        )
        assert [each.tolist() for each in made.histories] == [[1, 5], [3]]
        assert made.history_times[0].tolist() == [at(3), at(4)]

    def test_a_product_is_bought_once_in_a_visit_and_visits_are_one_shoppers(self) -> None:
        made = purchases(
            bought(1, "ann", "p1", 3), bought(2, "ann", "p1", 3), bought(3, "ann", "p1", 4), bought(4, "ben", "p1", 3)
        )
        assert [each.tolist() for each in made.histories] == [[1, 1], [1]]
        assert len(set(made.visits.tolist())) == 3

    def test_without_a_session_a_day_is_a_visit(self) -> None:
        made = purchases(
            bought(1, "ann", "p1", 3, session=""),
            bought(2, "ann", "p2", 3, session=""),
            bought(3, "ann", "p1", 4, session=""),
        )
        first, second, third = made.visits.tolist()
        assert first == second != third


class TestTime:
    MADE = purchases(
        bought(1, "ann", "p1", 1),
        bought(2, "ann", "p2", 15),
        bought(3, "ann", "p3", 25),
        bought(4, "ann", "p4", 25),
        bought(5, "ann", "p5", 29),
        bought(6, "ben", "p6", 30),
        bought(7, "eve", "p7", 2),
    )

    def test_nothing_is_learned_from_what_came_later(self) -> None:
        made = divided_by_time(self.MADE, 10)
        assert made.tuning.training.products.tolist() == [1, 7]
        assert made.judging.training.products.tolist() == [1, 2, 7]
        for part in (made.tuning, made.judging):
            assert all(part.training.times.max() < each.now for each in part.cases)
            assert all((each.times < each.now).all() for each in part.cases)

    def test_the_first_visit_is_asked_for_and_later_ones_are_not_history(self) -> None:
        ann, ben = divided_by_time(self.MADE, 10).judging.cases
        assert (ann.history.tolist(), ann.targets.tolist(), ann.now) == ([1, 2], [3, 4], at(25))
        assert (ben.history.tolist(), ben.targets.tolist()) == ([], [6])

    def test_of_a_visit_that_goes_on_after_the_cut_the_rest_is_asked_for(self) -> None:
        visit = purchases(
            bought(1, "ann", "p1", 1),
            bought(2, "ann", "p2", 19, session="long"),
            bought(3, "ann", "p3", 21, session="long"),
            bought(4, "ben", "p4", 30),
        )
        ann, _ = divided_by_time(visit, 10).judging.cases
        assert (ann.history.tolist(), ann.targets.tolist()) == ([1, 2], [3])

    def test_too_short_a_time(self) -> None:
        with pytest.raises(InputError, match="reach 29 days back; to hold out 20 twice"):
            divided_by_time(self.MADE, 20)

    def test_no_purchase(self) -> None:
        with pytest.raises(InputError, match="no purchase of a shopper"):
            divided_by_time(purchases(event(1)), 10)
        with pytest.raises(InputError, match="no events"):
            purchases_of_events([], ROWS.get)


class TestLines:
    TUNING = (Line("ann", ("p1",), "p2"), Line("ann", ("p1", "p2"), "p3"), Line("ben", ("p6",), "p7"))
    JUDGING = (
        Line("ann", ("p2", "p3"), "p4"),
        Line("eve", ("p8",), "p9"),
        Line("ann", ("p3", "p4"), "p5"),
        Line("ann", ("p4", "p5"), "gone"),
    )

    def test_answers_are_not_learned_from_though_later_histories_hold_them(self) -> None:
        made = divided_by_file(self.TUNING, self.JUDGING, ROWS.get)
        assert [each.tolist() for each in made.tuning.training.histories] == [[1], [6], [8]]
        assert [each.tolist() for each in made.judging.training.histories] == [[1, 2, 3], [6, 7], [8]]

    def test_each_line_is_asked_with_its_own_history(self) -> None:
        asked = divided_by_file(self.TUNING, self.JUDGING, ROWS.get).judging.cases
        assert [each.history.tolist() for each in asked] == [[2, 3], [8], [3, 4]]
        assert [each.targets.tolist() for each in asked] == [[4], [9], [5]]
        assert asked[0].shopper == asked[2].shopper != asked[1].shopper

    def test_a_line_that_is_none(self, tmp_path: Path) -> None:
        file = tmp_path / "test.jsonl"
        file.write_text('{"user": "ann", "history": [], "next": "p1"}\n{"user": "ann", "next": "p1"}\n')
        with pytest.raises(InputError, match=r"test\.jsonl line 2: .*history.*a line has user, history and next"):
            read_lines(file)

    def test_a_file_without_any(self, tmp_path: Path) -> None:
        (tmp_path / "test.jsonl").touch()
        with pytest.raises(InputError, match=r"test\.jsonl has no line; one has user, history and next"):
            read_lines(tmp_path / "test.jsonl")


def test_what_was_bought_before_is_no_answer() -> None:
    kept = seen_left_out((case([1, 2], [2, 3]), case([1], [1])))
    assert [each.targets.tolist() for each in kept] == [[3]]
    assert np.array_equal(kept[0].history, [1, 2])
