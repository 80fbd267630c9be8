"""Control of exposure: counted searches, and the strength computed from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from shelfwise.retrieval.records import ControlledExposure, ExposureGoal, Hit, Page, Product
from shelfwise.service.curation.exposure import (
    NOT_COUNTED,
    STRONGEST,
    ExposureState,
    ExposureStore,
    attention,
    goals_of,
)
from shelfwise.service.curation.rules import Boost, Exposure, Rule
from shelfwise.service.engine.editors import ServedExposure

FLOOR = ExposureGoal("floor", "brand = Bosch", at_least=0.25)
CEILING = ExposureGoal("ceiling", "brand = Bosch", at_most=0.25)


def shown(ids: str, *, own: str = "", pinned: str = "", page: int = 1, goal: ExposureGoal = FLOOR) -> Page:
    """A page of hits whose ids are single letters."""
    hits = tuple(Hit(Product(each, each), 1.0, {}) for each in ids)
    return Page(hits, 99, page, len(ids), exposure_goals=(ControlledExposure(goal, 0.0, tuple(own), tuple(pinned)),))


def test_attention_is_one_by_rank_of_the_first_twenty_without_pinned_hits() -> None:
    assert attention(shown("abc", own="b")) == [(FLOOR, 1 / 2, 1 + 1 / 2 + 1 / 3)]
    assert attention(shown("abc", own="ab", pinned="a")) == [(FLOOR, 1 / 2, 1 / 2 + 1 / 3)]
    assert attention(shown("abc", own="c", page=2)) == [(FLOOR, 1 / 6, 1 / 4 + 1 / 5 + 1 / 6)]
    assert attention(shown("abc", own="abc", page=7)) == [(FLOOR, 1 / 19 + 1 / 20, 1 / 19 + 1 / 20)]
    assert attention(Page((), 0, 1, 20)) == []


def after_days(goal: ExposureGoal, share_at: Callable[[float], float]) -> ExposureState:
    """The state after two days of searches in which the products randomly get all attention or none."""
    chance, state = np.random.default_rng(3), NOT_COUNTED
    for day in (1, 2):
        for _ in range(2_000):
            own = float(chance.random() < share_at(state.strength))
            state = (state + state.step(goal, day, own, 1.0)).within(goal)
    return state


def test_floor_is_held_over_a_day_by_a_steady_strength() -> None:
    found = after_days(FLOOR, lambda strength: 0.1 + 0.1 * strength)
    assert (found.day, found.searches, found.counted) == (2, 2_000, 4_000)
    assert found.share == pytest.approx(0.25, abs=0.02)
    assert found.strength == pytest.approx(1.5, abs=0.5)


def test_ceiling_moves_products_down_and_a_reached_goal_moves_none() -> None:
    assert after_days(CEILING, lambda strength: 0.4 + 0.1 * strength).share == pytest.approx(0.25, abs=0.02)
    assert -0.1 < after_days(CEILING, lambda _: 0.1).strength <= 0
    assert 0 <= after_days(FLOOR, lambda _: 0.5).strength < 0.1


def test_strength_is_bounded_where_no_product_can_be_shown() -> None:
    assert after_days(FLOOR, lambda _: 0.0).strength == STRONGEST
    assert after_days(CEILING, lambda _: 1.0).strength == -STRONGEST


def test_days_begin_at_nothing_with_the_strength_of_the_day_before() -> None:
    first = ExposureState(1, 2.0, 8.0, 3, 0.5, 3)
    assert first.on(2) == ExposureState(2, strength=0.5, counted=3)
    late = ExposureState(1, 1.0, 2.0, 1, -0.1, 1)
    assert first.on(2) + late == ExposureState(2, strength=0.4, counted=4)
    assert first + late == ExposureState(1, 3.0, 10.0, 4, 0.4, 4)
    assert (NOT_COUNTED + late).within(FLOOR).strength == 0


def test_processes_share_their_counts(tmp_path: Path) -> None:
    now = [datetime(2026, 11, 30, 12, tzinfo=UTC)]
    one, other = (ServedExposure(tmp_path, clock=lambda: now[0]) for _ in range(2))
    one.count(shown("abcd", own="d"))
    assert one.state(FLOOR).searches == 1
    assert other.state(FLOOR) == ExposureState(20_787)
    other.count(shown("abcd", own="a"))
    for each in (one, other, one):
        each.write()
        each.reload_if_changed()
    both = one.state(FLOOR)
    assert both == other.state(FLOOR)
    total = 1 + 1 / 2 + 1 / 3 + 1 / 4
    assert (both.searches, both.own) == (2, 1 / 4 + 1)
    assert both.total == pytest.approx(2 * total)
    # Counts per products: another share of the same products continues them, other products start anew.
    assert one.state(replace(FLOOR, at_least=0.5)).searches == 2
    assert one.state(replace(FLOOR, filters="brand = Makita")).searches == 0
    now[0] += timedelta(days=1)
    assert one.state(FLOOR) == ExposureState(20_788, strength=both.strength, counted=2)


def test_counts_are_written_about_once_a_second(tmp_path: Path) -> None:
    now = [datetime(2026, 11, 30, 12, tzinfo=UTC)]
    served, store = ServedExposure(tmp_path, clock=lambda: now[0]), ExposureStore(tmp_path)
    served.count(shown("ab", own="b"))
    served.reload_if_changed()
    assert store.read() == {}
    now[0] += timedelta(seconds=2)
    served.reload_if_changed()
    assert store.read()["floor", "brand = Bosch"].searches == 1


def test_counts_wait_while_the_file_cannot_be_written(tmp_path: Path) -> None:
    served = ServedExposure(tmp_path)
    store = ExposureStore(tmp_path)
    store.path.write_bytes(b"damaged" * 999)
    served.count(shown("ab", own="b"))
    served.write()
    assert "exposure is not counted" in served.notices[0]
    store.path.unlink()
    served.write()
    assert served.notices == ()
    assert store.read()["floor", "brand = Bosch"].searches == 1


def test_goals_of_rules() -> None:
    rule = Rule("own", (Boost("price < 9"), Exposure("brand = Bosch", 0.04), Exposure("price > 90", at_most=0.5)))
    floor, ceiling = goals_of([rule])
    assert (floor, ceiling.share) == (ExposureGoal("own", "brand = Bosch", 0.04), 0.5)
