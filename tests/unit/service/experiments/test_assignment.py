"""Random assignment, interleaving, marks in query ids, and searches during experiments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from scipy import stats

from shelfwise.rerank.ranker.spec import ranker_store
from shelfwise.retrieval.errors import ExperimentError
from shelfwise.retrieval.records import Event, EventKind
from shelfwise.retrieval.updates.validation import MAX_ID_BYTES
from shelfwise.service.curation.rules import Pin, Rule
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.request import SearchRequest
from shelfwise.service.experiments.assignment import (
    DEEPEST,
    FIRST,
    MAX_TEAMS,
    NOBODY,
    SECOND,
    DraftMark,
    ExplorationMark,
    Mark,
    MarkedPage,
    ShopperSearch,
    SplitMark,
    answer_search,
    random_fraction,
    read_marks,
    sign_query_id,
    takes_part,
    team_draft,
    unit_of,
    variant_of,
)
from shelfwise.service.experiments.experiment import (
    MAX_AT_ONCE,
    Experiment,
    Mode,
    StoredExperiments,
    Unit,
    Variant,
    VariantOptions,
    check_rankers,
    stored_problem,
)
from shelfwise.service.settings import Settings
from tests.unit.service.engine.demo_rankers import failing, publish, spec_for, weighted_graph

ONE, OTHER = b"one salt of 16 b", b"another of 16 by"
SHOPPERS = [f"shopper\0u{number}" for number in range(20_000)]
HALVES = Experiment("e", (Variant("a"), Variant("b")), aa_test=True)


def test_variants_follow_their_weights_and_hashes_are_uniform() -> None:
    experiment = Experiment("e", (Variant("a", weight=1), Variant("b", weight=3), Variant("c", weight=6)))
    drawn = Counter(variant_of(experiment, ONE, unit).name for unit in SHOPPERS)
    assert stats.chisquare([drawn[name] for name in "abc"], [2_000, 6_000, 12_000]).pvalue > 0.01
    bins = Counter(int(random_fraction(ONE, "variant", unit) * 100) for unit in SHOPPERS)
    assert stats.chisquare([bins[place] for place in range(100)]).pvalue > 0.01


def test_assignment_is_stable() -> None:
    """The recorded assignment: restarts and new versions keep every shopper's variant."""
    assert random_fraction(ONE, "variant", "shopper\0u1") == pytest.approx(0.8708875881739493)
    assert [variant_of(HALVES, ONE, unit).name for unit in SHOPPERS[:12]] == list("bbbaabababaa")


def test_assignments_of_experiments_are_independent() -> None:
    both = Counter((variant_of(HALVES, ONE, unit).name, variant_of(HALVES, OTHER, unit).name) for unit in SHOPPERS)
    table = [[both["a", "a"], both["a", "b"]], [both["b", "a"], both["b", "b"]]]
    assert stats.chi2_contingency(table).pvalue > 0.01


def test_participation_is_independent_of_the_variant() -> None:
    tenth = Experiment("e", HALVES.variants, share=0.1)
    inside = [unit for unit in SHOPPERS if takes_part(tenth, ONE, unit)]
    assert stats.binomtest(len(inside), len(SHOPPERS), 0.1).pvalue > 0.01
    drawn = Counter(variant_of(tenth, ONE, unit).name for unit in inside)
    assert stats.binomtest(drawn["a"], len(inside), 0.5).pvalue > 0.01
    # A larger share includes all shoppers of the smaller one.
    half = Experiment("e", HALVES.variants, share=0.5)
    assert all(takes_part(half, ONE, unit) for unit in inside)


def test_assignment_unit_follows_the_experiment() -> None:
    def unit(kind: Unit, shopper: str = "", session: str = "") -> str:
        return unit_of(Experiment("e", HALVES.variants, unit=kind), shopper, session, "drill\0")

    assert unit(Unit.SHOPPER, "u1", "s1") == unit(Unit.SHOPPER, "u1", "s2") != unit(Unit.SHOPPER, "u2", "s1")
    assert unit(Unit.SESSION, "u1", "s1") == unit(Unit.SESSION, "u2", "s1")
    assert unit(Unit.SHOPPER, "", "s1") == unit(Unit.SESSION, "u1", "") == unit(Unit.QUERY) == ""
    # A session may have the same name as a shopper.
    assert unit(Unit.SHOPPER, "x") != unit(Unit.SESSION, "", "x")
    assert unit(Unit.QUERY, "u1", "s1") == unit(Unit.QUERY, "u1", "s2") != unit(Unit.QUERY, "", "s1")


IDS = [f"p{number}" for number in range(12)]
LISTS = st.permutations(IDS)


@given(LISTS, LISTS, st.binary(max_size=80))
def test_teams_alternate_with_their_best_remaining_hit(first: list[str], second: list[str], seed: bytes) -> None:
    draft = team_draft(first, second, len(IDS), seed)
    taken: set[str] = set()
    for picked, team in zip(draft.ids, draft.teams, strict=True):
        theirs = first if team == FIRST else second
        assert picked == next(each for each in theirs if each not in taken)
        taken.add(picked)
    rounds = [draft.teams[at : at + 2] for at in range(0, len(IDS), 2)]
    assert all(set(each) == {FIRST, SECOND} for each in rounds)


@given(LISTS, LISTS, st.integers(0, 12), st.integers(0, 12), st.binary(max_size=80))
def test_remaining_hits_have_no_team(first: list[str], second: list[str], some: int, others: int, seed: bytes) -> None:
    first, second = first[:some], second[:others]
    draft = team_draft(first, second, 2 * len(IDS), seed)
    assert sorted(draft.ids) == sorted({*first, *second})
    assert NOBODY not in draft.teams.rstrip(NOBODY)
    assert abs(draft.teams.count(FIRST) - draft.teams.count(SECOND)) <= 1


@given(LISTS, LISTS, st.sets(st.integers(0, 11)), st.binary(max_size=80), st.integers(0, 12))
def test_fixed_positions_are_kept(
    first: list[str], second: list[str], held: set[int], seed: bytes, shorter: int
) -> None:
    """The fixed products are those at the same position of both lists, like pinned ones."""
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


def test_each_list_is_first_equally_often() -> None:
    firsts = [team_draft(IDS, IDS, 4, f"query {number}".encode()).teams[0] for number in range(4_000)]
    # Within four standard deviations of half.
    assert abs(firsts.count(FIRST) - 2_000) < 4 * (4_000 * 0.25) ** 0.5


KEY = b"k" * 32
ID = "9f" * 16
PARTS: list[Mark] = [SplitMark("price-test", "bold"), DraftMark("draft", 21, "abba-"), ExplorationMark(7, 0.00125)]


def test_query_id_round_trips_and_is_plain_without_experiment() -> None:
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
def test_forged_query_id_is_ignored(tampered: str) -> None:
    assert read_marks(tampered, KEY) == ()


@given(st.text(max_size=600))
def test_arbitrary_query_ids_are_read(text: str) -> None:
    assert read_marks(text, KEY) == ()
    assert read_marks(text, b"") == ()


def test_longest_query_id_is_accepted_by_events() -> None:
    """The limit includes the suffix of an impression's own id."""
    parts: list[Mark] = [SplitMark("e" * 32, "v" * 16)] * (MAX_AT_ONCE - 1)
    parts.append(DraftMark("d" * 32, 100_000, "ab" * 500))
    query_id = sign_query_id(ID, parts, KEY)
    assert len(f"{query_id}-100000".encode()) <= MAX_ID_BYTES
    assert read_marks(query_id, KEY)[-1] == DraftMark("d" * 32, 100_000, "ab" * (MAX_TEAMS // 2))
    assert Event(EventKind.CLICK, "p1", query_id=query_id).query_id == query_id


MERGING = Experiment("merging", (Variant("now"), Variant("rrf", VariantOptions(merge="rrf"))))
DRAFT = replace(MERGING, id="draft", mode=Mode.INTERLEAVE)
DRILL = ShopperSearch(SearchRequest("cordless drill", size=10), shopper="u1", session="s1")


def varied(search: ShopperSearch, **changes: Any) -> ShopperSearch:  # noqa: ANN401 - fields of two classes
    own = {name: changes.pop(name) for name in ("shopper", "session") if name in changes}
    return replace(search, request=replace(search.request, **changes), **own)


def running(*experiments: Experiment) -> StoredExperiments:
    return StoredExperiments(documents=experiments, key=KEY)


def ids(found: MarkedPage) -> list[str]:
    return [hit.product.id for hit in found.page.hits]


def split_mark(found: MarkedPage) -> SplitMark:
    (mark,) = read_marks(found.query_id, KEY)
    assert isinstance(mark, SplitMark)
    return mark


def draft_mark(found: MarkedPage) -> DraftMark:
    (mark,) = read_marks(found.query_id, KEY)
    assert isinstance(mark, DraftMark)
    return mark


def experiments_of(found: MarkedPage) -> list[str]:
    return [part.experiment for part in read_marks(found.query_id, KEY) if not isinstance(part, ExplorationMark)]


def test_query_id_names_the_variant_of_the_shopper(engine: SearchEngine) -> None:
    result = set()
    for number in range(12):
        asked = varied(DRILL, shopper=f"u{number}")
        found = answer_search(engine, running(MERGING), asked)
        part = split_mark(found)
        result.add(part.variant)
        merge = {"now": "per-word", "rrf": "rrf"}[part.variant]
        assert ids(found) == [hit.product.id for hit in engine.search("cordless drill", size=10, merge=merge).hits]
        again = answer_search(engine, running(MERGING), varied(asked, text="saw", session="s2"))
        assert read_marks(again.query_id, KEY) == (part,)
        assert again.query_id != found.query_id
    assert result == {"now", "rrf"}


@pytest.mark.parametrize(
    "change", [{"sort": "price"}, {"explain": True}, {"size": 0}, {"shopper": "", "session": ""}, {"shopper": ""}]
)
def test_non_participant_has_a_plain_query_id(engine: SearchEngine, change: dict[str, Any]) -> None:
    found = answer_search(engine, running(MERGING, DRAFT), varied(DRILL, **change))
    assert len(found.query_id) in (32, 48)
    assert found.query_id.isalnum()


def test_several_experiments_run_together(engine: SearchEngine) -> None:
    rules = Experiment("rules", (Variant("on"), Variant("off", VariantOptions(rules=False))), unit=Unit.SESSION)
    found = answer_search(engine, running(MERGING, rules), DRILL)
    assert set(experiments_of(found)) == {"merging", "rules"}
    browsed = answer_search(engine, running(rules, DRAFT), varied(DRILL, text=" "))
    assert experiments_of(browsed) == ["rules"]


def test_pages_of_an_interleaved_result_continue(engine: SearchEngine) -> None:
    search = varied(DRILL, text="steel", size=60, facets=("brand",))
    whole = answer_search(engine, running(DRAFT), search)
    pages = [answer_search(engine, running(DRAFT), varied(search, size=20, page=page)) for page in (1, 2, 3)]
    assert [each for page in pages for each in ids(page)] == ids(whole)
    assert len(set(ids(whole))) == 60
    parts = [draft_mark(page) for page in pages]
    assert [part.first for part in parts] == [1, 21, 41]
    assert "".join(part.teams for part in parts) == draft_mark(whole).teams
    assert (whole.page.page, whole.page.size, pages[2].page.page) == (1, 60, 3)
    assert whole.page.facets["brand"].counts
    assert whole.page.total == pages[0].page.total == engine.search("steel").total


def test_pinned_product_keeps_its_position(live: SearchEngine) -> None:
    last = live.search("cordless drill", size=30).hits[-1].product.id
    live.rules.put([Rule("pin", (Pin((last,), position=3),))])
    found = answer_search(live, running(DRAFT), DRILL)
    assert (ids(found)[2], draft_mark(found).teams[2]) == (last, "-")


def test_pages_beyond_the_depth_are_of_the_first_variant(engine: SearchEngine) -> None:
    deep = varied(DRILL, size=DEEPEST // 2 + 1, page=2)
    found = answer_search(engine, running(DRAFT), deep)
    assert found.query_id.isalnum()
    assert ids(found) == [
        hit.product.id for hit in engine.search("cordless drill", size=deep.request.size, page=2).hits
    ]


TWELVE = range(12)


def experiment(*rankers: str | None, **values: Any) -> Experiment:  # noqa: ANN401 - as an Experiment takes them
    variants = [Variant(f"v{number}", VariantOptions(ranker=ranker)) for number, ranker in enumerate(rankers)]
    return Experiment("order", tuple(variants), **values)


def ordered(engine: SearchEngine, ranker: str = "", **options: Any) -> list[str]:  # noqa: ANN401 - a search's options
    return [hit.product.id for hit in engine.search(DRILL.request.text, size=10, ranker=ranker, **options).hits]


def unserved_count() -> float:
    return REGISTRY.get_sample_value("shelfwise_unserved_experiment_searches_total", {"experiment": "order"}) or 0.0


@pytest.fixture
def ranked(root: Path, engine: SearchEngine) -> Iterator[SearchEngine]:
    """An engine whose first ranker reverses the merged order; the second, by cosine, serves."""
    for weights in ({"merged": -1.0}, {"cosine": 1.0}):
        publish(root, spec_for(engine.snapshot), weighted_graph(**weights))
    settings = Settings(backend="embedded")
    with SearchEngine.open(root, settings=settings, follow=False) as opened:
        yield opened


def test_shopper_gets_the_ranker_of_the_variant(ranked: SearchEngine) -> None:
    compared = experiment(None, "off", "ranker-0001")
    wanted = {"v0": ordered(ranked), "v1": ordered(ranked, stage="merged"), "v2": ordered(ranked, "ranker-0001")}
    assert len({tuple(each) for each in wanted.values()}) == 3
    result = set()
    for number in TWELVE:
        found = answer_search(ranked, running(compared), replace(DRILL, shopper=f"u{number}"))
        variant = split_mark(found).variant
        assert (ids(found), found.page.degraded) == (wanted[variant], ())
        result.add(variant)
    assert result == wanted.keys()


@pytest.mark.parametrize("mode", list(Mode))
def test_no_participation_if_a_ranker_is_unavailable(ranked: SearchEngine, mode: Mode) -> None:
    compared = experiment("ranker-0001", "ranker-0099", mode=mode)
    before = unserved_count()
    for number in TWELVE:
        found = answer_search(ranked, running(compared), replace(DRILL, shopper=f"u{number}"))
        assert ids(found) == ordered(ranked, "ranker-0001")
        assert found.query_id.isalnum()
    assert unserved_count() - before == len(TWELVE)


@pytest.mark.usefixtures("without_default")
def test_no_comparison_with_the_merged_order_without_a_ranker(ranked: SearchEngine, root: Path) -> None:
    compared = experiment(None, "off")
    assert not answer_search(ranked, running(compared), DRILL).query_id.isalnum()
    ranker_store(root).off()
    ranked.reload_if_changed()
    found = answer_search(ranked, running(compared), DRILL)
    assert (found.query_id.isalnum(), ids(found)) == (True, ordered(ranked, stage="merged"))
    with pytest.raises(ExperimentError, match="no ranker serves"):
        check_rankers(compared, ranked.ranker_problem)
    ranker_store(root).rollback()
    ranked.reload_if_changed()
    assert not answer_search(ranked, running(compared), DRILL).query_id.isalnum()


def test_failing_ranker_gives_merged_order_and_keeps_the_variant(ranked: SearchEngine, root: Path) -> None:
    name = publish(root, spec_for(ranked.snapshot), failing())
    found = answer_search(ranked, running(experiment(name, name)), DRILL)
    assert found.page.degraded == ("ranked",)
    assert ids(found) == ordered(ranked, stage="merged")
    assert len(read_marks(found.query_id, KEY)) == 1


def test_stored_ranker_problem_equals_that_of_the_engine(ranked: SearchEngine, root: Path) -> None:
    problem = stored_problem(root)
    for name in ("", "off", "default", "ranker-0001", "ranker-0099"):
        assert bool(problem(name)) == bool(ranked.ranker_problem(name)) == (name == "ranker-0099")
