"""Lots: even, the same for ever, and of no other experiment's."""

from __future__ import annotations

from collections import Counter

import pytest
from scipy import stats

from service.experiments.assignment import random_fraction, takes_part, unit_of, variant_of
from service.experiments.experiment import Experiment, Unit, Variant

ONE, OTHER = b"one salt of 16 b", b"another of 16 by"
SHOPPERS = [f"shopper\0u{number}" for number in range(20_000)]
HALVES = Experiment("e", (Variant("a"), Variant("b")))


def test_variants_are_drawn_as_their_weights_say() -> None:
    experiment = Experiment("e", (Variant("a", weight=1), Variant("b", weight=3), Variant("c", weight=6)))
    drawn = Counter(variant_of(experiment, ONE, unit).name for unit in SHOPPERS)
    assert stats.chisquare([drawn[name] for name in "abc"], [2_000, 6_000, 12_000]).pvalue > 0.01


def test_lots_are_even_all_over() -> None:
    bins = Counter(int(random_fraction(ONE, "variant", unit) * 100) for unit in SHOPPERS)
    assert stats.chisquare([bins[place] for place in range(100)]).pvalue > 0.01


def test_a_lot_is_the_same_for_ever() -> None:
    """What it was when this was written: a restart, or a new version, sends nobody to another variant."""
    assert random_fraction(ONE, "variant", "shopper\0u1") == pytest.approx(0.8708875881739493)
    assert [variant_of(HALVES, ONE, unit).name for unit in SHOPPERS[:12]] == list("bbbaabababaa")


def test_lots_of_another_experiment_have_nothing_to_do_with_them() -> None:
    both = Counter((variant_of(HALVES, ONE, unit).name, variant_of(HALVES, OTHER, unit).name) for unit in SHOPPERS)
    table = [[both["a", "a"], both["a", "b"]], [both["b", "a"], both["b", "b"]]]
    assert stats.chi2_contingency(table).pvalue > 0.01


def test_who_takes_part_has_nothing_to_do_with_the_variant() -> None:
    tenth = Experiment("e", HALVES.variants, share=0.1)
    inside = [unit for unit in SHOPPERS if takes_part(tenth, ONE, unit)]
    assert stats.binomtest(len(inside), len(SHOPPERS), 0.1).pvalue > 0.01
    drawn = Counter(variant_of(tenth, ONE, unit).name for unit in inside)
    assert stats.binomtest(drawn["a"], len(inside), 0.5).pvalue > 0.01
    # A larger share keeps who was in it.
    half = Experiment("e", HALVES.variants, share=0.5)
    assert all(takes_part(half, ONE, unit) for unit in inside)


def test_a_unit_is_what_the_experiment_says() -> None:
    def unit(kind: Unit, shopper: str = "", session: str = "") -> str:
        return unit_of(Experiment("e", HALVES.variants, unit=kind), shopper, session, "drill\0")

    assert unit(Unit.SHOPPER, "u1", "s1") == unit(Unit.SHOPPER, "u1", "s2") != unit(Unit.SHOPPER, "u2", "s1")
    assert unit(Unit.SESSION, "u1", "s1") == unit(Unit.SESSION, "u2", "s1")
    assert unit(Unit.SHOPPER, "", "s1") == unit(Unit.SESSION, "u1", "") == unit(Unit.QUERY) == ""
    # A session may be called as a shopper is.
    assert unit(Unit.SHOPPER, "x") != unit(Unit.SESSION, "", "x")
    assert unit(Unit.QUERY, "u1", "s1") == unit(Unit.QUERY, "u1", "s2") != unit(Unit.QUERY, "", "s1")
