"""Team-draft interleaving: fair, whole, the same on every page, and won by the better list."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from service.experiments.assignment import FIRST, NOBODY, SECOND, team_draft

IDS = [f"p{number}" for number in range(12)]
LISTS = st.permutations(IDS)


@given(LISTS, LISTS, st.binary(max_size=80), st.integers(0, 12), st.integers(0, 12))
def test_pages_neither_repeat_nor_lose_a_product(
    first: list[str], second: list[str], seed: bytes, shorter: int, longer: int
) -> None:
    shorter, longer = sorted((shorter, longer))
    page = team_draft(first[:shorter], second[:shorter], shorter, seed)
    pages = team_draft(first[:longer], second[:longer], longer, seed)
    assert (pages.ids[:shorter], pages.teams[:shorter]) == (page.ids, page.teams)
    whole = team_draft(first, second, len(IDS), seed)
    assert sorted(whole.ids) == sorted(IDS)


@given(LISTS, LISTS, st.binary(max_size=80))
def test_each_team_picks_its_best_that_is_left_and_one_in_each_round(
    first: list[str], second: list[str], seed: bytes
) -> None:
    draft = team_draft(first, second, len(IDS), seed)
    taken: set[str] = set()
    for picked, team in zip(draft.ids, draft.teams, strict=True):
        theirs = first if team == FIRST else second
        assert picked == next(each for each in theirs if each not in taken)
        taken.add(picked)
    rounds = [draft.teams[at : at + 2] for at in range(0, len(IDS), 2)]
    assert all(set(each) == {FIRST, SECOND} for each in rounds)


@given(LISTS, LISTS, st.integers(0, 12), st.integers(0, 12), st.binary(max_size=80))
def test_what_only_one_list_has_left_is_nobodys(
    first: list[str], second: list[str], some: int, others: int, seed: bytes
) -> None:
    first, second = first[:some], second[:others]
    draft = team_draft(first, second, 2 * len(IDS), seed)
    assert sorted(draft.ids) == sorted({*first, *second})
    assert NOBODY not in draft.teams.rstrip(NOBODY)
    assert abs(draft.teams.count(FIRST) - draft.teams.count(SECOND)) <= 1


@given(LISTS, LISTS, st.sets(st.integers(0, 11)), st.binary(max_size=80), st.integers(0, 12))
def test_what_is_held_stays_at_its_place(
    first: list[str], second: list[str], held: set[int], seed: bytes, shorter: int
) -> None:
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


def test_shoppers_who_know_what_they_want_prefer_the_better_list() -> None:
    """Lists that put the wanted product at place 1 and place 4; shoppers click it wherever it is, and sometimes the
    first hit for no reason."""
    dice = random.Random(5)
    wins = {FIRST: 0, SECOND: 0}
    for number in range(2_000):
        others = dice.sample(IDS[1:], 8)
        better, worse = [IDS[0], *others], [*others[:3], IDS[0], *others[3:]]
        draft = team_draft(worse, better, 9, f"query {number}".encode())
        clicked = {draft.ids[0]} if dice.random() < 0.2 else set()
        clicked |= {IDS[0]} if dice.random() < 0.7 else set()
        teams = [team for picked, team in zip(draft.ids, draft.teams, strict=True) if picked in clicked]
        ahead = teams.count(SECOND) - teams.count(FIRST)
        wins[SECOND] += ahead > 0
        wins[FIRST] += ahead < 0
    assert wins[SECOND] > 1.5 * wins[FIRST]
