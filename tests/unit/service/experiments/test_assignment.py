"""Random assignment, interleaving and the marks in query ids."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from retrieval.records import Event, EventKind
from retrieval.updates.validation import MAX_ID_BYTES
from service.experiments.assignment import (
    FIRST,
    MOST_TEAMS,
    NOBODY,
    SECOND,
    DraftMark,
    Mark,
    SplitMark,
    random_fraction,
    read_marks,
    sign_query_id,
    takes_part,
    team_draft,
    unit_of,
    variant_of,
)
from service.experiments.experiment import LONGEST_ID, LONGEST_VARIANT, MOST_AT_ONCE, Experiment, Unit, Variant

ONE, OTHER = b"one salt of 16 b", b"another of 16 by"
SHOPPERS = [f"shopper\0u{number}" for number in range(20_000)]
HALVES = Experiment("e", (Variant("a"), Variant("b")))


def test_variants_are_drawn_as_their_weights_say_and_lots_are_even_all_over() -> None:
    experiment = Experiment("e", (Variant("a", weight=1), Variant("b", weight=3), Variant("c", weight=6)))
    drawn = Counter(variant_of(experiment, ONE, unit).name for unit in SHOPPERS)
    assert stats.chisquare([drawn[name] for name in "abc"], [2_000, 6_000, 12_000]).pvalue > 0.01
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


IDS = [f"p{number}" for number in range(12)]
LISTS = st.permutations(IDS)


@given(LISTS, LISTS, st.binary(max_size=80), st.integers(0, 12), st.integers(0, 12))
def test_pages_repeat_and_lose_none(
    first: list[str], second: list[str], seed: bytes, shorter: int, longer: int
) -> None:
    shorter, longer = sorted((shorter, longer))
    page = team_draft(first[:shorter], second[:shorter], shorter, seed)
    pages = team_draft(first[:longer], second[:longer], longer, seed)
    assert (pages.ids[:shorter], pages.teams[:shorter]) == (page.ids, page.teams)
    whole = team_draft(first, second, len(IDS), seed)
    assert sorted(whole.ids) == sorted(IDS)


@given(LISTS, LISTS, st.binary(max_size=80))
def test_each_team_picks_its_best_left_and_one_in_each_round(first: list[str], second: list[str], seed: bytes) -> None:
    draft = team_draft(first, second, len(IDS), seed)
    taken: set[str] = set()
    for picked, team in zip(draft.ids, draft.teams, strict=True):
        theirs = first if team == FIRST else second
        assert picked == next(each for each in theirs if each not in taken)
        taken.add(picked)
    rounds = [draft.teams[at : at + 2] for at in range(0, len(IDS), 2)]
    assert all(set(each) == {FIRST, SECOND} for each in rounds)


@given(LISTS, LISTS, st.integers(0, 12), st.integers(0, 12), st.binary(max_size=80))
def test_leftovers_are_nobodys(first: list[str], second: list[str], some: int, others: int, seed: bytes) -> None:
    first, second = first[:some], second[:others]
    draft = team_draft(first, second, 2 * len(IDS), seed)
    assert sorted(draft.ids) == sorted({*first, *second})
    assert NOBODY not in draft.teams.rstrip(NOBODY)
    assert abs(draft.teams.count(FIRST) - draft.teams.count(SECOND)) <= 1


@given(LISTS, LISTS, st.sets(st.integers(0, 11)), st.binary(max_size=80), st.integers(0, 12))
def test_what_is_held_stays(first: list[str], second: list[str], held: set[int], seed: bytes, shorter: int) -> None:
    """As two pinned products at places 3 and 5 of both lists."""
    for place in held:
        at = second.index(first[place])
        second[at], second[place] = second[place], second[at]
    kept = {first[place] for place in held if first[place] == second[place]}
    whole = team_draft(first, second, len(IDS), seed, kept)
    assert sorted(whole.ids) == sorted(IDS)
    for each in kept:
        assert whole.ids.index(each) == first.index(each)
        assert whole.teams[first.index(each)] == NOBODY
    page = team_draft(first[:shorter], second[:shorter], shorter, seed, kept.intersection(first[:shorter]))
    assert (page.ids, page.teams) == (whole.ids[:shorter], whole.teams[:shorter])


def test_the_first_place_is_each_lists_as_often() -> None:
    firsts = [team_draft(IDS, IDS, 4, f"query {number}".encode()).teams[0] for number in range(4_000)]
    # Within four standard deviations of half.
    assert abs(firsts.count(FIRST) - 2_000) < 4 * (4_000 * 0.25) ** 0.5


KEY = b"k" * 32
ID = "9f" * 16
PARTS: list[Mark] = [SplitMark("price-test", "bold"), DraftMark("draft", 21, "abba-")]


def test_what_was_said_is_read_back_and_a_search_that_took_no_part_keeps_a_plain_id() -> None:
    query_id = sign_query_id(ID, PARTS, KEY)
    assert query_id.startswith(f"{ID}~price-test.bold~draft:21:abba-~")
    assert read_marks(query_id, KEY) == tuple(PARTS)
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
